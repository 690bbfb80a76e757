// What a flow entry knows of a virtual service's connection, beside its program: it lies in the address of the
// entry's rewrite, whose kind is kNone.
#pragma once

#include "flow/entry.h"
#include "virtsvc/registry.h"

namespace ironcore {

// Of both directions. The client is not here: whose the slot is, the service's table says at any time.
struct VirtualFlow {
  uint16_t service = 0;  // index in virtsvc::Registry::services()
  uint16_t slot = 0;

  void store(translate::Rewrite& rewrite) const { net::store(rewrite.address.data(), *this); }
  static VirtualFlow of(const translate::Rewrite& rewrite) { return net::load<VirtualFlow>(rewrite.address.data()); }
};

// Low half of an underlay address, network order: whether it belongs to a virtual service, <host>:d0ff:40...
inline bool is_virtual_service(uint64_t underlay_low) { return (underlay_low & 0xffffff) == 0x40ffd0; }

}  // namespace ironcore
