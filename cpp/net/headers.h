// Wire formats, as far as the engine reads or writes them. Fields are big-endian as on the wire.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ironcore::net {

inline constexpr size_t kEthLen = 14;
inline constexpr size_t kIpv4MinLen = 20;
inline constexpr size_t kIpv6Len = 40;
inline constexpr size_t kOverlayLen = kIpv6Len;  // bytes that encapsulation adds

// EtherTypes as they stand in memory of a little-endian machine.
inline constexpr uint16_t swap16(uint16_t v) { return __builtin_bswap16(v); }
inline constexpr uint32_t swap32(uint32_t v) { return __builtin_bswap32(v); }
inline constexpr uint16_t kEtherIpv4 = swap16(0x0800);
inline constexpr uint16_t kEtherArp = swap16(0x0806);
inline constexpr uint16_t kEtherVlan = swap16(0x8100);
inline constexpr uint16_t kEtherQinq = swap16(0x88a8);
inline constexpr uint16_t kEtherIpv6 = swap16(0x86dd);

enum Proto : uint8_t {
  kHopByHop = 0,
  kIcmp = 1,
  kIpip = 4,
  kTcp = 6,
  kUdp = 17,
  kIpv6InIp = 41,
  kRouting = 43,
  kFragment = 44,
  kAuth = 51,
  kIcmp6 = 58,
  kNoNext = 59,
  kDestOptions = 60,
};

struct __attribute__((packed)) Eth {
  uint8_t dst[6];
  uint8_t src[6];
  uint16_t type;
};

struct __attribute__((packed)) Ipv4 {
  uint8_t version_ihl;
  uint8_t tos;
  uint16_t total_length;
  uint16_t id;
  uint16_t fragment;
  uint8_t ttl;
  uint8_t proto;
  uint16_t checksum;
  uint32_t src;
  uint32_t dst;
};

struct __attribute__((packed)) Ipv6 {
  uint32_t version_class_flow;
  uint16_t payload_length;
  uint8_t next_header;
  uint8_t hop_limit;
  uint8_t src[16];
  uint8_t dst[16];
};

static_assert(sizeof(Eth) == kEthLen && sizeof(Ipv4) == kIpv4MinLen && sizeof(Ipv6) == kIpv6Len);

// Loads and stores of fields at any alignment.
template <typename T>
inline T load(const void* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
template <typename T>
inline void store(void* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

}  // namespace ironcore::net
