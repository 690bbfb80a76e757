// A worker: receives, forwards and transmits without ever handing a packet on, except uplink packets of devices that
// cannot spread them over workers themselves.
#pragma once

#include <rte_mbuf.h>
#include <rte_ring.h>

#include <atomic>
#include <memory>
#include <vector>

#include "core/clock.h"
#include "flow/ager.h"
#include "flow/decide.h"
#include "flow/table.h"
#include "guest/guest.h"
#include "worker/stats.h"

namespace ironcore {

// What all workers share.
struct WorkerShared {
  const EngineOptions& options;
  Ports& ports;
  FlowTable& flows;
  const Generations& generations;
  const UnderlayRegistry& underlay;
  Rcu& rcu;
  Clock& clock;
  uint64_t host_prefix;  // upper half of underlay addresses, as it lies in memory
  std::vector<uint32_t> dns4;
  std::vector<guest::Ipv6> dns6;
  std::vector<class Worker*> workers;  // filled before any of them runs
};

// What guest services answer on this interface at present; holds views into all three.
guest::GuestConfig guest_config(const WorkerShared& shared, const Port& port, const InterfaceView& interface);

// Queues that a worker polls; replaced as a whole when interfaces come and go.
struct PollList {
  struct Source {
    Port* port;
    uint16_t queue;
  };
  std::vector<Source> sources;
};

class Worker {
 public:
  Worker(unsigned id, WorkerShared& shared);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void run(const std::atomic<bool>& stop);  // in the worker's thread, until `stop`
  unsigned poll();                          // one round over all queues; returns packets seen

  // From any thread.
  void set_poll_list(const PollList* list) { poll_list_.store(list, std::memory_order_release); }
  const PollList* poll_list() const { return poll_list_.load(std::memory_order_acquire); }
  bool inject(Port& port, rte_mbuf* frame);            // to be sent on a port; false: ring full, frame is the caller's
  bool hand_over(Port& received_on, rte_mbuf* frame);  // an uplink frame whose flows are this worker's
  const WorkerStats& stats() const { return stats_; }
  unsigned id() const { return id_; }

  static constexpr unsigned kBurst = 32;

 private:
  struct Burst;
  struct TxBuffer {
    unsigned count = 0;
    rte_mbuf* frames[2 * kBurst];
  };

  void receive_from_vm(Port& port, rte_mbuf** frames, unsigned count);
  void receive_from_uplink(Port& port, rte_mbuf** frames, unsigned count, bool spread);
  void forward(Port& port, const InterfaceView* from, Burst& burst);
  void decide_and_forward(Port& port, const InterfaceView* from, Burst& burst, unsigned at, FlowEntry* stale);
  FlowEntry* remember(const FlowKey& key, uint64_t hash, const Decision& decision, FlowEntry* stale);
  bool serve_guest(Port& port, const InterfaceView& from, rte_mbuf* frame);  // true: the frame is done with

  void execute(Port& port, const FlowProgram& program, rte_mbuf* frame, const ParsedPacket& packet);
  void encapsulate(Port& port, const FlowProgram& program, rte_mbuf* frame, const ParsedPacket& packet);
  void too_big(Port& port, rte_mbuf* frame, const ParsedPacket& packet, uint32_t mtu);
  void send(Port& port, rte_mbuf* frame);
  void flush(uint16_t port);
  void flush_all();
  void drop(Port& port, rte_mbuf* frame, DropReason reason);
  void update_time();
  unsigned drain_rings();
  void idle(uint64_t idle_since);

  const unsigned id_;
  WorkerShared& shared_;
  FlowTable& flows_;
  const std::atomic<uint32_t>* const generations_;
  const TableView tables_;
  Port* ports_[RTE_MAX_ETHPORTS] = {};
  FlowPool pool_;
  FlowAger ager_;
  uint64_t now_ = 0;  // TSC at the start of the round
  uint64_t next_tick_at_ = 0;
  Tick tick_ = 0;
  bool aging_left_ = false;
  unsigned icmp_budget_ = 0;  // errors that may be sent until the next tick
  std::atomic<const PollList*> poll_list_{nullptr};
  rte_ring* handed_over_;  // uplink frames from other workers
  rte_ring* injected_;     // frames made outside of workers
  std::unique_ptr<TxBuffer[]> tx_ = std::make_unique<TxBuffer[]>(RTE_MAX_ETHPORTS);
  std::vector<uint16_t> tx_pending_;
  WorkerStats stats_;
};

}  // namespace ironcore
