#include "flow/ager.h"

#include <algorithm>

namespace ironcore {
namespace {

constexpr size_t kPrefetchAhead = 4;
constexpr unsigned kVictimLooks = 256;

void prefetch(const FlowEntry& entry) {
  rte_prefetch0(&entry);
  rte_prefetch0(reinterpret_cast<const uint8_t*>(&entry) + 64);
  rte_prefetch0(reinterpret_cast<const uint8_t*>(&entry) + 128);
}

}  // namespace

void FlowAger::watch(const FlowTable& table, FlowRef ref, Tick now) {
  schedule(ref, now, limits_.idle_timeout(table.at(ref.index).owner, false) * kTicksPerSecond);
}

void FlowAger::schedule(FlowRef ref, Tick now, Tick in) {
  const uint32_t wanted = (now + in) / kTicksPerSecond + 1;
  // Never into the slot being worked on, never around the wheel.
  const uint32_t second = std::clamp(wanted, second_ + 1, second_ + kSlots - 1);
  slots_[second % kSlots].push_back(ref);
}

bool FlowAger::advance(const FlowTable& table, Tick now, unsigned limit, const std::function<void(FlowRef)>& expire) {
  const uint32_t now_second = now / kTicksPerSecond;
  if (now_second > second_ + kSlots) second_ = now_second - kSlots;  // after a long pause each slot is due once
  while (second_ < now_second || (second_ == now_second && done_in_slot_ < slots_[second_ % kSlots].size())) {
    auto& slot = slots_[second_ % kSlots];
    for (; done_in_slot_ < slot.size(); ++done_in_slot_) {
      if (limit-- == 0) return true;
      if (done_in_slot_ + kPrefetchAhead < slot.size()) prefetch(table.at(slot[done_in_slot_ + kPrefetchAhead].index));
      const FlowRef ref = slot[done_in_slot_];
      const FlowEntry* entry = table.get(ref);
      if (!entry) continue;
      if (const Tick left = remaining_lifetime(table, *entry, now, limits_)) {
        schedule(ref, now, left);
      } else {
        expire(ref);
      }
    }
    slot.clear();
    done_in_slot_ = 0;
    if (second_ == now_second) break;
    ++second_;
  }
  return false;
}

FlowRef FlowAger::victim(const FlowTable& table, std::optional<uint16_t> port) const {
  FlowRef second_choice;
  unsigned looks = 0;
  for (uint32_t ahead = 0; ahead < kSlots && looks < kVictimLooks; ++ahead) {
    const auto& slot = slots_[(second_ + ahead) % kSlots];
    for (size_t i = ahead == 0 ? done_in_slot_ : 0; i < slot.size() && looks < kVictimLooks; ++i, ++looks) {
      const FlowEntry* entry = table.get(slot[i]);
      if (!entry || (port && entry->owner.port != *port)) continue;
      if (limits_.is_over(entry->owner)) {
        if (port) continue;  // counts no more
        return slot[i];
      }
      if (entry->tcp_established.load(std::memory_order_relaxed)) continue;
      const TcpState state = TcpTrack::unpack(entry->tcp.load(std::memory_order_relaxed)).state;
      if (entry->owner.timeout == TimeoutClass::kTcp && (state == TcpState::kSyn || state == TcpState::kSynAck))
        return slot[i];
      if (!second_choice.index) second_choice = slot[i];
    }
  }
  return second_choice;
}

}  // namespace ironcore
