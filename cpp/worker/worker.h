// A worker: receives, forwards and transmits without ever handing a packet on, except uplink packets of devices that
// cannot spread them over workers themselves.
#pragma once

#include <rte_mbuf.h>
#include <rte_ring.h>

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "core/clock.h"
#include "flow/connections.h"
#include "flow/decide.h"
#include "guest/guest.h"
#include "translate/rewrite.h"
#include "virtsvc/registry.h"
#include "worker/stats.h"
#include "worker/virtual_service.h"

namespace ironcore {

namespace overlay {
struct TooBigNotice;
}
namespace trace {
class Session;
enum class Node : uint8_t;
}  // namespace trace

// What all workers share.
struct WorkerShared {
  const EngineOptions& options;
  Ports& ports;
  FlowTable& flows;
  FlowLimits& flow_limits;
  NatPorts& nat_ports;
  const TableView tables;
  Rcu& rcu;
  Clock& clock;
  std::vector<uint32_t> dns4;
  std::vector<guest::Ipv6> dns6;
  std::vector<class Worker*> workers;                   // filled before any of them runs
  virtsvc::Registry* virtual_services = nullptr;        // null: none are configured
  std::atomic<trace::Session*> trace_session{nullptr};  // null: nobody traces
  FlowObserver* observer = nullptr;                     // set before any worker is made
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

  // What is to be done with a packet that no valid entry answers for.
  struct Resolution {
    DropReason drop = kNoDrop;
    bool answer_echo = false;
    FlowContent content;
    FlowEntry* entry = nullptr;  // of a flow that was decided again
  };
  class TakePorts;
  // Gives clients slots, and tells who wants to know.
  class TakeSlots final : public SlotChoice {
   public:
    TakeSlots(Tick now, FlowObserver* observer) : now_(now), observer_(observer) {}
    std::optional<uint16_t> slot_for(virtsvc::Service& service, const virtsvc::Client& client) override;

   private:
    const Tick now_;
    FlowObserver* const observer_;
  };

  void receive_from_vm(Port& port, rte_mbuf** frames, unsigned count);
  void receive_from_uplink(Port& port, rte_mbuf** frames, unsigned count, bool spread);
  void take_from_uplink(Port& port, rte_mbuf** frames, unsigned count, bool spread);
  void forward(Port& port, const InterfaceView* from, Burst& burst);
  bool is_current(const FlowEntry& entry) const {
    return generations_[entry.generation_index.load(std::memory_order_relaxed)].load(std::memory_order_acquire) ==
           entry.generation.load(std::memory_order_relaxed);
  }
  void note_use(FlowEntry& entry, const rte_mbuf* frame, const ParsedPacket& packet) {
    if (packet.tcp_flags && tcp_needs_tracking(entry, packet.tcp_flags)) track(entry, packet.tcp_flags);
    if (entry.last_used.load(std::memory_order_relaxed) != tick_)
      entry.last_used.store(tick_, std::memory_order_relaxed);
    entry.packets.increment();
    entry.bytes.add(frame->pkt_len);
  }

  // Slow path.
  void track(FlowEntry& entry, uint8_t tcp_flags);
  void learn_vm_mac(Port& port, const MacAddress& mac);
  void forward_slowly(Port& port, const InterfaceView* from, Burst& burst, unsigned at, FlowEntry* stale);
  void forward_unusual(Port& port, const InterfaceView* from, Burst& burst, unsigned at, FlowEntry* entry);
  void forward_error(Port& port, const InterfaceView* from, Burst& burst, unsigned at, FlowEntry* entry);
  Resolution resolve(Port& port, const InterfaceView* from, Burst& burst, unsigned at, FlowEntry* stale);
  bool resolve_again(FlowEntry& stale, const FlowKey& key, Resolution& resolution);
  Decision decide(const FlowKey& key, const InterfaceView* from, const FlowContent* before, TakePorts& ports);
  Decision decide_again(const FlowEntry& original, TakePorts& ports);
  bool is_answer_to(const FlowEntry& original, const FlowKey& key);
  void begin(Burst& burst, unsigned at, const Decision& decision, TakePorts& ports, Resolution& resolution);
  bool serve_guest(Port& port, const InterfaceView& from, rte_mbuf* frame);  // true: the frame is done with
  void answer_echo(Port& port, rte_mbuf* frame, const ParsedPacket& packet);
  void too_big(Port& port, rte_mbuf* frame, const ParsedPacket& packet, uint32_t mtu);

