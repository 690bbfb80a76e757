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

  // The interface that uses the device now, 0: none. Connections of others are over.
  void set_instance(uint16_t port, uint64_t instance) {
    (*ports_)[port].instance.store(static_cast<uint32_t>(instance), std::memory_order_relaxed);
  }
  bool is_over(const FlowOwner& owner) const {
    return (*ports_)[owner.port].instance.load(std::memory_order_relaxed) != owner.instance;
  }

  // Seconds.
  uint32_t idle_timeout(const FlowOwner& owner, bool tcp_established) const {
    const PortLimits& limits = (*ports_)[owner.port];
    if (!tcp_established) return limits.idle[static_cast<size_t>(owner.timeout)].load(std::memory_order_relaxed);
    return (owner.one_way ? limits.forwarded : limits.established).load(std::memory_order_relaxed);
  }

  // Takes one of the port's connections; false if it has none left.
  bool take(uint16_t port) {
    PortLimits& limits = (*ports_)[port];
    const uint32_t quota = limits.quota.load(std::memory_order_relaxed);
    if (limits.connections.fetch_add(1, std::memory_order_relaxed) < quota || quota == 0) return true;
    give_back(port);
    return false;
  }
  void give_back(uint16_t port) { (*ports_)[port].connections.fetch_sub(1, std::memory_order_relaxed); }
  uint32_t connections(uint16_t port) const { return (*ports_)[port].connections.load(std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kFragmentSeconds = 15;  // as long as a receiver may wait for the rest at least (RFC 1122)

  struct PortLimits {
    std::atomic<uint32_t> idle[kTimeoutClasses]{};
    std::atomic<uint32_t> established{0}, forwarded{0}, quota{0}, connections{0}, instance{0};
  };
  std::unique_ptr<std::array<PortLimits, RTE_MAX_ETHPORTS>> ports_;
};

}  // namespace ironcore
