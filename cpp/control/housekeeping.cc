// Periodic work outside of workers: announcements to VMs, uplink state, and what earlier calls left to let go of.
#include <chrono>

#include "control/impl.h"
#include "core/log.h"

namespace ironcore {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kRound{250};       // between looks at the uplinks
constexpr milliseconds kReclaimRound{1};  // while something waits for a grace period
constexpr std::chrono::seconds kShortInterval{5}, kLongInterval{30};

}  // namespace

void Engine::Impl::run_housekeeping() {
  std::unique_lock lock(mutex_);
  auto next_announcement = steady_clock::now() + kShortInterval;
  auto next_link_check = steady_clock::now();
  while (!stop_housekeeping_) {
    const size_t pending = reclaimer_.run_due();
    const auto now = steady_clock::now();
    if (now >= next_link_check) {
      for (Port* uplink : ports_.uplinks())
        if (ports_.refresh_link(*uplink))
          events_.add(uplink->link_up.load() ? EventType::kLinkUp : EventType::kLinkDown, uplink->netdev_name);
      note_table_levels();
      flows_.populate_ahead();
      if (nat_ports_.size() > 0) nat_ports_.populate_ahead();
      next_link_check = now + kRound;
    }
    // At once, so that a VM answers and its MAC is known: after a restart of the engine its packets wait for that.
    for (const std::string& id : to_announce_)
      if (const Interface* interface = find(id)) announce_to(*interface);
    to_announce_.clear();
    if (now >= next_announcement) {
      for (const auto& [id, interface] : interfaces_) announce_to(interface);
      const bool seldom = initialized_ && short_announcements_left_ == 0;
      if (initialized_ && short_announcements_left_ > 0) --short_announcements_left_;
      next_announcement = now + (seldom ? kLongInterval : kShortInterval);
    }
    housekeeping_wake_.wait_for(lock, pending ? kReclaimRound : kRound);
  }
}

void Engine::Impl::announce() {
  Call call(*this);
  for (const auto& [id, interface] : interfaces_) announce_to(interface);
}

void Engine::Impl::announce_to(const Interface& interface) {
  Port& port = *interface.port;
  Worker& worker = *workers_[port.id % worker_count_];
  const guest::GuestConfig config = guest_config(shared_, port, *port.interface.load(std::memory_order_relaxed));
  for (const auto frame_of : {guest::periodic_ra, guest::periodic_na, guest::periodic_garp}) {
    rte_mbuf* frame = rte_pktmbuf_alloc(ports_.pool());
    if (!frame) return;
    const size_t length = frame_of(config, {rte_pktmbuf_mtod(frame, uint8_t*), rte_pktmbuf_tailroom(frame)});
    frame->data_len = static_cast<uint16_t>(length);
    frame->pkt_len = static_cast<uint32_t>(length);
    // The next round comes soon enough if the ring is full.
    if (length == 0 || !worker.inject(port, frame)) rte_pktmbuf_free(frame);
  }
}

void Engine::Impl::set_uplink_neighbour(unsigned pf_index, const std::optional<MacAddress>& mac) {
  Port* uplink = ports_.uplink(pf_index);
  if (!uplink) return;
  const uint64_t before = uplink->peer.load();
  uplink->peer.store(mac ? AtomicMac::pack(*mac) | AtomicMac::kKnown : 0);
  if (before != uplink->peer.load())
    events_.add(mac ? EventType::kNeighbourKnown : EventType::kNeighbourLost, uplink->netdev_name, 0,
                mac ? to_string(*mac) : std::string());
  IRONCORE_LOG(NOTICE, "uplink %s: router MAC is %s", uplink->netdev_name.c_str(),
               mac ? to_string(*mac).c_str() : "not known");
}

}  // namespace ironcore
