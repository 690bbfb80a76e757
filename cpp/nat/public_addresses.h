// What the public addresses of a VNI mean here. Workers look them up without locks; control calls, one at a time,
// write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "ironcore/services.h"
#include "ironcore/status.h"
#include "ironcore/types.h"
#include "nat/rcu_map.h"

namespace ironcore {

struct PublicVip {
  uint16_t device = 0;  // DPDK port of the interface
  IpAddress inside;
  Ipv6Address underlay{};

  bool operator==(const PublicVip&) const = default;
};

// Ports min..max-1 of a NAT address. Local ranges may overlap, ranges of neighbours do not.
struct LocalRange {
  uint16_t min = 0, max = 0;
  uint16_t device = 0;
  Ipv6Address underlay{};

  bool operator==(const LocalRange&) const = default;
};
struct NeighborRange {
  uint16_t min = 0, max = 0;
  Ipv6Address underlay{};

  bool operator==(const NeighborRange&) const = default;
};

// Never changes once published.
struct PublicAddress {
  std::optional<PublicVip> vip;  // has everything that arrives, whoever else uses the address
  std::vector<LocalRange> local;
  std::vector<NeighborRange> neighbors;  // by min

  bool is_nat() const { return !local.empty() || !neighbors.empty(); }
  const NeighborRange* neighbor_of(uint16_t port) const;  // host byte order; null: no neighbour's
};

class PublicAddresses {
 public:
  // `retire` runs its argument once no worker can hold what it saw before.
  PublicAddresses(Retire retire, size_t max_addresses, size_t max_neighbors);

  // Workers: null or valid until quiescent.
  const PublicAddress* lookup(uint32_t vni, const IpAddress& address) const { return entries_.find({vni, address}); }

  // Control side. A call that does not return OK has changed nothing.

  // DNAT_EXISTS if the address is a VIP or NAT address in this VNI already, DNAT_CREATE if the table is full.
  Status add_vip(uint32_t vni, const IpAddress& address, const PublicVip& vip);
  Status remove_vip(uint32_t vni, const IpAddress& address);  // DNAT_NO_DATA

  // SNAT_EXISTS if the device has a range of this address, DNAT_CREATE if the table is full.
  Status add_nat(uint32_t vni, const IpAddress& address, const LocalRange& range);
  Status remove_nat(uint32_t vni, const IpAddress& address, uint16_t device);  // DNAT_NO_DATA

  // ALREADY_EXISTS if it overlaps a neighbour's range of the same address in any VNI, OUT_OF_MEMORY if there are too
  // many neighbours, DNAT_CREATE too many addresses, BAD_REQUEST if the range is empty.
  Status add_neighbor(const NeighborNat& neighbor);
  // NOT_FOUND unless all four equal.
  Status remove_neighbor(const IpAddress& address, uint32_t vni, uint16_t min_port, uint16_t max_port);
  // In the order they were added; the zero address of either family: all.
  std::vector<NeighborNat> neighbors(const IpAddress& address) const;

  void purge_vni(uint32_t vni);  // VIPs, local and neighbours' ranges
  void purge_neighbors();

  size_t size() const { return entries_.size(); }
  size_t capacity() const { return max_addresses_; }
  size_t neighbor_count() const { return neighbors_.size(); }

 private:
  struct Key {
    uint32_t vni;
    IpAddress address;

    bool operator==(const Key&) const = default;
    uint64_t hash() const;
  };

  PublicAddress copy_of(const Key& key) const;
  Status publish(const Key& key, PublicAddress value);  // DNAT_CREATE: full; a value without any use erases the entry
  void forget_neighbor(uint64_t order);                 // on the control side only

  const size_t max_addresses_, max_neighbors_;
  RcuMap<Key, PublicAddress> entries_;
  std::map<uint64_t, NeighborNat> neighbors_;  // by order of addition
  std::map<IpAddress, std::map<uint16_t, uint64_t>> order_by_min_;
  uint64_t next_order_ = 0;
};

}  // namespace ironcore
