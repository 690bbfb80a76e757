#include "nat/public_addresses.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ironcore {

const NeighborRange* PublicAddress::neighbor_of(uint16_t port) const {
  const auto above = std::upper_bound(neighbors.begin(), neighbors.end(), port,
                                      [](uint16_t value, const NeighborRange& range) { return value < range.min; });
  if (above == neighbors.begin()) return nullptr;
  const NeighborRange& candidate = above[-1];
  return port < candidate.max ? &candidate : nullptr;
}

uint64_t PublicAddresses::Key::hash() const {
  uint64_t words[2];
  std::memcpy(words, address.bytes.data(), sizeof words);
  uint64_t hash = (words[0] ^ vni) * 0x9e3779b97f4a7c15u;
  hash = ((hash ^ hash >> 32) + words[1] + address.is_v6) * 0xbf58476d1ce4e5b9u;
  return hash ^ hash >> 32;
}

PublicAddresses::PublicAddresses(Retire retire, size_t max_addresses, size_t max_neighbors)
    : max_addresses_(max_addresses), max_neighbors_(max_neighbors), entries_(std::move(retire)) {}

PublicAddress PublicAddresses::copy_of(const Key& key) const {
  const PublicAddress* present = entries_.find(key);
  return present ? *present : PublicAddress{};
}

Status PublicAddresses::publish(const Key& key, PublicAddress value) {
  if (!value.vip && !value.is_nat()) {
    entries_.erase(key);
    return Status::OK;
  }
  if (!entries_.find(key) && entries_.size() >= max_addresses_) return Status::DNAT_CREATE;
  entries_.put(key, std::move(value));
  return Status::OK;
}

Status PublicAddresses::add_vip(uint32_t vni, const IpAddress& address, const PublicVip& vip) {
  if (entries_.find({vni, address})) return Status::DNAT_EXISTS;
  return publish({vni, address}, {vip, {}, {}});
}

Status PublicAddresses::remove_vip(uint32_t vni, const IpAddress& address) {
  PublicAddress value = copy_of({vni, address});
  if (!value.vip) return Status::DNAT_NO_DATA;
  value.vip.reset();
  return publish({vni, address}, std::move(value));
}

Status PublicAddresses::add_nat(uint32_t vni, const IpAddress& address, const LocalRange& range) {
  if (range.min >= range.max) return Status::BAD_REQUEST;
  PublicAddress value = copy_of({vni, address});
  for (const LocalRange& present : value.local)
    if (present.device == range.device) return Status::SNAT_EXISTS;
  value.local.push_back(range);
  return publish({vni, address}, std::move(value));
}

Status PublicAddresses::remove_nat(uint32_t vni, const IpAddress& address, uint16_t device) {
  PublicAddress value = copy_of({vni, address});
  if (!std::erase_if(value.local, [device](const LocalRange& range) { return range.device == device; }))
    return Status::DNAT_NO_DATA;
  return publish({vni, address}, std::move(value));
}

Status PublicAddresses::add_neighbor(const NeighborNat& neighbor) {
  if (neighbor.min_port >= neighbor.max_port) return Status::BAD_REQUEST;
  // Present ranges do not overlap: only the one before and the one after can be in the way.
  auto& order_by_min = order_by_min_[neighbor.nat_ip];
  const auto after = order_by_min.lower_bound(neighbor.min_port);
  const bool overlaps =
      (after != order_by_min.end() && neighbor.max_port > after->first) ||
      (after != order_by_min.begin() && neighbor.min_port < neighbors_.at(std::prev(after)->second).max_port);
  Status status = Status::OK;
  if (overlaps) {
    status = Status::ALREADY_EXISTS;
  } else if (neighbors_.size() >= max_neighbors_) {
    status = Status::OUT_OF_MEMORY;
  } else {
    const Key key{neighbor.vni, neighbor.nat_ip};
    PublicAddress value = copy_of(key);
    const NeighborRange range{neighbor.min_port, neighbor.max_port, neighbor.underlay};
    value.neighbors.insert(
        std::upper_bound(value.neighbors.begin(), value.neighbors.end(), range,
                         [](const NeighborRange& a, const NeighborRange& b) { return a.min < b.min; }),
        range);
    status = publish(key, std::move(value));
  }
  if (status == Status::OK) {
    order_by_min.emplace_hint(after, neighbor.min_port, next_order_);
    neighbors_.emplace_hint(neighbors_.end(), next_order_++, neighbor);
  } else if (order_by_min.empty()) {
    order_by_min_.erase(neighbor.nat_ip);
  }
  return status;
}

Status PublicAddresses::remove_neighbor(const IpAddress& address, uint32_t vni, uint16_t min_port, uint16_t max_port) {
  const auto by_min = order_by_min_.find(address);
  if (by_min == order_by_min_.end()) return Status::NOT_FOUND;
  const auto order = by_min->second.find(min_port);
  if (order == by_min->second.end()) return Status::NOT_FOUND;
  const NeighborNat& present = neighbors_.at(order->second);
  if (present.vni != vni || present.max_port != max_port) return Status::NOT_FOUND;

  PublicAddress value = copy_of({vni, address});
  std::erase_if(value.neighbors, [min_port](const NeighborRange& range) { return range.min == min_port; });
  const Status status = publish({vni, address}, std::move(value));
  if (status == Status::OK) forget_neighbor(order->second);
  return status;
}

void PublicAddresses::forget_neighbor(uint64_t order) {
  const auto found = neighbors_.find(order);
  const auto by_min = order_by_min_.find(found->second.nat_ip);
  by_min->second.erase(found->second.min_port);
  if (by_min->second.empty()) order_by_min_.erase(by_min);
  neighbors_.erase(found);
}

std::vector<NeighborNat> PublicAddresses::neighbors(const IpAddress& address) const {
  std::vector<NeighborNat> found;
  const bool all = address.bytes == decltype(address.bytes){};
  for (const auto& [order, neighbor] : neighbors_)
    if (all || neighbor.nat_ip == address) found.push_back(neighbor);
  return found;
}

void PublicAddresses::purge_vni(uint32_t vni) {
  std::vector<Key> keys;
  entries_.for_each([&](const Key& key, const PublicAddress&) {
    if (key.vni == vni) keys.push_back(key);
  });
  std::vector<uint64_t> orders;
  for (const auto& [order, neighbor] : neighbors_)
    if (neighbor.vni == vni) orders.push_back(order);
  for (const Key& key : keys) entries_.erase(key);
  for (const uint64_t order : orders) forget_neighbor(order);
}

void PublicAddresses::purge_neighbors() {
  for (const auto& [order, neighbor] : neighbors_) {
    const Key key{neighbor.vni, neighbor.nat_ip};
    const PublicAddress* present = entries_.find(key);
    if (!present || present->neighbors.empty()) continue;  // several of the same address
    publish(key, {present->vip, present->local, {}});
  }
  neighbors_.clear();
  order_by_min_.clear();
}

}  // namespace ironcore
