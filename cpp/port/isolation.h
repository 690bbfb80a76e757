// On shared NICs the kernel keeps the uplink; only packets to this host's overlay addresses come to the engine.
#pragma once

#include <cstdint>
#include <string>

#include "ironcore/types.h"

namespace ironcore {

// Before the port is configured. Empty on success, else why not.
std::string isolate_uplink(uint16_t port);

// After the port has started: IPv6 packets to host-prefix:d000::/68 go to queue 0, everything else stays with the
// kernel.
std::string steer_overlay(uint16_t port, const Ipv6Address& host);

}  // namespace ironcore
