// Underlay addresses: one IPv6 address per thing that other hosts may send overlay packets to.
//
//   bytes 0-7   upper 64 bits of the host's address
//   byte  8     0xd0 (the high nibble is what the NIC's steering rule matches)
//   byte  9     type, or 0
//   byte  10    flags: 0x80 chosen by the caller
//   byte  11    random, or 1 with static addresses
//   bytes 12-15 counter, big-endian, incremented before use and never reused
#pragma once

#include <cstdint>

#include "ironcore/types.h"

namespace ironcore {

enum class UnderlayType : uint8_t { kInterface = 1, kVip = 2, kNat = 3, kLoadBalancer = 4, kLbPrefix = 5, kPrefix = 6 };

class UnderlayAddresses {
 public:
  // `random_state` feeds the random byte and the first counter value; `is_static` makes both constant.
  UnderlayAddresses(const Ipv6Address& host, bool type_byte, bool is_static, uint64_t random_state);

  Ipv6Address generate(UnderlayType type);

  // Whether a caller may choose this address.
  bool preferred_allowed(const Ipv6Address& address) const;

 private:
  uint64_t next_random();

  Ipv6Address host_;
  bool type_byte_, static_;
  uint64_t random_state_;
  uint32_t counter_;
};

// The part of an underlay address that differs on one host, as it lies in memory.
uint64_t underlay_low(const Ipv6Address& address);

}  // namespace ironcore
