// What happened, for whoever watches: a ring of the last events with sequence numbers. Writers never wait for readers;
// a reader that is too slow learns how many events it has missed.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>

#include "ironcore/inspection.h"

namespace ironcore {

class EventLog {
 public:
  explicit EventLog(size_t capacity) : capacity_(capacity) {}

  void add(EventType type, std::string_view subject, uint32_t vni = 0, std::string detail = {});

  // At most `limit` events from sequence number `from` on; 0: from the oldest one that is kept.
  EventBatch read(uint64_t from, size_t limit) const;
  uint64_t next_sequence() const;

  // Until there is an event with this number, or the time is over, or interrupt() is called. True: there is one.
  bool wait(uint64_t sequence, std::chrono::milliseconds timeout) const;
  void interrupt();

 private:
  const size_t capacity_;
  mutable std::mutex mutex_;
  mutable std::condition_variable added_;
  std::deque<Event> events_;
  uint64_t next_ = 1;
  uint64_t interrupts_ = 0;
};

// Tells when a table's level crosses a threshold: 90 %, 100 %, and below 80 % again. One state per table.
enum class TableState : uint8_t { kFree, kNearlyFull, kFull };
TableState next_table_state(TableState before, uint64_t used, uint64_t capacity);

}  // namespace ironcore
