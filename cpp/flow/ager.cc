#include "flow/ager.h"

#include <algorithm>

namespace ironcore {
namespace {

constexpr size_t kPrefetchAhead = 4;

}  // namespace

void FlowAger::schedule(FlowRef ref, Tick now, Tick in) {
  const uint32_t wanted = (now + in) / kTicksPerSecond + 1;
  // Never into the slot being worked on, never around the wheel.
  const uint32_t second = std::clamp(wanted, second_ + 1, second_ + kSlots - 1);
  slots_[second % kSlots].push_back(ref);
}

FlowAger::Progress FlowAger::advance(FlowTable& table, FlowPool& pool, Tick now, unsigned limit) {
  const uint32_t now_second = now / kTicksPerSecond;
  if (now_second > second_ + kSlots) second_ = now_second - kSlots;  // after a long pause each slot is due once
  Progress progress;
  while (second_ < now_second || (second_ == now_second && done_in_slot_ < slots_[second_ % kSlots].size())) {
    auto& slot = slots_[second_ % kSlots];
    for (; done_in_slot_ < slot.size(); ++done_in_slot_) {
      if (limit-- == 0) {
        progress.work_left = true;
        return progress;
      }
      if (done_in_slot_ + kPrefetchAhead < slot.size()) {
        const auto* ahead = &table.at(slot[done_in_slot_ + kPrefetchAhead].index);
        rte_prefetch0(ahead);
        rte_prefetch0(reinterpret_cast<const uint8_t*>(ahead) + 64);
      }
      const FlowRef ref = slot[done_in_slot_];
      const FlowEntry* entry = table.get(ref);
      if (!entry) continue;
      if (const Tick left = remaining_lifetime(table, *entry, now, idle_timeout_)) {
        schedule(ref, now, left);
      } else {
        progress.removed += table.remove(pool, ref);
      }
    }
    slot.clear();
    done_in_slot_ = 0;
    if (second_ == now_second) break;
    ++second_;
  }
  return progress;
}

}  // namespace ironcore
