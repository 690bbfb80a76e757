// From the workers to the pair's thread: what changed, through a ring of bounded size. A change only names a
// connection; what the peer is told is how the tables stand when it is taken, so that the order of changes in different
// workers does not matter.
#pragma once

#include <rte_ring.h>

#include <atomic>
#include <functional>

#include "flow/observer.h"
#include "flow/table.h"
#include "ha/session.h"
#include "port/port.h"

namespace ironcore::ha {

// The virtual services' slots, which the pair keeps alike. From the pair's thread.
class SlotStore {
 public:
  virtual void take(const ServiceSlot& slot) = 0;
  virtual void for_each(const std::function<void(const ServiceSlot&)>& visit) const = 0;

 protected:
  ~SlotStore() = default;
};

class Changes final : public FlowObserver, public Source {
 public:
  static constexpr unsigned kRing = 1 << 14;

  Changes(const FlowTable& flows, const Ports& ports);
  ~Changes();
  Changes(const Changes&) = delete;
  Changes& operator=(const Changes&) = delete;

  // Workers.
  void connection(ConnectionChange change, const FlowKey& original, const FlowContent& content) override;
  void vm_mac_learned(uint16_t port, const MacAddress& mac) override;
  void service_slot_taken(const ServiceSlot& slot);

  // The pair's thread, as a reader of the flow table (RCU).
  bool take(Record& change) override;
  bool dump(uint64_t& cursor, std::vector<Record>& part) override;
  uint64_t dropped() const override { return dropped_.load(std::memory_order_relaxed); }
  void set_slots(const SlotStore* slots) { slots_ = slots; }

 private:
  struct Event;
  void put(const Event& event);
  const FlowEntry* find(const Identity& id) const;

  const FlowTable& flows_;
  const Ports& ports_;
  const SlotStore* slots_ = nullptr;
  rte_ring* const ring_;
  std::atomic<uint64_t> dropped_{0};
};

// As the peer may know it; nothing: not a connection that concerns it.
std::optional<Identity> identity_of(const FlowKey& original, const FlowOwner& owner);
std::optional<NatBinding> nat_of(const FlowKey& original, const FlowContent& content);

}  // namespace ironcore::ha
