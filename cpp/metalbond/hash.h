// SipHash-1-3 with a key of this process, so that nobody outside can choose keys that collide.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>

namespace metalbond {

class KeyedHash {
 public:
  KeyedHash() {
    std::random_device random;
    for (uint64_t& part : key_) part = uint64_t{random()} << 32 | random();
  }

  uint32_t operator()(std::string_view bytes) const {
    uint64_t v[4] = {key_[0] ^ 0x736f6d6570736575, key_[1] ^ 0x646f72616e646f6d, key_[0] ^ 0x6c7967656e657261,
                     key_[1] ^ 0x7465646279746573};
    const char* at = bytes.data();
    size_t left = bytes.size();
    for (; left >= 8; at += 8, left -= 8) {
      uint64_t word;
      std::memcpy(&word, at, 8);
      compress(v, word);
    }
    uint64_t last = uint64_t{bytes.size()} << 56;
    std::memcpy(&last, at, left);  // little endian: the size's byte stays
    compress(v, last);
    v[2] ^= 0xff;
    for (int round = 0; round < 3; ++round) mix(v);
    const uint64_t hash = v[0] ^ v[1] ^ v[2] ^ v[3];
    return static_cast<uint32_t>(hash ^ hash >> 32);
  }

 private:
  static_assert(std::endian::native == std::endian::little);

  static void mix(uint64_t* v) {
    v[0] += v[1];
    v[1] = std::rotl(v[1], 13) ^ v[0];
    v[0] = std::rotl(v[0], 32);
    v[2] += v[3];
    v[3] = std::rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = std::rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = std::rotl(v[1], 17) ^ v[2];
    v[2] = std::rotl(v[2], 32);
  }
  static void compress(uint64_t* v, uint64_t word) {
    v[3] ^= word;
    mix(v);
    v[0] ^= word;
  }

  uint64_t key_[2];
};

}  // namespace metalbond
