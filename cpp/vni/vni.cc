#include "vni/vni.h"

namespace ironcore {

VniTable::VniTable(Reclaimer& reclaimer, Generations& generations, uint32_t max_vnis, size_t max_routes)
    : reclaimer_(reclaimer), generations_(generations), max_vnis_(max_vnis), max_routes_(max_routes) {
  for (uint32_t slot = max_vnis; slot > 0; --slot) free_slots_.push_back(slot - 1);
}

Vni* VniTable::find(uint32_t number) const {
  const auto found = vnis_.find(number);
  return found == vnis_.end() ? nullptr : found->second.get();
}

Vni* VniTable::acquire(uint32_t number) {
  Vni* vni = find(number);
  if (!vni) {
    if (free_slots_.empty()) return nullptr;
    auto created = std::make_unique<Vni>(number, free_slots_.back(), reclaimer_, max_routes_);
    free_slots_.pop_back();
    vni = created.get();
    vnis_.emplace(number, std::move(created));
  }
  ++vni->references;
  return vni;
}

void VniTable::release(Vni& vni) {
  if (--vni.references > 0) return;
  generations_.vni_changed(vni.slot);
  free_slots_.push_back(vni.slot);
  const auto found = vnis_.find(vni.number);
  reclaimer_.retire(found->second.release());
  vnis_.erase(found);
}

}  // namespace ironcore
