// Slots of virtual services, as one engine of a pair tells them and the other takes them.
#pragma once

#include "core/clock.h"
#include "ha/messages.h"
#include "port/port.h"
#include "virtsvc/registry.h"

namespace ironcore::ha {

ServiceSlot told(const virtsvc::Service& service, uint16_t slot, const virtsvc::Client& client);

// False: this engine has no such service, slot or VM port.
bool take(virtsvc::Registry& services, const Ports& ports, const ServiceSlot& message, Tick now);

}  // namespace ironcore::ha
