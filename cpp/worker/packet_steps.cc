#include "worker/packet_steps.h"

namespace ironcore {
namespace {

constexpr uint16_t kDhcpServer = net::swap16(67), kDhcp6Server = net::swap16(547);
constexpr uint8_t kRouterSolicitation = 133, kRedirect = 137;

}  // namespace

bool concerns_gateway(const FlowKey& key) {
  if (key.is_v6()) {
    const auto type = static_cast<uint8_t>(key.src_port & 0xff);
    return (key.proto == net::kUdp && key.dst_port == kDhcp6Server) ||
           (key.proto == net::kIcmp6 && type >= kRouterSolicitation && type <= kRedirect) ||
           std::memcmp(key.dst6, guest::kGatewayIpv6.data(), 16) == 0;
  }
  return (key.proto == net::kUdp && key.dst_port == kDhcpServer) || key.dst4 == net::swap32(guest::kGatewayIpv4);
}

Decision decide_flow(const DecisionContext& context, const InterfaceView* from, const FlowKey& key) {
  Decision decision = from ? decide_from_vm(context, *from, key) : decide_from_uplink(context, key);
  if (decision.has_reply && decision.reply_key.side == Side::kVm && concerns_gateway(decision.reply_key))
    decision.has_reply = false;
  return decision;
}

FlowKey stray_error_key(const TableView& tables, const FlowKey& quoted, const FlowKey& outer) {
  const UnderlayObject* object = quoted.side == Side::kUplink ? tables.underlay.lookup(quoted.scope) : nullptr;
  const IpAddress destination = destination_of(outer);
  if (!object || destination != destination_of(quoted)) return outer;
  if (object->type == UnderlayType::kLoadBalancer) return quoted;
  if (object->type != UnderlayType::kNat && object->type != UnderlayType::kVip) return outer;
  const PublicAddress* known = tables.public_addresses.lookup(object->vni, destination);
  return known && !known->vip && known->neighbor_of(net::swap16(quoted.dst_port)) ? quoted : outer;
}

DropReason drop_reason_of(guest::GuestDrop drop) {
  using guest::GuestDrop;
  switch (drop) {
    case GuestDrop::kNoRoom:
      return DropReason::guest_no_room;
    case GuestDrop::kEthSource:
      return DropReason::guest_eth_source;
    case GuestDrop::kArpMalformed:
      return DropReason::arp_malformed;
    case GuestDrop::kArpNotGateway:
      return DropReason::arp_not_gateway;
    case GuestDrop::kNdMalformed:
      return DropReason::nd_malformed;
    case GuestDrop::kNdDisabled:
      return DropReason::nd_disabled;
    case GuestDrop::kNdNotGateway:
      return DropReason::nd_not_gateway;
    case GuestDrop::kNdFromGuest:
      return DropReason::nd_from_guest;
    case GuestDrop::kDhcp4Malformed:
      return DropReason::dhcp4_malformed;
    case GuestDrop::kDhcp4NoAddress:
      return DropReason::dhcp4_no_address;
    case GuestDrop::kDhcp4Relayed:
      return DropReason::dhcp4_relayed;
    case GuestDrop::kDhcp4MessageType:
      return DropReason::dhcp4_message_type;
    case GuestDrop::kDhcp6Malformed:
      return DropReason::dhcp6_malformed;
    case GuestDrop::kDhcp6NoAddress:
      return DropReason::dhcp6_no_address;
    case GuestDrop::kDhcp6MessageType:
      return DropReason::dhcp6_message_type;
    case GuestDrop::kIcmpMalformed:
      return DropReason::icmp_malformed;
    case GuestDrop::kNone:
    case GuestDrop::kCount:
      break;
  }
  return DropReason::ethertype_unsupported;
}

bool has_spoofed_mac(const Port& port, const uint8_t* frame) {
  const uint64_t vm_mac = port.peer.load();
  return (vm_mac & AtomicMac::kKnown) && std::memcmp(&vm_mac, frame + 6, 6) != 0;
}

const InterfaceView* sender_of(const Ports& ports, const FlowKey& original, uint16_t port) {
  const Port* device = ports.by_id(port);
  const InterfaceView* view = device ? device->interface.load(std::memory_order_acquire) : nullptr;
  return view && view->instance == original.scope ? view : nullptr;
}

Port* uplink_for(const Ports& ports, const FlowProgram& program, Port& in, DropReason& why) {
  Port* out = program.uplink == kIngressUplink ? &in : ports.uplink(program.uplink);
  if (!out || !out->link_up.load(std::memory_order_relaxed)) [[unlikely]] {
    out = ports.uplink((program.uplink == kIngressUplink ? in.pf_index : program.uplink) ^ 1u);
    if (!out || !out->link_up.load(std::memory_order_relaxed)) {
      why = DropReason::uplink_down;
      return nullptr;
    }
  }
  if (!(out->peer.load() & AtomicMac::kKnown)) [[unlikely]] {
    why = DropReason::uplink_neighbour_unknown;
    return nullptr;
  }
  return out;
}

FlowProgram echo_reply_program(const uint8_t* frame, const ParsedPacket& packet, uint64_t host_low) {
  FlowProgram program{};
  program.action = Action::kEncap;
  program.uplink = kIngressUplink;
  program.next_header = frame[packet.l3] >> 4 == 6 ? net::kIpv6InIp : net::kIpip;
  program.outer_src_low = host_low;
  std::memcpy(program.outer_dst.data(), frame + net::kEthLen + 8, 16);
  return program;
}

}  // namespace ironcore
