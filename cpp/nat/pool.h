// A fixed number of nodes, handed out by index from 1 (0: none) without locks. A node's content is left as it was.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/mapped_array.h"

namespace ironcore::nat {

template <typename Node>
class Pool {
 public:
  explicit Pool(uint32_t capacity) : capacity_(capacity), nodes_(size_t{capacity} + 1), below_(size_t{capacity} + 1) {}

  Node& operator[](uint32_t index) const { return nodes_[index]; }

  // The caller knows that one is free: at most `capacity` are out, this one included.
  uint32_t take() {
    for (const unsigned mine = stripe();;) {
      if (const uint32_t index = pop(mine)) return index;
      if (fresh_.load(std::memory_order_relaxed) <= capacity_) {
        const uint32_t index = fresh_.fetch_add(1, std::memory_order_relaxed);
        if (index <= capacity_) return index;
        fresh_.store(capacity_ + 1, std::memory_order_relaxed);  // many threads must not make it wrap around
      }
      for (unsigned other = mine + 1; other < mine + kStripes; ++other)
        if (const uint32_t index = pop(other % kStripes)) return index;
    }
  }

  // Takes memory for the next nodes, so that nobody waits for it who takes them. For one thread.
  void populate_ahead() {
    const size_t wanted = size_t{fresh_.load(std::memory_order_relaxed)} + kPopulatedAhead;
    nodes_.populate(wanted);
    below_.populate(wanted);
  }

  void give(uint32_t index) {
    std::atomic<uint64_t>& top = tops_[stripe()].top;
    uint64_t old = top.load(std::memory_order_relaxed);
    do {
      below_[index].store(static_cast<uint32_t>(old), std::memory_order_relaxed);
    } while (!top.compare_exchange_weak(old, tagged(old, index), std::memory_order_release, std::memory_order_relaxed));
  }

 private:
  static constexpr unsigned kStripes = 16;
  static constexpr size_t kPopulatedAhead = 1 << 16;

  // Stacks of free nodes, one per thread as long as there are few. The upper half of `top` counts changes, so that a
  // thread that was interrupted does not mistake a stack for the one it has read.
  struct alignas(64) Stripe {
    std::atomic<uint64_t> top{0};
  };

  static unsigned stripe() {
    static std::atomic<unsigned> next{0};
    thread_local const unsigned mine = next.fetch_add(1, std::memory_order_relaxed) % kStripes;
    return mine;
  }
  static uint64_t tagged(uint64_t old, uint32_t index) { return ((old >> 32) + 1) << 32 | index; }

  uint32_t pop(unsigned stripe) {
    std::atomic<uint64_t>& top = tops_[stripe].top;
    uint64_t old = top.load(std::memory_order_acquire);
    while (const auto index = static_cast<uint32_t>(old)) {
      const uint32_t below = below_[index].load(std::memory_order_relaxed);
      if (top.compare_exchange_weak(old, tagged(old, below), std::memory_order_acquire)) return index;
    }
    return 0;
  }

  const uint32_t capacity_;
  MappedArray<Node> nodes_;
  MappedArray<std::atomic<uint32_t>> below_;
  std::atomic<uint32_t> fresh_{1};  // nodes from here on were never handed out
  Stripe tops_[kStripes];
};

}  // namespace ironcore::nat
