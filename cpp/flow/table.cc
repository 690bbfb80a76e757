#include "flow/table.h"

#include <rte_pause.h>
#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace ironcore {
namespace {

constexpr size_t kPoolRefill = 256;  // indexes moved between a worker and the shared pool at once
constexpr size_t kPoolHigh = 4 * kPoolRefill;
constexpr size_t kReleaseBatch = 64;
// Two entries per bucket of eight on average: that both buckets of a key are full happens once in a million inserts
// into a full table. Small tables can afford even less.
constexpr uint64_t kMinBuckets = 4096;
// What workers can use between two calls of populate_ahead, at half a million new connections per second.
constexpr size_t kPopulatedAhead = 1 << 18;

FlowHash random_hash() {
  uint64_t secret[4];
  if (getrandom(secret, sizeof secret, 0) != sizeof secret) throw std::runtime_error("getrandom failed");
  for (auto& word : secret) word |= 1;
  return FlowHash(secret);
}

void lock(FlowBucket& bucket) {
  uint32_t free = 0;
  while (!bucket.lock.compare_exchange_weak(free, 1, std::memory_order_acquire)) {
    free = 0;
    rte_pause();
  }
}

void unlock(FlowBucket& bucket) { bucket.lock.store(0, std::memory_order_release); }

}  // namespace

// Both buckets of a key, in address order so that two writers cannot wait for each other.
class FlowTable::TwoLocks {
 public:
  TwoLocks(FlowBucket& a, FlowBucket& b) : first_(&a < &b ? a : b), second_(&a < &b ? b : a) {
    lock(first_);
    if (&first_ != &second_) lock(second_);
  }
  ~TwoLocks() {
    if (&first_ != &second_) unlock(second_);
    unlock(first_);
  }
  TwoLocks(const TwoLocks&) = delete;

 private:
  FlowBucket& first_;
  FlowBucket& second_;
};

FlowTable::FlowTable(uint32_t capacity, Rcu& rcu)
    : capacity_(capacity),
      mask_(std::bit_ceil(std::max(uint64_t{capacity} / 2, kMinBuckets)) - 1),
      buckets_(mask_ + 1),
      entries_(size_t{capacity} + 1),
      hash_(random_hash()),
      rcu_(rcu) {
  buckets_.populate(mask_ + 1);
  populate_ahead();
}

void FlowTable::populate_ahead() {
  std::unique_lock lock(shared_mutex_);
  const size_t used = next_unused_;
  lock.unlock();
  entries_.populate(used + kPopulatedAhead);
}

FlowEntry* FlowTable::find_in(const FlowBucket& bucket, const FlowKey& key, uint16_t tag, unsigned* slot) const {
  for (uint32_t match = match_tags(bucket, tag); match; match &= match - 1, match &= match - 1) {
    const unsigned at = static_cast<unsigned>(__builtin_ctz(match)) / 2;
    const uint32_t index = bucket.entries[at].load(std::memory_order_acquire);
    if (!index || !same_flow(entries_[index].key, key)) continue;
    if (slot) *slot = at;
    return &entries_[index];
  }
  return nullptr;
}

FlowEntry* FlowTable::find(const FlowKey& key, uint64_t hash) const {
  const FlowBucket& primary = buckets_[hash & mask_];
  const uint16_t tag = tag_of(hash);
  if (FlowEntry* entry = find_in(primary, key, tag)) return entry;
  if (primary.overflow.load(std::memory_order_acquire) == 0) [[likely]]
    return nullptr;
  return find_in(buckets_[secondary_of(hash)], key, tag);
}

