#include "ha/replica.h"

namespace ironcore::ha {

Replica::Replica(NatPorts& nat_ports, size_t capacity, std::function<uint64_t(const FlowKey&)> hash)
    : nat_ports_(nat_ports), capacity_(capacity), connections_(0, Hash{std::move(hash)}) {}

void Replica::put(const Connection& connection) {
  const auto& [id, state] = connection;
  auto found = connections_.find(id);
  if (found == connections_.end()) {
    if (connections_.size() >= capacity_) {
      ++refused_;
      return;
    }
    found = connections_.emplace(id, Kept{{}, epoch_}).first;
  }
  Kept& kept = found->second;
  if (kept.state.nat && kept.state.nat != state.nat) nat_ports_.release(mapping_of(id, *kept.state.nat));
  kept = {state, epoch_};
  if (!state.nat) return;
  const NatOutcome outcome = nat_ports_.insert_verbatim(mapping_of(id, *state.nat));
  if (outcome == NatOutcome::kTaken || outcome == NatOutcome::kTableFull) ++conflicts_;
}

void Replica::remove(const Identity& id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  if (const auto& nat = found->second.state.nat) {
    const NatMapping mapping = mapping_of(id, *nat);
    nat_ports_.release(mapping);
    by_mapping_.erase(mapping);
  }
  connections_.erase(found);
}

void Replica::put(const NatCreate& message) {
  const Identity id = identity_of(message.mapping, message.port, message.icmp_type);
  put(Connection{id, {NatBinding{message.mapping.nat_address, message.mapping.nat_port}, {}, {}}});
  if (find(id)) by_mapping_[message.mapping] = id;
}

void Replica::remove(const NatDelete& message) {
  if (const auto found = by_mapping_.find(message.mapping); found != by_mapping_.end()) {
    const Identity id = found->second;
    remove(id);
  }
}

void Replica::end_dump() {
  std::vector<Identity> stale;
  for (const auto& [id, kept] : connections_)
    if (kept.epoch != epoch_) stale.push_back(id);
  for (const Identity& id : stale) remove(id);
}

const ConnectionState* Replica::find(const Identity& id) const {
  const auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : &found->second.state;
}

std::vector<Connection> Replica::take_all() {
  std::vector<Connection> all;
  all.reserve(connections_.size());
  for (const auto& [id, kept] : connections_) all.push_back({id, kept.state});
  connections_.clear();
  by_mapping_.clear();
  return all;
}

}  // namespace ironcore::ha
