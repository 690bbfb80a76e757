// What IPv4 and IPv6 headers have in common, and how one becomes the other (RFC 7915 sections 4.1 and 5.1).
#pragma once

#include <cstddef>
#include <cstdint>

#include "translate/rewrite.h"

namespace ironcore::translate {

inline constexpr uint8_t kEchoReply4 = 0, kEchoRequest4 = 8, kEchoRequest6 = 128, kEchoReply6 = 129;
inline constexpr size_t kFragmentHeader = 8;
inline constexpr size_t kEndsLength6 = 32, kEndsLength4 = 8;  // both addresses, which follow each other

inline bool is_echo(bool is_v6, uint8_t type) {
  return is_v6 ? type == kEchoRequest6 || type == kEchoReply6 : type == kEchoRequest4 || type == kEchoReply4;
}

// Errors, and what ICMP once had besides: source quench and redirect.
inline bool quotes_packet(bool is_v6, uint8_t type) {
  return is_v6 ? type < 128 : (type >= 3 && type <= 5) || type == 11 || type == 12;
}

inline constexpr uint16_t kMoreFragments = 0x2000, kFragmentOffset = 0x1fff;

struct Header {
  uint8_t traffic_class = 0;
  uint8_t hop_limit = 0;
  uint8_t proto = 0;      // as in the family it was read from
  uint16_t fragment = 0;  // host order, as in IPv4: kMoreFragments and offset
  uint16_t id = 0;        // network order; of a fragment
  size_t payload = 0;     // bytes behind the header and its extensions, as the header says

  bool is_fragment() const { return fragment != 0; }
  bool is_first() const { return (fragment & kFragmentOffset) == 0; }
};

// Reads the header at `ip`, whose transport is at `ip + l4`. Fails for what has no counterpart: kNotTranslatable if a
// source route or routing header has still to be followed, or the packet is authenticated.
Outcome read_v4(const uint8_t* ip, size_t l4, Header& header);
Outcome read_v6(const uint8_t* ip, size_t l4, Header& header);

// Write the header for `header.payload` bytes, `header.proto` as in the new family; addresses are at `source` and
// `destination`, outside of what is written. IPv4: DF is clear, `id` is used for fragments and others alike.
inline size_t length_v6(const Header& header) { return net::kIpv6Len + (header.is_fragment() ? kFragmentHeader : 0); }
void write_v6(uint8_t* at, const Header& header, const uint8_t* source, const uint8_t* destination);
void write_v4(uint8_t* at, const Header& header, const uint8_t* source, const uint8_t* destination);

// Turns an echo message, whose first 8 bytes are at `l4`, into that of the other family and adds `port_delta` to its
// checksum for an identifier that was replaced. `ends6` are the IPv6 addresses, `length` is that of the whole message.
void echo_to_v6(uint8_t* l4, const uint8_t* ends6, size_t length, uint16_t port_delta);
void echo_to_v4(uint8_t* l4, const uint8_t* ends6, size_t length, uint16_t port_delta);

// An ICMP message of zeros has the checksum 0xffff, which no increment finds. `l4` is a whole message.
void settle_zero(uint8_t* l4, size_t length);

// Adds `change` to a checksum of TCP (`at` 16) or UDP (6); UDP has none if it is 0.
inline void adjust_transport(uint8_t* at, bool udp, uint16_t change) {
  const auto before = net::load<uint16_t>(at);
  if (udp && before == 0) return;
  const uint16_t after = adjusted(before, change);
  net::store(at, udp && after == 0 ? uint16_t{0xffff} : after);
}

}  // namespace ironcore::translate
