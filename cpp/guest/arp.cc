// ARP (RFC 826) for the gateway address only.
#include "services.h"

namespace ironcore::guest {
namespace {

constexpr size_t kArpLength = 28;
constexpr uint16_t kRequest = 1;
constexpr uint16_t kReply = 2;

Writer arp_frame(std::span<uint8_t> out, const Mac& eth_dst, const Mac& own, uint16_t op, const Mac& target_mac,
                 uint32_t target) {
  Writer w(out);
  ethernet(w, eth_dst, own, kEtherArp).u16(1).u16(kEtherIpv4).u8(6).u8(4).u16(op);
  w.bytes(own).u32(kGatewayIpv4).bytes(target_mac).u32(target);
  return w;
}

}  // namespace

GuestReply answer_arp(const GuestConfig& config, const Request& request, std::span<uint8_t> out) {
  const Bytes arp = request.payload;
  if (arp.size() < kArpLength || load16(arp, 0) != 1 || load16(arp, 2) != kEtherIpv4 || arp[4] != 6 || arp[5] != 4)
    return dropped(GuestDrop::kArpMalformed);
  const uint16_t op = load16(arp, 6);
  const Mac sender_mac = load<6>(arp, 8);
  const uint32_t sender = load32(arp, 14), target = load32(arp, 24);
  const bool learns = config.has_ipv4 && !config.vm_mac_known && sender == config.ipv4;

  GuestReply result = dropped(GuestDrop::kArpNotGateway);
  if (op == kRequest && target == kGatewayIpv4)
    result = is_group(sender_mac) ? dropped(GuestDrop::kArpMalformed)
                                  : reply(arp_frame(out, sender_mac, config.port_mac, kReply, sender_mac, sender));
  else if (learns)
    result = consumed();
  if (learns) result.learned_vm_mac = request.eth_src;
  return result;
}

size_t periodic_garp(const GuestConfig& config, std::span<uint8_t> out) {
  if (!config.has_ipv4) return 0;
  const uint32_t target = config.vm_mac_known ? kGatewayIpv4 : config.ipv4;
  const Writer w = arp_frame(out, kBroadcastMac, config.port_mac, kRequest, Mac{}, target);
  return w.ok() ? w.length() : 0;
}

}  // namespace ironcore::guest
