// The flow table: one concurrent hash table for all workers. Readers take no lock; writers lock one bucket or two.
//
// A bucket is one cache line of eight 16-bit tags, which one SSE instruction compares, and eight 32-bit entry indexes.
// A key lives in its primary bucket or, if that was full, in its secondary one; a full table has two keys per
// bucket. A lookup is split into stages (prefetch bucket, candidate, prefetch entry, verify) so that a burst of packets
// overlaps its cache misses.
#pragma once

#include <rte_prefetch.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "core/mapped_array.h"
#include "core/rcu.h"
#include "flow/entry.h"

namespace ironcore {

struct alignas(64) FlowBucket {
  static constexpr unsigned kSlots = 8;
  std::atomic<uint16_t> tags[kSlots];     // 0: free
  std::atomic<uint32_t> entries[kSlots];  // valid if the tag is not 0
  std::atomic<uint32_t> lock;
  std::atomic<uint32_t> overflow;  // keys whose primary bucket this is but that live in their secondary one
};
static_assert(sizeof(FlowBucket) == 64);

// Free entries at hand of one worker, and those that wait for a grace period.
class FlowPool {
 public:
  size_t free_count() const { return free_.size(); }

 private:
  friend class FlowTable;
  struct Batch {
    uint64_t token;
    std::vector<uint32_t> indexes;
  };
  std::vector<uint32_t> free_;
  std::vector<uint32_t> released_;  // not yet given a token
  std::deque<Batch> waiting_;
};

class FlowTable {
 public:
  // `capacity` entries of 192 bytes, whose memory is taken from the system shortly before use, and half as many buckets
  // of 64.
  FlowTable(uint32_t capacity, Rcu& rcu);
  FlowTable(const FlowTable&) = delete;
  FlowTable& operator=(const FlowTable&) = delete;

  uint64_t hash(const FlowKey& key) const { return hash_(key); }

  // Stages of a lookup, in this order, with other work between them.
  void prefetch_bucket(uint64_t hash) const { rte_prefetch0(&buckets_[hash & mask_]); }
  // Entry that may hold the key, 0 if none can; starts loading it.
  uint32_t candidate(uint64_t hash) const {
    const FlowBucket& bucket = buckets_[hash & mask_];
    const uint32_t match = match_tags(bucket, tag_of(hash));
    if (!match) return 0;
    const uint32_t index = bucket.entries[__builtin_ctz(match) / 2].load(std::memory_order_acquire);
    rte_prefetch0(&entries_[index]);
    rte_prefetch0(reinterpret_cast<const uint8_t*>(&entries_[index]) + 64);
    return index;
  }
  // The key's entry or null. `candidate` saves the search in all but rare cases.
  FlowEntry* verify(uint32_t candidate, const FlowKey& key, uint64_t hash) const {
    FlowEntry& entry = entries_[candidate];
    if (candidate && same_flow(entry.key, key)) [[likely]]
      return &entry;
    return find(key, hash);
  }

  FlowEntry* find(const FlowKey& key, uint64_t hash) const;

  // Walks the table in parts: an entry stays in its bucket. For readers (rcu.h).
  uint64_t bucket_count() const { return mask_ + 1; }
  template <typename Visit>
  void visit_bucket(uint64_t bucket, Visit visit) const {
    const FlowBucket& visited = buckets_[bucket];
    for (unsigned slot = 0; slot < FlowBucket::kSlots; ++slot)
      if (visited.tags[slot].load(std::memory_order_acquire))
        if (const uint32_t index = visited.entries[slot].load(std::memory_order_acquire)) visit(entries_[index]);
  }

  // What a new entry starts with, besides key and content.
  struct Start {
    uint32_t generation_index, generation;
    Tick now;
  };
  struct Insertion {
    FlowEntry* entry;  // that the key has afterwards, another worker's if that was faster; null: the table is full
    bool created;
  };
  // Adds an entry, or replaces the present one of that key if `replace` is its reference.
  Insertion insert(FlowPool& pool, const FlowKey& key, uint64_t hash, const FlowContent& content, const Start& start,
                   FlowRef replace = {});

  // Removes the entry if it still has that sequence number; its memory is reused after a grace period.
  bool remove(FlowPool& pool, FlowRef ref);

  FlowEntry* get(FlowRef ref) const {
    if (!ref.index) return nullptr;
    FlowEntry& entry = entries_[ref.index];
    return entry.sequence.load(std::memory_order_acquire) == ref.sequence ? &entry : nullptr;
  }
  FlowEntry& at(uint32_t index) const { return entries_[index]; }
  FlowRef ref(const FlowEntry& entry) const {
    return {static_cast<uint32_t>(&entry - entries_.data()), entry.sequence.load(std::memory_order_relaxed)};
  }

  // Takes back what readers can no longer see. Each worker calls it with its own pool now and then.
  void recycle(FlowPool& pool);

  // Every entry that can be found has one slot and keeps it; it may appear and go at any time. To look at an entry, be
  // a registered reader from before the call until after the last use: then the entry is not filled anew meanwhile.
  uint64_t slots() const { return (mask_ + 1) * FlowBucket::kSlots; }
  const FlowEntry* in_slot(uint64_t slot) const {
    const FlowBucket& bucket = buckets_[slot / FlowBucket::kSlots];
    const unsigned at = slot % FlowBucket::kSlots;
    if (bucket.tags[at].load(std::memory_order_acquire) == 0) return nullptr;
    const uint32_t index = bucket.entries[at].load(std::memory_order_acquire);
    return index ? &entries_[index] : nullptr;
  }

  // Takes memory for the next entries, so that workers need not wait for it. To be called again and again, by one
  // thread.
  void populate_ahead();

  uint64_t size() const { return used_.load(std::memory_order_relaxed); }
  uint64_t capacity() const { return capacity_; }

 private:
  static uint16_t tag_of(uint64_t hash) {
    const auto tag = static_cast<uint16_t>(hash >> 48);
    return tag ? tag : 1;
  }
  uint64_t secondary_of(uint64_t hash) const { return (hash ^ (hash >> 24) ^ 0x5bd1e995) & mask_; }

  // Two bits per slot. A slot may change while it is compared: what is found is verified against the key, and what is
  // missed is looked for again under the lock before anything is inserted.
  static uint32_t match_tags(const FlowBucket& bucket, uint16_t tag) {
    const __m128i tags = _mm_load_si128(reinterpret_cast<const __m128i*>(&bucket));
    const __m128i equal = _mm_cmpeq_epi16(tags, _mm_set1_epi16(static_cast<int16_t>(tag)));
    return static_cast<uint32_t>(_mm_movemask_epi8(equal));
  }
  FlowEntry* find_in(const FlowBucket& bucket, const FlowKey& key, uint16_t tag, unsigned* slot = nullptr) const;

  class TwoLocks;
  uint32_t take_index(FlowPool& pool);
  void release_index(FlowPool& pool, uint32_t index);

  const uint32_t capacity_;
  const uint64_t mask_;
  MappedArray<FlowBucket> buckets_;
  MappedArray<FlowEntry> entries_;  // [0] is never used
  FlowHash hash_;
  Rcu& rcu_;
  std::atomic<uint64_t> used_{0};
  std::mutex shared_mutex_;
  std::vector<uint32_t> shared_free_;  // overflow of the workers' pools
  uint32_t next_unused_ = 1;           // entries from here on were never handed out; under shared_mutex_
};

}  // namespace ironcore
