// Neighbour discovery (RFC 4861): neighbour solicitations for the gateway and unsolicited advertisements.
#include "services.h"

namespace ironcore::guest {
namespace {

constexpr uint8_t kNeighbourSolicitation = 135;
constexpr uint8_t kNeighbourAdvertisement = 136;
constexpr uint8_t kRouter = 0x80, kSolicited = 0x40, kOverride = 0x20;
constexpr size_t kSolicitationLength = 24;

Writer advertisement(std::span<uint8_t> out, const GuestConfig& config, const Mac& eth_dst, const Ipv6& dst,
                     uint8_t flags, bool with_link_layer) {
  Writer w(out);
  ethernet(w, eth_dst, config.port_mac, kEtherIpv6);
  ipv6_header(w, kProtoIcmp6, 255, kGatewayIpv6, dst);
  w.u8(kNeighbourAdvertisement).u8(0).u16(0).u8(flags).zeros(3).bytes(kGatewayIpv6);
  if (with_link_layer) w.u8(2).u8(1).bytes(config.port_mac);
  finish_ipv6(w, 2);
  return w;
}

bool is_solicited_node(Bytes address) {
  constexpr std::array<uint8_t, 13> kPrefix = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
  return std::equal(kPrefix.begin(), kPrefix.end(), address.begin());
}

}  // namespace

bool nd_options_valid(Bytes options, bool& has_source_link_layer) {
  has_source_link_layer = false;
  while (!options.empty()) {
    if (options.size() < 8 || options[1] == 0 || options[1] * size_t{8} > options.size()) return false;
    has_source_link_layer |= options[0] == 1;
    options = options.subspan(options[1] * size_t{8});
  }
  return true;
}

bool nd_message_valid(const Request& request, size_t header_length) {
  const Bytes ip = request.ip;
  return ip[7] == 255 && request.payload.size() >= header_length && request.payload[1] == 0 && ip[8] != 0xff &&
         checksum6(ip.subspan(8, 16), ip.subspan(24, 16), kProtoIcmp6, request.payload) == 0;
}

GuestReply answer_nd(const GuestConfig& config, const Request& request, std::span<uint8_t> out) {
  if (!config.ipv6_overlay || !config.has_ipv6) return dropped(GuestDrop::kNdDisabled);
  const uint8_t type = request.payload[0];
  if (type == kNeighbourAdvertisement) return consumed();
  if (type != kNeighbourSolicitation) return dropped(GuestDrop::kNdFromGuest);

  if (!nd_message_valid(request, kSolicitationLength)) return dropped(GuestDrop::kNdMalformed);
  const Ipv6 source = load<16>(request.ip, 8);
  const bool duplicate_detection = source == kUnspecifiedIpv6;
  bool has_source_link_layer = false;
  if (!nd_options_valid(request.payload.subspan(kSolicitationLength), has_source_link_layer) ||
      (duplicate_detection && (has_source_link_layer || !is_solicited_node(request.ip.subspan(24, 16)))))
    return dropped(GuestDrop::kNdMalformed);
  if (load<16>(request.payload, 8) != kGatewayIpv6) return dropped(GuestDrop::kNdNotGateway);

  // RFC 4861 section 7.2.4: nobody can be unicast to during duplicate address detection, and Solicited stays clear.
  GuestReply result =
      duplicate_detection
          ? reply(advertisement(out, config, request.eth_src, kAllNodesIpv6, kRouter | kOverride, true))
          : reply(advertisement(out, config, request.eth_src, source, kRouter | kSolicited | kOverride, true));
  result.learned_vm_mac = request.eth_src;
  return result;
}

size_t periodic_na(const GuestConfig& config, std::span<uint8_t> out) {
  if (!config.ipv6_overlay || !config.has_ipv6) return 0;
  const Writer w = advertisement(out, config, kAllNodesMac, kAllNodesIpv6, kRouter | kOverride, false);
  return w.ok() ? w.length() : 0;
}

}  // namespace ironcore::guest
