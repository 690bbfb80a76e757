// A worker's hand on the flow table: begins, changes and ends connections, both directions together.
#pragma once

#include <functional>

#include "flow/ager.h"
#include "flow/decide.h"
#include "flow/observer.h"

namespace ironcore {

// As it can be compared and carried on.
inline FlowContent content_of(const FlowEntry& entry) { return {entry.program, entry.rewrite, entry.owner}; }

class Connections {
 public:
  // Counts connections whose time was over, and those given up for others. `observer`: null if nobody wants to know.
  Connections(FlowTable& flows, NatPorts& nat_ports, FlowLimits& limits, Counter& expired, Counter& evicted,
              FlowObserver* observer = nullptr);

  enum class Refusal : uint8_t { kNone, kTableFull, kQuota };
  struct Begun {
    FlowEntry* entry;  // of this direction, another worker's if that was faster; null: refused
    Refusal refusal = Refusal::kNone;
    bool created = false;
  };
  // Whether the answer that the entry's flow foresees at present has the key that is being entered.
  using IsAnswerTo = std::function<bool(const FlowEntry&)>;
  // Enters a connection whose first packet has this key. A full table or quota makes room by giving up another
  // connection that has not come far (FlowAger::victim). `is_answer_to` is asked if the opposite direction is there.
  Begun begin(const FlowKey& key, uint64_t hash, const Decision& decision, Tick now, const IsAnswerTo& is_answer_to);

  // The original direction was decided again: what differs is replaced, the rest stays. Returns both directions'
  // entries as they are now (null: no answer foreseen, or no room).
  struct Pair {
    FlowEntry* original;
    FlowEntry* reply;
  };
  Pair update(FlowEntry& original, const Decision& decision, Tick now);

  // Its idle time has become a short one: not to be looked at only when the long one may be over.
  void closing(const FlowEntry& entry, Tick now);

  // Ends the connection that the entry belongs to.
  void end(FlowEntry& entry);

  // The later fragments of a packet whose first went by `content`.
  void remember_fragments(const FlowKey& key, const FlowContent& content, uint32_t generation_index,
                          uint32_t generation, Tick now);

  // Ends what was idle for too long; at most `limit` looks. True: more is due.
  bool age(Tick now, unsigned limit) { return ager_.advance(flows_, now, limit, expire_); }
  void recycle() { flows_.recycle(pool_); }

 private:
  FlowTable::Insertion insert(const FlowKey& key, uint64_t hash, const Decision::Direction& direction, Tick now,
                              FlowRef replace = {});
  Begun join(FlowEntry& original, const FlowKey& key, uint64_t hash, const Decision& decision, Tick now);
  bool make_room(std::optional<uint16_t> port);
  void release_nat(const FlowEntry& original);
  void tell(ConnectionChange change, const FlowEntry& original) const {
    if (observer_) observer_->connection(change, original.key, content_of(original));
  }

  FlowTable& flows_;
  NatPorts& nat_ports_;
  FlowLimits& limits_;
  FlowPool pool_;
  FlowAger ager_;
  const std::function<void(FlowRef)> expire_;
  Counter& expired_;
  Counter& evicted_;
  FlowObserver* const observer_;
};

// The NAT mapping of a connection with such an original direction. `nat_port` in host order.
NatMapping nat_mapping(const FlowKey& original, uint32_t vni, const IpAddress& nat_address, uint16_t nat_port);
// The one that it holds.
NatMapping nat_mapping(const FlowKey& original, const FlowContent& content);

}  // namespace ironcore
