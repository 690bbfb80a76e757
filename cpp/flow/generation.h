// Generations instead of sweeps: a change raises the counter of what it affects; a flow remembers the counter it was
// decided under and is decided again when the two differ.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>

#include "net/flow_key.h"

namespace ironcore {

// Each VNI slot has 64 counters per family, one per group of destinations, so that a stream of route updates does not
// invalidate the flows to everywhere else. Counters only grow, even if a slot passes to another VNI.
class Generations {
 public:
  static constexpr uint32_t kGroups = 64;
  static constexpr uint32_t kPerVni = 2 * kGroups;

  explicit Generations(uint32_t max_vnis)
      : counters_(std::make_unique<std::atomic<uint32_t>[]>(size_t{max_vnis} * kPerVni)) {}

  uint32_t get(uint32_t index) const { return counters_[index].load(std::memory_order_acquire); }
  const std::atomic<uint32_t>* data() const { return counters_.get(); }

  // Counter of flows to the key's destination.
  static uint32_t index_of(uint32_t vni_slot, const FlowKey& key) {
    return key.is_v6() ? vni_slot * kPerVni + kGroups + group6(key.dst6)
                       : vni_slot * kPerVni + group4(net::swap32(key.dst4));
  }

  // After the tables have changed: destinations in prefix/length, host bits zero.
  void route_changed4(uint32_t vni_slot, uint32_t prefix, unsigned length) {
    const uint32_t base = vni_slot * kPerVni;
    length >= 16 ? bump(base + group4(prefix)) : bump_range(base, kGroups);
  }
  void route_changed6(uint32_t vni_slot, const uint8_t prefix[16], unsigned length) {
    const uint32_t base = vni_slot * kPerVni + kGroups;
    length >= 64 ? bump(base + group6(prefix)) : bump_range(base, kGroups);
  }
  void vni_changed(uint32_t vni_slot) { bump_range(vni_slot * kPerVni, kPerVni); }

 private:
  static uint32_t group(uint64_t bits) { return static_cast<uint32_t>((bits * 0x9e3779b97f4a7c15u) >> 58); }
  static uint32_t group4(uint32_t host_order) { return group(host_order >> 16); }
  static uint32_t group6(const uint8_t* address) { return group(net::load<uint64_t>(address)); }
  void bump(uint32_t index) { counters_[index].fetch_add(1, std::memory_order_release); }
  void bump_range(uint32_t first, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) bump(first + i);
  }

  std::unique_ptr<std::atomic<uint32_t>[]> counters_;
};

}  // namespace ironcore
