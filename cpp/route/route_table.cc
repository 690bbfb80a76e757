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
    for (const NextHop& nexthop : route.nexthops)
      out.push_back({vni, {to_address(key), static_cast<uint8_t>(length)}, nexthop.vni, nexthop.address});
  });
  // The walk ends with the default route.
  std::stable_partition(out.begin() + first, out.end(), [](const RouteInfo& info) { return info.prefix.length == 0; });
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

// Calls action(tree, masked key) with the tree of the prefix's family.
template <typename Self, typename Action>
auto RouteTable::on_tree(Self& self, const IpPrefix& prefix, Action action) {
  if (prefix.address.is_v6)
    return action(self.v6_, decltype(v6_)::mask(key6(prefix.address.bytes.data()), prefix.length));
  return action(self.v4_, decltype(v4_)::mask(key4(prefix.address), prefix.length));
}

Status RouteTable::add(const IpPrefix& prefix, Route route) {
  if (!valid_length(prefix)) return Status::ROUTE_INSERT;
  if (find(prefix)) return Status::ROUTE_EXISTS;
  route.length = prefix.length;
  return on_tree(*this, prefix, [&](auto& tree, auto key) {
    if (tree.size() >= max_routes_) return Status::ROUTE_INSERT;
    tree.insert(key, prefix.length, std::move(route));
    return Status::OK;
  });
}

Status RouteTable::add_nexthop(const IpPrefix& prefix, const NextHop& nexthop) {
  const Route* present = find(prefix);
  if (!present) return Status::ROUTE_NOT_FOUND;
  const bool known = std::any_of(present->nexthops.begin(), present->nexthops.end(),
                                 [&](const NextHop& other) { return other.address == nexthop.address; });
  if (present->local || known) return Status::ROUTE_EXISTS;
  if (present->nexthops.size() >= kMaxNextHops) return Status::LIMIT_REACHED;
  Route route = *present;
  route.nexthops.push_back(nexthop);
  on_tree(*this, prefix, [&](auto& tree, auto key) { return tree.replace(key, prefix.length, std::move(route)); });
  return Status::OK;
}

Status RouteTable::remove(const IpPrefix& prefix) {
  if (!valid_length(prefix)) return Status::ROUTE_NOT_FOUND;
  const bool removed = on_tree(*this, prefix, [&](auto& tree, auto key) { return tree.remove(key, prefix.length); });
  return removed ? Status::OK : Status::ROUTE_NOT_FOUND;
}

Status RouteTable::remove_nexthop(const IpPrefix& prefix, const Ipv6Address& address) {
  const Route* present = find(prefix);
  if (!present || present->local) return Status::ROUTE_NOT_FOUND;
  Route route = *present;
  if (std::erase_if(route.nexthops, [&](const NextHop& nexthop) { return nexthop.address == address; }) == 0)
    return Status::ROUTE_NOT_FOUND;
  if (route.nexthops.empty()) return remove(prefix);
  on_tree(*this, prefix, [&](auto& tree, auto key) { return tree.replace(key, prefix.length, std::move(route)); });
  return Status::OK;
}

const Route* RouteTable::find(const IpPrefix& prefix) const {
  if (!valid_length(prefix)) return nullptr;
  return on_tree(*this, prefix, [&](const auto& tree, auto key) { return tree.find(key, prefix.length); });
}

void RouteTable::list_external(uint32_t vni, std::vector<RouteInfo>& out) const {
  list_tree(v4_, address4, vni, out);
  list_tree(v6_, address6, vni, out);
}

void RouteTable::remove_external() {
  std::vector<RouteInfo> external;
  list_external(0, external);
  for (const RouteInfo& route : external) remove(route.prefix);  // a further next hop of it finds nothing left
}

}  // namespace ironcore
