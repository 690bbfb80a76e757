// The loop around the packet path: polling, transmitting, time, sleep.
#include "worker/worker.h"

#include <rte_errno.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>

#include "core/log.h"

namespace ironcore {
namespace {

constexpr unsigned kRingSize = 1024;
constexpr unsigned kAgingBudget = 64;        // flows looked at per round
constexpr unsigned kIcmpErrorsPerTick = 10;  // 100 per second
constexpr uint64_t kSpinMicroseconds = 30;   // polls this long after the last packet before it sleeps
constexpr long kShortestSleepNs = 10'000;
// The longer there was no packet, the longer the sleeps: an engine that nobody uses must cost next to nothing, and a
// wake costs some ten microseconds of a virtual machine.
struct SleepLimit {
  uint64_t idle_microseconds;
  long sleep_ns;
};
constexpr SleepLimit kSleepLimits[] = {{1'000'000, 1'000'000}, {200'000, 500'000}, {0, 200'000}};

rte_ring* create_ring(const char* what) {
  static std::atomic<unsigned> serial{0};
  const std::string name = std::string("ironcore_") + what + std::to_string(serial++);
  rte_ring* ring = rte_ring_create(name.c_str(), kRingSize, SOCKET_ID_ANY, RING_F_SC_DEQ);
  if (!ring) throw EngineError("cannot create ring " + name + ": " + rte_strerror(rte_errno));
  return ring;
}

void drain(rte_ring* ring) {
  void* frame;
  while (rte_ring_sc_dequeue(ring, &frame) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(frame));
  rte_ring_free(ring);
}

}  // namespace

Worker::Worker(unsigned id, WorkerShared& shared)
    : id_(id),
      shared_(shared),
      flows_(shared.flows),
      generations_(shared.tables.generations.data()),
      tables_(shared.tables),
      connections_(shared.flows, shared.nat_ports, shared.flow_limits, stats_.flows_expired, stats_.flows_evicted,
                   shared.observer),
      handed_over_(create_ring("handover")),
      injected_(create_ring("inject")) {
  for (Port* port : shared.ports.all()) ports_[port->id] = port;
}

Worker::~Worker() {
  for (uint16_t port : tx_pending_)
    for (unsigned i = 0; i < tx_[port].count; ++i) rte_pktmbuf_free(tx_[port].frames[i]);
  for (const auto& [port, frame] : looped_) rte_pktmbuf_free(frame);
  drain(handed_over_);
  drain(injected_);
}

bool Worker::inject(Port& port, rte_mbuf* frame) {
  frame->port = port.id;
  return rte_ring_mp_enqueue(injected_, frame) == 0;
}

bool Worker::hand_over(Port& received_on, rte_mbuf* frame) {
  frame->port = received_on.id;
  return rte_ring_mp_enqueue(handed_over_, frame) == 0;
}

unsigned Worker::drain_rings() {
  rte_mbuf* frames[kBurst];
  unsigned seen = 0;
  if (!rte_ring_empty(injected_)) {
    const unsigned count = rte_ring_sc_dequeue_burst(injected_, reinterpret_cast<void**>(frames), kBurst, nullptr);
    for (unsigned i = 0; i < count; ++i) {
      Port& port = *ports_[frames[i]->port];
      if (port.interface.load(std::memory_order_acquire)) {
        send(port, frames[i]);
      } else {
        drop(port, frames[i], DropReason::interface_gone);
      }
    }
    seen += count;
  }
  if (!rte_ring_empty(handed_over_)) {
    const unsigned count = rte_ring_sc_dequeue_burst(handed_over_, reinterpret_cast<void**>(frames), kBurst, nullptr);
    // In order, split where the port changes.
    for (unsigned first = 0, i = 1; i <= count; ++i) {
      if (i < count && frames[i]->port == frames[first]->port) continue;
      receive_from_uplink(*ports_[frames[first]->port], frames + first, i - first, false);
      first = i;
    }
    seen += count;
  }
  return seen;
}

// Packets to addresses of this host go on as if an uplink had brought them; they cannot come here again.
void Worker::drain_loop() {
  for (auto& [port, frame] : looped_) take_from_uplink(*port, &frame, 1, false);
  looped_.clear();
}

void Worker::update_time() {
  now_ = shared_.clock.now();
  if (now_ < next_tick_at_) [[likely]] {
    if (!aging_left_) return;
  } else {
    tick_ = shared_.clock.tick_of(now_);
    next_tick_at_ = now_ + shared_.clock.cycles_per_tick() / 2;
    icmp_budget_ = kIcmpErrorsPerTick;
    connections_.recycle();
  }
  aging_left_ = connections_.age(tick_, kAgingBudget);
}

unsigned Worker::poll() {
  update_time();
  stats_.polls.increment();
  unsigned seen = drain_rings();
  if (const PollList* list = poll_list_.load(std::memory_order_acquire)) {
    const bool spread = shared_.workers.size() > 1;
    for (const auto& [port, queue] : list->sources) {
      rte_mbuf* frames[kBurst];
      const unsigned count = rte_eth_rx_burst(port->id, queue, frames, kBurst);
      if (count == 0) continue;
      seen += count;
      if (port->is_uplink) {
        receive_from_uplink(*port, frames, count, spread && port->rx_queues == 1);
      } else {
        receive_from_vm(*port, frames, count);
      }
    }
  }
  if (!looped_.empty()) drain_loop();
  if (!tx_pending_.empty()) flush_all();
  if (seen) stats_.packets.add(seen);
  return seen;
}

void Worker::flush_all() {
  for (uint16_t port : tx_pending_)
    if (tx_[port].count) flush(port);
  tx_pending_.clear();
}

void Worker::flush(uint16_t id) {
  Port& port = *ports_[id];
  TxBuffer& buffer = tx_[id];
  uint64_t bytes = 0;
  // Lengths are read before the device owns the frames.
  for (unsigned i = 0; i < buffer.count; ++i) bytes += buffer.frames[i]->pkt_len;
  const uint16_t wanted = static_cast<uint16_t>(buffer.count);
  if (port.shared_tx_queue) rte_spinlock_lock(&port.tx_lock);
  const uint16_t queue = port.tx_queue(id_);
  uint16_t sent = rte_eth_tx_burst(id, queue, buffer.frames, wanted);
  // Once more: software devices free their queue in the course of the first call.
  if (sent < wanted) [[unlikely]]
    sent = static_cast<uint16_t>(
        sent + rte_eth_tx_burst(id, queue, buffer.frames + sent, static_cast<uint16_t>(wanted - sent)));
  if (port.shared_tx_queue) rte_spinlock_unlock(&port.tx_lock);
  for (unsigned i = sent; i < wanted; ++i) {
    bytes -= buffer.frames[i]->pkt_len;
    drop(port, buffer.frames[i], DropReason::tx_full);
  }
  buffer.count = 0;
  PortStats& stats = stats_.ports[id];
  stats.tx_packets.add(sent);
  stats.tx_bytes.add(bytes);
}

void Worker::drop(Port& port, rte_mbuf* frame, DropReason reason) {
  stats_.ports[port.id].drops[static_cast<size_t>(reason)].increment();
  rte_pktmbuf_free(frame);
}

void Worker::idle(uint64_t idle_since) {
  const uint64_t microsecond = rte_get_tsc_hz() / 1'000'000;
  const uint64_t idle_for = now_ > idle_since ? (now_ - idle_since) / microsecond : 0;
  if (idle_for < kSpinMicroseconds) {
    rte_pause();
    return;
  }
  const auto* limit = kSleepLimits;
  while (idle_for < limit->idle_microseconds) ++limit;
  // Half as long as it has been idle already: a worker between two bursts loses little.
  const long wanted = static_cast<long>(std::min<uint64_t>(idle_for, 1'000'000)) * 1000 / 2;
  const timespec duration{0, std::clamp(wanted, kShortestSleepNs, limit->sleep_ns)};
  shared_.rcu.offline(id_);
  nanosleep(&duration, nullptr);
  shared_.rcu.online(id_);
  stats_.sleeps.increment();
}

void Worker::run(const std::atomic<bool>& stop) {
  prctl(PR_SET_TIMERSLACK, 1000);  // nanoseconds; the default would add 50 us to each sleep
  shared_.rcu.enter(id_);
  const bool adaptive = shared_.options.poll_mode == PollMode::kAdaptive;
  uint64_t idle_since = shared_.clock.now();
  bool was_busy = false;
  uint64_t round_start = 0;
  while (!stop.load(std::memory_order_relaxed)) {
    const unsigned seen = poll();
    if (was_busy) stats_.busy_cycles.add(now_ - round_start);
    round_start = now_;
    was_busy = seen > 0;
    shared_.rcu.quiescent(id_);
    if (seen) {
      idle_since = now_;
    } else if (adaptive) {
      idle(idle_since);
    }
  }
  shared_.rcu.leave(id_);
}

}  // namespace ironcore
