// What one engine of a pair sends and accepts, by its role. Pure: the caller has the clock, the device and the tables.
//
// To a peer that has not said that it is ours, an active sends each NAT mapping and MAC as the reference does, and all
// of them when asked (type 5). To ours it sends a stream instead (stream.h), which begins with all there is. Changes
// that were lost on the way to the session, and those from while the peer was silent, are made up for by telling all
// again.
#pragma once

#include <array>

#include "ha/stream.h"

namespace ironcore::ha {

// The tables of an active.
class Source {
 public:
  virtual bool take(Record& change) = 0;  // the next change; false: none
  // A part of all there is, from `cursor` on, which is 0 at first and moved. False: that was the last part.
  virtual bool dump(uint64_t& cursor, std::vector<Record>& part) = 0;
  virtual uint64_t dropped() const = 0;  // changes that were lost before they could be taken; only grows

 protected:
  ~Source() = default;
};

// The tables of a standby.
class Sink {
 public:
  virtual void apply(const Record& record) = 0;
  virtual void apply(const NatCreate& message) = 0;
  virtual void apply(const NatDelete& message) = 0;

 protected:
  ~Sink() = default;
};

struct SessionCounters {
  std::array<uint64_t, kMessageTypes> sent{}, received{};  // by index_of()
  uint64_t wrong_role = 0;                                 // messages that do not fit this engine's role; ignored
  uint64_t unknown = 0;                                    // types that this engine does not know; ignored
  uint64_t malformed = 0;
  uint64_t gaps = 0;     // frames of a stream that came too early, because others were lost
  uint64_t resent = 0;   // frames of a stream
  uint64_t resyncs = 0;  // times that all there is was told
  uint64_t lost = 0;     // changes that were not told when they happened
};

class Session {
 public:
  using Send = std::function<bool(Bytes)>;  // false: the device takes no more at present

  // `id`: random, not 0.
  Session(uint64_t id, Role role, Source& source, Sink& sink);

  void receive(Bytes frame, uint64_t now_ms);
  void poll(uint64_t now_ms, const Send& send);  // sends what is due, a bounded number of frames
  void become_active();

  Role role() const { return role_; }
  bool peer_is_ours(uint64_t now_ms) const { return ours(now_ms); }
  // Active: the peer has everything. Standby: it was told everything.
  bool in_sync(uint64_t now_ms) const;
  SessionCounters counters() const;

 private:
  static constexpr uint64_t kSilentMs = 3000;      // a peer that says nothing for so long is gone
  static constexpr uint64_t kHelloMs = 250;        // between greetings to a peer of our kind
  static constexpr uint64_t kFirstHelloMs = 1000;  // to others, which may log them: twice as long each time
  static constexpr uint64_t kLastHelloMs = 64000;
  static constexpr uint64_t kResyncMs = 1000;  // between the beginnings of dumps
  static constexpr size_t kFrames = 32;        // of a round
  static constexpr size_t kDiscarded = 4096;   // changes of a round

  bool ours(uint64_t now_ms) const { return peer_ != 0 && now_ms - heard_ms_ <= kSilentMs; }
  void accept(const Hello& hello, uint64_t now_ms);
  void accept(const Data& data, uint64_t now_ms);
  void heard(uint64_t peer, uint64_t now_ms);
  void restart_stream();
  void note_dropped();
  bool transmit(Bytes frame, MessageType type, const Send& send);
  void greet(uint64_t now_ms, const Send& send);
  void poll_stream(uint64_t now_ms, const Send& send);
  void poll_messages(const Send& send);
  std::optional<std::pair<Frame, MessageType>> as_message(const Record& record) const;

  const uint64_t id_;
  Role role_;
  Source& source_;
  Sink& sink_;
  SessionCounters counters_;

  uint64_t peer_ = 0;  // session of a peer of our kind, 0: none was heard
  uint64_t heard_ms_ = 0;
  uint64_t next_hello_ms_ = 0, hello_gap_ms_ = kFirstHelloMs;
  bool greet_now_ = true;
  bool dump_requested_ = true;  // standby: not yet

  StreamReceiver receiver_;
  bool told_everything_ = false;

  StreamSender sender_;
  bool stream_acknowledged_ = false;
  uint64_t seen_dropped_ = 0;
  bool resync_ = false;
  uint64_t next_resync_ms_ = 0;
  bool dumping_ = false;
  uint64_t cursor_ = 0;
  std::deque<Record> parts_;  // of a dump in messages
};

}  // namespace ironcore::ha
