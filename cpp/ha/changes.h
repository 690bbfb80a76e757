// From the workers to the pair's thread: what changed, through a ring of bounded size. A change only names a
// connection; what the peer is told is how the tables stand when it is taken, so that the order of changes in different
// workers does not matter.
#pragma once

#include <rte_ring.h>

#include <atomic>

#include "flow/observer.h"
#include "flow/table.h"
#include "ha/session.h"
#include "port/port.h"
#include "virtsvc/registry.h"

namespace ironcore::ha {

class Changes final : public FlowObserver, public Source {
 public:
  static constexpr unsigned kRing = 1 << 14;

  // `services`: null if there are none.
  Changes(const FlowTable& flows, const Ports& ports, const virtsvc::Registry* services);
  ~Changes();
  Changes(const Changes&) = delete;
  Changes& operator=(const Changes&) = delete;

  // Workers.
  void connection(ConnectionChange change, const FlowKey& original, const FlowContent& content) override;
  void vm_mac_learned(uint16_t port, const MacAddress& mac) override;
  void service_slot_taken(const virtsvc::Service& service, uint16_t slot, const virtsvc::Client& client) override;

  // The pair's thread, as a reader of the flow table (RCU).
  bool take(Record& change) override;
  bool dump(uint64_t& cursor, std::vector<Record>& part) override;
  uint64_t dropped() const override { return dropped_.load(std::memory_order_relaxed); }

 private:
  struct Event;
  void put(const Event& event);
  const FlowEntry* find(const Identity& id) const;
  size_t service_count() const { return services_ ? services_->services().size() : 0; }
  void dump_ports(std::vector<Record>& part) const;
  void dump_slots(uint64_t at, std::vector<Record>& part) const;

  const FlowTable& flows_;
  const Ports& ports_;
  const virtsvc::Registry* const services_;
  rte_ring* const ring_;
  std::atomic<uint64_t> dropped_{0};
};

// As the peer may know it; nothing: not a connection that concerns it.
std::optional<Identity> identity_of(const FlowKey& original, const FlowContent& content);
std::optional<NatBinding> nat_of(const FlowKey& original, const FlowContent& content);

}  // namespace ironcore::ha
