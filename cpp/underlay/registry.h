// Which underlay address of this host stands for what. Workers look up outer destinations without locks; control calls
// also find addresses by the object they belong to.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "core/rcu.h"
#include "ironcore/engine.h"
#include "underlay/address.h"

namespace ironcore {

// The object behind an underlay address. Identity of prefixes is the device, not the interface: they outlive it.
struct UnderlayObject {
  UnderlayType type;
  uint16_t port;  // DPDK port of the interface's device; load balancers: their slot
  uint32_t vni;
  IpPrefix prefix;  // as given; the whole address for public ones and load balancers, empty for interfaces

  auto operator<=>(const UnderlayObject&) const = default;
};

class UnderlayRegistry {
 public:
  UnderlayRegistry(Reclaimer& reclaimer, size_t max_addresses);
  ~UnderlayRegistry();

  // Workers: valid until quiescent.
  const UnderlayObject* lookup(uint64_t low) const {
    const Slots* slots = slots_.load(std::memory_order_acquire);
    for (size_t i = start(low, slots->mask);; i = (i + 1) & slots->mask) {
      const Entry* entry = slots->at[i].load(std::memory_order_acquire);
      if (!entry) return nullptr;
      if (entry->low == low && !entry->removed) return &entry->object;
    }
  }

  // Control side.
  bool insert(const Ipv6Address& address, const UnderlayObject& object);  // false: taken, or table full
  bool taken(const Ipv6Address& address) const { return lookup(underlay_low(address)) != nullptr; }
  bool erase(const UnderlayObject& object);
  std::optional<Ipv6Address> address_of(const UnderlayObject& object) const;
  std::vector<std::pair<UnderlayObject, Ipv6Address>> objects(UnderlayType type, uint16_t port) const;
  size_t size() const { return by_object_.size(); }
  size_t capacity() const { return max_addresses_; }

 private:
  struct Entry {
    uint64_t low;
    UnderlayObject object;
    bool removed;  // keeps probe sequences intact
  };
  struct Slots {
    explicit Slots(size_t count) : mask(count - 1), at(count) {}
    const size_t mask;
    std::vector<std::atomic<const Entry*>> at;
  };

  static size_t start(uint64_t low, size_t mask) { return ((low * 0x9e3779b97f4a7c15u) >> 32) & mask; }
  void rebuild(size_t count);
  std::atomic<const Entry*>* slot_of(const Slots& slots, uint64_t low) const;

  Reclaimer& reclaimer_;
  const size_t max_addresses_;
  std::atomic<Slots*> slots_;
  size_t occupied_ = 0;  // removed entries included
  std::map<UnderlayObject, Ipv6Address> by_object_;
  const Entry tombstone_{0, {}, true};
};

}  // namespace ironcore
