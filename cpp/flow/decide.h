// The slow path's decision: what becomes of a flow, from its first packet. A pure function of the tables' current
// state.
#pragma once

#include "flow/generation.h"
#include "flow/program.h"
#include "net/parse.h"
#include "port/port.h"
#include "underlay/registry.h"

namespace ironcore {

// What decisions depend on.
struct TableView {
  const Ports& ports;
  const UnderlayRegistry& underlay;
  const Generations& generations;
  unsigned wcmp;  // percent of flows that prefer uplink 0
};

struct Decision {
  DropReason drop = kNoDrop;
  FlowProgram program{};
  uint32_t generation_index = 0;  // counter the decision depends on, and its value before the tables were read
  uint32_t generation = 0;
  uint64_t reply_scope = 0;  // scope and side of the opposite direction's key
  Side reply_side = Side::kVm;
};

// The packet came from this interface's VM.
Decision decide_from_vm(const TableView& tables, const InterfaceView& from, const FlowKey& key);

// The packet came from the underlay; the outer destination's low half is the key's scope.
Decision decide_from_uplink(const TableView& tables, const FlowKey& key);

}  // namespace ironcore
