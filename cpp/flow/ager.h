// Timer wheel of one worker: finds connections that are idle for too long, a few per call, without ever scanning the
// table.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "flow/connection.h"
#include "flow/limits.h"

namespace ironcore {

class FlowAger {
 public:
  explicit FlowAger(const FlowLimits& limits) : limits_(limits) {}

  // Watches a new entry, the original direction of its connection. Entries that are replaced or removed by others drop
  // out by their sequence number.
  void watch(const FlowTable& table, FlowRef ref, Tick now);

  // Looks at no more than `limit` due entries and calls expire(ref) for those whose time is over. Returns whether work
  // is left: it is done by later calls before anything newer.
  bool advance(const FlowTable& table, Tick now, unsigned limit, const std::function<void(FlowRef)>& expire);

  // A connection to give up for a new one: one that is over or half-open TCP first, else one without established TCP
  // that has little time left. Only one that counts for the interface of `port`, if given. Looks at a bounded number of
  // entries; none: index 0.
  FlowRef victim(const FlowTable& table, std::optional<uint16_t> port) const;

 private:
  static constexpr uint32_t kSlots = 512;  // of one second; longer timeouts are looked at again on the way

  void schedule(FlowRef ref, Tick now, Tick in);

  const FlowLimits& limits_;
  uint32_t second_ = 0;  // the slot being worked on
  size_t done_in_slot_ = 0;
  std::array<std::vector<FlowRef>, kSlots> slots_;
};

}  // namespace ironcore
