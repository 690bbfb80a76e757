#include "lb/table.h"

#include <algorithm>
#include <stdexcept>

#include "lb/maglev.h"

namespace ironcore {
namespace {

LoadBalancerInfo info_of(const std::string& id, const LoadBalancer& lb, const Ipv6Address& underlay) {
  return {id, lb.vni(), lb.ip(), lb.ports(), underlay};
}

}  // namespace

LoadBalancerTable::LoadBalancerTable(const LoadBalancerLimits& limits) : limits_(limits) {
  if (limits.targets > UINT16_MAX) throw std::invalid_argument("more than 65535 targets per load balancer");
  if (!limits.maglev_size) return;
  if (!maglev_valid_size(limits.maglev_size))
    throw std::invalid_argument("size of a Maglev table is not a prime in 3..1048576");
  // A target without a slot would be listed and never used.
  limits_.targets = std::min<size_t>(limits.targets, limits.maglev_size);
}

Status LoadBalancerTable::can_create(std::string_view id, uint32_t vni, const IpAddress& ip) const {
  if (by_address_.contains({vni, ip}) || by_id_.contains(id)) return Status::ALREADY_EXISTS;
  return by_id_.size() < limits_.load_balancers ? Status::OK : Status::OUT_OF_MEMORY;
}

Result<LoadBalancerChange> LoadBalancerTable::create(const LoadBalancerInfo& info) {
  if (const Status status = can_create(info.id, info.vni, info.ip); status != Status::OK) return status;
  auto created = std::make_shared<const LoadBalancer>(info.vni, info.ip, info.ports, std::vector<Ipv6Address>{},
                                                      limits_.maglev_size);
  const auto record = by_id_.emplace(info.id, Record{info.underlay, created}).first;
  try {
    by_address_.emplace(std::pair{info.vni, info.ip}, record);
  } catch (...) {
    by_id_.erase(record);
    throw;
  }
  return LoadBalancerChange{nullptr, std::move(created)};
}

Result<LoadBalancerChange> LoadBalancerTable::remove(std::string_view id) {
  const auto record = by_id_.find(id);
  if (record == by_id_.end()) return Status::NOT_FOUND;
  std::shared_ptr<const LoadBalancer> before = std::move(record->second.current);
  target_count_ -= before->targets().size();
  by_address_.erase({before->vni(), before->ip()});
  by_id_.erase(record);
  return LoadBalancerChange{std::move(before), nullptr};
}

Result<LoadBalancerInfo> LoadBalancerTable::get(std::string_view id) const {
  const auto record = by_id_.find(id);
  if (record == by_id_.end()) return Status::NOT_FOUND;
  return info_of(record->first, *record->second.current, record->second.underlay);
}

std::vector<LoadBalancerInfo> LoadBalancerTable::list() const {
  std::vector<LoadBalancerInfo> infos;
  infos.reserve(by_address_.size());
  for (const auto& [address, record] : by_address_)
    infos.push_back(info_of(record->first, *record->second.current, record->second.underlay));
  return infos;
}

std::shared_ptr<const LoadBalancer> LoadBalancerTable::find(std::string_view id) const {
  const auto record = by_id_.find(id);
  return record == by_id_.end() ? nullptr : record->second.current;
}

std::shared_ptr<const LoadBalancer> LoadBalancerTable::find(uint32_t vni, const IpAddress& ip) const {
  const auto found = by_address_.find({vni, ip});
  return found == by_address_.end() ? nullptr : found->second->second.current;
}

LoadBalancerChange LoadBalancerTable::replace(Record& record, std::vector<Ipv6Address> targets) {
  const LoadBalancer& old = *record.current;
  auto after =
      std::make_shared<const LoadBalancer>(old.vni(), old.ip(), old.ports(), std::move(targets), limits_.maglev_size);
  target_count_ += after->targets().size() - old.targets().size();
  std::shared_ptr<const LoadBalancer> before = std::exchange(record.current, after);
  return {std::move(before), std::move(after)};
}

Result<LoadBalancerChange> LoadBalancerTable::add_target(std::string_view id, const Ipv6Address& target) {
  const auto record = by_id_.find(id);
  if (record == by_id_.end()) return Status::NO_LB;
  const LoadBalancer& lb = *record->second.current;
  if (target == Ipv6Address{} || lb.has_target(target)) return Status::ALREADY_EXISTS;
  if (lb.targets().size() >= limits_.targets) return Status::BACKIP_ADD;
  std::vector<Ipv6Address> targets = lb.targets();
  targets.insert(std::upper_bound(targets.begin(), targets.end(), target), target);
  return replace(record->second, std::move(targets));
}

Result<LoadBalancerChange> LoadBalancerTable::remove_target(std::string_view id, const Ipv6Address& target) {
  const auto record = by_id_.find(id);
  if (record == by_id_.end()) return Status::NO_LB;
  if (!record->second.current->has_target(target)) return Status::NOT_FOUND;
  std::vector<Ipv6Address> targets = record->second.current->targets();
  std::erase(targets, target);
  return replace(record->second, std::move(targets));
}

Result<std::vector<Ipv6Address>> LoadBalancerTable::targets(std::string_view id) const {
  if (!id.empty()) {
    const auto lb = find(id);
    if (!lb) return Status::NO_LB;
    return lb->targets();
  }
  std::vector<Ipv6Address> all;
  all.reserve(target_count_);
  for (const auto& [address, record] : by_address_) {
    const auto& targets = record->second.current->targets();
    all.insert(all.end(), targets.begin(), targets.end());
  }
  return all;
}

}  // namespace ironcore
