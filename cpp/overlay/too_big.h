// Tells a VM that its packet does not fit through the overlay: ICMP "fragmentation needed" (RFC 1191) and ICMPv6
// "packet too big" (RFC 8201). Without it a guest whose MTU ignores the 40 bytes of overhead would see large packets
// vanish.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ironcore/types.h"

namespace ironcore::overlay {

// Answers the frame whose IP header is at `l3` and whose packet has `ip_length` bytes, both inside the frame. `mtu` is
// what would have fitted. Returns the reply's length, 0 if none may be sent: IPv4 without DF, a fragment but the first,
// an ICMP error, a source that is no single host (RFC 1122 section 3.2.2, RFC 4443 section 2.4), or no room in `out`.
size_t write_too_big(std::span<const uint8_t> frame, size_t l3, size_t ip_length, uint32_t mtu,
                     const MacAddress& gateway, std::span<uint8_t> out);

}  // namespace ironcore::overlay