  // What an uplink brings without overlay: answers of virtual services, errors of routers.
  bool take_plain(Port& port, rte_mbuf* frame, FlowKey& key, ParsedPacket& packet);  // false: the frame is done with
  void take_underlay_error(Port& port, rte_mbuf* frame);
  bool write_relayed(const overlay::TooBigNotice& notice, const InterfaceView& from, uint8_t* start,
                     rte_mbuf* error) const;
  std::optional<FlowContent> flow_towards_sender(const overlay::TooBigNotice& notice, const InterfaceView& from,
                                                 FlowKey key) const;

  // Virtual services.
  void execute_virtual(Port& port, const FlowProgram& program, VirtualFlow flow, rte_mbuf* frame,
                       const ParsedPacket& packet);
  void to_server(Port& port, const FlowProgram& program, virtsvc::Service& service, uint16_t slot, rte_mbuf* frame,
                 const ParsedPacket& packet, translate::PacketView& view);
  void to_client(Port& port, virtsvc::Service& service, uint16_t slot, rte_mbuf* frame, const ParsedPacket& packet,
                 translate::PacketView& view);

  // Capture: copies of received frames, sent after what is forwarded.
  void capture(CaptureSink& sink, rte_mbuf* const* frames, unsigned count);
  void send_copies();

  // Trace; only while trace_ is set.
  void trace_received(Port& port, rte_mbuf* const* frames, unsigned count);
  void trace_sent(uint16_t port, rte_mbuf* const* frames, unsigned count);
  void trace_drop(const Port& port, const rte_mbuf* frame, DropReason reason);
  void trace_hits(Port& port, const Burst& burst);
  void trace_path(const Port& port, const rte_mbuf* frame, const FlowProgram& program,
                  const translate::Rewrite& rewrite, bool decided);
  void trace_steps(const Port& port, const rte_mbuf* frame, std::span<const trace::Node> path, uint16_t out);
  void trace_answer(const Port& port, const rte_mbuf* request, rte_mbuf* answer);

  // Output.
  void execute(Port& port, const FlowProgram& program, const translate::Rewrite& rewrite, rte_mbuf* frame,
               const ParsedPacket& packet);
  bool within_rate(Port& port, uint8_t features, uint32_t bytes);
  void deliver(Port& port, const FlowProgram& program, rte_mbuf* frame, uint8_t* ip);
  void encapsulate(Port& port, Port& out, const FlowProgram& program, rte_mbuf* frame, uint8_t* ip, uint16_t ip_length);
  void loop(Port& port, const FlowProgram& program, rte_mbuf* frame, uint8_t* ip, uint16_t ip_length);
  void send(Port& port, rte_mbuf* frame);
  void flush(uint16_t port);
  void flush_all();
  void drop(Port& port, rte_mbuf* frame, DropReason reason);
  void drain_loop();
  void update_time();
  unsigned drain_rings();
  void idle(uint64_t idle_since);

  const unsigned id_;
  WorkerShared& shared_;
  FlowTable& flows_;
  const std::atomic<uint32_t>* const generations_;
  const TableView& tables_;
  Port* ports_[RTE_MAX_ETHPORTS] = {};
  WorkerStats stats_;
  Connections connections_;
  std::vector<std::pair<Port*, rte_mbuf*>> looped_;  // to underlay addresses of this host
  uint64_t now_ = 0;                                 // TSC at the start of the round
  uint64_t next_tick_at_ = 0;
  Tick tick_ = 0;
  bool aging_left_ = false;
  trace::Session* trace_ = nullptr;  // of this round
  bool trace_nodes_ = false;
  uint16_t virtual_ip_id_ = 0;
  std::vector<std::pair<CaptureSink*, rte_mbuf*>> copies_;
  unsigned icmp_budget_ = 0;  // errors that may be sent until the next tick
  std::atomic<const PollList*> poll_list_{nullptr};
  rte_ring* handed_over_;  // uplink frames from other workers
  rte_ring* injected_;     // frames made outside of workers
  std::unique_ptr<TxBuffer[]> tx_ = std::make_unique<TxBuffer[]>(RTE_MAX_ETHPORTS);
  std::vector<uint16_t> tx_pending_;
};

}  // namespace ironcore
