// What the tests of load balancers share.
#pragma once

#include <random>
#include <set>
#include <string>
#include <vector>

#include "ironcore/types.h"

namespace ironcore {

inline Ipv6Address v6(const std::string& text) { return parse_ipv6(text).value(); }

// The targets of the reference's golden table, sorted.
inline std::vector<Ipv6Address> golden_targets() {
  return {v6("2001:db8:0:1:d000:0:0:1"), v6("2001:db8:0:1:d000:0:0:2"), v6("2001:db8:0:2:d000:0:0:1"),
          v6("2001:db8:0:3:d000:0:0:7")};
}

// Sorted and unique; underlay addresses of different hosts, or of one.
inline std::vector<Ipv6Address> random_targets(std::mt19937& random, size_t count) {
  std::set<Ipv6Address> targets;
  const bool one_host = random() % 2;
  while (targets.size() < count) {
    Ipv6Address address = v6("2001:db8::d000:0:0:0");
    if (!one_host)
      for (const size_t at : {4, 5, 6, 7}) address[at] = static_cast<uint8_t>(random());
    for (const size_t at : {14, 15}) address[at] = static_cast<uint8_t>(random());
    targets.insert(address);
  }
  return {targets.begin(), targets.end()};
}

}  // namespace ironcore
