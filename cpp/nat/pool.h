// A fixed number of nodes, handed out by index from 1 (0: none) without locks. A node's content is left as it was.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

namespace ironcore::nat {

// Zeroed memory that the system provides when it is touched.
template <typename T>
class MappedArray {
 public:
  explicit MappedArray(size_t count) : bytes_(count * sizeof(T)) {
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    madvise(memory, bytes_, MADV_HUGEPAGE);  // fewer TLB misses where the system allows it
    at_ = static_cast<T*>(memory);
  }
  ~MappedArray() { munmap(at_, bytes_); }
  MappedArray(const MappedArray&) = delete;
  MappedArray& operator=(const MappedArray&) = delete;

  T& operator[](size_t i) const { return at_[i]; }

 private:
  const size_t bytes_;
  T* at_;
};

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

  void give(uint32_t index) {
    std::atomic<uint64_t>& top = tops_[stripe()].top;
    uint64_t old = top.load(std::memory_order_relaxed);
    do {
      below_[index].store(static_cast<uint32_t>(old), std::memory_order_relaxed);
    } while (!top.compare_exchange_weak(old, tagged(old, index), std::memory_order_release, std::memory_order_relaxed));
  }

 private:
  static constexpr unsigned kStripes = 16;

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
