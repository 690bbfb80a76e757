// The two directions of a connection: which entries belong together, TCP tracking, idle time.
#pragma once

#include "flow/limits.h"
#include "flow/table.h"
#include "flow/tcp_state.h"

namespace ironcore {

// Makes `reply`, the newer entry, the opposite direction of `original`.
void link_directions(const FlowTable& table, FlowEntry& original, FlowEntry& reply);

// Lets `entry` go on where `replaced`, the entry of the same key before it, stood.
void inherit_connection(FlowEntry& entry, const FlowEntry& replaced);

// Moves the connection's TCP state by one segment of this direction.
void track_tcp(const FlowTable& table, FlowEntry& entry, uint8_t tcp_flags);

// Cheap test whether a segment needs track_tcp().
inline bool tcp_needs_tracking(const FlowEntry& entry, uint8_t tcp_flags) {
  return (tcp_flags & (kTcpSyn | kTcpFin | kTcpRst)) || !entry.tcp_established.load(std::memory_order_relaxed);
}

// Ticks until the connection expires if nothing more is seen; 0: it is over.
Tick remaining_lifetime(const FlowTable& table, const FlowEntry& entry, Tick now, const FlowLimits& limits);

}  // namespace ironcore
