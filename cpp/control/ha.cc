// One of two engines on a host: the pair's thread and how this one begins to receive.
#include <rte_ethdev.h>

#include "control/impl.h"

namespace ironcore {
namespace {

constexpr unsigned kDiscardBurst = 32, kDiscardRounds = 256;

}  // namespace

void Engine::Impl::make_pair() {
  if (options_.active_lockfile.empty() && options_.sync_tap.empty()) return;
  pair_ = std::make_unique<ha::Pair>(ha::PairParts{options_, shared_.tables, ports_, flows_, flow_limits_, nat_ports_,
                                                   virtual_services_.get(), rcu_, worker_count_ + 1, clock_, owns_eal_,
                                                   [this] { take_over(); }});
  shared_.observer = pair_->observer();
}

HaState Engine::Impl::ha_state() const { return pair_ ? pair_->state() : HaState::kActive; }

// What devices have kept for a standby was for the engine before it, which has dealt with it or is gone.
size_t Engine::Impl::discard_waiting(const Port& port) {
  size_t count = 0;
  if (!port.started) return count;
  for (uint16_t queue = 0; queue < port.rx_queues; ++queue)
    for (unsigned round = 0; round < kDiscardRounds; ++round) {
      rte_mbuf* frames[kDiscardBurst];
      const uint16_t received = rte_eth_rx_burst(port.id, queue, frames, kDiscardBurst);
      rte_pktmbuf_free_bulk(frames, received);
      count += received;
      if (received == 0) break;
    }
  return count;
}

void Engine::Impl::take_over() {
  Call call(*this);
  if (receives_) return;
  for (const Port* port : ports_.all()) discarded_ += discard_waiting(*port);
  receives_ = true;
  publish_poll_lists();
  events_.add(EventType::kRoleChanged, "active");
  // VMs learn at once where their gateway is now.
  for (const auto& [id, interface] : interfaces_) announce_to(interface);
}

void Engine::Impl::resign() {
  if (!pair_) return;
  pair_->stop();
  Call call(*this);
  receives_ = false;
  publish_poll_lists();
}

}  // namespace ironcore
