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
#include "explain/events.h"
#include "explain/fields.h"
#include "firewall/rule_set.h"
#include "flow/generation.h"
#include "flow/limits.h"
#include "flow/table.h"
#include "ha/pair.h"
#include "ironcore/engine.h"
#include "lb/table.h"
#include "nat/ports.h"
#include "nat/public_addresses.h"
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
  Status delete_route(uint32_t vni, const IpPrefix& prefix, const std::optional<Ipv6Address>& nexthop);
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

  // VIP and NAT (public_addresses.cc).
  Result<Ipv6Address> create_vip(std::string_view id, const IpAddress& vip,
                                 const std::optional<Ipv6Address>& preferred);
  Result<VipInfo> get_vip(std::string_view id) const;
  Status delete_vip(std::string_view id);
  Result<Ipv6Address> create_nat(std::string_view id, const IpAddress& nat_ip, uint16_t min_port, uint16_t max_port,
                                 const std::optional<Ipv6Address>& preferred);
  Result<NatInfo> get_nat(std::string_view id) const;
  Status delete_nat(std::string_view id);
  Result<std::vector<LocalNatInfo>> list_local_nats(const IpAddress& nat_ip) const;
  Status create_neighbor_nat(const NeighborNat& nat);
  Status delete_neighbor_nat(const IpAddress& nat_ip, uint32_t vni, uint16_t min_port, uint16_t max_port);
  Result<std::vector<NeighborNat>> list_neighbor_nats(const IpAddress& nat_ip) const;

  // Load balancers (load_balancers.cc).
  Result<Ipv6Address> create_load_balancer(std::string_view id, uint32_t vni, const IpAddress& ip,
                                           const std::vector<LoadBalancerPort>& ports,
                                           const std::optional<Ipv6Address>& preferred);
  Result<LoadBalancerInfo> get_load_balancer(std::string_view id) const;
  std::vector<LoadBalancerInfo> list_load_balancers() const;
  Status delete_load_balancer(std::string_view id);
  Status create_load_balancer_target(std::string_view id, const IpAddress& target);
  Status delete_load_balancer_target(std::string_view id, const IpAddress& target);
  Result<std::vector<Ipv6Address>> list_load_balancer_targets(std::string_view id) const;

  // Firewall (firewall.cc).
  Status create_firewall_rule(std::string_view id, const FirewallRule& rule);
  Result<FirewallRuleInfo> get_firewall_rule(std::string_view id, std::string_view rule_id) const;
  Status delete_firewall_rule(std::string_view id, std::string_view rule_id);
  Result<std::vector<FirewallRuleInfo>> list_firewall_rules(std::string_view id) const;

  // Housekeeping (housekeeping.cc).
  void announce();
  void set_uplink_neighbour(unsigned pf_index, const std::optional<MacAddress>& mac);

  EngineCounters counters() const;  // counters.cc

  // Inspection (inspection.cc).
  Result<Explanation> explain_packet(const PacketSource& source, const std::vector<uint8_t>& frame);
  Result<FlowPage> list_flows(const FlowFilter& filter, uint64_t from, size_t limit);
  Result<InterfaceState> get_interface_state(std::string_view id) const;
  std::vector<InterfaceState> list_interface_states() const;
  Status set_flow_limits(std::string_view id, const FlowTimeouts& timeouts, uint32_t quota);
  EventLog& events() { return events_; }
  void note_table_levels();  // as events; with the mutex held

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

  // High availability (ha.cc).
  HaState ha_state() const;
  void resign();
  ha::Pair* pair() { return pair_.get(); }  // null: not one of two

 private:
  // A public address that stands for an interface.
  struct PublicRecord {
    IpAddress address;
    Ipv6Address underlay{};
    uint16_t min_port = 0, max_port = 0;
  };
  struct Interface {
    Interface(const CreateInterfaceRequest& wanted, Port* device, Vni* network, uint64_t number,
              const Ipv6Address& address)
        : request(wanted), port(device), vni(network), instance(number), underlay(address) {}

    CreateInterfaceRequest request;
    Port* port;
    Vni* vni;
    uint64_t instance;
    Ipv6Address underlay;
    std::optional<PublicRecord> vip[2], nat[2];  // IPv4, IPv6
    RuleSet rules;
    std::shared_ptr<const Classifier> classifier;
    std::shared_ptr<RuleHits> rule_hits;
  };

  // A control call: exclusive, and first lets go of what earlier calls replaced.
  class Call;

  const Interface* find(std::string_view id) const;
  Interface* find(std::string_view id);
  InterfaceInfo describe(const Interface& interface) const;
  InterfaceState state_of(const Interface& interface) const;
  PortNames port_names() const;
  std::vector<TableLevel> table_levels() const;
  class FlowReader;
  Status check(const CreateInterfaceRequest& request) const;
  Status check_meter(const CreateInterfaceRequest& request) const;
  bool metered(const CreateInterfaceRequest& request) const;
  void publish_meters(const Interface& interface);
  void remove_public_addresses(Interface& interface);
  void release_vni(Vni& vni);
  static std::optional<IpAddress> inside_address(const Interface& interface, bool is_v6);
  static UnderlayObject public_object(UnderlayType type, const Interface& interface, const IpAddress& address);
  bool family_allowed(const IpAddress& address) const { return !address.is_v6 || options_.ipv6_public; }
  void publish_balancer(uint16_t slot, const LoadBalancerChange& change);
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
  FlowLimits flow_limits_;
  NatPorts nat_ports_;
  UnderlayRegistry underlay_;
  UnderlayAddresses addresses_;
  PublicAddresses public_addresses_;
  LoadBalancerTable load_balancers_;
  LoadBalancerSlots balancer_slots_;
  VniTable vnis_;
  WorkerShared shared_;
  std::vector<std::unique_ptr<Worker>> workers_;

  mutable std::mutex mutex_;
  std::map<std::string, Interface, std::less<>> interfaces_;
  uint64_t last_instance_ = 0;
  std::vector<uint16_t> free_balancer_slots_;
  std::map<std::string, uint16_t, std::less<>> balancer_slot_;  // by id
  const std::string uuid_;
  bool initialized_ = false;

  std::vector<std::thread> worker_threads_;
  std::atomic<bool> stop_workers_{false};
  bool started_ = false, stopped_ = false;

  static constexpr size_t kEventsKept = 4096;
  EventLog events_{kEventsKept};
  std::map<std::string, TableState> table_states_;
  std::mutex flow_reader_mutex_;  // taken after mutex_

  std::condition_variable housekeeping_wake_;
  bool stop_housekeeping_ = false;
  unsigned short_announcements_left_ = 0;
  std::vector<std::string> to_announce_;  // new interfaces: their VMs may know an older gateway
  std::thread housekeeping_;
  std::unique_ptr<uplink::NeighbourFollower> neighbours_;

  // High availability.
  void make_pair();
  void take_over();
  size_t discard_waiting(const Port& port);
  bool receives_ = options_.active_lockfile.empty();
  uint64_t discarded_ = 0;
  std::unique_ptr<ha::Pair> pair_;  // outlives the workers' threads
};

class Engine::Impl::Call {
 public:
  explicit Call(const Impl& impl) : lock_(impl.mutex_) { impl.reclaimer_.run_due(); }

 private:
  std::lock_guard<std::mutex> lock_;
};

}  // namespace ironcore
