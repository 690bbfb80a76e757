// What the workers counted, gathered without disturbing them.
#include <rte_cycles.h>

#include "control/impl.h"

namespace ironcore {

EngineCounters Engine::Impl::counters() const {
  Call call(*this);
  EngineCounters all;
  all.tsc_hz = rte_get_tsc_hz();
  for (const auto& worker : workers_) {
    const WorkerStats& stats = worker->stats();
    WorkerCounters counters;
    counters.lcore = lcores_.empty() ? 0 : lcores_[worker->id()];
    counters.packets = stats.packets.get();
    counters.slow_path = stats.slow_path.get();
    counters.polls = stats.polls.get();
    counters.busy_cycles = stats.busy_cycles.get();
    counters.sleeps = stats.sleeps.get();
    counters.flows_created = stats.flows_created.get();
    counters.flows_redecided = stats.flows_redecided.get();
    counters.flows_expired = stats.flows_expired.get();
    counters.flows_evicted = stats.flows_evicted.get();
    counters.flow_table_full = stats.flow_table_full.get();
    counters.firewall_would_drop = stats.firewall_would_drop.get();
    all.workers.push_back(counters);
  }
  std::map<uint16_t, std::string> interface_of;
  for (const auto& [id, interface] : interfaces_) interface_of[interface.port->id] = id;
  for (const Port* port : ports_.all()) {
    PortCounters counters;
    counters.device_name = port->device_name;
    counters.netdev_name = port->netdev_name;
    counters.is_uplink = port->is_uplink;
    counters.link_up = port->link_up.load(std::memory_order_relaxed);
    counters.neighbour_known = (port->peer.load() & AtomicMac::kKnown) != 0;
    counters.interface_id = interface_of[port->id];
    for (const auto& worker : workers_) {
      const PortStats& stats = worker->stats().ports[port->id];
      counters.rx_packets += stats.rx_packets.get();
      counters.rx_bytes += stats.rx_bytes.get();
      counters.tx_packets += stats.tx_packets.get();
      counters.tx_bytes += stats.tx_bytes.get();
      for (size_t reason = 0; reason < kDropReasonCount; ++reason) counters.drops[reason] += stats.drops[reason].get();
    }
    for (size_t reason = 0; reason < kDropReasonCount; ++reason) all.drops[reason] += counters.drops[reason];
    all.ports.push_back(std::move(counters));
  }
  all.tables = table_levels();
  if (pair_) all.ha = pair_->counters();
  all.ha.discarded = discarded_;
  return all;
}

std::vector<TableLevel> Engine::Impl::table_levels() const {
  size_t routes = 0;
  for (const auto& [number, vni] : vnis_.all()) routes += vni->routes.size();
  return {
      {"flows", flows_.size(), flows_.capacity()},
      {"underlay_addresses", underlay_.size(), underlay_.capacity()},
      {"vnis", vnis_.all().size(), vnis_.capacity()},
      {"routes", routes, 0},
      {"nat_flows", nat_ports_.size(), nat_ports_.capacity()},
      {"public_addresses", public_addresses_.size(), public_addresses_.capacity()},
      {"neighbor_nats", public_addresses_.neighbor_count(), options_.max_neighbor_nats},
      {"load_balancers", load_balancers_.size(), load_balancers_.capacity()},
      {"load_balancer_targets", load_balancers_.target_count(), 0},
      {"interfaces", interfaces_.size(), ports_.vm_ports().size()},
      {"packet_buffers", rte_mempool_in_use_count(ports_.pool()), ports_.pool()->size},
  };
}

}  // namespace ironcore
