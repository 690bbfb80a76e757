// Timer wheel of one worker: removes flows that are idle for too long, a few per call, without ever scanning the table.
#pragma once

#include <array>
#include <vector>

#include "flow/connection.h"

namespace ironcore {

class FlowAger {
 public:
  explicit FlowAger(uint32_t idle_timeout_seconds) : idle_timeout_(idle_timeout_seconds) {}

  // Watches a new entry. Entries that are replaced or removed by others drop out by their sequence number.
  void watch(FlowRef ref, Tick now) { schedule(ref, now, idle_timeout_ * kTicksPerSecond); }

  struct Progress {
    unsigned removed = 0;
    bool work_left = false;
  };
  // Looks at no more than `limit` due entries. Work left over is done by later calls before anything newer.
  Progress advance(FlowTable& table, FlowPool& pool, Tick now, unsigned limit);

 private:
  static constexpr uint32_t kSlots = 512;  // of one second; longer timeouts are looked at again on the way

  void schedule(FlowRef ref, Tick now, Tick in);

  uint32_t idle_timeout_;
  uint32_t second_ = 0;  // the slot being worked on
  size_t done_in_slot_ = 0;
  std::array<std::vector<FlowRef>, kSlots> slots_;
};

}  // namespace ironcore
