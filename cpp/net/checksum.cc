#include "net/checksum.h"

#include "net/headers.h"

namespace ironcore::net {
namespace {

uint32_t fold(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

}  // namespace

uint16_t checksum_sum(const uint8_t* data, size_t length, uint32_t initial) {
  uint64_t sum = initial;
  size_t at = 0;
  for (; at + 4 <= length; at += 4) sum += load<uint32_t>(data + at);
  if (at + 2 <= length) {
    sum += load<uint16_t>(data + at);
    at += 2;
  }
  if (at < length) sum += data[at];
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  return static_cast<uint16_t>(fold(fold(static_cast<uint32_t>(sum & 0xffff) + static_cast<uint32_t>(sum >> 16))));
}

bool write_l4_checksum(uint8_t* l3, bool is_v6, uint8_t proto, uint8_t* l4, size_t l4_length) {
  size_t offset;
  size_t header;
  switch (proto) {
    case kTcp:
      offset = 16, header = 20;
      break;
    case kUdp:
      offset = 6, header = 8;
      break;
    case kIcmp:
    case kIcmp6:
      offset = 2, header = 8;
      break;
    default:
      return false;
  }
  if (l4_length < header) return false;
  uint32_t pseudo = 0;
  if (proto != kIcmp) {
    pseudo = is_v6 ? checksum_sum(l3 + 8, 32) : checksum_sum(l3 + 12, 8);
    pseudo += swap16(proto);
    pseudo += swap16(static_cast<uint16_t>(l4_length));
  }
  store<uint16_t>(l4 + offset, 0);
  uint16_t sum = static_cast<uint16_t>(~checksum_sum(l4, l4_length, pseudo));
  if (sum == 0 && proto == kUdp) sum = 0xffff;  // zero means "none" in UDP
  store<uint16_t>(l4 + offset, sum);
  return true;
}

}  // namespace ironcore::net
