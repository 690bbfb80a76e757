// Packets that a VM sends: destination translation, route, source translation, firewall, in this order.
#include "flow/policy.h"

namespace ironcore {
namespace {

// Addresses that no router may forward (RFC 4291 section 2.5.6 and 2.7, RFC 1122 section 3.2.1.3, RFC 5771 section 4).
bool never_forwarded(const FlowKey& key) {
  if (!key.is_v6()) {
    const uint32_t dst = net::swap32(key.dst4);
    return dst == 0xffffffff || (dst & 0xffffff00) == 0xe0000000 || dst == 0;
  }
  const auto link_local = [](const uint8_t* address) { return address[0] == 0xfe && (address[1] & 0xc0) == 0x80; };
  const bool local_multicast = key.dst6[0] == 0xff && (key.dst6[1] & 0x0f) <= 2;
  return local_multicast || link_local(key.dst6) || link_local(key.src6);
}

bool has_ports(const FlowKey& key) {
  return !key.fragment && (key.proto == net::kTcp || key.proto == net::kUdp || is_echo(key));
}

// What the flow's source becomes on the way out.
struct SourceTranslation {
  translate::Rewrite forward, back;
  IpAddress source;       // on the wire
  uint16_t source_port;   // on the wire, network order; echo: the identifier
  uint64_t underlay_low;  // where answers come to
  bool nat = false;
};

SourceTranslation to_vip(const FlowKey& key, const PublicSource& vip) {
  const IpAddress inside = source_of(key);
  return {translate::rewrite_source(inside, vip.address),
          translate::rewrite_destination(vip.address, inside),
          vip.address,
          is_icmp(key) ? key.dst_port : key.src_port,
          vip.underlay_low,
          false};
}

IpAddress ipv4_in_nat64(const uint8_t* address) {
  return IpAddress::v4({address[12], address[13], address[14], address[15]});
}

// Nothing: no port is free.
std::optional<SourceTranslation> to_nat(const DecisionContext& context, const InterfaceView& from, const FlowKey& key,
                                        const PublicSource& nat) {
  const uint16_t inside_port = is_icmp(key) ? key.dst_port : key.src_port;
  const bool nat64 = key.is_v6() && !nat.address.is_v6;
  const IpAddress inside = source_of(key), destination = nat64 ? ipv4_in_nat64(key.dst6) : destination_of(key);
  const auto chosen = context.nat_ports.port_for({from.vni, inside, net::swap16(inside_port)},
                                                 {destination, net::swap16(key.dst_port), key.proto},
                                                 {nat.address, nat.min_port, nat.max_port});
  if (!chosen) return std::nullopt;
  const uint16_t port = net::swap16(*chosen);
  const translate::PortChange out{inside_port, port}, back{port, inside_port};
  SourceTranslation translation{{}, {}, nat.address, port, nat.underlay_low, true};
  if (nat64) {
    const Ipv4Address address{nat.address.bytes[0], nat.address.bytes[1], nat.address.bytes[2], nat.address.bytes[3]};
    translation.forward = translate::six_to_four(from.ipv6, address, out);
    translation.back = translate::four_to_six(address, from.ipv6, back);
  } else {
    translation.forward = translate::rewrite_source(inside, nat.address, out);
    translation.back = translate::rewrite_destination(nat.address, inside, back);
  }
  return translation;
}

// The packet as it is on the wire after translation.
FlowKey translated(const FlowKey& key, const SourceTranslation& translation) {
  FlowKey wire = key;
  if (key.is_v6() != translation.source.is_v6) {
    const IpAddress destination = ipv4_in_nat64(key.dst6);
    std::memset(wire.src6, 0, sizeof wire.src6 + sizeof wire.dst6);
    wire.family = 4;
    set_destination(wire, destination);
    if (key.proto == net::kIcmp6) {
      wire.proto = net::kIcmp;
      wire.src_port = icmp_type(key) == 128 ? 8 : 0;
    }
  }
  set_source(wire, translation.source);
  (is_icmp(key) ? wire.dst_port : wire.src_port) = translation.source_port;
  return wire;
}

std::string of_length(const Route& route) { return std::string("/").append(std::to_string(route.length)); }

std::string arrow(const IpAddress& before, const IpAddress& after, uint16_t port) {
  return to_string(before) + " becomes " + to_string(after) +
         (port ? " port " + std::to_string(net::swap16(port)) : std::string());
}

}  // namespace

Decision decide_from_vm(const DecisionContext& context, const InterfaceView& from, const FlowKey& key) {
  const TableView& tables = context.tables;
  if (never_forwarded(key)) return dropped(context, "destination", DropReason::link_local);
  const auto underlay = from.source_underlay(key);
  if (!underlay && tables.options.antispoof) return dropped(context, "source", DropReason::spoofed_source);

  // A public address of this VNI stands for a local VM, or for ports that some host has.
  FlowKey inner = key;
  const PublicAddress* known = tables.public_addresses.lookup(from.vni, destination_of(key));
  const bool to_vip_of_local = known && known->vip;
  if (to_vip_of_local) {
    set_destination(inner, known->vip->inside);
    if (context.log) context.note("virtual IP", arrow(destination_of(key), known->vip->inside, 0));
  }

  Decision decision;
  read_generation(tables, *from.network, inner, decision.forward);
  // What was read before the generation may have been replaced in between: then this must not be remembered for long.
  const Port* port = tables.ports.by_id(from.port);
  if (!port || port->interface.load(std::memory_order_acquire) != &from ||
      tables.public_addresses.lookup(from.vni, destination_of(key)) != known)
    --decision.forward.generation;

  FlowProgram& program = decision.forward.content.program;
  FlowContent& reply = decision.reply.content;
  decision.has_reply = true;
  decision.reply_key = reversed(inner);
  decision.forward.content.owner = reply.owner = owner_of(from, key);
  deliver_to(reply.program, from);
  if (from.total_meter) program.features |= kMeterTotal;

  const Route* route = from.network->routes.lookup(inner);
  if (known && !to_vip_of_local) {
    // Ports of a NAT address: those of another host are reachable through it, ours only as answers.
    const NeighborRange* neighbor = has_ports(key) ? known->neighbor_of(net::swap16(key.dst_port)) : nullptr;
    if (!neighbor) return dropped(context, "NAT address", DropReason::nat_unsolicited);
  }
  if (!route) return dropped(context, "route", DropReason::no_route);

  const InterfaceView* to = nullptr;
  uint32_t hash = 0;
  if (route->local) {
    to = interface_in(tables, route->port, from.vni);
    if (!to) return dropped(context, "route", DropReason::interface_gone);
    if (context.log)
      context.note("route", of_length(*route).append(" to the VM on port ").append(std::to_string(to->port)));
    deliver_to(program, *to);
    decision.reply_key.scope = to->instance;
    decision.reply_key.side = Side::kVm;
    if (to->total_meter) reply.program.features |= kMeterTotal;
    if (to_vip_of_local) {
      const IpAddress vip = destination_of(key);
      decision.forward.content.rewrite = translate::rewrite_destination(vip, known->vip->inside);
      reply.rewrite = translate::rewrite_source(known->vip->inside, vip);
    }
  } else {
    if (to_vip_of_local) return dropped(context, "route", DropReason::interface_gone);
    hash = reference_flow_hash(key, from.vni, from.hash_class(key));
    encapsulate_to(tables, program, from, *route, key.is_v6(), hash);
    if (context.log)
      context.note("route", of_length(*route)
                                .append(" to ")
                                .append(to_string(program.outer_dst))
                                .append(program.action == Action::kLoop ? " on this host" : ""));
    decision.reply_key.scope = underlay.value_or(from.underlay_low);
    decision.reply_key.side = Side::kUplink;
  }
  if (!firewall_accepts(context, inner, &from, to, decision)) return dropped(context, "firewall", DropReason::firewall);

  if (!route->local && route->is_default()) {
    if (from.public_meter) program.features |= kMeterPublic;
    std::optional<SourceTranslation> translation;
    const bool nat64 = key.is_v6() && is_nat64(key.dst6) && from.nat4;
    if (from.sends_from_primary(key)) {
      const auto& nat = nat64 ? from.nat4 : from.nat(key.is_v6());
      if (nat) {
        if (!has_ports(key))
          return dropped(context, "NAT", key.fragment ? DropReason::fragment_unknown : DropReason::nat_unsupported);
        translation = to_nat(context, from, key, *nat);
        if (!translation) return dropped(context, "NAT", DropReason::nat_exhausted);
      } else if (const auto& vip = from.vip(key.is_v6())) {
        translation = to_vip(key, *vip);
      }
    }
    if (translation) {
      if (context.log)
        context.note(translation->nat ? (nat64 ? "NAT64" : "NAT") : "virtual IP",
                     arrow(source_of(key), translation->source, translation->nat ? translation->source_port : 0));
      decision.forward.content.rewrite = translation->forward;
      reply.rewrite = translation->back;
      decision.forward.content.owner.nat = translation->nat;
      decision.reply_key = reversed(translated(inner, *translation));
      decision.reply_key.scope = translation->underlay_low;
      decision.reply_key.side = Side::kUplink;
      if (nat64) program.next_header = net::kIpip;
    }
  }
  for (FlowContent* content : {&decision.forward.content, &reply})
    if (content->rewrite.kind != translate::RewriteKind::kNone) content->program.features |= kRewrite;

  // The answer depends on what leads to its destination: this VM.
  FlowKey towards_vm = reversed(key);
  read_generation(tables, *from.network, towards_vm, decision.reply);
  if (port->interface.load(std::memory_order_acquire) != &from) --decision.reply.generation;
  return decision;
}

}  // namespace ironcore
