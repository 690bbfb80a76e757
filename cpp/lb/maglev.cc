#include "lb/maglev.h"

#include <algorithm>

#include "net/headers.h"

namespace ironcore {
namespace {

constexpr uint32_t kLargestSize = 1u << 20;

// Where a target looks for its next slot.
struct Cursor {
  uint32_t position, skip;
};

}  // namespace

uint32_t maglev_hash1(const Ipv6Address& address) {
  constexpr uint32_t kMultiplier = 0x5bd1e995;
  uint32_t hash = sizeof(Ipv6Address);
  for (size_t at = 0; at < address.size(); at += 4) {
    uint32_t word = net::load<uint32_t>(address.data() + at) * kMultiplier;
    word ^= word >> 24;
    hash = hash * kMultiplier ^ word * kMultiplier;
  }
  hash = (hash ^ hash >> 13) * kMultiplier;
  return hash ^ hash >> 15;
}

uint32_t maglev_hash2(const Ipv6Address& address) {
  uint32_t hash = 5381;
  for (const uint8_t byte : address) hash = hash * 33 + byte;
  return hash & 0x7fffffff;
}

bool maglev_valid_size(uint32_t size) {
  if (size < 3 || size > kLargestSize || size % 2 == 0) return false;
  for (uint32_t divisor = 3; divisor * divisor <= size; divisor += 2)
    if (size % divisor == 0) return false;
  return true;
}

std::vector<uint16_t> maglev_table(std::span<const Ipv6Address> targets, uint32_t size) {
  if (targets.empty()) return {};
  std::vector<Cursor> cursors;
  cursors.reserve(targets.size());
  for (const Ipv6Address& target : targets)
    cursors.push_back({maglev_hash1(target) % size, maglev_hash2(target) % (size - 1) + 1});

  std::vector<uint16_t> slots(size);
  std::vector<uint64_t> taken(size / 64 + 1);  // unlike `slots` small enough for the first-level cache
  const auto claim = [&](Cursor& cursor) {
    for (;;) {
      const uint32_t slot = cursor.position;
      cursor.position = slot + cursor.skip < size ? slot + cursor.skip : slot + cursor.skip - size;
      const uint64_t bit = uint64_t{1} << slot % 64;
      if (taken[slot / 64] & bit) continue;
      taken[slot / 64] |= bit;
      return slot;
    }
  };
  for (uint32_t filled = 0; filled < size;) {
    const auto turns = std::min<size_t>(targets.size(), size - filled);
    for (size_t target = 0; target < turns; ++target) slots[claim(cursors[target])] = static_cast<uint16_t>(target);
    filled += static_cast<uint32_t>(turns);
  }
  return slots;
}

}  // namespace ironcore
