// Keys, programs and flows as people read them.
#pragma once

#include <map>
#include <string>

#include "flow/connections.h"
#include "ironcore/inspection.h"

namespace ironcore {

// Which interface uses a device, and what devices are called.
class PortNames {
 public:
  struct Owner {
    uint64_t instance;
    std::string id;
  };
  PortNames(const Ports& ports, std::map<uint16_t, Owner> owners) : ports_(ports), owners_(std::move(owners)) {}

  std::string device(uint16_t port) const;  // netdev name
  std::string uplink(unsigned index) const;
  std::string interface(uint16_t port) const;       // identifier; empty: none
  std::string owner(const FlowOwner& owner) const;  // the same, if it is still the one that the flow counted for

 private:
  const Ports& ports_;
  std::map<uint16_t, Owner> owners_;
};

PacketFields fields_of(const FlowKey& key);
std::string to_string(const PacketFields& fields);  // "UDP 10.0.0.1:1000 > 8.8.8.8:53"

// An underlay address of this host by its lower half.
Ipv6Address underlay_address(uint64_t host_prefix, uint64_t low);

FlowProgramInfo describe(const FlowProgram& program, const translate::Rewrite& rewrite, const PortNames& names,
                         uint64_t host_prefix);
std::string to_string(const FlowProgramInfo& program);  // "rewrite source to 203.0.113.1 port 1024, encapsulate to ..."

// What else a flow's description needs. The caller is a registered reader (FlowTable::in_slot).
struct FlowContext {
  const FlowTable& flows;
  const FlowLimits& limits;
  const Generations& generations;
  const PortNames& names;
  uint64_t host_prefix;
  Tick now;
};

// The connection that an entry is the first direction of, or a direction that is alone.
FlowInfo describe(const FlowContext& context, const FlowEntry& original);

}  // namespace ironcore
