// Time for workers: the TSC, and ticks of a tenth of a second derived from it.
#pragma once

#include <rte_cycles.h>

#include <atomic>
#include <cstdint>

namespace ironcore {

inline constexpr uint32_t kTicksPerSecond = 10;

// Ticks wrap after 13 years of uptime; compare them by difference only.
using Tick = uint32_t;

class Clock {
 public:
  Clock() : start_(rte_rdtsc()), per_tick_(rte_get_tsc_hz() / kTicksPerSecond) {}

  uint64_t now() const { return rte_rdtsc() + offset_.load(std::memory_order_relaxed); }
  Tick tick_of(uint64_t tsc) const { return static_cast<Tick>((tsc - start_) / per_tick_); }
  uint64_t cycles_per_tick() const { return per_tick_; }

  // Moves time forward: tests of aging do not wait for it.
  void advance(uint32_t seconds) {
    offset_.fetch_add(uint64_t{seconds} * kTicksPerSecond * per_tick_, std::memory_order_relaxed);
  }

 private:
  uint64_t start_;
  uint64_t per_tick_;
  std::atomic<uint64_t> offset_{0};
};

}  // namespace ironcore