FlowTable::Insertion FlowTable::insert(FlowPool& pool, const FlowKey& key, uint64_t hash, const FlowContent& content,
                                       const Start& start, FlowRef replace) {
  const uint32_t index = take_index(pool);
  if (!index) return {nullptr, false};
  // Nobody can see the entry yet: fill it before it is published.
  FlowEntry& entry = entries_[index];
  entry.key = key;
  entry.program = content.program;
  entry.rewrite = content.rewrite;
  entry.owner = content.owner;
  entry.created = start.now;
  entry.generation_index.store(start.generation_index, std::memory_order_relaxed);
  entry.generation.store(start.generation, std::memory_order_relaxed);
  entry.last_used.store(start.now, std::memory_order_relaxed);
  entry.peer_index.store(0, std::memory_order_relaxed);
  entry.peer_sequence.store(0, std::memory_order_relaxed);
  entry.tcp.store(0, std::memory_order_relaxed);
  entry.tcp_established.store(false, std::memory_order_relaxed);
  entry.is_reply.store(false, std::memory_order_relaxed);
  entry.packets.reset();
  entry.bytes.reset();

  FlowBucket& primary = buckets_[hash & mask_];
  FlowBucket& secondary = buckets_[secondary_of(hash)];
  const uint16_t tag = tag_of(hash);
  TwoLocks locks(primary, secondary);

  unsigned slot = 0;
  FlowBucket* home = &primary;
  FlowEntry* present = find_in(primary, key, tag, &slot);
  if (!present && primary.overflow.load(std::memory_order_relaxed)) {
    home = &secondary;
    present = find_in(secondary, key, tag, &slot);
  }
  if (present) {
    const FlowRef found = ref(*present);
    if (found.index != replace.index || found.sequence != replace.sequence) {
      release_index(pool, index);
      return {present, false};
    }
    home->entries[slot].store(index, std::memory_order_release);
    release_index(pool, found.index);
    return {&entry, true};
  }
  for (FlowBucket* bucket : {&primary, &secondary}) {
    const uint32_t free = match_tags(*bucket, 0);
    if (!free) continue;
    const unsigned at = static_cast<unsigned>(__builtin_ctz(free)) / 2;
    bucket->entries[at].store(index, std::memory_order_release);
    bucket->tags[at].store(tag, std::memory_order_release);
    if (bucket != &primary) primary.overflow.fetch_add(1, std::memory_order_release);
    return {&entry, true};
  }
  release_index(pool, index);
  return {nullptr, false};
}

bool FlowTable::remove(FlowPool& pool, FlowRef ref) {
  FlowEntry& entry = entries_[ref.index];
  if (entry.sequence.load(std::memory_order_acquire) != ref.sequence) return false;
  // The entry may be freed and refilled by another worker from here on: take the key only to find the buckets, and
  // decide under their locks.
  const uint64_t hash = hash_(entry.key);
  FlowBucket& primary = buckets_[hash & mask_];
  FlowBucket& secondary = buckets_[secondary_of(hash)];
  TwoLocks locks(primary, secondary);
  for (FlowBucket* bucket : {&primary, &secondary}) {
    for (unsigned at = 0; at < FlowBucket::kSlots; ++at) {
      if (bucket->tags[at].load(std::memory_order_relaxed) == 0 ||
          bucket->entries[at].load(std::memory_order_relaxed) != ref.index)
        continue;
      if (entry.sequence.load(std::memory_order_relaxed) != ref.sequence) return false;
      bucket->tags[at].store(0, std::memory_order_release);
      if (bucket != &primary) primary.overflow.fetch_sub(1, std::memory_order_release);
      release_index(pool, ref.index);
      return true;
    }
  }
  return false;
}

uint32_t FlowTable::take_index(FlowPool& pool) {
  if (pool.free_.empty()) {
    recycle(pool);
    std::lock_guard lock(shared_mutex_);
    while (pool.free_.size() < kPoolRefill && !shared_free_.empty()) {
      pool.free_.push_back(shared_free_.back());
      shared_free_.pop_back();
    }
    if (pool.free_.empty()) {
      const uint32_t last = std::min<uint64_t>(uint64_t{next_unused_} + kPoolRefill, uint64_t{capacity_} + 1);
      // In descending order: they are taken from the back, memory is touched in ascending order.
      for (uint32_t index = last; index > next_unused_; --index) pool.free_.push_back(index - 1);
      next_unused_ = last;
    }
  }
  if (pool.free_.empty()) return 0;
  const uint32_t index = pool.free_.back();
  pool.free_.pop_back();
  used_.fetch_add(1, std::memory_order_relaxed);
  return index;
}

void FlowTable::release_index(FlowPool& pool, uint32_t index) {
  entries_[index].sequence.fetch_add(1, std::memory_order_release);
  used_.fetch_sub(1, std::memory_order_relaxed);
  pool.released_.push_back(index);
  if (pool.released_.size() >= kReleaseBatch) recycle(pool);
}

void FlowTable::recycle(FlowPool& pool) {
  if (!pool.released_.empty()) {
    pool.waiting_.push_back({rcu_.start_grace_period(), std::move(pool.released_)});
    pool.released_ = {};
  }
  while (!pool.waiting_.empty() && rcu_.grace_period_over(pool.waiting_.front().token)) {
    auto& indexes = pool.waiting_.front().indexes;
    pool.free_.insert(pool.free_.end(), indexes.begin(), indexes.end());
    pool.waiting_.pop_front();
  }
  if (pool.free_.size() > kPoolHigh) {
    std::lock_guard lock(shared_mutex_);
    shared_free_.insert(shared_free_.end(), pool.free_.end() - static_cast<ptrdiff_t>(kPoolRefill), pool.free_.end());
    pool.free_.resize(pool.free_.size() - kPoolRefill);
  }
}

}  // namespace ironcore
