// The hash by which the reference implementation chooses where the search for a NAT port begins.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ironcore::nat {

inline constexpr uint32_t kReferenceSeed = 0xfee1900d;

// lookup3 (Bob Jenkins, 2006, "hashlittle") of a key of 13 to 24 bytes on a little-endian machine.
template <size_t kLength>
uint32_t lookup3(const std::array<uint8_t, kLength>& key, uint32_t seed) {
  static_assert(kLength > 12 && kLength <= 24);
  uint32_t word[6] = {};
  std::memcpy(word, key.data(), kLength);

  uint32_t a = 0xdeadbeef + static_cast<uint32_t>(kLength) + seed, b = a, c = a;
  a += word[0], b += word[1], c += word[2];
  a = (a - c) ^ std::rotl(c, 4), c += b;
  b = (b - a) ^ std::rotl(a, 6), a += c;
  c = (c - b) ^ std::rotl(b, 8), b += a;
  a = (a - c) ^ std::rotl(c, 16), c += b;
  b = (b - a) ^ std::rotl(a, 19), a += c;
  c = (c - b) ^ std::rotl(b, 4), b += a;

  a += word[3], b += word[4], c += word[5];
  c = (c ^ b) - std::rotl(b, 14);
  a = (a ^ c) - std::rotl(c, 11);
  b = (b ^ a) - std::rotl(a, 25);
  c = (c ^ b) - std::rotl(b, 16);
  a = (a ^ c) - std::rotl(c, 4);
  b = (b ^ a) - std::rotl(a, 14);
  return (c ^ b) - std::rotl(b, 24);
}

}  // namespace ironcore::nat
