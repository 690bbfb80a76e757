// Routes of one VNI, both families.
#pragma once

#include <cstdint>
#include <vector>

#include "core/rcu.h"
#include "ironcore/engine.h"
#include "net/flow_key.h"
#include "route/radix_tree.h"

namespace ironcore {

// Where a prefix leads: to the device of a local interface, or to another host.
struct Route {
  bool local = false;
  uint16_t port = 0;  // local: DPDK port of the interface
  uint32_t nexthop_vni = 0;
  Ipv6Address nexthop{};
};

class RouteTable {
 public:
  RouteTable(Reclaimer& reclaimer, size_t max_routes);

  // Workers. Addresses are those of the key.
  const Route* lookup(const FlowKey& key) const {
    return key.is_v6() ? v6_.lookup(key6(key.dst6)) : v4_.lookup(net::swap32(key.dst4));
  }

  // Control side. Prefixes are masked here; equal is what is equal after that.
  Status add(const IpPrefix& prefix, const Route& route);  // ROUTE_INSERT (length, full) or ROUTE_EXISTS
  Status remove(const IpPrefix& prefix);                   // ROUTE_NOT_FOUND
  const Route* find(const IpPrefix& prefix) const;
  // Routes to other hosts in list order: IPv4 first; the default route, then by address, more specific first.
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

  RadixTree<uint32_t, Route> v4_;
  RadixTree<Key6, Route> v6_;
  const size_t max_routes_;
};

}  // namespace ironcore
