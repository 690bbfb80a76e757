#include "guest.h"

#include "services.h"

namespace ironcore::guest {
namespace {

using Service = GuestReply (*)(const GuestConfig&, const Request&, std::span<uint8_t>);

// What follows the headers of an IPv6 packet.
struct UpperLayer {
  uint8_t proto = kNoNextHeader;
  size_t at = 0;
  bool fragmented = false;  // by a fragment header, whether or not there are other fragments
};

// Nothing of a packet that ends inside its headers, nor of a fragment but the first.
UpperLayer upper_layer(Bytes packet) {
  UpperLayer upper{packet[6], kIpv6Length, false};
  for (;;) {
    size_t unit = 8;  // of lengths, which count what is behind the first 8 bytes
    switch (upper.proto) {
      case kHopByHop:
      case kRouting:
      case kDestinationOptions:
        break;
      case kAuthentication:
        unit = 4;
        break;
      case kFragment:
        unit = 0;
        break;
      default:
        return upper;
    }
    if (upper.at + 8 > packet.size()) return {};
    if (upper.proto == kFragment) {
      if ((load16(packet, upper.at + 2) & 0xfff8) != 0) return {};
      upper.fragmented = true;
    }
    upper.proto = packet[upper.at];
    upper.at += 8 + packet[upper.at + 1] * unit;
  }
}

// RFC 6980 section 5.
GuestReply refuse_fragmented_nd(const GuestConfig&, const Request&, std::span<uint8_t>) {
  return dropped(GuestDrop::kNdMalformed);
}

// Which service a packet is for, or nullptr; fills in the layers of `request`.
Service classify_ipv4(Bytes packet, Request& request) {
  if (packet.size() < kIpv4Length || packet[0] >> 4 != 4) return nullptr;
  const size_t header = size_t{packet[0] & 0x0fu} * 4, total = load16(packet, 2);
  if (header < kIpv4Length || total < header || total > packet.size()) return nullptr;
  if ((load16(packet, 6) & 0x3fff) != 0) return nullptr;  // fragments
  request.ip = packet.first(total);
  request.payload = request.ip.subspan(header);
  if (packet[9] == kProtoUdp && request.payload.size() >= kUdpLength && load16(request.payload, 2) == 67)
    return answer_dhcp4;
  if (packet[9] == kProtoIcmp && load32(packet, 16) == kGatewayIpv4 && !request.payload.empty() &&
      request.payload[0] == 8)
    return answer_echo4;
  return nullptr;
}

Service classify_ipv6(Bytes packet, Request& request) {
  if (packet.size() < kIpv6Length || packet[0] >> 4 != 6) return nullptr;
  const size_t total = kIpv6Length + load16(packet, 4);
  if (total > packet.size()) return nullptr;
  request.ip = packet.first(total);
  const UpperLayer upper = upper_layer(request.ip);
  if (upper.at >= total) return nullptr;
  request.payload = request.ip.subspan(upper.at);
  if (upper.proto == kProtoUdp && !upper.fragmented && request.payload.size() >= kUdpLength &&
      load16(request.payload, 2) == 547)
    return answer_dhcp6;
  if (upper.proto != kProtoIcmp6) return nullptr;
  const uint8_t type = request.payload[0];
  if (type >= 133 && type <= 137 && upper.fragmented) return refuse_fragmented_nd;
  if (upper.fragmented) return nullptr;
  if (type == 133) return answer_router_solicitation;
  if (type > 133 && type <= 137) return answer_nd;
  if (type == 128 && load<16>(packet, 24) == kGatewayIpv6) return answer_echo6;
  return nullptr;
}

constexpr std::string_view kDropNames[] = {
    "none",
    "no_room",
    "eth_source",
    "arp_malformed",
    "arp_not_gateway",
    "nd_malformed",
    "nd_disabled",
    "nd_not_gateway",
    "nd_from_guest",
    "dhcp4_malformed",
    "dhcp4_no_address",
    "dhcp4_relayed",
    "dhcp4_message_type",
    "dhcp6_malformed",
    "dhcp6_no_address",
    "dhcp6_message_type",
    "icmp_malformed",
};
static_assert(std::size(kDropNames) == static_cast<size_t>(GuestDrop::kCount));

}  // namespace

std::string_view to_string(GuestDrop drop) {
  return drop < GuestDrop::kCount ? kDropNames[static_cast<size_t>(drop)] : "unknown";
}

GuestReply handle(const GuestConfig& config, std::span<const uint8_t> frame, std::span<uint8_t> out) {
  if (frame.size() < kEthLength) return {};
  Request request{.eth_src = load<6>(frame, 6), .ip = {}, .payload = {}};
  const Bytes packet = frame.subspan(kEthLength);
  Service service = nullptr;
  switch (load16(frame, 12)) {
    case kEtherArp:
      request.payload = packet;
      service = answer_arp;
      break;
    case kEtherIpv4:
      service = classify_ipv4(packet, request);
      break;
    case kEtherIpv6:
      service = classify_ipv6(packet, request);
      break;
    default:
      break;
  }
  if (service == nullptr) return {};
  if (is_group(request.eth_src)) return dropped(GuestDrop::kEthSource);
  return service(config, request, out);
}

}  // namespace ironcore::guest
