// Virtual services' steps of the packet path without side effects, as packet_steps.h has the others.
#pragma once

#include <optional>

#include "flow/decide.h"
#include "translate/rewrite.h"
#include "virtsvc/registry.h"

namespace ironcore {

// What a flow entry knows of a virtual service's connection, beside its program: it lies in the address of the
// entry's rewrite, whose kind is kNone. Of both directions. The client is not here: whose the slot is, the service's
// table says at any time.
struct VirtualFlow {
  uint16_t service = 0;  // index in virtsvc::Registry::services()
  uint16_t slot = 0;

  void store(translate::Rewrite& rewrite) const { net::store(rewrite.address.data(), *this); }
  static VirtualFlow of(const translate::Rewrite& rewrite) { return net::load<VirtualFlow>(rewrite.address.data()); }
};

// How a client gets its slot: takes one, or only tells which it would be.
class SlotChoice {
 public:
  // Nothing: none is free.
  virtual std::optional<uint16_t> slot_for(virtsvc::Service& service, const virtsvc::Client& client) = 0;

 protected:
  ~SlotChoice() = default;
};

// A frame of the underlay to a virtual service of this host: parses it, the key's scope and side included. Nothing:
// another one.
std::optional<DropReason> parse_answer(const uint8_t* frame, size_t length, uint64_t host_prefix, FlowKey& key,
                                       ParsedPacket& packet);

// What becomes of a flow; `from` is the interface whose VM sends it, null: the underlay. Nothing: it is of no virtual
// service. The decision changes nothing but through `slots`.
std::optional<Decision> decide_virtual(const TableView& tables, const virtsvc::Registry& services, SlotChoice& slots,
                                       const InterfaceView* from, const FlowKey& key);

// Bytes of the IPv4 packet as received for which there is room on an uplink.
size_t room_for_request(const Port& uplink, const ParsedPacket& packet);
// The VM's end of a packet to a service: not of a later fragment.
virtsvc::Client client_of_request(const Port& port, const translate::PacketView& request);
// The VM that has the slot, and its device; null: nobody.
struct Receiver {
  virtsvc::Client client;
  Port* port = nullptr;
};
Receiver receiver_of_answer(const Ports& ports, const virtsvc::Service& service, uint16_t slot);
translate::Outcome rewrite_request(translate::PacketView& packet, const virtsvc::Service& service, uint16_t slot);
// `id`: the IPv4 header's identification.
translate::Outcome rewrite_answer(translate::PacketView& packet, const virtsvc::Service& service,
                                  const virtsvc::Client& client, uint16_t id);

}  // namespace ironcore
