// The slow path's decision: what becomes of a flow, from its first packet. A function of the tables' current state; the
// only thing it may change is the table of NAT ports, through NatPortChoice.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flow/entry.h"
#include "flow/generation.h"
#include "ironcore/drop_reason.h"
#include "lb/load_balancer.h"
#include "nat/ports.h"
#include "nat/public_addresses.h"
#include "net/parse.h"
#include "port/port.h"
#include "underlay/registry.h"

namespace ironcore {

// A load balancer as control calls publish it: `network` first, and taken back last.
struct LoadBalancerSlot {
  std::atomic<const LoadBalancer*> balancer{nullptr};
  std::atomic<const Vni*> network{nullptr};
};
using LoadBalancerSlots = std::vector<LoadBalancerSlot>;  // UnderlayObject::port is the index

// What decisions depend on.
struct TableView {
  const Ports& ports;
  const UnderlayRegistry& underlay;
  const Generations& generations;
  const PublicAddresses& public_addresses;
  const LoadBalancerSlots& load_balancers;
  const EngineOptions& options;
  uint64_t host_prefix, host_low;  // both halves of the host's underlay address, as they lie in memory
};

// How a decision gets a NAT port: takes one, or only tells which it would be.
class NatPortChoice {
 public:
  // Host byte order. Nothing: no port is free towards that destination.
  virtual std::optional<uint16_t> port_for(const NatSource& source, const NatDestination& destination,
                                           const NatRange& range) = 0;

 protected:
  ~NatPortChoice() = default;
};

// One step of a decision, in words, for whoever asked why.
struct DecisionStep {
  std::string stage;  // "route", "firewall", ...
  std::string outcome;
};
using DecisionLog = std::vector<DecisionStep>;

struct Decision {
  struct Direction {
    FlowContent content;
    uint32_t generation_index = 0;  // counter the direction depends on, and its value before the tables were read
    uint32_t generation = 0;
  };

  DropReason drop = kNoDrop;
  bool answer_echo = false;  // an echo request that this host answers for a public address; nothing below applies
  Direction forward;
  bool has_reply = false;  // false: packets of the opposite direction are decided by themselves
  FlowKey reply_key{};
  Direction reply;

  bool would_drop = false;  // by the firewall, which only observes
  // Rules that decided, to be counted when the flow begins.
  struct RuleHit {
    std::shared_ptr<RuleHits> hits;
    uint32_t rule;
  };
  std::vector<RuleHit> rule_hits;
};

struct DecisionContext {
  const TableView& tables;
  NatPortChoice& nat_ports;
  const FlowContent* before = nullptr;  // what was decided for the flow earlier: its target stays while it can
  DecisionLog* log = nullptr;           // null: nobody wants to know

  void note(std::string_view stage, std::string outcome) const {
    if (log) log->push_back({std::string(stage), std::move(outcome)});
  }
};

// The packet came from this interface's VM.
Decision decide_from_vm(const DecisionContext& context, const InterfaceView& from, const FlowKey& key);

// The packet came from the underlay; the outer destination's low half is the key's scope.
Decision decide_from_uplink(const DecisionContext& context, const FlowKey& key);

}  // namespace ironcore
