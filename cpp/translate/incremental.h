// Incremental update of Internet checksums (RFC 1624, equation 3). Values are as loaded from the packet.
#pragma once

#include <cstdint>

namespace ironcore::translate {

// One's complement sum of up to 65535 16-bit words, folded.
inline uint16_t fold(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum + (sum >> 16));
}

// What replacing words with the sum `before` by words with the sum `after` adds to the sum of all.
inline uint16_t delta(uint16_t before, uint16_t after) {
  return fold(uint32_t{static_cast<uint16_t>(~before)} + after);
}

inline uint16_t plus(uint16_t delta1, uint16_t delta2) { return fold(uint32_t{delta1} + delta2); }

// Never turns a checksum of data that is not all zero into 0xffff, so the result is what a full computation gives.
inline uint16_t adjusted(uint16_t checksum, uint16_t delta) {
  const uint32_t sum = uint32_t{static_cast<uint16_t>(~checksum)} + delta;
  return static_cast<uint16_t>(~(sum + (sum >> 16)));
}

}  // namespace ironcore::translate
