// A load balancer as workers see it: an immutable value. Control calls replace it as a whole (table.h).
#pragma once

#include <cstdint>
#include <vector>

#include "ironcore/services.h"
#include "ironcore/types.h"

namespace ironcore {

class LoadBalancer {
 public:
  // `targets` are unique and sorted bytewise, no more than `maglev_size`; a valid size (maglev.h), or 0: by the number
  // of targets. std::invalid_argument otherwise.
  LoadBalancer(uint32_t vni, const IpAddress& ip, std::vector<LoadBalancerPort> ports, std::vector<Ipv6Address> targets,
               uint32_t maglev_size = 0);

  uint32_t vni() const { return vni_; }
  const IpAddress& ip() const { return ip_; }
  const std::vector<LoadBalancerPort>& ports() const { return ports_; }        // in the order given
  const std::vector<Ipv6Address>& targets() const { return targets_; }         // ascending
  const std::vector<uint16_t>& maglev_slots() const { return maglev_slots_; }  // indexes into targets(); empty if none

  // The target of a new flow, null without targets; lives as long as this object. The hash is the reference's
  // (net/flow_key.h) of the flow's first direction.
  const Ipv6Address* choose(uint32_t flow_hash) const {
    if (maglev_slots_.empty()) return nullptr;
    return &targets_[maglev_slots_[flow_hash % static_cast<uint32_t>(maglev_slots_.size())]];
  }

  // Whether an established flow may keep this target.
  bool has_target(const Ipv6Address& target) const;

  // Whether that (protocol, port in host order) is listed. Port 0 is a port like any other.
  bool serves(uint8_t protocol, uint16_t port) const {
    const uint32_t wanted = uint32_t{protocol} << 16 | port;
    for (const uint32_t service : services_)
      if (service == wanted) return true;
    return false;
  }

 private:
  uint32_t vni_;
  IpAddress ip_;
  std::vector<LoadBalancerPort> ports_;
  std::vector<uint32_t> services_;  // ports_, protocol and port in one word each
  std::vector<Ipv6Address> targets_;
  std::vector<uint16_t> maglev_slots_;
};

}  // namespace ironcore
