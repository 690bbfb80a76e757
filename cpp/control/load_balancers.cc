// Load balancers. Each has a slot, by which workers find it from its underlay address.
#include "control/impl.h"
#include "control/rollback.h"

namespace ironcore {
namespace {

UnderlayObject balancer_object(uint16_t slot, uint32_t vni, const IpAddress& ip) {
  return {UnderlayType::kLoadBalancer, slot, vni, {ip, static_cast<uint8_t>(ip.is_v6 ? 128 : 32)}};
}

}  // namespace

// Workers see the new one or the old one; the old one goes when none of them can hold it.
void Engine::Impl::publish_balancer(uint16_t slot, const LoadBalancerChange& change) {
  balancer_slots_[slot].balancer.store(change.after.get(), std::memory_order_release);
  if (change.before) reclaimer_.defer([before = change.before] {});
  if (const Vni* network = balancer_slots_[slot].network.load(std::memory_order_relaxed))
    generations_.vni_changed(network->slot);
}

Result<Ipv6Address> Engine::Impl::create_load_balancer(std::string_view id, uint32_t vni_number, const IpAddress& ip,
                                                       const std::vector<LoadBalancerPort>& ports,
                                                       const std::optional<Ipv6Address>& preferred) {
  Call call(*this);
  const Ipv6Address underlay = preferred ? *preferred : addresses_.generate(UnderlayType::kLoadBalancer);
  if (underlay_.taken(underlay)) return Status::VNF_INSERT;
  if (const Status status = load_balancers_.can_create(id, vni_number, ip); status != Status::OK) return status;
  Rollback rollback;
  Vni* vni = vnis_.acquire(vni_number);
  if (!vni) return Status::VNI_INIT4;
  rollback.add([this, vni] { release_vni(*vni); });
  const uint16_t slot = free_balancer_slots_.back();
  const UnderlayObject object = balancer_object(slot, vni_number, ip);
  if (!underlay_.insert(underlay, object)) return Status::VNF_INSERT;
  rollback.add([this, object] { underlay_.erase(object); });
  const auto change = load_balancers_.create({std::string(id), vni_number, ip, ports, underlay});
  if (!change.ok()) return change.status;
  rollback.commit();
  free_balancer_slots_.pop_back();
  balancer_slot_.emplace(id, slot);
  balancer_slots_[slot].network.store(vni, std::memory_order_release);
  publish_balancer(slot, change.value);
  events_.add(EventType::kLoadBalancerCreated, id, vni_number,
              to_string(ip) + ", underlay address " + to_string(underlay));
  return underlay;
}

Result<LoadBalancerInfo> Engine::Impl::get_load_balancer(std::string_view id) const {
  Call call(*this);
  return load_balancers_.get(id);
}

std::vector<LoadBalancerInfo> Engine::Impl::list_load_balancers() const {
  Call call(*this);
  return load_balancers_.list();
}

Status Engine::Impl::delete_load_balancer(std::string_view id) {
  Call call(*this);
  const auto change = load_balancers_.remove(id);
  if (!change.ok()) return change.status;
  const auto found = balancer_slot_.find(id);
  const uint16_t slot = found->second;
  const LoadBalancer& balancer = *change.value.before;
  events_.add(EventType::kLoadBalancerDeleted, id, balancer.vni(), to_string(balancer.ip()));
  publish_balancer(slot, change.value);
  balancer_slots_[slot].network.store(nullptr, std::memory_order_release);
  underlay_.erase(balancer_object(slot, balancer.vni(), balancer.ip()));
  release_vni(*vnis_.find(balancer.vni()));
  balancer_slot_.erase(found);
  free_balancer_slots_.push_back(slot);
  return Status::OK;
}

Status Engine::Impl::create_load_balancer_target(std::string_view id, const IpAddress& target) {
  Call call(*this);
  if (!target.is_v6) return Status::BAD_IPVER;
  const auto change = load_balancers_.add_target(id, target.bytes);
  if (change.ok()) publish_balancer(balancer_slot_.find(id)->second, change.value);
  if (change.ok()) events_.add(EventType::kTargetCreated, id, change.value.after->vni(), to_string(target));
  return change.status;
}

Status Engine::Impl::delete_load_balancer_target(std::string_view id, const IpAddress& target) {
  Call call(*this);
  if (!target.is_v6) return Status::BAD_IPVER;
  const auto change = load_balancers_.remove_target(id, target.bytes);
  if (change.ok()) publish_balancer(balancer_slot_.find(id)->second, change.value);
  if (change.ok()) events_.add(EventType::kTargetDeleted, id, change.value.after->vni(), to_string(target));
  return change.status;
}

Result<std::vector<Ipv6Address>> Engine::Impl::list_load_balancer_targets(std::string_view id) const {
  Call call(*this);
  return load_balancers_.targets(id);
}

}  // namespace ironcore
