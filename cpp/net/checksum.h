// Internet checksums (RFC 1071).
#pragma once

#include <cstddef>
#include <cstdint>

namespace ironcore::net {

// Folded one's complement sum, not inverted; `sum` continues an earlier one over an even number of bytes.
uint16_t checksum_sum(const uint8_t* data, size_t length, uint32_t sum = 0);

// Writes the TCP, UDP, ICMP or ICMPv6 checksum of a complete, unfragmented packet whose IP header starts at `l3`.
// `l4` and `l4_length` delimit the transport header and payload and lie inside the buffer. Returns false if the
// protocol has no checksum this function knows, or the segment is too short for its header; the packet is unchanged
// then.
bool write_l4_checksum(uint8_t* l3, bool is_v6, uint8_t proto, uint8_t* l4, size_t l4_length);

}  // namespace ironcore::net
