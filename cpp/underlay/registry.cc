#include "underlay/registry.h"

namespace ironcore {
namespace {

constexpr size_t kInitialSlots = 64;

}  // namespace

UnderlayRegistry::UnderlayRegistry(Reclaimer& reclaimer, size_t max_addresses)
    : reclaimer_(reclaimer), max_addresses_(max_addresses), slots_(new Slots(kInitialSlots)) {}

UnderlayRegistry::~UnderlayRegistry() {
  Slots* slots = slots_.load();
  for (auto& slot : slots->at)
    if (const Entry* entry = slot.load(); entry != &tombstone_) delete entry;
  delete slots;
}

void UnderlayRegistry::rebuild(size_t count) {
  auto* grown = new Slots(count);
  Slots* old = slots_.load(std::memory_order_relaxed);
  occupied_ = 0;
  for (auto& slot : old->at) {
    const Entry* entry = slot.load(std::memory_order_relaxed);
    if (!entry || entry->removed) continue;
    size_t i = start(entry->low, grown->mask);
    while (grown->at[i].load(std::memory_order_relaxed)) i = (i + 1) & grown->mask;
    grown->at[i].store(entry, std::memory_order_relaxed);
    ++occupied_;
  }
  slots_.store(grown, std::memory_order_release);
  reclaimer_.retire(old);
}

std::atomic<const UnderlayRegistry::Entry*>* UnderlayRegistry::slot_of(const Slots& slots, uint64_t low) const {
  for (size_t i = start(low, slots.mask);; i = (i + 1) & slots.mask) {
    auto& slot = const_cast<std::atomic<const Entry*>&>(slots.at[i]);
    const Entry* entry = slot.load(std::memory_order_relaxed);
    if (!entry) return nullptr;
    if (entry->low == low && !entry->removed) return &slot;
  }
}

bool UnderlayRegistry::insert(const Ipv6Address& address, const UnderlayObject& object) {
  const uint64_t low = underlay_low(address);
  if (by_object_.size() >= max_addresses_ || by_object_.contains(object)) return false;
  if (slot_of(*slots_.load(std::memory_order_relaxed), low)) return false;
  // At most half full, so that probe sequences stay short and end.
  if (2 * (occupied_ + 1) > slots_.load(std::memory_order_relaxed)->mask + 1) {
    size_t count = kInitialSlots;
    while (count < 4 * (by_object_.size() + 1)) count *= 2;
    rebuild(count);
  }
  Slots& slots = *slots_.load(std::memory_order_relaxed);
  size_t i = start(low, slots.mask);
  while (slots.at[i].load(std::memory_order_relaxed)) i = (i + 1) & slots.mask;
  slots.at[i].store(new Entry{low, object, false}, std::memory_order_release);
  ++occupied_;
  by_object_.emplace(object, address);
  return true;
}

bool UnderlayRegistry::erase(const UnderlayObject& object) {
  const auto found = by_object_.find(object);
  if (found == by_object_.end()) return false;
  auto* slot = slot_of(*slots_.load(std::memory_order_relaxed), underlay_low(found->second));
  reclaimer_.retire(slot->exchange(&tombstone_, std::memory_order_acq_rel));
  by_object_.erase(found);
  return true;
}

std::optional<Ipv6Address> UnderlayRegistry::address_of(const UnderlayObject& object) const {
  const auto found = by_object_.find(object);
  if (found == by_object_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::pair<UnderlayObject, Ipv6Address>> UnderlayRegistry::objects(UnderlayType type, uint16_t port) const {
  std::vector<std::pair<UnderlayObject, Ipv6Address>> found;
  for (auto it = by_object_.lower_bound({type, port, 0, {}});
       it != by_object_.end() && it->first.type == type && it->first.port == port; ++it)
    found.push_back(*it);
  return found;
}

}  // namespace ironcore
