// A counter with one writer and any number of readers in other threads.
#pragma once

#include <atomic>
#include <cstdint>

namespace ironcore {

class Counter {
 public:
  // A plain load and store, not a locked add: only the owning worker writes.
  void add(uint64_t n) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  void increment() { add(1); }
  void reset() { value_.store(0, std::memory_order_relaxed); }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

}  // namespace ironcore
