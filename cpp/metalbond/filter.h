// Which routes a peer may announce.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "metalbond/wire.h"

namespace metalbond {

// A prefix that contains others.
struct Network {
  Address address;
  uint8_t length = 0;

  // Whether all of the prefix of `bits` bits lies inside.
  bool contains(const Address& other, uint8_t bits) const {
    if (other.size != address.size || bits < length) return false;
    const size_t whole = length / 8U;
    if (std::memcmp(address.bytes.data(), other.bytes.data(), whole) != 0) return false;
    const uint8_t mask = static_cast<uint8_t>(0xff00U >> (length % 8U));
    return length % 8U == 0 || ((address.bytes[whole] ^ other.bytes[whole]) & mask) == 0;
  }
};

inline bool inside(const std::vector<Network>& networks, const Address& address, uint8_t bits) {
  return std::ranges::any_of(networks, [&](const Network& network) { return network.contains(address, bits); });
}

struct Filter {
  bool announces = false;
  std::vector<std::pair<uint32_t, uint32_t>> vnis;  // first and last
  std::optional<std::vector<Network>> prefixes;     // without: any
  std::optional<std::vector<Network>> next_hops;
  size_t max_routes = SIZE_MAX;

  // Stable name of why the route may not be announced, or null.
  const char* refusal(const Route& route) const {
    if (!announces) return "policy_announce";
    if (std::ranges::none_of(vnis,
                             [&](const auto& span) { return span.first <= route.vni && route.vni <= span.second; }))
      return "policy_vni";
    if (prefixes && !inside(*prefixes, route.prefix, route.length)) return "policy_prefix";
    if (next_hops && !inside(*next_hops, route.target, static_cast<uint8_t>(8 * route.target.size)))
      return "policy_next_hop";
    return nullptr;
  }
};

}  // namespace metalbond
