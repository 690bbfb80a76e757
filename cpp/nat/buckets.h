// A chained hash table over the nodes of a pool. A bucket is a 32-bit word: the index of the first node, and the bit
// that locks it. What a node of the chain holds may be read and changed under that lock.
#pragma once

#include <emmintrin.h>

#include <atomic>
#include <bit>
#include <cstdint>
#include <thread>

#include "nat/pool.h"

namespace ironcore::nat {

inline constexpr uint32_t kMaxNodes = 1u << 30;

class Buckets {
 public:
  using Head = std::atomic<uint32_t>;

  explicit Buckets(uint32_t nodes) : mask_(std::bit_ceil(nodes) - 1), heads_(size_t{mask_} + 1) {}

  size_t size() const { return size_t{mask_} + 1; }
  Head& operator[](uint64_t hash) const { return heads_[hash & mask_]; }
  void populate() { heads_.populate(size()); }
  void prefetch(uint64_t hash) const { __builtin_prefetch(&heads_[hash & mask_], 1); }

 private:
  const uint32_t mask_;
  MappedArray<Head> heads_;
};

// Holds one bucket. A thread holds several only of different tables, always in the same order of tables.
template <typename Node>
class Locked {
 public:
  Locked(Buckets::Head& head, Pool<Node>& pool) : head_(head), pool_(pool) {
    for (unsigned turn = 0;; ++turn) {
      first_ = index_in(head_.load(std::memory_order_relaxed));
      if (head_.compare_exchange_weak(first_, first_ | kLock, std::memory_order_acquire, std::memory_order_relaxed))
        return;
      // A holder that lost its processor needs one to go on.
      turn < 64 ? _mm_pause() : std::this_thread::yield();
    }
  }
  ~Locked() { head_.store(first_, std::memory_order_release); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

  static uint32_t index_in(uint32_t head) { return head & ~kLock; }

  // 0: none.
  template <typename Key>
  uint32_t find(const Key& key) const {
    uint32_t index = first_;
    while (index && !(pool_[index].key == key)) index = pool_[index].next;
    return index;
  }

  void push(uint32_t index) {
    pool_[index].next = first_;
    first_ = index;
  }

  void unlink(uint32_t index) {
    uint32_t* link = &first_;
    while (*link != index) link = &pool_[*link].next;
    *link = pool_[index].next;
  }

  template <typename Visit>
  void for_each(Visit visit) const {
    for (uint32_t index = first_; index; index = pool_[index].next) visit(pool_[index]);
  }

 private:
  static constexpr uint32_t kLock = 1u << 31;

  Buckets::Head& head_;
  Pool<Node>& pool_;
  uint32_t first_;
};

}  // namespace ironcore::nat
