// Virtual services: flows between a VM and an IPv6 server, without overlay, firewall, NAT and rate.
#include "worker/virtual_service.h"

#include "flow/policy.h"
#include "overlay/outer_header.h"
#include "translate/family.h"
#include "worker/frame.h"
#include "worker/packet_steps.h"
#include "worker/worker.h"

namespace ironcore {
namespace {

using virtsvc::Client;
using virtsvc::Service;
using virtsvc::ServiceSlots;

// Low half of an underlay address, network order: whether it belongs to a virtual service, <host>:d0ff:40...
bool is_virtual_service(uint64_t underlay_low) { return (underlay_low & 0xffffff) == 0x40ffd0; }

// Its index is in the service's address.
uint16_t index_of(const Service& service) {
  return static_cast<uint16_t>(net::load<uint32_t>(service.underlay.data() + 12));
}

Decision refused(DropReason reason) {
  Decision decision;
  decision.drop = reason;
  return decision;
}

// Both directions of the client's connection. `request`: its key on the VM's side; `to_vm`: an answer came first.
Decision both_directions(const TableView& tables, const InterfaceView& vm, const Service& service, uint16_t slot,
                         const Client& client, const FlowKey& request, bool to_vm) {
  Decision::Direction out, back;
  FlowProgram& program = out.content.program;
  program.action = back.content.program.action = Action::kVirtualService;
  program.uplink = preferred_uplink(tables, virtsvc::client_hash(client));
  program.outer_src_low = net::load<uint64_t>(service.underlay.data() + 8);
  program.outer_dst = service.config.server_address;
  back.content.program.out_port = client.vf_port;
  for (Decision::Direction* direction : {&out, &back}) {
    VirtualFlow{index_of(service), slot}.store(direction->content.rewrite);
    direction->content.owner = owner_of(vm, request);
    read_generation(tables, *vm.network, request, *direction);
    // The interface may have been replaced before its generation was read.
    const Port* port = tables.ports.by_id(vm.port);
    if (!port || port->interface.load(std::memory_order_acquire) != &vm) --direction->generation;
  }
  FlowKey answer{};
  answer.scope = program.outer_src_low;
  answer.side = Side::kUplink;
  answer.family = 6;
  answer.proto = request.proto;
  net::store(answer.src6, service.config.server_address);
  net::store(answer.dst6, service.underlay);
  answer.src_port = net::swap16(service.config.server_port);
  answer.dst_port = net::swap16(ServiceSlots::port_of(slot));
  Decision decision;
  decision.has_reply = true;
  decision.forward = to_vm ? back : out;
  decision.reply = to_vm ? out : back;
  decision.reply_key = to_vm ? request : answer;
  return decision;
}

// What a packet tells its service's table: which connections live, and which are open.
void note_use_of(ServiceSlots& slots, uint16_t slot, const Client& client, Tick now, const ParsedPacket& packet) {
  if (packet.proto == net::kTcp && packet.tcp_flags) {
    slots.track(slot, client, now, packet.tcp_flags);
  } else if (packet.proto == net::kUdp) {
    slots.touch(slot, client, now, false);
  }
}

}  // namespace

std::optional<DropReason> parse_answer(const uint8_t* frame, size_t length, uint64_t host_prefix, FlowKey& key,
                                       ParsedPacket& packet) {
  if (length < net::kEthLen + net::kIpv6Len) return std::nullopt;
  const uint8_t* ip = frame + net::kEthLen;
  const auto low = net::load<uint64_t>(ip + 32);
  if (net::load<uint16_t>(frame + 12) != net::kEtherIpv6 || ip[0] >> 4 != 6 ||
      net::load<uint64_t>(ip + 24) != host_prefix || !is_virtual_service(low))
    return std::nullopt;
  key.scope = low;
  key.side = Side::kUplink;
  return parse_ipv6(frame, net::kEthLen, length, key, packet);
}

std::optional<Decision> decide_virtual(const TableView& tables, const virtsvc::Registry& services, SlotChoice& slots,
                                       const InterfaceView* from, const FlowKey& key) {
  if (from) {
    if (key.is_v6() || key.fragment) return {};
    Service* service = services.find_request(key.proto, net::load<Ipv4Address>(&key.dst4), net::swap16(key.dst_port));
    if (!service) return {};
    if (tables.options.antispoof && !from->source_underlay(key)) return refused(DropReason::spoofed_source);
    const Client client{from->port, net::swap16(key.src_port), net::load<Ipv4Address>(&key.src4)};
    const auto slot = slots.slot_for(*service, client);
    if (!slot) return refused(DropReason::virtual_service_full);
    return both_directions(tables, *from, *service, *slot, client, key, false);
  }
  if (!is_virtual_service(key.scope) || !key.is_v6() || key.fragment) return {};
  const Service* service = services.find_reply(key.proto, net::load<Ipv6Address>(key.src6), net::swap16(key.src_port));
  const auto slot = ServiceSlots::slot_of(net::swap16(key.dst_port));
  if (!service || !slot || service->underlay != net::load<Ipv6Address>(key.dst6))
    return refused(DropReason::virtual_service_unknown);
  const auto [client, port] = receiver_of_answer(tables.ports, *service, *slot);
  const InterfaceView* vm = port ? port->interface.load(std::memory_order_acquire) : nullptr;
  if (!vm) return refused(DropReason::virtual_service_unknown);
  FlowKey request{};
  request.scope = vm->instance;
  request.side = Side::kVm;
  request.family = 4;
  request.proto = key.proto;
  request.src4 = net::load<uint32_t>(client.address.data());
  request.dst4 = net::load<uint32_t>(service->config.virtual_address.data());
  request.src_port = net::swap16(client.port);
  request.dst_port = net::swap16(service->config.virtual_port);
  if (!vm->source_underlay(request) && tables.options.antispoof) return refused(DropReason::virtual_service_unknown);
  return both_directions(tables, *vm, *service, *slot, client, request, true);
}

size_t room_for_request(const Port& uplink, const ParsedPacket& packet) {
  const size_t header6 = net::kIpv6Len + (packet.is_fragment() ? translate::kFragmentHeader : 0);
  return uplink.max_frame - net::kEthLen - header6 + static_cast<size_t>(packet.l4 - packet.l3);
}

Client client_of_request(const Port& port, const translate::PacketView& request) {
  return {port.id, net::swap16(net::load<uint16_t>(request.ip + request.l4)), net::load<Ipv4Address>(request.ip + 12)};
}

Receiver receiver_of_answer(const Ports& ports, const Service& service, uint16_t slot) {
  const auto client = service.slots.client_of(slot);
  Port* port = client ? ports.by_id(client->vf_port) : nullptr;
  if (!port || !port->interface.load(std::memory_order_acquire)) return {};
  return {*client, port};
}

translate::Outcome rewrite_request(translate::PacketView& packet, const Service& service, uint16_t slot) {
  return translate::swap_to_v6(
      packet, {service.underlay, service.config.server_address, net::swap16(ServiceSlots::port_of(slot)),
               net::swap16(service.config.server_port)});
}

translate::Outcome rewrite_answer(translate::PacketView& packet, const Service& service, const Client& client,
                                  uint16_t id) {
  return translate::swap_to_v4(
      packet, {service.config.virtual_address, client.address, net::swap16(service.config.virtual_port),
               net::swap16(client.port), 0, net::swap16(id)});
}

std::optional<uint16_t> Worker::TakeSlots::slot_for(Service& service, const Client& client) {
  const auto assigned = service.slots.assign(client, now_);
  if (!assigned) return std::nullopt;
  if (assigned->is_new && observer_) observer_->service_slot_taken(service, assigned->slot, client);
  return assigned->slot;
}

void Worker::execute_virtual(Port& port, const FlowProgram& program, VirtualFlow flow, rte_mbuf* frame,
                             const ParsedPacket& packet) {
  // An ICMP error about such a connection names no flow of its own, and has no counterpart in the other family.
  if (packet.kind == PacketKind::kIcmpError) {
    drop(port, frame, DropReason::not_translatable);
    return;
  }
  translate::PacketView view =
      view_of(static_cast<uint8_t*>(frame->buf_addr), rte_pktmbuf_mtod(frame, uint8_t*), packet);
  Service& service = *shared_.virtual_services->services()[flow.service];
  if (port.is_uplink) {
    to_client(port, service, flow.slot, frame, packet, view);
  } else {
    to_server(port, program, service, flow.slot, frame, packet, view);
  }
}

void Worker::to_server(Port& port, const FlowProgram& program, Service& service, uint16_t slot, rte_mbuf* frame,
                       const ParsedPacket& packet, translate::PacketView& view) {
  DropReason why = kNoDrop;
  Port* out = uplink_for(tables_.ports, program, port, why);
  if (!out) {
    drop(port, frame, why);
    return;
  }
  const size_t room = room_for_request(*out, packet);
  if (packet.ip_length > room) {
    too_big(port, frame, packet, static_cast<uint32_t>(room));
    return;
  }
  if (packet.kind != PacketKind::kLaterFragment) {
    // An entry may live longer than its slot.
    const Client client = client_of_request(port, view);
    if (service.slots.client_of(slot) != client) {
      TakeSlots slots(tick_, shared_.observer);
      const auto assigned = slots.slot_for(service, client);
      if (!assigned) {
        drop(port, frame, DropReason::virtual_service_full);
        return;
      }
      slot = *assigned;
    }
    note_use_of(service.slots, slot, client, tick_, packet);
  }
  if (rewrite_request(view, service, slot) != translate::Outcome::kOk) {
    drop(port, frame, DropReason::not_translatable);
    return;
  }
  uint8_t* start = view.ip - net::kEthLen;
  set_extent(frame, start, net::kEthLen + view.length);
  overlay::write_ethernet(start, out->peer.load(), out->own_mac, net::kEtherIpv6);
  send(*out, frame);
}

void Worker::to_client(Port& port, Service& service, uint16_t slot, rte_mbuf* frame, const ParsedPacket& packet,
                       translate::PacketView& view) {
  const auto [client, out] = receiver_of_answer(tables_.ports, service, slot);
  if (!out) {
    drop(port, frame, DropReason::virtual_service_unknown);
    return;
  }
  if (packet.kind != PacketKind::kLaterFragment) note_use_of(service.slots, slot, client, tick_, packet);
  if (rewrite_answer(view, service, client, virtual_ip_id_++) != translate::Outcome::kOk) {
    drop(port, frame, DropReason::not_translatable);
    return;
  }
  uint8_t* start = view.ip - net::kEthLen;
  set_extent(frame, start, net::kEthLen + view.length);
  if (frame->pkt_len > out->max_frame) {
    drop(port, frame, DropReason::packet_too_big);
    return;
  }
  overlay::write_ethernet(start, out->peer.load(), out->own_mac, net::kEtherIpv4);
  send(*out, frame);
}

}  // namespace ironcore
