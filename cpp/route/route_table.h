// Routes of one VNI, both families.
#pragma once

#include <cstdint>
#include <vector>

#include "core/rcu.h"
#include "ironcore/engine.h"
#include "net/flow_key.h"
#include "route/radix_tree.h"

namespace ironcore {

// An underlay address of another host, or of this one.
struct NextHop {
  uint32_t vni = 0;  // stored and listed; has no effect on packets
  Ipv6Address address{};

  bool operator==(const NextHop&) const = default;
};

// Where a prefix leads: to the device of a local interface, or to other hosts. Immutable once in a table.
struct Route {
  bool local = false;
  uint16_t port = 0;  // local: DPDK port of the interface
  uint8_t length = 0;
  std::vector<NextHop> nexthops;  // not local: at least one, flows are spread over them

  static Route to_port(uint16_t port) { return {true, port, 0, {}}; }
  static Route to_host(NextHop nexthop) { return {false, 0, 0, {nexthop}}; }
  bool is_default() const { return length == 0; }
};

inline constexpr size_t kMaxNextHops = 64;  // of one route

class RouteTable {
 public:
  RouteTable(Reclaimer& reclaimer, size_t max_routes);

  // Workers. Addresses are those of the key.
  const Route* lookup(const FlowKey& key) const {
    return key.is_v6() ? v6_.lookup(key6(key.dst6)) : v4_.lookup(net::swap32(key.dst4));
  }

  // Control side. Prefixes are masked here; equal is what is equal after that.
  Status add(const IpPrefix& prefix, Route route);  // ROUTE_INSERT (length, full) or ROUTE_EXISTS
  // A further next hop of a route to other hosts. ROUTE_EXISTS: it has that one, or is local; LIMIT_REACHED
  Status add_nexthop(const IpPrefix& prefix, const NextHop& nexthop);
  Status remove(const IpPrefix& prefix);  // ROUTE_NOT_FOUND
  // One next hop, and the route with its last one. ROUTE_NOT_FOUND: it has no such next hop
  Status remove_nexthop(const IpPrefix& prefix, const Ipv6Address& address);
  const Route* find(const IpPrefix& prefix) const;
  // Routes to other hosts in list order: IPv4 first; the default route, then by address, more specific first. One
  // item for each next hop.
  void list_external(uint32_t vni, std::vector<RouteInfo>& out) const;
  void remove_external();

  size_t size() const { return v4_.size() + v6_.size(); }

  static bool valid_length(const IpPrefix& prefix) { return prefix.length <= (prefix.address.is_v6 ? 128 : 32); }
  static IpPrefix masked(const IpPrefix& prefix);  // of a valid length

 private:
  using Key6 = unsigned __int128;
  static Key6 key6(const uint8_t* bytes) {
    return static_cast<Key6>(__builtin_bswap64(net::load<uint64_t>(bytes))) << 64 |
           __builtin_bswap64(net::load<uint64_t>(bytes + 8));
  }
  template <typename Self, typename Action>
  static auto on_tree(Self& self, const IpPrefix& prefix, Action action);

  RadixTree<uint32_t, Route> v4_;
  RadixTree<Key6, Route> v6_;
  const size_t max_routes_;
};

}  // namespace ironcore
