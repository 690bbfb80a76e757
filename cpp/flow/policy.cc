#include "flow/policy.h"

namespace ironcore {
namespace {

constexpr unsigned kWcmpSlots = 10;

FirewallPacket firewall_packet(const FlowKey& key) {
  FirewallPacket packet;
  packet.is_v6 = key.is_v6();
  packet.src = source_of(key).bytes;
  packet.dst = destination_of(key).bytes;
  packet.proto = key.proto;
  packet.has_ports = !key.fragment;
  if (is_icmp(key)) {
    packet.icmp_type = icmp_type(key);
    packet.icmp_code = icmp_code(key);
  } else {
    packet.src_port = net::swap16(key.src_port);
    packet.dst_port = net::swap16(key.dst_port);
  }
  return packet;
}

bool rules_accept(const DecisionContext& context, const InterfaceView& interface, TrafficDirection direction,
                  const FirewallPacket& packet, Decision& decision) {
  const char* stage = direction == TrafficDirection::kEgress ? "firewall egress" : "firewall ingress";
  if (!interface.firewall) {
    context.note(stage, "no rules: accept");
    return true;
  }
  const FirewallVerdict verdict = interface.firewall->evaluate(direction, packet);
  const bool accept = verdict.action == FirewallAction::kAccept;
  if (verdict.rule >= 0) decision.rule_hits.push_back({interface.rule_hits, static_cast<uint32_t>(verdict.rule)});
  if (context.log)
    context.note(stage, (verdict.rule >= 0 ? "rule in slot " + std::to_string(verdict.rule) : "no rule matches") +
                            (accept ? ": accept" : ": drop"));
  return accept;
}

TimeoutClass timeout_class(const FlowKey& key) {
  if (key.fragment) return TimeoutClass::kFragment;
  if (key.proto == net::kTcp) return TimeoutClass::kTcp;
  if (key.proto == net::kUdp) return TimeoutClass::kUdp;
  return is_icmp(key) ? TimeoutClass::kIcmp : TimeoutClass::kOther;
}

}  // namespace

Decision dropped(const DecisionContext& context, std::string_view stage, DropReason reason) {
  if (context.log)
    context.note(stage,
                 "drop " + std::string(drop_reason_name(reason)) + ": " + std::string(drop_reason_description(reason)));
  Decision decision;
  decision.drop = reason;
  return decision;
}

const InterfaceView* interface_in(const TableView& tables, uint16_t port_id, uint32_t vni) {
  const Port* port = tables.ports.by_id(port_id);
  const InterfaceView* view = port ? port->interface.load(std::memory_order_acquire) : nullptr;
  return view && view->vni == vni ? view : nullptr;
}

bool firewall_accepts(const DecisionContext& context, const FlowKey& key, const InterfaceView* from,
                      const InterfaceView* to, Decision& decision) {
  if (context.tables.options.firewall == FirewallMode::kOff) return true;
  const FirewallPacket packet = firewall_packet(key);
  const bool accept = (!from || rules_accept(context, *from, TrafficDirection::kEgress, packet, decision)) &&
                      (!to || rules_accept(context, *to, TrafficDirection::kIngress, packet, decision));
  decision.would_drop = !accept;
  return accept || context.tables.options.firewall == FirewallMode::kObserve;
}

void deliver_to(FlowProgram& program, const InterfaceView& to) {
  program.action = Action::kDeliver;
  program.out_port = to.port;
}

uint8_t preferred_uplink(const TableView& tables, uint32_t hash) {
  if (tables.options.wcmp >= 100 || tables.ports.uplinks().size() < 2) return 0;
  const unsigned first_uplink_slots = (tables.options.wcmp + 5) / 10;
  return hash % kWcmpSlots < first_uplink_slots ? 0 : 1;
}

void encapsulate_to(const TableView& tables, FlowProgram& program, const InterfaceView& from, const Route& route,
                    bool is_v6, uint32_t hash) {
  // Other bits than those that chose the uplink, or the flows of one uplink would share few next hops.
  const NextHop& nexthop = route.nexthops[(uint64_t{hash * 0x9e3779b1u} * route.nexthops.size()) >> 32];
  const bool local = net::load<uint64_t>(nexthop.address.data()) == tables.host_prefix;
  program.action = local ? Action::kLoop : Action::kEncap;
  program.next_header = is_v6 ? net::kIpv6InIp : net::kIpip;
  program.uplink = preferred_uplink(tables, hash);
  program.outer_src_low = from.underlay_low;
  program.outer_dst = nexthop.address;
  if (tables.options.flow_label_entropy) program.flow_label = static_cast<uint16_t>(hash >> 16 | 1);
}

FlowOwner owner_of(const InterfaceView& interface, const FlowKey& key) {
  FlowOwner owner;
  owner.vni = interface.vni;
  owner.instance = static_cast<uint32_t>(interface.instance);
  owner.port = interface.port;
  owner.timeout = timeout_class(key);
  return owner;
}

FlowOwner owner_of_forwarded(const Vni& network, uint16_t uplink, const FlowKey& key) {
  FlowOwner owner;
  owner.vni = network.number;
  owner.port = uplink;
  owner.timeout = timeout_class(key);
  owner.one_way = true;
  return owner;
}

void read_generation(const TableView& tables, const Vni& network, const FlowKey& key, Decision::Direction& direction) {
  direction.generation_index = Generations::index_of(network.slot, key);
  direction.generation = tables.generations.get(direction.generation_index);
}

}  // namespace ironcore
