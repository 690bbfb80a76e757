#include "net/parse.h"

#include <cstring>

namespace ironcore {
namespace {

constexpr unsigned kMaxExtensionHeaders = 8;
constexpr uint8_t kEchoReply = 0, kUnreachable = 3, kEchoRequest = 8;

// ICMPv4 that is forwarded: echo, and the errors that a transport must see (protocol and port unreachable,
// fragmentation needed).
bool icmp_forwarded(uint8_t type, uint8_t code) {
  if (type == kEchoRequest || type == kEchoReply) return code == 0;
  return type == kUnreachable && code >= 2 && code <= 4;
}

DropReason parse_transport(const uint8_t* frame, size_t l4, size_t ip_end, uint8_t proto, FlowKey& key,
                           ParsedPacket& packet) {
  const uint8_t* at = frame + l4;
  const size_t left = ip_end - l4;
  switch (proto) {
    case net::kTcp:
      if (left < 20) return DropReason::truncated;
      packet.tcp_flags = at[13];
      break;
    case net::kUdp:
      if (left < 8) return DropReason::truncated;
      break;
    case net::kIcmp:
    case net::kIcmp6:
      if (left < 8) return DropReason::truncated;
      if (proto == net::kIcmp && !icmp_forwarded(at[0], at[1])) return DropReason::icmp_type_unsupported;
      key.src_port = net::load<uint16_t>(at);
      // Only echo carries an identifier. In other ICMPv6 messages these bytes belong to the type.
      if (proto == net::kIcmp6 || at[0] != kUnreachable) key.dst_port = net::load<uint16_t>(at + 4);
      return kNoDrop;
    default:
      return kNoDrop;
  }
  key.src_port = net::load<uint16_t>(at);
  key.dst_port = net::load<uint16_t>(at + 2);
  return kNoDrop;
}

void start(FlowKey& key, ParsedPacket& packet, size_t l3) {
  const uint64_t scope = key.scope;
  const Side side = key.side;
  std::memset(static_cast<void*>(&key), 0, sizeof key);
  key.scope = scope;
  key.side = side;
  packet = {};
  packet.l3 = static_cast<uint16_t>(l3);
}

}  // namespace

DropReason parse_ipv4_slow(const uint8_t* frame, size_t l3, size_t end, FlowKey& key, ParsedPacket& packet) {
  start(key, packet, l3);
  if (end < l3 + net::kIpv4MinLen) return DropReason::truncated;
  const auto ip = net::load<net::Ipv4>(frame + l3);
  const size_t header = size_t{ip.version_ihl & 0xfu} * 4;
  const size_t total = net::swap16(ip.total_length);
  if (ip.version_ihl >> 4 != 4 || header < net::kIpv4MinLen || total < header) return DropReason::ip_malformed;
  if (l3 + total > end) return DropReason::truncated;
  key.family = 4;
  key.proto = ip.proto;
  key.src4 = ip.src;
  key.dst4 = ip.dst;
  packet.l4 = static_cast<uint16_t>(l3 + header);
  packet.ip_length = static_cast<uint16_t>(total);
  packet.fragment = (ip.fragment & net::swap16(0x3fff)) != 0;
  if (ip.fragment & net::swap16(0x1fff)) return kNoDrop;
  return parse_transport(frame, packet.l4, l3 + total, ip.proto, key, packet);
}

DropReason parse_ipv6(const uint8_t* frame, size_t l3, size_t end, FlowKey& key, ParsedPacket& packet) {
  start(key, packet, l3);
  if (end < l3 + net::kIpv6Len) return DropReason::truncated;
  const uint8_t* ip = frame + l3;
  if (ip[0] >> 4 != 6) return DropReason::ip_malformed;
  const size_t ip_end = l3 + net::kIpv6Len + net::swap16(net::load<uint16_t>(ip + 4));
  // The engine's lengths are 16 bits wide; a longer packet could not be encapsulated anyway.
  if (ip_end - l3 > UINT16_MAX) return DropReason::ip_malformed;
  if (ip_end > end) return DropReason::truncated;
  key.family = 6;
  std::memcpy(key.src6, ip + 8, 32);
  packet.ip_length = static_cast<uint16_t>(ip_end - l3);

  uint8_t next = ip[6];
  size_t at = l3 + net::kIpv6Len;
  for (unsigned i = 0;; ++i) {
    size_t length = 0;
    switch (next) {
      case net::kHopByHop:
      case net::kRouting:
      case net::kDestOptions:
        if (at + 8 > ip_end) return DropReason::truncated;
        length = (size_t{frame[at + 1]} + 1) * 8;
        break;
      case net::kAuth:
        if (at + 8 > ip_end) return DropReason::truncated;
        length = (size_t{frame[at + 1]} + 2) * 4;
        break;
      case net::kFragment:
        if (at + 8 > ip_end) return DropReason::truncated;
        length = 8;
        packet.fragment = true;
        if (net::load<uint16_t>(frame + at + 2) & net::swap16(0xfff8)) {
          key.proto = frame[at];
          packet.l4 = static_cast<uint16_t>(at + length);
          return kNoDrop;
        }
        break;
      default:
        key.proto = next;
        packet.l4 = static_cast<uint16_t>(at);
        return parse_transport(frame, at, ip_end, next, key, packet);
    }
    if (i == kMaxExtensionHeaders) return DropReason::ip_extension_headers;
    if (at + length > ip_end) return DropReason::truncated;
    next = frame[at];
    at += length;
  }
}

}  // namespace ironcore
