#include "flow/connection.h"

#include <algorithm>

namespace ironcore {
namespace {

void set_peer(FlowEntry& entry, FlowRef peer) {
  entry.peer_index.store(0, std::memory_order_relaxed);
  entry.peer_sequence.store(peer.sequence, std::memory_order_release);
  entry.peer_index.store(peer.index, std::memory_order_release);
}

}  // namespace

void link_directions(const FlowTable& table, FlowEntry& original, FlowEntry& reply) {
  reply.is_reply.store(true, std::memory_order_relaxed);
  const bool established = original.tcp_established.load(std::memory_order_relaxed);
  reply.tcp_established.store(established, std::memory_order_relaxed);
  set_peer(reply, table.ref(original));
  set_peer(original, table.ref(reply));
}

void inherit_connection(FlowEntry& entry, const FlowEntry& replaced) {
  entry.is_reply.store(replaced.is_reply.load(std::memory_order_relaxed), std::memory_order_relaxed);
  entry.tcp.store(replaced.tcp.load(std::memory_order_relaxed), std::memory_order_relaxed);
  entry.tcp_established.store(replaced.tcp_established.load(std::memory_order_relaxed), std::memory_order_relaxed);
  set_peer(entry, replaced.peer());
}

void track_tcp(const FlowTable& table, FlowEntry& entry, uint8_t tcp_flags) {
  FlowEntry* peer = table.get(entry.peer());
  // The original direction keeps the state; a reply that outlived it goes on by itself.
  const bool is_reply = entry.is_reply.load(std::memory_order_relaxed);
  FlowEntry& owner = is_reply && peer ? *peer : entry;
  uint8_t seen = owner.tcp.load(std::memory_order_relaxed);
  TcpTrack next;
  do {
    next = next_tcp_state(TcpTrack::unpack(seen), tcp_flags, is_reply);
    if (next == TcpTrack::unpack(seen)) break;
  } while (!owner.tcp.compare_exchange_weak(seen, next.pack(), std::memory_order_relaxed));
  const bool established = next.state == TcpState::kEstablished;
  if (established != entry.tcp_established.load(std::memory_order_relaxed)) {
    entry.tcp_established.store(established, std::memory_order_relaxed);
    if (peer) peer->tcp_established.store(established, std::memory_order_relaxed);
  }
}

Tick remaining_lifetime(const FlowTable& table, const FlowEntry& entry, Tick now, const FlowLimits& limits) {
  if (limits.is_over(entry.owner)) return 0;
  // Signed: another worker may have used the entry after `now` was read.
  int32_t idle = static_cast<int32_t>(now - entry.last_used.load(std::memory_order_relaxed));
  if (const FlowEntry* peer = table.get(entry.peer()))
    idle = std::min(idle, static_cast<int32_t>(now - peer->last_used.load(std::memory_order_relaxed)));
  const bool established = entry.tcp_established.load(std::memory_order_relaxed);
  const auto timeout = static_cast<int32_t>(limits.idle_timeout(entry.owner, established) * kTicksPerSecond);
  return idle >= timeout ? 0 : static_cast<Tick>(timeout - std::max(idle, 0));
}

}  // namespace ironcore
