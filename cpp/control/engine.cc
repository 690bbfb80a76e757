// The facade itself and the engine's life cycle.
#include <rte_eal.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <sys/random.h>

#include <system_error>

#include "control/eal.h"
#include "control/impl.h"
#include "core/log.h"

namespace ironcore {
namespace {

const EngineOptions& checked(const EngineOptions& options) {
  const auto require = [](bool condition, const char* what) {
    if (!condition) throw EngineError(std::string("option out of range: ") + what);
  };
  require(options.dhcp_mtu >= 68 && options.dhcp_mtu <= 1500, "dhcp_mtu (68..1500)");
  require(options.dhcp_dns.size() <= 63, "dhcp_dns (at most 63)");
  require(options.dhcpv6_dns.size() <= 15, "dhcpv6_dns (at most 15)");
  require(options.wcmp <= 100, "wcmp (0..100)");
  require(options.flow_table_size >= 1024 && options.flow_table_size <= 1u << 28, "flow_table_size (1024..2^28)");
  require(valid(options.flow_timeouts), "flow_timeouts (1..2^24)");
  require(options.max_load_balancers >= 1 && options.max_load_balancers <= 65536, "max_load_balancers (1..65536)");
  require(options.max_vnis >= 1 && options.max_vnis <= 1u << 24, "max_vnis (1..2^24)");
  require(!options.pf0.empty(), "pf0 (a netdev name)");
  require(!options.vf_pattern.empty(), "vf_pattern (part of netdev names)");
  return options;
}

uint64_t random_word() {
  uint64_t word;
  if (getrandom(&word, sizeof word, 0) != sizeof word) throw EngineError("getrandom failed");
  return word;
}

std::string random_uuid() {  // version 4, RFC 9562
  const uint64_t high = (random_word() & ~0xf000ull) | 0x4000;
  const uint64_t low = (random_word() & ~(3ull << 62)) | 2ull << 62;
  char text[37];
  std::snprintf(text, sizeof text, "%08X-%04X-%04X-%04X-%012llX", static_cast<unsigned>(high >> 32),
                static_cast<unsigned>(high >> 16) & 0xffff, static_cast<unsigned>(high) & 0xffff,
                static_cast<unsigned>(low >> 48), static_cast<unsigned long long>(low) & 0xffffffffffffull);
  return text;
}

std::vector<unsigned> worker_lcores(const EngineOptions& options) {
  std::vector<unsigned> lcores;
  unsigned lcore;
  RTE_LCORE_FOREACH_WORKER(lcore) lcores.push_back(lcore);
  if (options.workers > std::max<size_t>(lcores.size(), 1))
    throw EngineError("option out of range: workers (the EAL has " + std::to_string(lcores.size()) +
                      " lcores for them)");
  if (options.workers) lcores.resize(std::min<size_t>(lcores.size(), options.workers));
  return lcores;
}

std::vector<uint32_t> host_order(const std::vector<Ipv4Address>& addresses) {
  std::vector<uint32_t> words;
  for (const Ipv4Address& address : addresses) words.push_back(net::swap32(net::load<uint32_t>(address.data())));
  return words;
}

}  // namespace

Engine::Impl::Impl(EngineOptions options)
    : options_(checked(options)),
      owns_eal_(start_eal(options_.eal_args)),
      lcores_(worker_lcores(options_)),
      worker_count_(std::max(1u, static_cast<unsigned>(lcores_.size()))),
      ports_(options_, worker_count_, owns_eal_),
      rcu_(worker_count_ + 2),  // workers, whoever lists or explains flows, and the pair's thread
      reclaimer_(rcu_),
      generations_(options_.max_vnis),
      flows_(options_.flow_table_size, rcu_),
      flow_limits_(options_.flow_timeouts, options_.flow_quota),
      nat_ports_(options_.max_nat_flows),
      underlay_(reclaimer_, options_.max_underlay_addresses),
      addresses_(options_.underlay, options_.underlay_type_byte, options_.underlay_static, random_word()),
      public_addresses_([this](std::function<void()> action) { reclaimer_.defer(std::move(action)); },
                        options_.max_public_addresses, options_.max_neighbor_nats),
      load_balancers_({options_.max_load_balancers, options_.max_load_balancer_targets, options_.maglev_size}),
      balancer_slots_(options_.max_load_balancers),
      vnis_(reclaimer_, generations_, options_.max_vnis, options_.max_routes_per_vni),
      shared_{options_,
              ports_,
              flows_,
              flow_limits_,
              nat_ports_,
              {ports_, underlay_, generations_, public_addresses_, balancer_slots_, options_,
               net::load<uint64_t>(options_.underlay.data()), net::load<uint64_t>(options_.underlay.data() + 8)},
              rcu_,
              clock_,
              host_order(options_.dhcp_dns),
              options_.dhcpv6_dns,
              {}},
      uuid_(random_uuid()) {
  // What is only forwarded never takes more than half of the table; beyond that it goes on without entries.
  for (const Port* uplink : ports_.uplinks())
    flow_limits_.set(uplink->id, options_.flow_timeouts, options_.flow_table_size / 2);
  for (uint32_t slot = options_.max_load_balancers; slot > 0; --slot)
    free_balancer_slots_.push_back(static_cast<uint16_t>(slot - 1));
  make_pair();
  for (unsigned id = 0; id < worker_count_; ++id) workers_.push_back(std::make_unique<Worker>(id, shared_));
  for (auto& worker : workers_) shared_.workers.push_back(worker.get());
  publish_poll_lists();
  for (const Port* uplink : ports_.uplinks())
    if (uplink->max_frame < net::kEthLen + options_.dhcp_mtu + net::kOverlayLen)
      IRONCORE_LOG(WARNING,
                   "uplink %s sends frames of %u bytes at most: guests with an MTU of %u will be told to send less",
                   uplink->netdev_name.c_str(), uplink->max_frame, options_.dhcp_mtu);
}

Engine::Impl::~Impl() {
  stop();
  for (auto& worker : workers_) delete worker->poll_list();
  for (Port* port : ports_.all()) {
    delete port->interface.exchange(nullptr);
    delete port->meters.exchange(nullptr);
  }
  workers_.clear();
  reclaimer_.run_all();
}

void Engine::Impl::start() {
  std::lock_guard lock(mutex_);
  if (started_) throw EngineError("engine was started before");
  ports_.start_uplinks();
  started_ = true;
  const auto entry = [](void* argument) {
    auto* worker = static_cast<std::pair<Worker*, std::atomic<bool>*>*>(argument);
    worker->first->run(*worker->second);
    delete worker;
    return 0;
  };
  for (unsigned id = 0; id < worker_count_; ++id) {
    auto* argument = new std::pair(workers_[id].get(), &stop_workers_);
    if (lcores_.empty()) {
      worker_threads_.emplace_back([entry, argument] {
        rte_thread_register();  // for the buffer pool's per-thread cache; works without, only slower
        entry(argument);
        rte_thread_unregister();
      });
    } else if (rte_eal_remote_launch(entry, argument, lcores_[id]) != 0) {
      delete argument;
      throw EngineError("lcore " + std::to_string(lcores_[id]) + " is busy");
    }
  }
  housekeeping_ = std::thread([this] { run_housekeeping(); });
  if (options_.follow_uplink_neighbour) follow_neighbours();
  if (pair_) pair_->start();
}

void Engine::Impl::follow_neighbours() {
  std::vector<uplink::Uplink> followed;
  std::vector<unsigned> pf_index;
  for (const Port* port : ports_.uplinks()) {
    if (!port->if_index) continue;
    uplink::Uplink uplink{static_cast<int>(port->if_index), AtomicMac::unpack(port->own_mac)};
    // Behind a TAP the kernel's own side is the router.
    if (options_.nic_type == NicType::kTap) uplink.own_mac.reset();
    followed.push_back(uplink);
    pf_index.push_back(port->pf_index);
  }
  if (followed.empty()) return;
  try {
    neighbours_ = std::make_unique<uplink::NeighbourFollower>(
        followed, [this, pf_index](unsigned index, const std::optional<MacAddress>& mac) {
          set_uplink_neighbour(pf_index.at(index), mac);
        });
  } catch (const std::system_error& error) {
    throw EngineError(std::string("cannot follow the uplink router's MAC: ") + error.what());
  }
}

void Engine::Impl::stop() {
  {
    std::lock_guard lock(mutex_);
    if (!started_ || stopped_) return;
    stopped_ = true;
    stop_housekeeping_ = true;
  }
  if (pair_) pair_->stop();
  housekeeping_wake_.notify_all();
  neighbours_.reset();
  if (housekeeping_.joinable()) housekeeping_.join();
  stop_workers_.store(true);
  for (auto& thread : worker_threads_) thread.join();
  for (unsigned lcore : lcores_) rte_eal_wait_lcore(lcore);
  std::lock_guard lock(mutex_);
  reclaimer_.run_all();
  ports_.stop_all();
}

Engine::Engine(EngineOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Engine::~Engine() = default;

void Engine::start() { impl_->start(); }
void Engine::stop() { impl_->stop(); }
Result<std::string> Engine::initialize() { return impl_->initialize(); }
std::optional<std::string> Engine::check_initialized() const { return impl_->check_initialized(); }
const std::string& Engine::version() const { return impl_->options().version; }

Result<CreateInterfaceReply> Engine::create_interface(const CreateInterfaceRequest& request) {
  return impl_->create_interface(request);
}
Result<InterfaceInfo> Engine::get_interface(std::string_view id) const { return impl_->get_interface(id); }
std::vector<InterfaceInfo> Engine::list_interfaces() const { return impl_->list_interfaces(); }
Status Engine::delete_interface(std::string_view id) { return impl_->delete_interface(id); }

Result<Ipv6Address> Engine::create_prefix(std::string_view id, const IpPrefix& prefix,
                                          const std::optional<Ipv6Address>& preferred_underlay) {
  return impl_->create_prefix(id, prefix, preferred_underlay);
}
Status Engine::delete_prefix(std::string_view id, const IpPrefix& prefix) { return impl_->delete_prefix(id, prefix); }
Result<std::vector<PrefixInfo>> Engine::list_prefixes(std::string_view id) const {
  return impl_->list_prefixes(id, UnderlayType::kPrefix);
}
Result<Ipv6Address> Engine::create_lb_prefix(std::string_view id, const IpPrefix& prefix,
                                             const std::optional<Ipv6Address>& preferred_underlay) {
  return impl_->create_lb_prefix(id, prefix, preferred_underlay);
}
Status Engine::delete_lb_prefix(std::string_view id, const IpPrefix& prefix) {
  return impl_->delete_lb_prefix(id, prefix);
}
Result<std::vector<PrefixInfo>> Engine::list_lb_prefixes(std::string_view id) const {
  return impl_->list_prefixes(id, UnderlayType::kLbPrefix);
}

Result<Ipv6Address> Engine::create_vip(std::string_view id, const IpAddress& vip,
                                       const std::optional<Ipv6Address>& preferred_underlay) {
  return impl_->create_vip(id, vip, preferred_underlay);
}
Result<VipInfo> Engine::get_vip(std::string_view id) const { return impl_->get_vip(id); }
Status Engine::delete_vip(std::string_view id) { return impl_->delete_vip(id); }
Result<Ipv6Address> Engine::create_nat(std::string_view id, const IpAddress& nat_ip, uint16_t min_port,
                                       uint16_t max_port, const std::optional<Ipv6Address>& preferred_underlay) {
  return impl_->create_nat(id, nat_ip, min_port, max_port, preferred_underlay);
}
Result<NatInfo> Engine::get_nat(std::string_view id) const { return impl_->get_nat(id); }
Status Engine::delete_nat(std::string_view id) { return impl_->delete_nat(id); }
Result<std::vector<LocalNatInfo>> Engine::list_local_nats(const IpAddress& nat_ip) const {
  return impl_->list_local_nats(nat_ip);
}
Status Engine::create_neighbor_nat(const NeighborNat& nat) { return impl_->create_neighbor_nat(nat); }
Status Engine::delete_neighbor_nat(const IpAddress& nat_ip, uint32_t vni, uint16_t min_port, uint16_t max_port) {
  return impl_->delete_neighbor_nat(nat_ip, vni, min_port, max_port);
}
Result<std::vector<NeighborNat>> Engine::list_neighbor_nats(const IpAddress& nat_ip) const {
  return impl_->list_neighbor_nats(nat_ip);
}

Result<Ipv6Address> Engine::create_load_balancer(std::string_view lb_id, uint32_t vni, const IpAddress& ip,
                                                 const std::vector<LoadBalancerPort>& ports,
                                                 const std::optional<Ipv6Address>& preferred_underlay) {
  return impl_->create_load_balancer(lb_id, vni, ip, ports, preferred_underlay);
}
Result<LoadBalancerInfo> Engine::get_load_balancer(std::string_view lb_id) const {
  return impl_->get_load_balancer(lb_id);
}
std::vector<LoadBalancerInfo> Engine::list_load_balancers() const { return impl_->list_load_balancers(); }
Status Engine::delete_load_balancer(std::string_view lb_id) { return impl_->delete_load_balancer(lb_id); }
Status Engine::create_load_balancer_target(std::string_view lb_id, const IpAddress& target) {
  return impl_->create_load_balancer_target(lb_id, target);
}
Status Engine::delete_load_balancer_target(std::string_view lb_id, const IpAddress& target) {
  return impl_->delete_load_balancer_target(lb_id, target);
}
Result<std::vector<Ipv6Address>> Engine::list_load_balancer_targets(std::string_view lb_id) const {
  return impl_->list_load_balancer_targets(lb_id);
}

Status Engine::create_firewall_rule(std::string_view id, const FirewallRule& rule) {
  return impl_->create_firewall_rule(id, rule);
}
Result<FirewallRuleInfo> Engine::get_firewall_rule(std::string_view id, std::string_view rule_id) const {
  return impl_->get_firewall_rule(id, rule_id);
}
Status Engine::delete_firewall_rule(std::string_view id, std::string_view rule_id) {
  return impl_->delete_firewall_rule(id, rule_id);
}
Result<std::vector<FirewallRuleInfo>> Engine::list_firewall_rules(std::string_view id) const {
  return impl_->list_firewall_rules(id);
}

Status Engine::create_route(uint32_t vni, const IpPrefix& prefix, uint32_t nexthop_vni, const IpAddress& nexthop) {
  return impl_->create_route(vni, prefix, nexthop_vni, nexthop);
}
Status Engine::delete_route(uint32_t vni, const IpPrefix& prefix, const std::optional<Ipv6Address>& nexthop) {
  return impl_->delete_route(vni, prefix, nexthop);
}
Result<std::vector<RouteInfo>> Engine::list_routes(uint32_t vni) const { return impl_->list_routes(vni); }
Result<bool> Engine::check_vni_in_use(uint32_t vni, VniType type) const { return impl_->check_vni_in_use(vni, type); }
Status Engine::reset_vni(uint32_t vni, VniType type) { return impl_->reset_vni(vni, type); }

bool Engine::preferred_underlay_allowed(const Ipv6Address& address) const {
  return impl_->preferred_underlay_allowed(address);
}
void Engine::set_uplink_neighbour(unsigned pf_index, const std::optional<MacAddress>& mac) {
  impl_->set_uplink_neighbour(pf_index, mac);
}
void Engine::announce() { impl_->announce(); }
EngineCounters Engine::counters() const { return impl_->counters(); }
HaState Engine::ha_state() const { return impl_->ha_state(); }
void Engine::resign() { impl_->resign(); }

}  // namespace ironcore
