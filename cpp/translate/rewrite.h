// Address and port translation of packets: a value that is compiled once per flow and direction, and applied to each
// packet. Checksums are updated incrementally: a packet that was corrupt stays corrupt.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "ironcore/types.h"
#include "net/headers.h"
#include "translate/incremental.h"

namespace ironcore::translate {

// 64:ff9b::/96 (RFC 6052): an IPv4 address is its last four bytes.
inline constexpr Ipv6Address kNat64Prefix = {0, 0x64, 0xff, 0x9b};

enum class RewriteKind : uint8_t {
  kNone,
  kSource,
  kDestination,
  kSixToFour,  // NAT64 out: source becomes `address`, destination loses kNat64Prefix
  kFourToSix,  // NAT64 in: destination becomes `address`, source gets kNat64Prefix
};

// kNone is all zero. Build others with the functions below.
struct Rewrite {
  RewriteKind kind = RewriteKind::kNone;
  bool is_v6 = false;     // of the packet before; kNone: false
  bool has_port = false;  // `port` replaces the source port (kSource, kSixToFour), the destination port, or the echo id
  uint8_t reserved = 0;
  uint16_t port = 0;                  // network order
  uint16_t ip_delta = 0;              // sum of the addresses that change: IPv4 header checksum
  uint16_t l4_delta = 0;              // the same and the port: checksums that cover a pseudo header
  uint16_t port_delta = 0;            // the port alone: ICMP
  std::array<uint8_t, 16> address{};  // new; IPv4 in the first 4 bytes, the rest is zero

  bool operator==(const Rewrite&) const = default;
};
static_assert(sizeof(Rewrite) == 28 && std::is_trivially_copyable_v<Rewrite>);

// Ports or echo identifiers in network order.
struct PortChange {
  uint16_t before, after;
};

// Both addresses are of one family. `before` is what all packets of the flow carry.
Rewrite rewrite_source(const IpAddress& before, const IpAddress& after, std::optional<PortChange> port = {});
Rewrite rewrite_destination(const IpAddress& before, const IpAddress& after, std::optional<PortChange> port = {});
Rewrite six_to_four(const Ipv6Address& vm, const Ipv4Address& nat, std::optional<PortChange> port = {});
Rewrite four_to_six(const Ipv4Address& nat, const Ipv6Address& vm, std::optional<PortChange> port = {});

// An IP packet in a buffer, parsed and checked by net/parse.h: the headers up to `l4` are complete and well-formed.
struct PacketView {
  uint8_t* ip;
  size_t length;     // bytes of the IP packet, by its own header; without padding
  size_t headroom;   // writable bytes in front of `ip`
  size_t l4;         // from `ip` to what follows the IP header and its extensions
  uint8_t proto;     // of what is at `l4`
  bool is_fragment;  // any fragment, the first included
};

enum class Outcome : uint8_t {
  kOk,
  kTruncated,        // ends within a header that must be changed
  kNoHeadroom,       // a longer header does not fit in front
  kNotTranslatable,  // no such packet in the other family, or nothing that carries the port to be replaced
  kBadChecksum,      // ICMP errors only
};

// The general case; use apply().
Outcome apply_slow(const Rewrite& rewrite, PacketView& packet);

// Rewrites the packet. If the outcome is not kOk, the packet and the view are unchanged. kSixToFour and kFourToSix move
// the start of the packet and update the view. The later fragments of a packet have addresses only; ICMP errors are for
// translate_icmp_error() and kNotTranslatable here.
//
// UDP without a checksum stays so, except that NAT64 computes the one IPv6 needs; it refuses fragments without.
inline Outcome apply(const Rewrite& rewrite, PacketView& packet) {
  const bool tcp = packet.proto == net::kTcp;
  const bool simple = !rewrite.is_v6 & !packet.is_fragment & (tcp | (packet.proto == net::kUdp)) &
                      (packet.length >= packet.l4 + (tcp ? 20 : 8)) & (rewrite.kind <= RewriteKind::kDestination);
  if (!simple) [[unlikely]]
    return apply_slow(rewrite, packet);
  if (rewrite.kind == RewriteKind::kNone) return Outcome::kOk;
  uint8_t* ip = packet.ip;
  uint8_t* l4 = ip + packet.l4;
  const size_t destination = rewrite.kind == RewriteKind::kDestination;
  net::store(ip + 12 + 4 * destination, net::load<uint32_t>(rewrite.address.data()));
  if (rewrite.has_port) net::store(l4 + 2 * destination, rewrite.port);
  net::store(ip + 10, adjusted(net::load<uint16_t>(ip + 10), rewrite.ip_delta));
  uint8_t* checksum_at = l4 + (tcp ? 16 : 6);
  const auto before = net::load<uint16_t>(checksum_at);
  uint16_t after = adjusted(before, rewrite.l4_delta);
  if (!tcp) after = before == 0 ? uint16_t{0} : after == 0 ? uint16_t{0xffff} : after;
  net::store(checksum_at, after);
  return Outcome::kOk;
}

// Both ends of a packet that changes its family altogether. Ports in network order.
struct EndsV6 {
  Ipv6Address source, destination;
  uint16_t source_port, destination_port;
  uint8_t traffic_class = 0;
};
struct EndsV4 {
  Ipv4Address source, destination;
  uint16_t source_port, destination_port;
  uint8_t tos = 0;
  uint16_t id = 0;  // network order; a fragment keeps its own
};

// Virtual services: replaces IP header, addresses and ports of a TCP or UDP packet. Outcomes and fragments as in
// apply().
Outcome swap_to_v6(PacketView& packet, const EndsV6& ends);
Outcome swap_to_v4(PacketView& packet, const EndsV4& ends);

}  // namespace ironcore::translate
