// A hash map that is read without locks and written by one thread at a time; what a writer replaces is freed after a
// grace period.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace ironcore {

// Runs the action once no reader can hold what it saw before.
using Retire = std::function<void(std::function<void()>)>;

// Key: ==, copyable, `uint64_t hash() const` whose low bits are good.
template <typename Key, typename Value>
class RcuMap {
 public:
  explicit RcuMap(Retire retire) : retire_(std::move(retire)), slots_(new Slots(kInitialSlots)) {}
  ~RcuMap() {
    const Slots* slots = slots_.load();
    for (const auto& slot : slots->at) delete slot.load();
    delete slots;
  }
  RcuMap(const RcuMap&) = delete;
  RcuMap& operator=(const RcuMap&) = delete;

  // Readers: valid until quiescent.
  const Value* find(const Key& key) const {
    const Slots* slots = slots_.load(std::memory_order_acquire);
    for (size_t i = key.hash() & slots->mask;; i = (i + 1) & slots->mask) {
      const Entry* entry = slots->at[i].load(std::memory_order_acquire);
      if (!entry) return nullptr;
      if (entry->key == key) return entry->value.get();
    }
  }

  // Writer. If put() throws, it has changed nothing.
  void put(const Key& key, Value value) {
    auto entry = std::make_unique<const Entry>(Entry{key, std::make_unique<const Value>(std::move(value))});
    if (auto* slot = slot_of(key)) {
      size_ += slot->load(std::memory_order_relaxed)->value ? 0 : 1;
      replace(*slot, entry.release());
      return;
    }
    // At most half full, so that probe sequences stay short and end.
    if (2 * (occupied_ + 1) > slots_.load(std::memory_order_relaxed)->at.size()) rebuild();
    insert(*slots_.load(std::memory_order_relaxed), entry.release());
    ++occupied_;
    ++size_;
  }

  bool erase(const Key& key) {
    auto* slot = slot_of(key);
    if (!slot || !slot->load(std::memory_order_relaxed)->value) return false;
    replace(*slot, new Entry{key, nullptr});
    --size_;
    return true;
  }

  template <typename Visit>
  void for_each(Visit visit) const {
    for (const auto& slot : slots_.load(std::memory_order_relaxed)->at)
      if (const Entry* entry = slot.load(std::memory_order_relaxed); entry && entry->value)
        visit(entry->key, *entry->value);
  }

  size_t size() const { return size_; }

 private:
  static constexpr size_t kInitialSlots = 64;

  struct Entry {
    Key key;
    std::unique_ptr<const Value> value;  // null: erased, keeps probe sequences intact
  };
  struct Slots {
    explicit Slots(size_t count) : mask(count - 1), at(count) {}
    const size_t mask;
    std::vector<std::atomic<const Entry*>> at;
  };

  void replace(std::atomic<const Entry*>& slot, const Entry* entry) {
    const Entry* old = slot.exchange(entry, std::memory_order_acq_rel);
    retire_([old] { delete old; });
  }

  static void insert(Slots& slots, const Entry* entry) {
    size_t i = entry->key.hash() & slots.mask;
    while (slots.at[i].load(std::memory_order_relaxed)) i = (i + 1) & slots.mask;
    slots.at[i].store(entry, std::memory_order_release);
  }

  std::atomic<const Entry*>* slot_of(const Key& key) const {
    Slots& slots = *slots_.load(std::memory_order_relaxed);
    for (size_t i = key.hash() & slots.mask;; i = (i + 1) & slots.mask) {
      const Entry* entry = slots.at[i].load(std::memory_order_relaxed);
      if (!entry) return nullptr;
      if (entry->key == key) return &slots.at[i];
    }
  }

  // Leaves the erased ones out.
  void rebuild() {
    size_t count = kInitialSlots;
    while (count < 4 * (size_ + 1)) count *= 2;
    auto grown = std::make_unique<Slots>(count);
    const Slots* old = slots_.load(std::memory_order_relaxed);
    auto erased = std::make_shared<std::vector<std::unique_ptr<const Entry>>>();
    erased->reserve(occupied_ - size_);
    for (const auto& slot : old->at) {
      const Entry* entry = slot.load(std::memory_order_relaxed);
      if (!entry) continue;
      if (entry->value) {
        insert(*grown, entry);
      } else {
        erased->emplace_back(entry);
      }
    }
    occupied_ = size_;
    slots_.store(grown.release(), std::memory_order_release);
    retire_([old, erased] { delete old; });
  }

  const Retire retire_;
  std::atomic<Slots*> slots_;
  size_t occupied_ = 0;  // erased ones included
  size_t size_ = 0;
};

}  // namespace ironcore
