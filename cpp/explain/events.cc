#include "explain/events.h"

#include <algorithm>

namespace ironcore {

const char* event_type_name(EventType type) {
  static constexpr const char* kNames[] = {
#define IRONCORE_EVENT_NAME(enumerator, name) #name,
      IRONCORE_EVENT_TYPE_LIST(IRONCORE_EVENT_NAME)
#undef IRONCORE_EVENT_NAME
  };
  return kNames[static_cast<size_t>(type)];
}

void EventLog::add(EventType type, std::string_view subject, uint32_t vni, std::string detail) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  {
    std::lock_guard lock(mutex_);
    if (events_.size() == capacity_) events_.pop_front();
    events_.push_back({next_++, std::chrono::duration_cast<std::chrono::nanoseconds>(now).count(), type,
                       std::string(subject), vni, std::move(detail)});
  }
  added_.notify_all();
}

EventBatch EventLog::read(uint64_t from, size_t limit) const {
  std::lock_guard lock(mutex_);
  EventBatch batch;
  const uint64_t oldest = next_ - events_.size();
  const uint64_t first = std::clamp(from == 0 ? oldest : from, oldest, next_);
  if (from != 0 && first > from) batch.lost = first - from;
  const size_t count = std::min<size_t>(limit, next_ - first);
  const auto begin = events_.begin() + static_cast<ptrdiff_t>(first - oldest);
  batch.events.assign(begin, begin + static_cast<ptrdiff_t>(count));
  batch.next = first + count;
  return batch;
}

uint64_t EventLog::next_sequence() const {
  std::lock_guard lock(mutex_);
  return next_;
}

bool EventLog::wait(uint64_t sequence, std::chrono::milliseconds timeout) const {
  std::unique_lock lock(mutex_);
  const uint64_t interrupts = interrupts_;
  added_.wait_for(lock, timeout, [&] { return next_ > sequence || interrupts_ != interrupts; });
  return next_ > sequence;
}

void EventLog::interrupt() {
  {
    std::lock_guard lock(mutex_);
    ++interrupts_;
  }
  added_.notify_all();
}

TableState next_table_state(TableState before, uint64_t used, uint64_t capacity) {
  if (capacity == 0) return TableState::kFree;
  if (used >= capacity) return TableState::kFull;
  const double level = static_cast<double>(used) / static_cast<double>(capacity);
  if (level > 0.9) return TableState::kNearlyFull;
  if (level < 0.8) return TableState::kFree;
  return before == TableState::kFree ? TableState::kFree : TableState::kNearlyFull;
}

}  // namespace ironcore
