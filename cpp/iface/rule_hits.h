// How many flows each firewall rule of an interface decided, by the rule's slot in its RuleSet. Written by any worker
// in its slow path.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace ironcore {

class RuleHits {
 public:
  void count(uint32_t rule) {
    if (Chunk* chunk = chunk_of(rule)) chunk->counts[rule % kChunk].fetch_add(1, std::memory_order_relaxed);
  }
  uint64_t get(uint32_t rule) const {
    const Chunk* chunk = chunk_of(rule);
    return chunk ? chunk->counts[rule % kChunk].load(std::memory_order_relaxed) : 0;
  }

  // Control side: from here on the slot belongs to a new rule.
  void begin(uint32_t rule) {
    if (rule / kChunk >= kChunks) return;
    if (!chunk_of(rule)) {
      owned_.push_back(std::make_unique<Chunk>());
      chunks_[rule / kChunk].store(owned_.back().get(), std::memory_order_release);
    }
    chunk_of(rule)->counts[rule % kChunk].store(0, std::memory_order_relaxed);
  }

 private:
  static constexpr uint32_t kChunk = 256, kChunks = 64;  // 16 384 rules, as many as a RuleSet takes
  struct Chunk {
    std::atomic<uint64_t> counts[kChunk]{};
  };
  Chunk* chunk_of(uint32_t rule) const {
    return rule / kChunk < kChunks ? chunks_[rule / kChunk].load(std::memory_order_acquire) : nullptr;
  }

  std::atomic<Chunk*> chunks_[kChunks]{};
  std::vector<std::unique_ptr<Chunk>> owned_;
};

}  // namespace ironcore
