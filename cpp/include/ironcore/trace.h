// Packets on their way through the engine, for one reader at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ironcore/drop_reason.h"

namespace ironcore {

enum class TraceEvent : uint8_t { kRx, kTx, kDrop, kNode };

struct TraceOptions {
  bool drops = false;  // also packets that end here
  bool nodes = false;  // also the steps between receiving and sending
  // POSIX basic regular expression on the name of the event's node; empty: all. Of a received packet that is the node
  // it goes to, else the one it comes from.
  std::string node_pattern;
  std::string filter;          // pcap filter on the first 256 bytes of the frame as it is then; empty: all
  uint32_t snap_length = 256;  // bytes of a frame that are copied, 64..9216
  uint32_t ring_size = 16384;  // records that may wait to be read, 64..65536; they take at most 64 MiB
};

// What a worker saw. Nodes have the names of the reference's graph.
struct TraceRecord {
  int64_t timestamp_ns = 0;  // since 1970, UTC
  uint32_t packet_id = 0;    // the same for all records of a packet, and for the answer that it provokes
  TraceEvent event = TraceEvent::kRx;
  std::string node;       // empty: the packet comes from a port
  std::string next_node;  // empty: it goes to a port, or ends
  uint16_t port = 0;      // kRx, kTx: DPDK port; else that on which the packet came in
  std::optional<DropReason> drop;
  uint32_t length = 0;  // of the frame
  std::string bytes;    // its first ones
};

struct TraceInfo {
  bool active = false;
  uint64_t recorded = 0;  // by this session, or the last one
  uint64_t lost = 0;      // that found the ring full
};

}  // namespace ironcore
