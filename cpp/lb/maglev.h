// Maglev hashing as every host of a deployment computes it: equal target sets give equal tables, whatever the history.
// Hashes, table size and order of filling are those of the dpservice reference, so that mixed hosts choose alike.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ironcore/types.h"

namespace ironcore {

inline constexpr uint32_t kMaglevSize = 503;         // the reference's, enough for its 64 targets
inline constexpr uint32_t kMaglevLargeSize = 65537;  // shares of 1 000 targets differ by 1.6 % at most

uint32_t maglev_hash1(const Ipv6Address& address);  // MurmurHash2, seed 0: where a target's permutation starts
uint32_t maglev_hash2(const Ipv6Address& address);  // DJB hash of 31 bits: its stride

// Size of table that a set of that many targets gets if none is configured. It depends on nothing else, as hosts must
// agree: all sets that the reference can hold have its size.
constexpr uint32_t maglev_default_size(size_t targets) { return targets <= 64 ? kMaglevSize : kMaglevLargeSize; }

// A prime in 3..2^20, without which strides would not reach every slot.
bool maglev_valid_size(uint32_t size);

// Index of the target that owns each slot. `targets` are unique and sorted bytewise, at most 65 535; those beyond
// `size` get no slot. Empty without targets. About size * ln(size) steps.
std::vector<uint16_t> maglev_table(std::span<const Ipv6Address> targets, uint32_t size);

}  // namespace ironcore
