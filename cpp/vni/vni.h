// Virtual networks: numbered, reference-counted by interfaces, each with its own routes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "flow/generation.h"
#include "route/route_table.h"

namespace ironcore {

struct Vni {
  Vni(uint32_t number, uint32_t slot, Reclaimer& reclaimer, size_t max_routes)
      : number(number), slot(slot), routes(reclaimer, max_routes) {}
  const uint32_t number;
  const uint32_t slot;  // of its generation counters
  RouteTable routes;
  uint32_t references = 0;
};

// Control side only: workers reach a Vni through the interface that they serve.
class VniTable {
 public:
  VniTable(Reclaimer& reclaimer, Generations& generations, uint32_t max_vnis, size_t max_routes);

  Vni* find(uint32_t number) const;
  Vni* acquire(uint32_t number);  // creates it for its first user; null: table full
  void release(Vni& vni);         // the last user's release ends it, with all its routes
  const std::map<uint32_t, std::unique_ptr<Vni>>& all() const { return vnis_; }
  size_t capacity() const { return max_vnis_; }

 private:
  Reclaimer& reclaimer_;
  Generations& generations_;
  const uint32_t max_vnis_;
  const size_t max_routes_;
  std::map<uint32_t, std::unique_ptr<Vni>> vnis_;
  std::vector<uint32_t> free_slots_;
};

}  // namespace ironcore
