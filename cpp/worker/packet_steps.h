// Steps of the packet path without side effects: workers take them, and explanations of packets take the same ones.
#pragma once

#include "flow/decide.h"
#include "guest/guest.h"
#include "net/parse.h"
#include "overlay/outer_header.h"
#include "port/port.h"
#include "translate/rewrite.h"

namespace ironcore {

inline constexpr size_t kOuterHeaders = net::kEthLen + net::kOverlayLen;  // in front of the packet inside

inline DropReason unsupported_ether_type(uint16_t ether_type, bool from_vm) {
  if (ether_type == net::kEtherVlan || ether_type == net::kEtherQinq) return DropReason::vlan_tagged;
  return from_vm ? DropReason::ethertype_unsupported : DropReason::not_overlay;
}

// A frame of a VM, of at least an Ethernet header. The key's scope and side are set already. ARP and other frames
// without IP: ethertype_unsupported.
[[gnu::always_inline]] inline DropReason parse_vm_frame(const uint8_t* frame, size_t length, FlowKey& key,
                                                        ParsedPacket& packet) {
  const auto type = net::load<uint16_t>(frame + 12);
  if (type == net::kEtherIpv4) [[likely]]
    return parse_ipv4(frame, net::kEthLen, length, key, packet);
  if (type == net::kEtherIpv6) return parse_ipv6(frame, net::kEthLen, length, key, packet);
  return unsupported_ether_type(type, true);
}

// A frame of the underlay. Sets the key's scope and side, too.
[[gnu::always_inline]] inline DropReason parse_uplink_frame(const uint8_t* frame, size_t length, uint64_t host_prefix,
                                                            FlowKey& key, ParsedPacket& packet) {
  if (length < kOuterHeaders) [[unlikely]]
    return DropReason::not_overlay;
  const auto type = net::load<uint16_t>(frame + 12);
  const uint8_t* outer = frame + net::kEthLen;
  const uint8_t next_header = outer[6];
  if (type != net::kEtherIpv6 || outer[0] >> 4 != 6 || (next_header != net::kIpip && next_header != net::kIpv6InIp))
      [[unlikely]]
    return unsupported_ether_type(type, false);
  if (net::load<uint64_t>(outer + 24) != host_prefix) [[unlikely]]
    return DropReason::underlay_prefix_mismatch;
  const size_t end = kOuterHeaders + net::swap16(net::load<uint16_t>(outer + 4));
  key.scope = net::load<uint64_t>(outer + 32);
  key.side = Side::kUplink;
  if (end > length) [[unlikely]]
    return DropReason::truncated;
  return next_header == net::kIpip ? parse_ipv4(frame, kOuterHeaders, end, key, packet)
                                   : parse_ipv6(frame, kOuterHeaders, end, key, packet);
}

// IP packets that may be for the gateway itself; it decides. Never kept as flows.
bool concerns_gateway(const FlowKey& key);

// What becomes of a flow; `from` is the interface whose VM sends it, null: the underlay. No answer is foreseen that the
// gateway looks at: whoever pretends to be the gateway must not get what the VM sends there.
Decision decide_flow(const DecisionContext& context, const InterfaceView* from, const FlowKey& key);

// The key that decides about an ICMP error of no known flow, which reached this host by another way than its flow does:
// that flow's key (`quoted`, as parsed) where this host knows who has it, which is a load balancer's target
// or a neighbour with NAT ports. Else the error is a packet like others, of key `outer`.
FlowKey stray_error_key(const TableView& tables, const FlowKey& quoted, const FlowKey& outer);

DropReason drop_reason_of(guest::GuestDrop drop);

// Whether the Ethernet source is another than the VM's, as far as that is known.
bool has_spoofed_mac(const Port& port, const uint8_t* frame);

// The interface whose VM opened the flow with this key, if it is still there.
const InterfaceView* sender_of(const Ports& ports, const FlowKey& original, uint16_t port);

// The uplink by which the program's packets leave now, those that came in on `in`; null: `why` not.
Port* uplink_for(const Ports& ports, const FlowProgram& program, Port& in, DropReason& why);

// What a packet grows by when it changes its family.
inline int32_t growth(const FlowProgram& program, const translate::Rewrite& rewrite) {
  if (!(program.features & kRewrite)) return 0;
  constexpr int32_t kDifference = net::kIpv6Len - net::kIpv4MinLen;
  return rewrite.kind == translate::RewriteKind::kFourToSix   ? kDifference
         : rewrite.kind == translate::RewriteKind::kSixToFour ? -kDifference
                                                              : 0;
}

// Bytes of the IP packet as received for which there is room behind an outer header.
inline int32_t room_inside(const Port& uplink, const FlowProgram& program, const translate::Rewrite& rewrite) {
  return static_cast<int32_t>(uplink.max_frame - kOuterHeaders) - growth(program, rewrite);
}

// The IP packet of a frame that begins at `frame` in a buffer that begins at `buffer`.
inline translate::PacketView view_of(uint8_t* buffer, uint8_t* frame, const ParsedPacket& packet) {
  return {frame + packet.l3,
          packet.ip_length,
          static_cast<size_t>(frame + packet.l3 - buffer),
          static_cast<size_t>(packet.l4 - packet.l3),
          packet.proto,
          packet.is_fragment()};
}

// Back to whoever sent the echo request here. `frame` is the uplink's frame.
FlowProgram echo_reply_program(const uint8_t* frame, const ParsedPacket& packet, uint64_t host_low);

}  // namespace ironcore
