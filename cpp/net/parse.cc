#include "net/parse.h"

#include <cstring>
#include <span>

#include "translate/embedded.h"

namespace ironcore {
namespace {

constexpr unsigned kMaxExtensionHeaders = 8;
constexpr uint8_t kEchoReply = 0, kEchoRequest = 8;

// The flow that the error is about, seen from the direction in which the error travels.
DropReason parse_icmp_error(std::span<const uint8_t> message, FlowKey& key, ParsedPacket& packet) {
  const auto quoted = translate::parse_embedded(message, key.is_v6());
  if (!quoted) return DropReason::icmp_error_malformed;
  packet.kind = PacketKind::kIcmpError;
  key.proto = quoted->proto;
  set_source(key, quoted->source);
  set_destination(key, quoted->destination);
  key.src_port = quoted->source_port;
  key.dst_port = quoted->destination_port;
  key = reversed(key);
  return kNoDrop;
}

DropReason parse_icmp(const uint8_t* at, size_t left, uint8_t proto, FlowKey& key, ParsedPacket& packet) {
  if (left < 8) return DropReason::truncated;
  const bool is_v6 = proto == net::kIcmp6;
  if (is_v6 != key.is_v6()) return DropReason::icmp_type_unsupported;
  if (translate::is_icmp_error(is_v6, at[0])) {
    if (packet.kind != PacketKind::kWhole) return DropReason::icmp_error_malformed;
    return parse_icmp_error({at, left}, key, packet);
  }
  if (!is_v6 && at[0] != kEchoReply && at[0] != kEchoRequest) return DropReason::icmp_type_unsupported;
  if (!is_v6 && at[1] != 0) return DropReason::icmp_type_unsupported;
  key.src_port = net::load<uint16_t>(at);
  // In ICMPv6 messages other than echo these bytes belong to the type.
  key.dst_port = net::load<uint16_t>(at + 4);
  return kNoDrop;
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
      return parse_icmp(at, left, proto, key, packet);
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
  packet.proto = ip.proto;
  packet.ip_length = static_cast<uint16_t>(total);
  if (ip.fragment & net::swap16(0x1fff)) {
    packet.kind = PacketKind::kLaterFragment;
    key.fragment = true;
    key.src_port = ip.id;
    return kNoDrop;
  }
  if (ip.fragment & net::swap16(0x2000)) packet.kind = PacketKind::kFirstFragment;
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
        if (net::load<uint16_t>(frame + at + 2) & net::swap16(0xfff8)) {
          packet.kind = PacketKind::kLaterFragment;
          key.fragment = true;
          net::store(&key.src_port, net::load<uint32_t>(frame + at + 4));
          key.proto = frame[at];
          packet.proto = key.proto;
          packet.l4 = static_cast<uint16_t>(at + length);
          return kNoDrop;
        }
        // An "atomic" fragment (RFC 6946) is whole.
        if (net::load<uint16_t>(frame + at + 2) & net::swap16(1)) packet.kind = PacketKind::kFirstFragment;
        break;
      default:
        key.proto = packet.proto = next;
        packet.l4 = static_cast<uint16_t>(at);
        return parse_transport(frame, at, ip_end, next, key, packet);
    }
    if (i == kMaxExtensionHeaders) return DropReason::ip_extension_headers;
    if (at + length > ip_end) return DropReason::truncated;
    next = frame[at];
    at += length;
  }
}

FlowKey error_key(const uint8_t* frame, const FlowKey& key, const ParsedPacket& packet) {
  FlowKey outer = key;
  const uint8_t* ip = frame + packet.l3;
  if (key.is_v6()) {
    std::memcpy(outer.src6, ip + 8, 32);
    outer.proto = net::kIcmp6;
  } else {
    net::store(&outer.src4, net::load<uint64_t>(ip + 12));
    outer.proto = net::kIcmp;
  }
  outer.src_port = net::load<uint16_t>(frame + packet.l4);
  outer.dst_port = 0;
  return outer;
}

FlowKey later_fragment_key(const uint8_t* frame, const FlowKey& key, const ParsedPacket& packet) {
  FlowKey later = key;
  later.fragment = true;
  later.dst_port = 0;
  const uint8_t* ip = frame + packet.l3;
  if (!key.is_v6()) {
    later.src_port = net::load<uint16_t>(ip + 4);
    return later;
  }
  // The fragment header is there, or the packet would not be a first fragment.
  uint8_t next = ip[6];
  size_t at = net::kIpv6Len;
  while (next != net::kFragment) {
    const size_t length = next == net::kAuth ? (size_t{ip[at + 1]} + 2) * 4 : (size_t{ip[at + 1]} + 1) * 8;
    next = ip[at];
    at += length;
  }
  net::store(&later.src_port, net::load<uint32_t>(ip + at + 4));
  // Later fragments tell what follows their fragment header, which may be another extension.
  later.proto = ip[at];
  return later;
}

}  // namespace ironcore
