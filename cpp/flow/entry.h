// One direction of a connection: three cache lines. The first decides whether the entry applies, the second what it
// does; the third is for rewriting flows and for the slow path.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/clock.h"
#include "core/counter.h"
#include "flow/program.h"
#include "net/flow_key.h"
#include "translate/rewrite.h"

namespace ironcore {

// An entry of the flow table by index; valid while the entry still has that sequence number.
struct FlowRef {
  uint32_t index = 0;  // 0: none
  uint32_t sequence = 0;
};

// Which idle time applies.
enum class TimeoutClass : uint8_t { kTcp, kUdp, kIcmp, kOther, kFragment };
inline constexpr size_t kTimeoutClasses = 5;

// What the slow path has to know of a connection; the same in both of its directions.
struct FlowOwner {
  uint32_t vni = 0;
  uint32_t instance = 0;  // low half of the instance number of the interface that the connection counts for
  uint16_t port = 0;      // and its DPDK port
  TimeoutClass timeout = TimeoutClass::kOther;
  bool nat = false;      // the original direction holds a NAT port: its rewrite's
  bool one_way = false;  // answers do not pass this host

  bool operator==(const FlowOwner&) const = default;
};

// Fixed once the entry can be found.
struct FlowContent {
  FlowProgram program{};
  translate::Rewrite rewrite{};
  FlowOwner owner{};

  bool operator==(const FlowContent&) const = default;
};

// Key and content never change once the entry can be found. To change them, a new entry takes its place and the old one
// is reused only after a grace period, so that no worker can execute a mixture of both.
struct alignas(64) FlowEntry {
  // Line 1.
  FlowKey key;
  std::atomic<uint32_t> generation;        // of the tables when the program was decided
  std::atomic<uint32_t> generation_index;  // which generation counter that was
  std::atomic<uint32_t> sequence;          // grows when the entry is freed
  std::atomic<uint32_t> peer_index;        // opposite direction, 0: none

  // Line 2.
  FlowProgram program;
  std::atomic<Tick> last_used;
  std::atomic<uint32_t> peer_sequence;
  std::atomic<uint8_t> tcp;           // TcpTrack; of the original direction's entry, for both
  std::atomic<bool> tcp_established;  // of both directions: later segments need no tracking
  std::atomic<bool> is_reply;         // the peer was there first
  Counter packets;
  Counter bytes;  // of frames as received

  // Line 3.
  translate::Rewrite rewrite;
  FlowOwner owner;
  Tick created;

  FlowRef peer() const {
    return {peer_index.load(std::memory_order_relaxed), peer_sequence.load(std::memory_order_relaxed)};
  }
};
static_assert(sizeof(FlowEntry) == 192 && offsetof(FlowEntry, program) == 64 && offsetof(FlowEntry, rewrite) == 128);

}  // namespace ironcore
