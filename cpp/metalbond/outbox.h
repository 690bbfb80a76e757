// What one receiver has been told and must still be told, coalesced by key: the last wish wins.
//
// A wish is a bit beside the key and an entry in a queue. Undoing a wish clears the bit; its entry is skipped when it
// comes to the front, and swept before such entries are more than the others. An entry that found itself wished again
// in between leaves with its first place in the queue.
#pragma once

#include <cstdint>
#include <deque>

namespace metalbond {

enum OutboxBits : uint8_t { kSent = 1, kAdding = 2, kRemoving = 4, kSeen = 8 };

// Store: `uint8_t* find(key)` (null if there are no bits), `uint8_t& make(key)`, `void settle(key)` after they became
// 0.
template <typename Key, typename Store>
class Outbox {
 public:
  explicit Outbox(Store store) : store(std::move(store)) {}

  Store store;

  size_t waiting() const { return live_[0] + live_[1]; }
  size_t marks() const { return marks_.size(); }

  // True if the receiver must be told something because of it.
  bool want(const Key& key, bool present) {
    uint8_t* known = store.find(key);
    const uint8_t bits = known ? *known : 0;
    if (present == ((bits & kSent) != 0)) {
      const uint8_t undone = bits & (present ? kRemoving : kAdding);
      if (undone != 0) {
        *known = static_cast<uint8_t>(bits & ~undone);
        --live_[present ? 0 : 1];
        if (*known == 0) store.settle(key);
        sweep(present ? 0 : 1);
      }
      return false;
    }
    const uint8_t bit = present ? kAdding : kRemoving;
    if ((bits & bit) == 0) {
      (known ? *known : store.make(key)) |= bit;
      queues_[present].push_back({++position_, key});
      ++live_[present];
    }
    return true;
  }

  // A mark leaves behind everything that waits now.
  void mark() { marks_.push_back(position_); }

  // Moves entries from waiting to sent while `more()` holds: `tell(add, key)`, `tell_mark()`. Between marks removals go
  // first, because a receiver may keep one hop per destination only.
  template <typename More, typename Tell, typename TellMark>
  void take(More&& more, Tell&& tell, TellMark&& tell_mark) {
    while (true) {
      const uint64_t bound = marks_.empty() ? position_ : marks_.front();
      for (int add = 0; add < 2; ++add) {
        auto& queue = queues_[add];
        const uint8_t bit = add ? kAdding : kRemoving;
        while (!queue.empty() && queue.front().position <= bound) {
          if (!more()) return;
          const Key key = queue.front().key;
          queue.pop_front();
          uint8_t* bits = store.find(key);
          if (!bits || (*bits & bit) == 0) continue;
          --live_[add];
          tell(add != 0, key);
          *bits = static_cast<uint8_t>(add ? (*bits | kSent) & ~bit : *bits & ~(kSent | bit));
          if (*bits == 0) store.settle(key);
        }
      }
      if (marks_.empty() || !more()) return;
      marks_.pop_front();
      tell_mark();
    }
  }

  // The store is about to lose these bits.
  void forgotten(uint8_t bits) {
    live_[0] -= (bits & kRemoving) != 0;
    live_[1] -= (bits & kAdding) != 0;
  }

 private:
  struct Entry {
    uint64_t position;
    Key key;
  };

  void sweep(int add) {
    auto& queue = queues_[add];
    if (queue.size() < 2 * live_[add] + 1024) return;
    const uint8_t bit = add ? kAdding : kRemoving;
    std::deque<Entry> rest;
    for (Entry& entry : queue) {
      uint8_t* bits = store.find(entry.key);
      if (!bits || (*bits & bit) == 0 || (*bits & kSeen) != 0) continue;
      *bits |= kSeen;
      rest.push_back(std::move(entry));
    }
    queue.swap(rest);
    for (const Entry& entry : queue) *store.find(entry.key) &= static_cast<uint8_t>(~kSeen);
  }

  std::deque<Entry> queues_[2];  // removals, additions
  std::deque<uint64_t> marks_;
  size_t live_[2] = {0, 0};
  uint64_t position_ = 0;
};

}  // namespace metalbond
