// Makes a connection of the former active one of this engine: decided by this engine's own tables, from its first
// direction, with the NAT port, target and TCP state that it had.
#pragma once

#include "flow/connections.h"
#include "ha/record.h"

namespace ironcore::ha {

struct RestoreContext {
  const TableView& tables;
  FlowTable& flows;
  NatPorts& nat_ports;
  Connections& connections;
};

// kNoDrop: it is in the flow table. Else why it cannot be; its NAT mapping, if it has one, stays.
DropReason restore(const RestoreContext& context, const Connection& connection, Tick now);

}  // namespace ironcore::ha
