// The packet that an ICMP error quotes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "ironcore/types.h"

namespace ironcore::translate {

// Offsets count from the ICMP header. Ports are as in FlowKey, in network order: ICMP and ICMPv6 have type and code in
// `source_port` and the echo identifier in `destination_port`. The reversed key finds the flow that the error is about.
struct Embedded {
  IpAddress source, destination;
  uint16_t source_port = 0, destination_port = 0;
  uint8_t proto = 0;
  bool has_ports = false;  // TCP, UDP or echo, and not a later fragment; the ports are zero otherwise
  bool fragment = false;   // any fragment, the first included
  uint16_t ip = 0;         // IP header
  uint16_t l4 = 0;         // what follows that header and its extensions
  uint16_t end = 0;        // of what is quoted of the packet: without padding and RFC 4884 extensions
};

inline constexpr size_t kIcmpHeader = 8;

// Types 3 (unreachable), 11 (time exceeded), 12 (parameter problem) of ICMP, 1 to 4 of ICMPv6. Not those that a
// translator must not pass on: source quench (RFC 6633) and redirect, which concerns one link.
bool is_icmp_error(bool is_v6, uint8_t type);

// Length of the quoted packet, padded, if an RFC 4884 extension follows it; otherwise 0. `message` is an ICMP error as
// above, its header complete. The message may be shorter than that.
size_t quoted_length(std::span<const uint8_t> message, bool is_v6);

// Parses what `message`, an ICMP or ICMPv6 message from its first byte to the end of the IP packet, quotes. Options and
// extension headers are skipped; at least 8 bytes of TCP, UDP or ICMP must be there. Nothing if the message is no error
// as above, is malformed or too short, or quotes an ICMP error. Checksums are not looked at.
std::optional<Embedded> parse_embedded(std::span<const uint8_t> message, bool is_v6);

}  // namespace ironcore::translate
