// How long flows live without packets and how many an interface may have. Control calls write, workers read.
#pragma once

#include <rte_config.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "flow/entry.h"
#include "ironcore/engine.h"

namespace ironcore {

// Each 1..2^24 seconds.
inline bool valid(const FlowTimeouts& timeouts) {
  const auto in_range = [](uint32_t seconds) { return seconds >= 1 && seconds <= 1u << 24; };
  return in_range(timeouts.tcp_established) && in_range(timeouts.tcp_transitory) && in_range(timeouts.udp) &&
         in_range(timeouts.icmp) && in_range(timeouts.other) && in_range(timeouts.tcp_forwarded);
}

class FlowLimits {
 public:
  FlowLimits(const FlowTimeouts& timeouts, uint32_t quota)
      : ports_(std::make_unique<std::array<PortLimits, RTE_MAX_ETHPORTS>>()) {
    for (uint16_t port = 0; port < RTE_MAX_ETHPORTS; ++port) set(port, timeouts, quota);
  }

  void set(uint16_t port, const FlowTimeouts& timeouts, uint32_t quota) {
    PortLimits& limits = (*ports_)[port];
    const uint32_t idle[kTimeoutClasses] = {timeouts.tcp_transitory, timeouts.udp, timeouts.icmp, timeouts.other,
                                            kFragmentSeconds};
    for (size_t i = 0; i < kTimeoutClasses; ++i) limits.idle[i].store(idle[i], std::memory_order_relaxed);
    limits.established.store(timeouts.tcp_established, std::memory_order_relaxed);
    limits.forwarded.store(timeouts.tcp_forwarded, std::memory_order_relaxed);
    limits.quota.store(quota, std::memory_order_relaxed);
  }

  FlowTimeouts timeouts(uint16_t port) const {
    const PortLimits& limits = (*ports_)[port];
    const auto idle = [&](TimeoutClass of) {
      return limits.idle[static_cast<size_t>(of)].load(std::memory_order_relaxed);
    };
    return {limits.established.load(std::memory_order_relaxed),
            idle(TimeoutClass::kTcp),
            idle(TimeoutClass::kUdp),
            idle(TimeoutClass::kIcmp),
            idle(TimeoutClass::kOther),
            limits.forwarded.load(std::memory_order_relaxed)};
  }
  uint32_t quota(uint16_t port) const { return (*ports_)[port].quota.load(std::memory_order_relaxed); }

  // The interface that uses the device now, 0: none. Connections of others are over, and count no more.
  void set_instance(uint16_t port, uint64_t instance) {
    (*ports_)[port].use.store(instance << 32, std::memory_order_relaxed);
  }
  bool is_over(const FlowOwner& owner) const {
    return instance_of((*ports_)[owner.port].use.load(std::memory_order_relaxed)) != owner.instance;
  }

  // Seconds.
  uint32_t idle_timeout(const FlowOwner& owner, bool tcp_established) const {
    const PortLimits& limits = (*ports_)[owner.port];
    if (!tcp_established) return limits.idle[static_cast<size_t>(owner.timeout)].load(std::memory_order_relaxed);
    return (owner.one_way ? limits.forwarded : limits.established).load(std::memory_order_relaxed);
  }

  // Takes one of the interface's connections; false if it has none left. One of a gone interface is over as soon as it
  // has begun.
  bool take(const FlowOwner& owner) {
    PortLimits& limits = (*ports_)[owner.port];
    const uint32_t quota = limits.quota.load(std::memory_order_relaxed);
    return count(owner, 1, quota == 0 ? UINT32_MAX : quota);
  }
  void give_back(const FlowOwner& owner) { count(owner, -1, UINT32_MAX); }
  // A connection counts for another interface from now on, however many that one has.
  void move(const FlowOwner& from, const FlowOwner& to) {
    give_back(from);
    count(to, 1, UINT32_MAX);
  }
  uint32_t connections(uint16_t port) const {
    return static_cast<uint32_t>((*ports_)[port].use.load(std::memory_order_relaxed));
  }

 private:
  static constexpr uint32_t kFragmentSeconds = 15;  // as long as a receiver may wait for the rest at least (RFC 1122)

  struct PortLimits {
    std::atomic<uint32_t> idle[kTimeoutClasses]{};
    std::atomic<uint32_t> established{0}, forwarded{0}, quota{0};
    std::atomic<uint64_t> use{0};  // upper half: low half of the interface's instance number; lower: its connections
  };

  static uint32_t instance_of(uint64_t use) { return static_cast<uint32_t>(use >> 32); }

  bool count(const FlowOwner& owner, int32_t change, uint32_t below) {
    std::atomic<uint64_t>& use = (*ports_)[owner.port].use;
    uint64_t seen = use.load(std::memory_order_relaxed);
    do {
      const auto connections = static_cast<uint32_t>(seen);
      if (instance_of(seen) != owner.instance || (change < 0 && connections == 0)) return true;
      if (connections >= below) return false;
    } while (!use.compare_exchange_weak(seen, seen + static_cast<uint64_t>(change), std::memory_order_relaxed));
    return true;
  }

  std::unique_ptr<std::array<PortLimits, RTE_MAX_ETHPORTS>> ports_;
};

}  // namespace ironcore
