// The control side's load balancers, by id and by (VNI, address). Not thread-safe: callers hold the engine's mutex.
//
// Each change makes a new LoadBalancer and hands out the old and the new one: the caller publishes the new one and lets
// go of the old one after a grace period. A call that does not return Status::OK has changed nothing, nor has one that
// throws std::bad_alloc.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ironcore/services.h"
#include "ironcore/status.h"
#include "lb/load_balancer.h"

namespace ironcore {

struct LoadBalancerLimits {
  size_t load_balancers = 4096;
  size_t targets = 1000;     // of one load balancer, at most 65 535; no more than a configured `maglev_size`
  uint32_t maglev_size = 0;  // 0: by the number of targets (maglev.h)
};

struct LoadBalancerChange {
  std::shared_ptr<const LoadBalancer> before;  // null: created
  std::shared_ptr<const LoadBalancer> after;   // null: deleted
};

class LoadBalancerTable {
 public:
  // std::invalid_argument if a limit is out of range.
  explicit LoadBalancerTable(const LoadBalancerLimits& limits = {});

  // What create() would answer: ALREADY_EXISTS if the (VNI, address) or the id is taken, OUT_OF_MEMORY if full.
  Status can_create(std::string_view id, uint32_t vni, const IpAddress& ip) const;
  Result<LoadBalancerChange> create(const LoadBalancerInfo& info);
  Result<LoadBalancerChange> remove(std::string_view id);               // NOT_FOUND
  Result<LoadBalancerInfo> get(std::string_view id) const;              // NOT_FOUND
  std::vector<LoadBalancerInfo> list() const;                           // by VNI, then address, IPv4 first
  std::shared_ptr<const LoadBalancer> find(std::string_view id) const;  // null if there is none
  std::shared_ptr<const LoadBalancer> find(uint32_t vni, const IpAddress& ip) const;

  // NO_LB; ALREADY_EXISTS, also for `::`; BACKIP_ADD beyond the limit.
  Result<LoadBalancerChange> add_target(std::string_view id, const Ipv6Address& target);
  // NO_LB; NOT_FOUND. Flows to that target (has_target() is false now) are to be decided again.
  Result<LoadBalancerChange> remove_target(std::string_view id, const Ipv6Address& target);
  // Ascending. An empty id lists those of all load balancers, one after the other. NO_LB.
  Result<std::vector<Ipv6Address>> targets(std::string_view id) const;

  size_t size() const { return by_id_.size(); }
  size_t capacity() const { return limits_.load_balancers; }
  size_t target_count() const { return target_count_; }  // of all load balancers

 private:
  struct Record {
    Ipv6Address underlay;
    std::shared_ptr<const LoadBalancer> current;
  };
  using ById = std::map<std::string, Record, std::less<>>;

  LoadBalancerChange replace(Record& record, std::vector<Ipv6Address> targets);

  LoadBalancerLimits limits_;
  ById by_id_;
  std::map<std::pair<uint32_t, IpAddress>, ById::iterator> by_address_;
  size_t target_count_ = 0;
};

}  // namespace ironcore
