#include "flow/tcp_state.h"

namespace ironcore {

TcpTrack next_tcp_state(TcpTrack current, uint8_t flags, bool is_reply) {
  const uint8_t control = flags & (kTcpFin | kTcpSyn | kTcpRst | kTcpAck);
  const auto in_state = [&](TcpState state) { return TcpTrack{state, current.opener_is_reply}; };
  if (control & kTcpRst) return in_state(TcpState::kClosed);
  if (control & kTcpFin)
    return in_state(current.state == TcpState::kEstablished ? TcpState::kFinWait : TcpState::kClosed);
  switch (current.state) {
    case TcpState::kNone:
    case TcpState::kClosed:
      if (control == kTcpSyn) return {TcpState::kSyn, is_reply};
      // A stray ACK after a close must not revive the connection.
      if (control == kTcpAck && current.state == TcpState::kNone) return {TcpState::kPickUp, is_reply};
      return current;
    case TcpState::kSyn:
      if (control == (kTcpSyn | kTcpAck) && is_reply != current.opener_is_reply) return in_state(TcpState::kSynAck);
      return current;
    case TcpState::kSynAck:
      if (control == kTcpAck && is_reply == current.opener_is_reply) return in_state(TcpState::kEstablished);
      return current;
    case TcpState::kPickUp:
      if (control == kTcpSyn) return {TcpState::kSyn, is_reply};
      if (control == kTcpAck && is_reply != current.opener_is_reply) return in_state(TcpState::kEstablished);
      return current;
    case TcpState::kEstablished:
    case TcpState::kFinWait:
      return current;
  }
  return current;
}

TcpTrack next_one_way_tcp_state(TcpTrack current, uint8_t flags) {
  const uint8_t control = flags & (kTcpFin | kTcpSyn | kTcpRst | kTcpAck);
  if (control & kTcpRst) return {TcpState::kClosed, false};
  if (control & kTcpFin)
    return {current.state == TcpState::kEstablished ? TcpState::kFinWait : TcpState::kClosed, false};
  const bool open = current.state == TcpState::kEstablished || current.state == TcpState::kFinWait;
  if (control == kTcpSyn) return open ? current : TcpTrack{TcpState::kSyn, false};
  if (control != kTcpAck || open || current.state == TcpState::kClosed) return current;
  // Picked up in the middle: the second segment confirms it.
  return {current.state == TcpState::kNone ? TcpState::kPickUp : TcpState::kEstablished, false};
}

}  // namespace ironcore
