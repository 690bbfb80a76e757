// Steps of a packet under the names that the reference gives the nodes of its graph, where it has a counterpart.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "ironcore/drop_reason.h"

namespace ironcore::trace {

enum class Node : uint8_t {
  kNone,  // a port, or the end
  kReceive,
  kClassify,
  kArp,
  kNeighbourDiscovery,
  kDhcp4,
  kDhcp6,
  kVirtualService,
  kDecapsulate,
  kFlow,  // lookup of the flow
  kLoadBalancer,
  kDestination,  // rewriting of the destination
  kRelay,        // back into the fabric
  kRoute4,       // this and the firewall: only packets for which a decision is made
  kRoute6,
  kSource,  // rewriting of the source
  kFirewall,
  kEncapsulate,
  kTransmit,
  kCount,
};

inline constexpr size_t kNodeCount = static_cast<size_t>(Node::kCount);

// `port` is that of kReceive and kTransmit. Empty for kNone.
std::string node_name(Node node, uint16_t port);

// Where a packet that ends for this reason is at that time.
Node node_of(DropReason reason);

}  // namespace ironcore::trace
