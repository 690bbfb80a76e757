// Which MAC address leads to the fabric: a pure function of the kernel's routes and neighbours.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>

namespace ironcore::uplink {

using Mac = std::array<uint8_t, 6>;
using Ipv6 = std::array<uint8_t, 16>;

// One IPv6 next hop of a route. Routes that differ in their destination only are the same gateway.
struct Gateway {
  int ifindex = 0;
  bool is_default = false;  // next hop of ::/0
  uint32_t metric = 0;      // lower is preferred
  Ipv6 address{};
  auto operator<=>(const Gateway&) const = default;
};

struct Neighbour {
  int ifindex = 0;
  Ipv6 address{};
  uint16_t state = 0;      // NUD_* of linux/neighbour.h
  bool is_router = false;  // the neighbour called itself a router (RFC 4861 section 4.4)
  std::optional<Mac> mac;  // absent while unresolved
};

struct Uplink {
  int ifindex = 0;
  std::optional<Mac> own_mac;  // never chosen; leave empty where the kernel's own side of a TAP is the router
};

// A neighbour whose MAC the kernel holds to be right, or has no reason to doubt.
bool is_usable(const Neighbour& neighbour);

// The MAC of, in this order: a gateway of a default route, a gateway of any other route, a neighbour that calls itself
// a router. Inside a rank lower metrics, then lower addresses win, whatever the neighbour's state, so that the choice
// does not flap between STALE and REACHABLE. With no usable candidate `current` stays: a router that does not answer
// neighbour discovery for a while may well still forward.
std::optional<Mac> choose(const Uplink& uplink, std::span<const Gateway> gateways,
                          std::span<const Neighbour> neighbours, const std::optional<Mac>& current);

// Gateways of the uplink worth a probe: their neighbour entry is absent, failed or unconfirmed. At most `out.size()`,
// best first; returns how many were written.
size_t to_probe(const Uplink& uplink, std::span<const Gateway> gateways, std::span<const Neighbour> neighbours,
                std::span<Ipv6> out);

}  // namespace ironcore::uplink
