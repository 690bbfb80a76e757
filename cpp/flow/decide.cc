#include "flow/decide.h"

#include <cstring>

namespace ironcore {
namespace {

constexpr unsigned kWcmpSlots = 10;

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

// The interface that uses a device at present, if it belongs to this VNI. Prefixes stay with a device when its
// interface goes, so the next one, of another tenant, must not get their packets.
const InterfaceView* interface_in(const TableView& tables, uint16_t port_id, uint32_t vni) {
  const Port* port = tables.ports.by_id(port_id);
  const InterfaceView* view = port ? port->interface.load(std::memory_order_acquire) : nullptr;
  return view && view->vni == vni ? view : nullptr;
}

Decision dropped(DropReason reason) {
  Decision decision;
  decision.drop = reason;
  return decision;
}

uint8_t preferred_uplink(const TableView& tables, const FlowKey& key, uint32_t vni) {
  if (tables.wcmp >= 100 || tables.ports.uplinks().size() < 2) return 0;
  const unsigned first_uplink_slots = (tables.wcmp + 5) / 10;
  return reference_flow_hash(key, vni) % kWcmpSlots < first_uplink_slots ? 0 : 1;
}

void deliver_to(Decision& decision, const InterfaceView& to) {
  decision.program.action = Action::kDeliver;
  decision.program.out_port = to.port;
  decision.reply_scope = to.instance;
  decision.reply_side = Side::kVm;
}

}  // namespace

Decision decide_from_vm(const TableView& tables, const InterfaceView& from, const FlowKey& key) {
  if (never_forwarded(key)) return dropped(DropReason::link_local);
  const auto source = from.source_underlay(key);
  if (!source) return dropped(DropReason::spoofed_source);

  Decision decision;
  decision.generation_index = Generations::index_of(from.network->slot, key);
  decision.generation = tables.generations.get(decision.generation_index);
  // `from` was read before the generation: if it was replaced in between, this decision must not be remembered.
  const Port* port = tables.ports.by_id(from.port);
  if (!port || port->interface.load(std::memory_order_acquire) != &from) --decision.generation;
  const Route* route = from.network->routes.lookup(key);
  if (!route) return dropped(DropReason::no_route);
  if (route->local) {
    const InterfaceView* to = interface_in(tables, route->port, from.vni);
    if (!to) return dropped(DropReason::interface_gone);
    deliver_to(decision, *to);
    return decision;
  }
  decision.program.action = Action::kEncap;
  decision.program.next_header = key.is_v6() ? net::kIpv6InIp : net::kIpip;
  decision.program.uplink = preferred_uplink(tables, key, from.vni);
  decision.program.outer_src_low = from.underlay_low;
  decision.program.outer_dst = route->nexthop;
  decision.reply_scope = *source;
  decision.reply_side = Side::kUplink;
  return decision;
}

Decision decide_from_uplink(const TableView& tables, const FlowKey& key) {
  const UnderlayObject* object = tables.underlay.lookup(key.scope);
  if (!object) return dropped(DropReason::underlay_unknown);
  const InterfaceView* to = interface_in(tables, object->port, object->vni);
  if (!to) return dropped(DropReason::interface_gone);
  Decision decision;
  decision.generation_index = Generations::index_of(to->network->slot, key);
  decision.generation = tables.generations.get(decision.generation_index);
  // The address may have changed hands since it was looked up, and then the generation read above is too new.
  if (tables.underlay.lookup(key.scope) != object || interface_in(tables, object->port, object->vni) != to)
    --decision.generation;
  deliver_to(decision, *to);
  return decision;
}

}  // namespace ironcore
