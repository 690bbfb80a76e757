// What a standby was told: connections by identity, in bounded number. NAT mappings are in the engine's own table at
// once.
#pragma once

#include <map>
#include <unordered_map>

#include "ha/mapping.h"

namespace ironcore::ha {

class Replica {
 public:
  // At most `capacity` connections. `hash` is keyed, as a guest chooses what is hashed.
  Replica(NatPorts& nat_ports, size_t capacity, std::function<uint64_t(const FlowKey&)> hash);

  void put(const Connection& connection);
  void remove(const Identity& id);
  void put(const NatCreate& message);
  void remove(const NatDelete& message);

  // What was put before begin_dump() and not since, is removed by end_dump().
  void begin_dump() { ++epoch_; }
  void end_dump();

  size_t size() const { return connections_.size(); }
  const ConnectionState* find(const Identity& id) const;
  // Leaves nothing behind but NAT mappings, which are the caller's from here on.
  std::vector<Connection> take_all();

  uint64_t refused() const { return refused_; }      // connections beyond `capacity`
  uint64_t conflicts() const { return conflicts_; }  // NAT ports that another mapping had

 private:
  struct Kept {
    ConnectionState state;
    uint32_t epoch;
  };
  struct Hash {
    std::function<uint64_t(const FlowKey&)> of_key;
    size_t operator()(const Identity& id) const { return of_key(id.key) ^ id.port ^ uint64_t{id.vni} << 32; }
  };

  NatPorts& nat_ports_;
  const size_t capacity_;
  std::unordered_map<Identity, Kept, Hash> connections_;
  std::map<NatMapping, Identity> by_mapping_;  // of the reference's messages: their end names no port
  uint32_t epoch_ = 0;
  uint64_t refused_ = 0, conflicts_ = 0;
};

}  // namespace ironcore::ha
