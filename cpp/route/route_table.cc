#include "route/route_table.h"

#include <algorithm>
#include <functional>

namespace ironcore {
namespace {

uint32_t key4(const IpAddress& address) { return net::swap32(net::load<uint32_t>(address.bytes.data())); }

IpAddress address4(uint32_t key) {
  IpAddress address;
  net::store(address.bytes.data(), net::swap32(key));
  return address;
}

IpAddress address6(unsigned __int128 key) {
  IpAddress address;
  address.is_v6 = true;
  net::store(address.bytes.data(), __builtin_bswap64(static_cast<uint64_t>(key >> 64)));
  net::store(address.bytes.data() + 8, __builtin_bswap64(static_cast<uint64_t>(key)));
  return address;
}

template <typename Tree, typename ToAddress>
void list_tree(const Tree& tree, ToAddress to_address, uint32_t vni, std::vector<RouteInfo>& out) {
  const auto first = static_cast<std::ptrdiff_t>(out.size());
  tree.for_each([&](auto key, unsigned length, const Route& route) {
    if (route.local) return;
    out.push_back({vni, {to_address(key), static_cast<uint8_t>(length)}, route.nexthop_vni, route.nexthop});
  });
  // The walk ends with the default route.
  if (static_cast<std::ptrdiff_t>(out.size()) > first && out.back().prefix.length == 0)
    std::rotate(out.begin() + first, out.end() - 1, out.end());
}

}  // namespace

RouteTable::RouteTable(Reclaimer& reclaimer, size_t max_routes)
    : v4_([&reclaimer](std::function<void()> action) { reclaimer.defer(std::move(action)); }),
      v6_([&reclaimer](std::function<void()> action) { reclaimer.defer(std::move(action)); }),
      max_routes_(max_routes) {}

IpPrefix RouteTable::masked(const IpPrefix& prefix) {
  if (prefix.address.is_v6)
    return {address6(decltype(v6_)::mask(key6(prefix.address.bytes.data()), prefix.length)), prefix.length};
  return {address4(decltype(v4_)::mask(key4(prefix.address), prefix.length)), prefix.length};
}

Status RouteTable::add(const IpPrefix& prefix, const Route& route) {
  if (!valid_length(prefix)) return Status::ROUTE_INSERT;
  if (find(prefix)) return Status::ROUTE_EXISTS;
  if (prefix.address.is_v6) {
    if (v6_.size() >= max_routes_) return Status::ROUTE_INSERT;
    v6_.insert(decltype(v6_)::mask(key6(prefix.address.bytes.data()), prefix.length), prefix.length, route);
  } else {
    if (v4_.size() >= max_routes_) return Status::ROUTE_INSERT;
    v4_.insert(decltype(v4_)::mask(key4(prefix.address), prefix.length), prefix.length, route);
  }
  return Status::OK;
}

Status RouteTable::remove(const IpPrefix& prefix) {
  if (!valid_length(prefix)) return Status::ROUTE_NOT_FOUND;
  const bool removed =
      prefix.address.is_v6
          ? v6_.remove(decltype(v6_)::mask(key6(prefix.address.bytes.data()), prefix.length), prefix.length)
          : v4_.remove(decltype(v4_)::mask(key4(prefix.address), prefix.length), prefix.length);
  return removed ? Status::OK : Status::ROUTE_NOT_FOUND;
}

const Route* RouteTable::find(const IpPrefix& prefix) const {
  if (!valid_length(prefix)) return nullptr;
  if (prefix.address.is_v6)
    return v6_.find(decltype(v6_)::mask(key6(prefix.address.bytes.data()), prefix.length), prefix.length);
  return v4_.find(decltype(v4_)::mask(key4(prefix.address), prefix.length), prefix.length);
}

void RouteTable::list_external(uint32_t vni, std::vector<RouteInfo>& out) const {
  list_tree(v4_, address4, vni, out);
  list_tree(v6_, address6, vni, out);
}

void RouteTable::remove_external() {
  std::vector<RouteInfo> external;
  list_external(0, external);
  for (const RouteInfo& route : external) remove(route.prefix);
}

}  // namespace ironcore
