// The facade's state. Every control call holds `mutex_`; workers never do.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/rcu.h"
#include "flow/generation.h"
#include "flow/table.h"
#include "ironcore/engine.h"
#include "port/port.h"
#include "underlay/registry.h"
#include "uplink/follower.h"
#include "vni/vni.h"
#include "worker/worker.h"

namespace ironcore {

class Engine::Impl {
 public:
  explicit Impl(EngineOptions options);
  ~Impl();

  // Life cycle (engine.cc).
  void start();
  void stop();

  // Process state and VNIs (routes.cc).
  Result<std::string> initialize();
  std::optional<std::string> check_initialized() const;
  Status create_route(uint32_t vni, const IpPrefix& prefix, uint32_t nexthop_vni, const IpAddress& nexthop);
  Status delete_route(uint32_t vni, const IpPrefix& prefix);
  Result<std::vector<RouteInfo>> list_routes(uint32_t vni) const;
  Result<bool> check_vni_in_use(uint32_t vni, VniType type) const;
  Status reset_vni(uint32_t vni, VniType type);

  // Interfaces (interfaces.cc).
  Result<CreateInterfaceReply> create_interface(const CreateInterfaceRequest& request);
  Result<InterfaceInfo> get_interface(std::string_view id) const;
  std::vector<InterfaceInfo> list_interfaces() const;
  Status delete_interface(std::string_view id);

  // Prefixes (prefixes.cc).
  Result<Ipv6Address> create_prefix(std::string_view id, const IpPrefix& prefix,
                                    const std::optional<Ipv6Address>& preferred);
  Status delete_prefix(std::string_view id, const IpPrefix& prefix);
  Result<Ipv6Address> create_lb_prefix(std::string_view id, const IpPrefix& prefix,
                                       const std::optional<Ipv6Address>& preferred);
  Status delete_lb_prefix(std::string_view id, const IpPrefix& prefix);
  Result<std::vector<PrefixInfo>> list_prefixes(std::string_view id, UnderlayType type) const;

  // Housekeeping (housekeeping.cc).
  void announce();
  void set_uplink_neighbour(unsigned pf_index, const std::optional<MacAddress>& mac);

  EngineCounters counters() const;  // counters.cc
  bool preferred_underlay_allowed(const Ipv6Address& address) const { return addresses_.preferred_allowed(address); }
  const EngineOptions& options() const { return options_; }

  // For tests and benches, which drive workers in their own thread instead of calling start().
  std::vector<std::unique_ptr<Worker>>& workers() { return workers_; }
  Rcu& rcu() { return rcu_; }
  Clock& clock() { return clock_; }
  FlowTable& flows() { return flows_; }
  Ports& ports() { return ports_; }
  Reclaimer& reclaimer() { return reclaimer_; }
  void start_ports_only() { ports_.start_uplinks(); }

 private:
  struct Interface {
    CreateInterfaceRequest request;
    Port* port;
    Vni* vni;
    uint64_t instance;
    Ipv6Address underlay;
  };

  // A control call: exclusive, and first lets go of what earlier calls replaced.
  class Call;

  const Interface* find(std::string_view id) const;
  Interface* find(std::string_view id);
  InterfaceInfo describe(const Interface& interface) const;
  Status check(const CreateInterfaceRequest& request) const;
  Status apply_meter(const CreateInterfaceRequest& request) const;
  void publish(const Interface& interface);  // its view, as the tables are now
  void withdraw(Port& port);
  void publish_poll_lists();
  void stop_when_unused(Port& port);
  void reset_routes(Vni& vni);

  void follow_neighbours();
  void run_housekeeping();
  void announce_to(const Interface& interface);

  const EngineOptions options_;
  const bool owns_eal_;
  const std::vector<unsigned> lcores_;  // empty: one worker in a thread of its own
  const unsigned worker_count_;
  Ports ports_;
  Rcu rcu_;
  mutable Reclaimer reclaimer_;
  Clock clock_;
  Generations generations_;
  FlowTable flows_;
  UnderlayRegistry underlay_;
  UnderlayAddresses addresses_;
  VniTable vnis_;
  WorkerShared shared_;
  std::vector<std::unique_ptr<Worker>> workers_;

  mutable std::mutex mutex_;
  std::map<std::string, Interface, std::less<>> interfaces_;
  uint64_t last_instance_ = 0;
  const std::string uuid_;
  bool initialized_ = false;

  std::vector<std::thread> worker_threads_;
  std::atomic<bool> stop_workers_{false};
  bool started_ = false, stopped_ = false;

  std::condition_variable housekeeping_wake_;
  bool stop_housekeeping_ = false;
  unsigned short_announcements_left_ = 0;
  std::thread housekeeping_;
  std::unique_ptr<uplink::NeighbourFollower> neighbours_;
};

class Engine::Impl::Call {
 public:
  explicit Call(const Impl& impl) : lock_(impl.mutex_) { impl.reclaimer_.run_due(); }

 private:
  std::lock_guard<std::mutex> lock_;
};

}  // namespace ironcore
