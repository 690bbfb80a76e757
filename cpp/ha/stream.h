// A reliable stream of records over frames that may be lost, repeated or reordered: the sender keeps a bounded window
// until it is acknowledged and sends it again from its first frame when no acknowledgement comes; the receiver takes
// frames in order only. Pure: the caller has the clock and the device.
#pragma once

#include <deque>
#include <functional>

#include "ha/messages.h"
#include "ha/record.h"

namespace ironcore::ha {

class StreamSender {
 public:
  static constexpr size_t kWindow = 64;  // frames
  static constexpr uint64_t kResendMs = 50;

  // From here on to that standby. What was on the way is forgotten.
  void restart(uint64_t active, uint64_t standby);

  // Whether more records should be appended now.
  bool has_room() const { return window_.size() < kWindow; }
  void append(const Record& record);
  void close();  // the last frame, though there is room in it

  // The standby has all frames below `next`.
  void acknowledged(uint64_t next, uint64_t now_ms);
  // Everything in the window is due again.
  void rewind() { sent_ = 0; }

  // Sends what is due, at most `budget` frames; returns how many. `send` returns false if the device takes no more.
  size_t transmit(uint64_t now_ms, size_t budget, const std::function<bool(Bytes)>& send);

  uint32_t stream() const { return stream_; }
  bool idle() const { return window_.empty() && open_.empty(); }  // all is acknowledged
  uint64_t resent() const { return resent_; }

 private:
  uint64_t active_ = 0, standby_ = 0;
  uint32_t stream_ = 0;
  Frame open_;                // records of the frame being filled
  std::deque<Frame> window_;  // whole frames, the first has sequence number `first_`
  uint64_t first_ = 0;
  size_t sent_ = 0;  // frames of the window that were sent since it was last rewound
  size_t ever_sent_ = 0;
  uint64_t progress_ms_ = 0;
  uint64_t resent_ = 0;
};

class StreamReceiver {
 public:
  enum class Verdict : uint8_t {
    kTake,      // these records are next
    kRepeated,  // taken before
    kGap,       // frames are missing before it
    kForeign,   // of another stream
  };
  // A new stream is followed from its first frame.
  Verdict judge(const Data& data);

  uint64_t active() const { return active_; }
  uint32_t stream() const { return stream_; }
  uint64_t next() const { return next_; }

 private:
  uint64_t active_ = 0;
  uint32_t stream_ = 0;
  uint64_t next_ = 0;
};

}  // namespace ironcore::ha
