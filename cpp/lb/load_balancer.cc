#include "lb/load_balancer.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "lb/maglev.h"

namespace ironcore {

LoadBalancer::LoadBalancer(uint32_t vni, const IpAddress& ip, std::vector<LoadBalancerPort> ports,
                           std::vector<Ipv6Address> targets, uint32_t maglev_size)
    : vni_(vni), ip_(ip), ports_(std::move(ports)), targets_(std::move(targets)) {
  const uint32_t size = maglev_size ? maglev_size : maglev_default_size(targets_.size());
  if (!maglev_valid_size(size)) throw std::invalid_argument("size of a Maglev table is not a prime in 3..1048576");
  if (targets_.size() > std::min<size_t>(size, UINT16_MAX))
    throw std::invalid_argument("more load-balancer targets than the Maglev table can hold");
  if (std::adjacent_find(targets_.begin(), targets_.end(), std::greater_equal<>()) != targets_.end())
    throw std::invalid_argument("load-balancer targets are not sorted and unique");
  services_.reserve(ports_.size());
  for (const auto& [protocol, port] : ports_) services_.push_back(uint32_t{protocol} << 16 | port);
  maglev_slots_ = maglev_table(targets_, size);
}

bool LoadBalancer::has_target(const Ipv6Address& target) const {
  return std::binary_search(targets_.begin(), targets_.end(), target);
}

}  // namespace ironcore
