// Parts that decisions of both directions share: firewall, uplinks, what an answer looks like.
#pragma once

#include "flow/decide.h"

namespace ironcore {

Decision dropped(const DecisionContext& context, std::string_view stage, DropReason reason);

// The interface that uses a device at present, if it belongs to this VNI. Prefixes stay with a device when its
// interface goes, so the next one, of another tenant, must not get their packets.
const InterfaceView* interface_in(const TableView& tables, uint16_t port_id, uint32_t vni);

// Asks the rules of both ends (null: not an interface of this host) about a flow whose destination is translated
// already. False: drop it. Fills in hits and would_drop.
bool firewall_accepts(const DecisionContext& context, const FlowKey& key, const InterfaceView* from,
                      const InterfaceView* to, Decision& decision);

// Into the VM of `to`.
void deliver_to(FlowProgram& program, const InterfaceView& to);

// To the host behind one of the route's next hops, on behalf of `from`. `hash`: reference_flow_hash of the packet.
void encapsulate_to(const TableView& tables, FlowProgram& program, const InterfaceView& from, const Route& route,
                    bool is_v6, uint32_t hash);

// 0 or 1: the uplink that flows with this hash prefer.
uint8_t preferred_uplink(const TableView& tables, uint32_t hash);

// Whose connection it is, and how long it lives without packets.
FlowOwner owner_of(const InterfaceView& interface, const FlowKey& key);
FlowOwner owner_of_forwarded(const Vni& network, uint16_t uplink, const FlowKey& key);

// The counter that a flow in `network` towards the key's destination depends on.
void read_generation(const TableView& tables, const Vni& network, const FlowKey& key, Decision::Direction& direction);

}  // namespace ironcore
