// Open addressing from hashes to slots of a table elsewhere: 4 bytes per entry and room.
#pragma once

#include <cstdint>
#include <vector>

namespace metalbond {

class SlotIndex {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  size_t size() const { return size_; }

  // The slot with this hash for which `same(slot)` holds, or kNone.
  template <typename Same>
  uint32_t find(uint32_t hash, Same&& same) const {
    if (size_ == 0) return kNone;
    for (size_t at = hash & mask(); cells_[at] != kNone; at = (at + 1) & mask())
      if (same(cells_[at])) return cells_[at];
    return kNone;
  }

  // `hash_of(slot)` is asked for slots that are in already.
  template <typename HashOf>
  void insert(uint32_t hash, uint32_t slot, HashOf&& hash_of) {
    if ((size_ + 1) * 4 > cells_.size() * 3) rehash(cells_.empty() ? 8 : 2 * cells_.size(), hash_of);
    put(hash, slot);
    ++size_;
  }

  // Slot `from`, which is in, becomes `to`.
  void replace(uint32_t hash, uint32_t from, uint32_t to) { cells_[position(hash, from)] = to; }

  template <typename HashOf>
  void erase(uint32_t hash, uint32_t slot, HashOf&& hash_of) {
    size_t hole = position(hash, slot);
    for (size_t at = (hole + 1) & mask(); cells_[at] != kNone; at = (at + 1) & mask()) {
      // Move back what would not be found behind a hole.
      if (((at - (hash_of(cells_[at]) & mask())) & mask()) >= ((at - hole) & mask())) {
        cells_[hole] = cells_[at];
        hole = at;
      }
    }
    cells_[hole] = kNone;
    --size_;
  }

 private:
  size_t mask() const { return cells_.size() - 1; }

  size_t position(uint32_t hash, uint32_t slot) const {
    size_t at = hash & mask();
    while (cells_[at] != slot) at = (at + 1) & mask();
    return at;
  }

  void put(uint32_t hash, uint32_t slot) {
    size_t at = hash & mask();
    while (cells_[at] != kNone) at = (at + 1) & mask();
    cells_[at] = slot;
  }

  template <typename HashOf>
  void rehash(size_t cells, HashOf&& hash_of) {
    std::vector<uint32_t> before(cells, kNone);
    before.swap(cells_);
    for (const uint32_t slot : before)
      if (slot != kNone) put(hash_of(slot), slot);
  }

  std::vector<uint32_t> cells_;
  size_t size_ = 0;
};

}  // namespace metalbond
