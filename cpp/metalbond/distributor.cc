#include "metalbond/distributor.h"

#include <algorithm>
#include <utility>

namespace metalbond {
namespace {

// How the names begin that servers make up for clients without one.
constexpr char kMadeUp = '\0';

void drop_user(Table& table, uint32_t vni, Slot slot) {
  VniTable* routes = table.find(vni);
  --routes->at(slot).users;
  routes->release(slot);
  table.prune(vni);
}

void refuse(Received& received, std::string_view reason, std::string what) {
  for (Refusal& refusal : received.refusals) {
    if (refusal.reason == reason) {
      ++refusal.count;
      return;
    }
  }
  received.refusals.push_back({std::string(reason), std::move(what), 1});
}

}  // namespace

uint8_t* SubscriberStore::find(const RouteRef& key) {
  const auto found = bits_.find(key.vni);
  if (found == bits_.end() || key.slot >= found->second.size() || found->second[key.slot] == 0) return nullptr;
  return &found->second[key.slot];
}

uint8_t& SubscriberStore::make(const RouteRef& key) {
  VniTable& routes = *table_->find(key.vni);
  auto& bits = bits_[key.vni];
  if (key.slot >= bits.size()) bits.resize(std::max<size_t>(key.slot + 1, std::min(routes.slots(), 2 * bits.size())));
  ++routes.at(key.slot).users;
  return bits[key.slot];
}

void SubscriberStore::settle(const RouteRef& key) { drop_user(*table_, key.vni, key.slot); }

template <typename Each>
void SubscriberStore::drop(uint32_t vni, Each&& each) {
  const auto found = bits_.find(vni);
  if (found == bits_.end()) return;
  const std::vector<uint8_t> bits = std::move(found->second);
  bits_.erase(found);
  for (Slot slot = 0; slot < bits.size(); ++slot) {
    if (bits[slot] == 0) continue;
    each(bits[slot]);
    settle({vni, slot});
  }
}

uint8_t* MirrorStore::find(const MirrorRef& key) {
  const auto found = bits_.find(key);
  return found == bits_.end() ? nullptr : &found->second;
}

uint8_t& MirrorStore::make(const MirrorRef& key) {
  ++owner_->table.find(key.vni)->at(key.slot).users;
  ++key.origin->users;
  return bits_[key];
}

void MirrorStore::settle(const MirrorRef& key) {
  bits_.erase(key);
  drop_user(owner_->table, key.vni, key.slot);
  owner_->drop_origin(key.origin);
}

void MirrorStore::drop_all() {
  while (!bits_.empty()) {
    const MirrorRef key = bits_.begin()->first;
    settle(key);
  }
}

Origin* Distributor::take_origin(std::string_view name, bool made_up) {
  auto& origin = origins_[std::string(name)];
  if (!origin) origin.reset(new Origin{std::string(name), made_up});
  ++origin->users;
  return origin.get();
}

void Distributor::drop_origin(Origin* origin) {
  if (--origin->users == 0) origins_.erase(std::string(origin->name));
}

std::string Distributor::made_up_name(Source source) const { return kMadeUp + name_ + '#' + std::to_string(source); }

void Distributor::connect(Source peer, std::string_view identity, bool original) {
  const std::string name = identity.empty() ? made_up_name(peer) : std::string(identity);
  Origin* origin = take_origin(name, identity.empty());
  sources_[peer] = {origin};
  subscribers_[peer] = std::make_unique<Subscriber>(peer, origin, original, table);
}

void Distributor::mirror(Source peer) {
  Mirror& mirror = *(mirrors_[peer] = std::make_unique<Mirror>(*this));
  for (const auto& [vni, routes] : table.vnis()) {
    for (Slot slot = 0; slot < routes.slots(); ++slot) {
      if (!routes.used(slot)) continue;
      const Record& record = routes.at(slot);
      for (uint32_t n = 0; n < record.count; ++n) {
        const SourceInfo& source = sources_.at(record.sources()[n].source);
        if (!source.remote) mirror.outbox.want({vni, slot, source.origin}, true);
      }
    }
  }
  touch(peer, mirror);
}

void Distributor::adopt(Source source, std::string_view origin) {
  sources_[source] = {take_origin(origin, !origin.empty() && origin.front() == kMadeUp), true};
}

void Distributor::disconnect(Source peer) {
  std::erase(touched_, peer);
  if (const auto found = mirrors_.find(peer); found != mirrors_.end()) {
    found->second->outbox.store.drop_all();
    mirrors_.erase(found);
    return;
  }
  const auto found = subscribers_.find(peer);
  if (found == subscribers_.end()) return;
  Subscriber& subscriber = *found->second;
  while (!subscriber.vnis.empty()) drop_subscription(subscriber, *subscriber.vnis.begin());
  subscribers_.erase(found);
}

size_t Distributor::release(Source source, size_t limit) {
  const auto found = sources_.find(source);
  if (found == sources_.end()) return 0;
  for (; limit > 0 && table.count_of(source) > 0; --limit) {
    const auto [vni, slot] = table.of_source(source).back();
    const std::string key(table.find(vni)->at(slot).key());
    update(source, false, vni, key);
  }
  if (const size_t left = table.count_of(source); left > 0) return left;
  drop_origin(found->second.origin);
  sources_.erase(found);
  return 0;
}

bool Distributor::subscribe(Source peer, uint32_t vni) {
  Subscriber& subscriber = *subscribers_.at(peer);
  if (!subscriber.vnis.insert(vni).second) return false;
  of_vni_[vni].push_back(&subscriber);
  if (const VniTable* routes = table.find(vni)) {
    for (Slot slot = 0; slot < routes->slots(); ++slot) {
      if (!routes->used(slot)) continue;
      const Record& record = routes->at(slot);
      if (record.count == 0) continue;
      const bool echo = subscriber.original && decode_key(record.key()).type != kNat;
      if (echo || is_foreign(subscriber, record)) subscriber.outbox.want({vni, slot}, true);
    }
  }
  touch(peer, subscriber);
  return true;
}

bool Distributor::unsubscribe(Source peer, uint32_t vni) {
  Subscriber& subscriber = *subscribers_.at(peer);
  if (!subscriber.vnis.contains(vni)) return false;
  drop_subscription(subscriber, vni);
  if (subscriber.original) withdraw(peer, vni);
  return true;
}

void Distributor::drop_subscription(Subscriber& subscriber, uint32_t vni) {
  subscriber.vnis.erase(vni);
  auto& peers = of_vni_.at(vni);
  std::erase(peers, &subscriber);
  if (peers.empty()) of_vni_.erase(vni);
  subscriber.outbox.store.drop(vni, [&](uint8_t bits) { subscriber.outbox.forgotten(bits); });
}

bool Distributor::update(Source source, bool add, uint32_t vni, std::string_view key) {
  Slot slot;
  if (add) {
    bool changed;
    std::tie(slot, changed) = table.add(source, vni, key);
    if (!changed) return false;
  } else {
    slot = table.remove(source, vni, key);
    if (slot == SlotIndex::kNone) return false;
  }
  distribute(source, vni, slot);
  return true;
}

Received Distributor::receive(Source source, std::string_view frames, const Limits& limits) {
  Received received;
  while (!frames.empty()) {
    const FrameHead head = read_frame(frames);
    const Update news = decode_update(frames.substr(kHeaderBytes, head.size - kHeaderBytes));
    frames.remove_prefix(head.size);
    ++received.updates;
    if (news.verdict == Verdict::kBroken) {
      received.broken = news.fault;
      return received;
    }
    if (news.verdict == Verdict::kInvalid) {
      refuse(received, "invalid", news.fault);
      continue;
    }
    const uint32_t vni = news.route.vni;
    const std::string key = encode_key(news.route);
    if (news.add) {
      if (const char* reason = limits.filter ? limits.filter->refusal(news.route) : nullptr) {
        refuse(received, reason, key);
        continue;
      }
      const size_t count = table.count_of(source);
      const char* full = limits.filter && count >= limits.filter->max_routes ? "policy_max_routes"
                         : count >= limits.of_peer                           ? "max_peer_routes"
                         : table.size() >= limits.of_all                     ? "max_routes"
                                                                             : nullptr;
      if (full != nullptr) {
        const VniTable* routes = table.find(vni);
        const Slot slot = routes ? routes->find(key) : SlotIndex::kNone;
        if (slot == SlotIndex::kNone || find_source(routes->at(slot), source) == nullptr) {
          refuse(received, full, key);
          continue;
        }
      }
    }
    update(source, news.add, vni, key);
  }
  return received;
}

void Distributor::withdraw(Source source, uint32_t vni) {
  const std::vector<Table::Place> places = table.of_source(source);
  for (const auto& place : places) {
    if (place.vni != vni) continue;
    const std::string key(table.find(vni)->at(place.slot).key());
    update(source, false, vni, key);
  }
}

void Distributor::distribute(Source source, uint32_t vni, Slot slot) {
  VniTable& routes = *table.find(vni);
  Record& record = routes.at(slot);
  if (changes_) changes_->emplace(record.key());
  ++record.users;  // the record must outlive the last receiver that settles
  if (!mirrors_.empty() && !sources_.at(source).remote) reflect(source, vni, slot);
  if (const auto found = of_vni_.find(vni); found != of_vni_.end())
    for (Subscriber* subscriber : found->second)
      if (subscriber->outbox.want({vni, slot}, is_foreign(*subscriber, record))) touch(subscriber->number, *subscriber);
  drop_user(table, vni, slot);
}

void Distributor::reflect(Source source, uint32_t vni, Slot slot) {
  Origin* origin = sources_.at(source).origin;
  const Record& record = table.find(vni)->at(slot);
  bool here = false;
  for (uint32_t n = 0; n < record.count && !here; ++n) {
    const SourceInfo& other = sources_.at(record.sources()[n].source);
    here = !other.remote && other.origin == origin;
  }
  for (auto& [peer, mirror] : mirrors_)
    if (mirror->outbox.want({vni, slot, origin}, here)) touch(peer, *mirror);
}

bool Distributor::is_foreign(const Subscriber& subscriber, const Record& record) const {
  for (uint32_t n = 0; n < record.count; ++n) {
    const SourceInfo& source = sources_.at(record.sources()[n].source);
    if (source.origin == subscriber.origin) continue;
    // A client without a name that has several servers cannot be recognized behind another server. What it announces
    // here as well is taken for its own.
    if (source.remote && source.origin->made_up && find_source(record, subscriber.number) != nullptr) continue;
    return true;
  }
  return false;
}

Taken Distributor::take(Source peer, size_t limit, bool want_ends) {
  Taken taken;
  const auto more = [&] { return taken.frames.size() < limit; };
  const auto end = [&] {
    if (want_ends) taken.ends.push_back(taken.frames.size());
  };
  const auto mark = [&] {
    append_keepalive(taken.frames);
    end();
  };
  if (const auto found = subscribers_.find(peer); found != subscribers_.end()) {
    const auto tell = [&](bool add, const RouteRef& ref) {
      append_update(taken.frames, add, table.find(ref.vni)->at(ref.slot).key());
      ++taken.updates;
      end();
    };
    found->second->outbox.take(more, tell, mark);
  } else if (const auto other = mirrors_.find(peer); other != mirrors_.end()) {
    const auto tell = [&](bool add, const MirrorRef& ref) {
      append_update(taken.frames, add, table.find(ref.vni)->at(ref.slot).key(), ref.origin->name);
      ++taken.updates;
      end();
    };
    other->second->outbox.take(more, tell, mark);
  }
  return taken;
}

void Distributor::mark(Source peer) {
  if (const auto found = subscribers_.find(peer); found != subscribers_.end()) {
    found->second->outbox.mark();
  } else {
    mirrors_.at(peer)->outbox.mark();
  }
}

size_t Distributor::marks(Source peer) const {
  if (const auto found = subscribers_.find(peer); found != subscribers_.end()) return found->second->outbox.marks();
  const auto found = mirrors_.find(peer);
  return found == mirrors_.end() ? 0 : found->second->outbox.marks();
}

size_t Distributor::waiting(Source peer) const {
  if (const auto found = subscribers_.find(peer); found != subscribers_.end()) return found->second->outbox.waiting();
  const auto found = mirrors_.find(peer);
  return found == mirrors_.end() ? 0 : found->second->outbox.waiting();
}

std::vector<Source> Distributor::take_touched() {
  for (const Source peer : touched_) {
    if (const auto found = subscribers_.find(peer); found != subscribers_.end()) found->second->touched = false;
    if (const auto found = mirrors_.find(peer); found != mirrors_.end()) found->second->touched = false;
  }
  return std::exchange(touched_, {});
}

size_t Distributor::connections(std::string_view identity) const {
  return static_cast<size_t>(
      std::ranges::count_if(subscribers_, [&](const auto& entry) { return entry.second->origin->name == identity; }));
}

size_t Distributor::subscriptions() const {
  size_t sum = 0;
  for (const auto& [_, peers] : of_vni_) sum += peers.size();
  return sum;
}

void Distributor::record(bool on) {
  if (!on) changes_.reset();
  if (on) changes_.emplace();
}

std::unordered_set<std::string> Distributor::take_changes() {
  std::unordered_set<std::string> taken;
  if (changes_) taken.swap(*changes_);
  return taken;
}

}  // namespace metalbond
