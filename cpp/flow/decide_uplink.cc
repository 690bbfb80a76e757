// Packets from the underlay: the outer destination says whose they are.
#include "flow/policy.h"

namespace ironcore {
namespace {

// How the VM's answers leave: by its own routes, whatever way the packet came. No route, or no right to that source: no
// answer is foreseen, and a packet that could be one is decided by itself.
void foresee_reply(const DecisionContext& context, const InterfaceView& to, const FlowKey& inner, Decision& decision) {
  const TableView& tables = context.tables;
  FlowKey back = reversed(inner);
  back.scope = to.instance;
  back.side = Side::kVm;
  read_generation(tables, *to.network, back, decision.reply);
  const Route* route = to.network->routes.lookup(back);
  if (!route || route->local || (tables.options.antispoof && !to.source_underlay(back))) return;
  decision.has_reply = true;
  decision.reply_key = back;
  FlowProgram& program = decision.reply.content.program;
  encapsulate_to(tables, program, to, *route, back.is_v6(), reference_flow_hash(back, to.vni, to.hash_class(back)));
  if (to.total_meter) program.features |= kMeterTotal;
  if (to.public_meter && route->is_default()) program.features |= kMeterPublic;
}

// Into the VM of `to`. `inner` is the key with the destination that the VM will see.
Decision into_vm(const DecisionContext& context, const InterfaceView& to, const FlowKey& key, const FlowKey& inner) {
  Decision decision;
  read_generation(context.tables, *to.network, inner, decision.forward);
  if (context.log) context.note("delivery", "to the VM on port " + std::to_string(to.port));
  if (!firewall_accepts(context, inner, nullptr, &to, decision))
    return dropped(context, "firewall", DropReason::firewall);
  FlowContent& content = decision.forward.content;
  deliver_to(content.program, to);
  content.owner = decision.reply.content.owner = owner_of(to, key);
  foresee_reply(context, to, inner, decision);
  const IpAddress outside = destination_of(key), inside = destination_of(inner);
  if (outside != inside) {
    content.rewrite = translate::rewrite_destination(outside, inside);
    decision.reply.content.rewrite = translate::rewrite_source(inside, outside);
    content.program.features |= kRewrite;
    decision.reply.content.program.features |= kRewrite;
  }
  return decision;
}

// To another host, unchanged, by the uplink that it came in on. Answers do not come this way.
Decision forwarded(const DecisionContext& context, const Vni& network, const FlowKey& key, const Ipv6Address& target,
                   std::string_view stage) {
  Decision decision;
  read_generation(context.tables, network, key, decision.forward);
  FlowProgram& program = decision.forward.content.program;
  program.action = Action::kEncap;
  program.next_header = key.is_v6() ? net::kIpv6InIp : net::kIpip;
  program.uplink = kIngressUplink;
  program.outer_src_low = context.tables.host_low;
  program.outer_dst = target;
  decision.forward.content.owner = owner_of_forwarded(network, context.tables.ports.uplink(0)->id, key);
  if (context.log) context.note(stage, "forwarded to " + to_string(target));
  return decision;
}

// For a virtual IP, for a NAT address, or for a VM that is reached through one of their underlay addresses. `known`:
// what the destination means in this network.
Decision to_public(const DecisionContext& context, const UnderlayObject& object, const InterfaceView& owner,
                   const FlowKey& key, const PublicAddress* known) {
  const TableView& tables = context.tables;
  if (known && known->vip) {
    const InterfaceView* to = interface_in(tables, known->vip->device, object.vni);
    if (!to) return dropped(context, "virtual IP", DropReason::interface_gone);
    FlowKey inner = key;
    set_destination(inner, known->vip->inside);
    if (context.log) context.note("virtual IP", "of " + to_string(known->vip->inside));
    return into_vm(context, *to, key, inner);
  }
  if (known) {
    if (is_echo_request(key)) {
      context.note("NAT address", "answers the echo request");
      Decision decision;
      decision.answer_echo = true;
      return decision;
    }
    const bool has_port = !key.fragment && (key.proto == net::kTcp || key.proto == net::kUdp || is_echo(key));
    const NeighborRange* neighbor = has_port ? known->neighbor_of(net::swap16(key.dst_port)) : nullptr;
    const bool elsewhere = neighbor && net::load<uint64_t>(neighbor->underlay.data()) != tables.host_prefix;
    if (!elsewhere) return dropped(context, "NAT address", DropReason::nat_unsolicited);
    return forwarded(context, *owner.network, key, neighbor->underlay, "neighbour NAT");
  }
  const Route* route = owner.network->routes.lookup(key);
  const InterfaceView* to = route && route->local ? interface_in(tables, route->port, object.vni) : nullptr;
  if (!to) return dropped(context, "route", DropReason::no_route);
  return into_vm(context, *to, key, key);
}

// The underlay object of a target on this host, if it can take the packet.
const InterfaceView* local_target(const TableView& tables, const Ipv6Address& target, uint32_t vni) {
  if (net::load<uint64_t>(target.data()) != tables.host_prefix) return nullptr;
  const UnderlayObject* object = tables.underlay.lookup(underlay_low(target));
  if (!object || object->type != UnderlayType::kLbPrefix || object->vni != vni) return nullptr;
  return interface_in(tables, object->port, vni);
}

// The target that the flow has already, while it is one.
const Ipv6Address* kept_target(const DecisionContext& context, const LoadBalancer& balancer) {
  const FlowContent* before = context.before;
  if (!before) return nullptr;
  for (const Ipv6Address& target : balancer.targets()) {
    if (before->program.action == Action::kEncap && before->program.outer_dst == target) return &target;
    if (before->program.action != Action::kDeliver) continue;
    const InterfaceView* local = local_target(context.tables, target, balancer.vni());
    if (local && local->port == before->program.out_port) return &target;
  }
  return nullptr;
}

Decision to_load_balancer(const DecisionContext& context, const LoadBalancerSlot& slot, const LoadBalancer* balancer,
                          const FlowKey& key) {
  const TableView& tables = context.tables;
  const Vni* network = slot.network.load(std::memory_order_acquire);
  if (!balancer || !network || balancer->ip() != destination_of(key))
    return dropped(context, "load balancer", DropReason::lb_address);
  if (is_echo_request(key)) {
    context.note("load balancer", "answers the echo request");
    Decision decision;
    decision.answer_echo = true;
    return decision;
  }
  if (key.fragment) return dropped(context, "load balancer", DropReason::fragment_unknown);
  if (!balancer->serves(key.proto, net::swap16(key.dst_port)))
    return dropped(context, "load balancer", DropReason::lb_port);
  const Ipv6Address* target = kept_target(context, *balancer);
  if (!target) target = balancer->choose(reference_flow_hash(key, balancer->vni()));
  if (!target) return dropped(context, "load balancer", DropReason::lb_no_target);
  if (context.log) context.note("load balancer", "target " + to_string(*target));
  if (const InterfaceView* to = local_target(tables, *target, balancer->vni())) return into_vm(context, *to, key, key);
  if (net::load<uint64_t>(target->data()) == tables.host_prefix)
    return dropped(context, "load balancer", DropReason::lb_no_target);
  return forwarded(context, *network, key, *target, "load balancer");
}

}  // namespace

Decision decide_from_uplink(const DecisionContext& context, const FlowKey& key) {
  const TableView& tables = context.tables;
  const UnderlayObject* object = tables.underlay.lookup(key.scope);
  if (!object) return dropped(context, "underlay", DropReason::underlay_unknown);
  Decision decision;
  // Whatever was read before the generation is read again after it: if it has been replaced in between, the generation
  // is too new for it.
  if (object->type == UnderlayType::kLoadBalancer) {
    const LoadBalancerSlot& slot = tables.load_balancers[object->port];
    const LoadBalancer* balancer = slot.balancer.load(std::memory_order_acquire);
    decision = to_load_balancer(context, slot, balancer, key);
    if (slot.balancer.load(std::memory_order_acquire) != balancer) --decision.forward.generation;
  } else {
    const InterfaceView* owner = interface_in(tables, object->port, object->vni);
    if (!owner) return dropped(context, "underlay", DropReason::interface_gone);
    if (object->type == UnderlayType::kVip || object->type == UnderlayType::kNat) {
      const IpAddress destination = destination_of(key);
      const PublicAddress* known = tables.public_addresses.lookup(object->vni, destination);
      decision = to_public(context, *object, *owner, key, known);
      if (tables.public_addresses.lookup(object->vni, destination) != known) --decision.forward.generation;
    } else {
      decision = into_vm(context, *owner, key, key);
    }
    if (interface_in(tables, object->port, object->vni) != owner) --decision.forward.generation;
  }
  if (tables.underlay.lookup(key.scope) != object) --decision.forward.generation;
  return decision;
}

}  // namespace ironcore
