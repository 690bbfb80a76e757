// Bounds-checked parsing of hostile frames into a flow key. Nothing beyond the given length is ever read.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ironcore/drop_reason.h"
#include "net/flow_key.h"
#include "net/headers.h"

namespace ironcore {

inline constexpr auto kNoDrop = static_cast<DropReason>(0xff);

enum class PacketKind : uint8_t {
  kWhole,
  kFirstFragment,
  kLaterFragment,
  kIcmpError,  // the key is the reversed one of the packet that the error quotes: it finds the flow that provoked it
};

// Offsets from the start of the frame.
struct ParsedPacket {
  uint16_t l3;         // IP header that the flow key was taken from
  uint16_t l4;         // what follows that header and its extensions
  uint16_t ip_length;  // bytes from l3 to the end of the IP packet
  uint8_t tcp_flags;   // 0 unless TCP and the header is here
  PacketKind kind;
  uint8_t proto;  // at l4

  bool is_fragment() const { return kind == PacketKind::kFirstFragment || kind == PacketKind::kLaterFragment; }
};

// Fills `key`, whose scope and side are set already, from the IP packet at `l3`. `end` is the number of valid bytes.
DropReason parse_ipv4_slow(const uint8_t* frame, size_t l3, size_t end, FlowKey& key, ParsedPacket& packet);
DropReason parse_ipv6(const uint8_t* frame, size_t l3, size_t end, FlowKey& key, ParsedPacket& packet);

// Of an ICMP error: the key by its own header, without the packet it quotes. Of a first fragment: the key that the
// later ones have. Scope and side are those of `key`, which parse_ipv4 or parse_ipv6 made of the frame.
FlowKey error_key(const uint8_t* frame, const FlowKey& key, const ParsedPacket& packet);
FlowKey later_fragment_key(const uint8_t* frame, const FlowKey& key, const ParsedPacket& packet);

// The common case, TCP or UDP in IPv4 without options and unfragmented, inline; all else out of line.
inline DropReason parse_ipv4(const uint8_t* frame, size_t l3, size_t end, FlowKey& key, ParsedPacket& packet) {
  const uint8_t* ip = frame + l3;
  if (end < l3 + net::kIpv4MinLen + 20 || ip[0] != 0x45 || (net::load<uint16_t>(ip + 6) & net::swap16(0x3fff)))
    return parse_ipv4_slow(frame, l3, end, key, packet);
  const uint16_t total = net::swap16(net::load<uint16_t>(ip + 2));
  const uint8_t proto = ip[9];
  if (l3 + total > end || total < net::kIpv4MinLen + (proto == net::kTcp ? 20 : 8) ||
      (proto != net::kTcp && proto != net::kUdp))
    return parse_ipv4_slow(frame, l3, end, key, packet);
  const __m128i zero = _mm_setzero_si128();
  auto* words = reinterpret_cast<__m128i*>(&key);
  _mm_store_si128(words + 1, zero);
  _mm_store_si128(words + 2, zero);
  net::store(&key.src_port, net::load<uint32_t>(ip + net::kIpv4MinLen));
  net::store(&key.proto, uint32_t{proto} | 4u << 8 | static_cast<uint32_t>(key.side) << 16);
  net::store(&key.src4, net::load<uint64_t>(ip + 12));
  packet.l3 = static_cast<uint16_t>(l3);
  packet.l4 = static_cast<uint16_t>(l3 + net::kIpv4MinLen);
  packet.ip_length = total;
  packet.tcp_flags = proto == net::kTcp ? ip[net::kIpv4MinLen + 13] : 0;
  packet.kind = PacketKind::kWhole;
  packet.proto = proto;
  return kNoDrop;
}

}  // namespace ironcore
