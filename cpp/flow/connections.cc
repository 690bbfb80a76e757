#include "flow/connections.h"

namespace ironcore {
namespace {

// Whether an entry found under the answer's key belongs to nobody but us: a port is taken once, so what is left of its
// former holder must make way.
bool may_replace(const Decision& decision) { return decision.forward.content.owner.nat; }

bool counts_for_quota(const FlowOwner& owner) { return owner.timeout != TimeoutClass::kFragment; }

}  // namespace

NatMapping nat_mapping(const FlowKey& original, uint32_t vni, const IpAddress& nat_address, uint16_t nat_port) {
  NatMapping mapping;
  mapping.source = {vni, source_of(original), net::swap16(is_icmp(original) ? original.dst_port : original.src_port)};
  mapping.destination = {destination_of(original), net::swap16(original.dst_port), original.proto};
  if (original.is_v6() && !nat_address.is_v6)
    mapping.destination.address =
        IpAddress::v4({original.dst6[12], original.dst6[13], original.dst6[14], original.dst6[15]});
  mapping.nat_address = nat_address;
  mapping.nat_port = nat_port;
  return mapping;
}

NatMapping nat_mapping(const FlowKey& original, const FlowContent& content) {
  const bool is_v6 = original.is_v6() && content.rewrite.kind != translate::RewriteKind::kSixToFour;
  return nat_mapping(original, content.owner.vni, {is_v6, content.rewrite.address}, net::swap16(content.rewrite.port));
}

Connections::Connections(FlowTable& flows, NatPorts& nat_ports, FlowLimits& limits, Counter& expired, Counter& evicted,
                         FlowObserver* observer)
    : flows_(flows),
      nat_ports_(nat_ports),
      limits_(limits),
      ager_(limits),
      expire_([this](FlowRef ref) {
        if (FlowEntry* entry = flows_.get(ref)) {
          if (counts_for_quota(entry->owner)) expired_.increment();
          end(*entry);
        }
      }),
      expired_(expired),
      evicted_(evicted),
      observer_(observer) {}

FlowTable::Insertion Connections::insert(const FlowKey& key, uint64_t hash, const Decision::Direction& direction,
                                         Tick now, FlowRef replace) {
  return flows_.insert(pool_, key, hash, direction.content, {direction.generation_index, direction.generation, now},
                       replace);
}

bool Connections::make_room(std::optional<uint16_t> port) {
  FlowEntry* entry = flows_.get(ager_.victim(flows_, port));
  if (!entry) return false;
  evicted_.increment();
  end(*entry);
  return true;
}

Connections::Begun Connections::begin(const FlowKey& key, uint64_t hash, const Decision& decision, Tick now,
                                      const IsAnswerTo& is_answer_to) {
  const FlowOwner& owner = decision.forward.content.owner;
  if (!limits_.take(owner) && !(make_room(owner.port) && limits_.take(owner))) return {nullptr, Refusal::kQuota};

  FlowEntry* reply = nullptr;
  bool reply_is_ours = false;
  const bool foreseen = decision.has_reply && !same_flow(decision.reply_key, key);
  if (foreseen) {
    const uint64_t reply_hash = flows_.hash(decision.reply_key);
    FlowTable::Insertion inserted = insert(decision.reply_key, reply_hash, decision.reply, now);
    if (!inserted.entry && make_room({})) inserted = insert(decision.reply_key, reply_hash, decision.reply, now);
    if (inserted.entry && !inserted.created && may_replace(decision))
      inserted = insert(decision.reply_key, reply_hash, decision.reply, now, flows_.ref(*inserted.entry));
    reply = inserted.entry;
    reply_is_ours = inserted.created;
    if (reply && !reply_is_ours && !flows_.get(reply->peer()) && is_answer_to(*reply))
      return join(*reply, key, hash, decision, now);
  }
  FlowTable::Insertion inserted{nullptr, false};
  if (reply || !foreseen) {
    inserted = insert(key, hash, decision.forward, now);
    if (!inserted.entry && make_room({})) inserted = insert(key, hash, decision.forward, now);
  }
  if (!inserted.created) {
    // No room, or another worker was faster: its connection is this one.
    limits_.give_back(owner);
    if (reply_is_ours) flows_.remove(pool_, flows_.ref(*reply));
    return {inserted.entry, inserted.entry ? Refusal::kNone : Refusal::kTableFull};
  }
  FlowEntry& entry = *inserted.entry;
  if (reply_is_ours) link_directions(flows_, entry, *reply);
  ager_.watch(flows_, flows_.ref(entry), now);
  tell(ConnectionChange::kBegan, entry);
  return {&entry, Refusal::kNone, true};
}

// The opposite direction was entered by itself, by another worker or before its answer could be foreseen: this is it.
Connections::Begun Connections::join(FlowEntry& original, const FlowKey& key, uint64_t hash, const Decision& decision,
                                     Tick now) {
  limits_.give_back(decision.forward.content.owner);
  const auto inserted = insert(key, hash, decision.forward, now);
  if (inserted.created) link_directions(flows_, original, *inserted.entry);
  return {inserted.entry, inserted.entry ? Refusal::kNone : Refusal::kTableFull, inserted.created};
}

Connections::Pair Connections::update(FlowEntry& original, const Decision& decision, Tick now) {
  const auto refresh = [&](FlowEntry& entry, const Decision::Direction& direction) -> FlowEntry* {
    if (content_of(entry) == direction.content &&
        entry.generation_index.load(std::memory_order_relaxed) == direction.generation_index) {
      entry.generation.store(direction.generation, std::memory_order_relaxed);
      return &entry;
    }
    const auto inserted = insert(entry.key, flows_.hash(entry.key), direction, now, flows_.ref(entry));
    if (inserted.created) inherit_connection(*inserted.entry, entry);
    return inserted.entry;
  };
  FlowEntry* reply = flows_.get(original.peer());
  FlowEntry* renewed = refresh(original, decision.forward);
  if (!renewed) return {nullptr, nullptr};
  if (renewed != &original) {
    ager_.watch(flows_, flows_.ref(*renewed), now);
    if (counts_for_quota(original.owner) && renewed->owner != original.owner)
      limits_.move(original.owner, renewed->owner);
    if (original.owner.nat && (!renewed->owner.nat || renewed->rewrite != original.rewrite)) {
      release_nat(original);
      tell(ConnectionChange::kEnded, original);
    }
    tell(ConnectionChange::kBegan, *renewed);
  }
  if (reply && !(decision.has_reply && same_flow(reply->key, decision.reply_key))) {
    flows_.remove(pool_, flows_.ref(*reply));
    reply = nullptr;
  }
  if (reply) {
    reply = refresh(*reply, decision.reply);
  } else if (decision.has_reply && !same_flow(decision.reply_key, original.key)) {
    // What is there already belongs to another connection.
    const auto inserted = insert(decision.reply_key, flows_.hash(decision.reply_key), decision.reply, now);
    if (inserted.created) reply = inserted.entry;
  }
  if (reply) link_directions(flows_, *renewed, *reply);
  return {renewed, reply};
}

void Connections::closing(const FlowEntry& entry, Tick now) {
  const FlowRef original = entry.is_reply.load(std::memory_order_relaxed) ? entry.peer() : flows_.ref(entry);
  if (flows_.get(original)) ager_.watch(flows_, original, now);
}

void Connections::end(FlowEntry& entry) {
  FlowEntry* original = &entry;
  if (entry.is_reply.load(std::memory_order_relaxed)) {
    original = flows_.get(entry.peer());
    if (!original) {
      flows_.remove(pool_, flows_.ref(entry));
      return;
    }
  }
  // Entries keep their content until all workers have gone on; whoever removes the original settles the rest.
  const FlowRef peer = original->peer();
  if (!flows_.remove(pool_, flows_.ref(*original))) return;
  const bool answerable = peer.index && flows_.remove(pool_, peer);
  if (counts_for_quota(original->owner)) limits_.give_back(original->owner);
  // Without its answer's entry the port has passed on to a later flow between the same ends.
  if (original->owner.nat && answerable) release_nat(*original);
  tell(ConnectionChange::kEnded, *original);
}

void Connections::release_nat(const FlowEntry& original) {
  nat_ports_.release(nat_mapping(original.key, content_of(original)));
}

void Connections::remember_fragments(const FlowKey& key, const FlowContent& content, uint32_t generation_index,
                                     uint32_t generation, Tick now) {
  Decision::Direction direction{content, generation_index, generation};
  direction.content.owner.timeout = TimeoutClass::kFragment;
  direction.content.owner.nat = false;
  const uint64_t hash = flows_.hash(key);
  FlowTable::Insertion inserted = insert(key, hash, direction, now);
  // An identification is used again sooner or later.
  if (inserted.entry && !inserted.created) {
    if (content_of(*inserted.entry) == direction.content) {
      inserted.entry->last_used.store(now, std::memory_order_relaxed);
      inserted.entry->generation.store(generation, std::memory_order_relaxed);
      return;
    }
    inserted = insert(key, hash, direction, now, flows_.ref(*inserted.entry));
  }
  if (inserted.created) ager_.watch(flows_, flows_.ref(*inserted.entry), now);
}

}  // namespace ironcore
