// What the engine knows about a TCP connection: enough to choose its idle timeout. No packet is dropped for its state.
#pragma once

#include <cstdint>

namespace ironcore {

enum class TcpState : uint8_t { kNone, kSyn, kSynAck, kEstablished, kFinWait, kClosed, kPickUp };

inline constexpr uint8_t kTcpFin = 0x01, kTcpSyn = 0x02, kTcpRst = 0x04, kTcpAck = 0x10;

struct TcpTrack {
  TcpState state = TcpState::kNone;
  bool opener_is_reply = false;  // which direction sent the first SYN (or, picking up, the first ACK)

  uint8_t pack() const { return static_cast<uint8_t>(static_cast<uint8_t>(state) | (opener_is_reply ? 0x80 : 0)); }
  static TcpTrack unpack(uint8_t byte) { return {static_cast<TcpState>(byte & 0x7f), (byte & 0x80) != 0}; }
  bool operator==(const TcpTrack&) const = default;
};

// `is_reply`: the packet goes against the direction of the flow's first packet. ECN and PSH/URG bits do not matter, and
// a connection that was open before the engine saw it is established once both sides have acknowledged something.
TcpTrack next_tcp_state(TcpTrack current, uint8_t flags, bool is_reply);

// The same for a flow of which only one direction is seen: an ACK after the SYN means that it has been answered.
TcpTrack next_one_way_tcp_state(TcpTrack current, uint8_t flags);

}  // namespace ironcore
