// Router advertisements (RFC 4861 section 4.2). Addresses come from DHCPv6 (Managed and Other flags), so there is no
// prefix information: every VM has a /128 and sends everything to the gateway.
#include "services.h"

namespace ironcore::guest {
namespace {

constexpr uint8_t kRouterAdvertisement = 134;
constexpr uint8_t kManaged = 0x80, kOtherConfig = 0x40;
constexpr uint16_t kRouterLifetimeSeconds = 65535;
constexpr size_t kSolicitationLength = 8;
constexpr uint16_t kEthernetMtu = 1500, kMinimumMtu = 1280;

Writer advertisement(std::span<uint8_t> out, const GuestConfig& config, const Mac& eth_dst, const Ipv6& dst) {
  Writer w(out);
  ethernet(w, eth_dst, config.port_mac, kEtherIpv6);
  ipv6_header(w, kProtoIcmp6, 255, kGatewayIpv6, dst);
  w.u8(kRouterAdvertisement).u8(0).u16(0).u8(255).u8(kManaged | kOtherConfig).u16(kRouterLifetimeSeconds).u32(0).u32(0);
  w.u8(1).u8(1).bytes(config.port_mac);  // source link-layer address
  // Guests without DHCPv4 learn the MTU here only. Less than 1280 is none for IPv6.
  if (config.dhcp_mtu != kEthernetMtu && config.dhcp_mtu >= kMinimumMtu) w.u8(5).u8(1).u16(0).u32(config.dhcp_mtu);
  finish_ipv6(w, 2);
  return w;
}

}  // namespace

GuestReply answer_router_solicitation(const GuestConfig& config, const Request& request, std::span<uint8_t> out) {
  if (!config.ipv6_overlay || !config.has_ipv6) return dropped(GuestDrop::kNdDisabled);
  const Ipv6 source = load<16>(request.ip, 8);
  bool has_source_link_layer = false;
  if (!nd_message_valid(request, kSolicitationLength) ||
      !nd_options_valid(request.payload.subspan(kSolicitationLength), has_source_link_layer) ||
      (source == kUnspecifiedIpv6 && has_source_link_layer))
    return dropped(GuestDrop::kNdMalformed);
  return reply(advertisement(out, config, request.eth_src, source == kUnspecifiedIpv6 ? kAllNodesIpv6 : source));
}

size_t periodic_ra(const GuestConfig& config, std::span<uint8_t> out) {
  if (!config.ipv6_overlay || !config.has_ipv6) return 0;
  const Writer w = advertisement(out, config, kAllNodesMac, kAllNodesIpv6);
  return w.ok() ? w.length() : 0;
}

}  // namespace ironcore::guest
