// An interface as workers see it: an immutable value, replaced as a whole when anything about it changes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ironcore/engine.h"
#include "net/flow_key.h"
#include "vni/vni.h"

namespace ironcore {

// A source range that the VM may send from, and the underlay address that answers to it come to.
struct AllowedSource {
  IpPrefix prefix;  // masked
  uint64_t underlay_low;
};

struct InterfaceView {
  uint64_t instance = 0;  // differs for each interface ever created in this process
  uint16_t port = 0;
  uint32_t vni = 0;
  const Vni* network = nullptr;
  Ipv4Address ipv4{};
  Ipv6Address ipv6{};
  uint64_t underlay_low = 0;
  std::vector<AllowedSource> prefixes;  // alias and load-balancer prefixes
  std::string hostname;
  std::optional<PxeOptions> pxe;

  bool has_ipv4() const { return ipv4 != Ipv4Address{}; }
  bool has_ipv6() const { return ipv6 != Ipv6Address{}; }

  // The underlay address behind the source of this key, or nothing if the VM must not use that source.
  std::optional<uint64_t> source_underlay(const FlowKey& key) const;
};

}  // namespace ironcore
