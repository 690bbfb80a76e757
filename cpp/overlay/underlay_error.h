// What a router of the fabric says about our encapsulated packets: ICMPv6 "packet too big" (RFC 4443 section 3.2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "ironcore/types.h"

namespace ironcore::overlay {

struct TooBigNotice {
  uint64_t sender;       // low half of the outer source of the quoted packet, network order; the upper one is ours
  Ipv6Address receiver;  // and its outer destination
  size_t inner;          // offset of the VM's packet in the frame
  size_t quoted;         // bytes of it that are there, at least 28 (IPv4) or 48
  uint32_t mtu;  // that the VM should use: what fits behind the outer header (RFC 2473 section 8), IPv6: at least 1280
};

// Reads the frame if it is such a message to an address in `host_prefix` (upper half, network order), about a packet
// that was encapsulated there. Nothing if it is anything else, malformed, has a bad checksum, or tells less than IPv6's
// minimum MTU (RFC 8201 section 4).
std::optional<TooBigNotice> read_too_big(std::span<const uint8_t> frame, uint64_t host_prefix);

}  // namespace ironcore::overlay
