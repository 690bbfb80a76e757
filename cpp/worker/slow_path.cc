// First packets of flows, and packets of flows whose tables have changed.
#include "overlay/echo.h"
#include "overlay/too_big.h"
#include "trace/session.h"
#include "translate/icmp_error.h"
#include "worker/burst.h"
#include "worker/packet_steps.h"

namespace ironcore {

// Gives decisions NAT ports, and remembers which one is new: it goes back if its flow does not begin.
class Worker::TakePorts final : public NatPortChoice {
 public:
  explicit TakePorts(NatPorts& ports) : ports_(ports) {}

  std::optional<uint16_t> port_for(const NatSource& source, const NatDestination& destination,
                                   const NatRange& range) override {
    const NatPort taken = ports_.allocate(source, destination, range);
    if (taken.outcome == NatOutcome::kCreated) created_ = {source, destination, range.address, taken.port};
    return taken.ok() ? std::optional(taken.port) : std::nullopt;
  }

  void give_back() {
    if (created_) ports_.release(*created_);
    created_.reset();
  }

 private:
  NatPorts& ports_;
  std::optional<NatMapping> created_;
};

void Worker::forward_slowly(Port& port, const InterfaceView* from, Burst& burst, unsigned at, FlowEntry* stale) {
  rte_mbuf* frame = burst.frame[at];
  stats_.slow_path.increment();
  if (from && concerns_gateway(burst.key[at]) && serve_guest(port, *from, frame)) return;
  const Resolution resolution = resolve(port, from, burst, at, stale);
  if (resolution.drop != kNoDrop) {
    drop(port, frame, resolution.drop);
  } else if (resolution.answer_echo) {
    answer_echo(port, frame, burst.packet[at]);
  } else {
    if (trace_nodes_) trace_path(port, frame, resolution.content.program, resolution.content.rewrite, true);
    execute(port, resolution.content.program, resolution.content.rewrite, frame, burst.packet[at]);
  }
}

Decision Worker::decide(const FlowKey& key, const InterfaceView* from, const FlowContent* before, TakePorts& ports) {
  if (shared_.virtual_services) {
    TakeSlots slots(tick_, shared_.observer);
    if (auto decision = decide_virtual(tables_, *shared_.virtual_services, slots, from, key))
      return *std::move(decision);
  }
  const DecisionContext context{tables_, ports, before};
  return decide_flow(context, from, key);
}

Worker::Resolution Worker::resolve(Port& port, const InterfaceView* from, Burst& burst, unsigned at, FlowEntry* stale) {
  const FlowKey& key = burst.key[at];
  Resolution resolution;
  if (from && tables_.options.antispoof && has_spoofed_mac(port, rte_pktmbuf_mtod(burst.frame[at], const uint8_t*))) {
    resolution.drop = DropReason::spoofed_mac;
    return resolution;
  }
  if (stale) {
    stats_.flows_redecided.increment();
    if (resolve_again(*stale, key, resolution)) {
      const ParsedPacket& packet = burst.packet[at];
      if (resolution.entry && packet.kind != PacketKind::kIcmpError)
        note_use(*resolution.entry, burst.frame[at], packet);
      return resolution;
    }
  }
  TakePorts ports(shared_.nat_ports);
  const Decision decision = decide(key, from, nullptr, ports);
  if (decision.would_drop && decision.drop == kNoDrop) stats_.firewall_would_drop.increment();
  resolution.drop = decision.drop;
  resolution.answer_echo = decision.answer_echo;
  resolution.content = decision.forward.content;
  if (decision.drop != kNoDrop || decision.answer_echo) {
    // Not remembered: a flood of forged packets must not fill the table, and deciding is cheap.
    ports.give_back();
    return resolution;
  }
  begin(burst, at, decision, ports, resolution);
  return resolution;
}

// The first direction of a connection, as the tables are now.
Decision Worker::decide_again(const FlowEntry& original, TakePorts& ports) {
  const bool from_vm = original.key.side == Side::kVm;
  const InterfaceView* sender = from_vm ? sender_of(tables_.ports, original.key, original.owner.port) : nullptr;
  if (from_vm && !sender) {
    Decision gone;
    gone.drop = DropReason::interface_gone;
    return gone;
  }
  const FlowContent before = content_of(original);
  return decide(original.key, sender, &before, ports);
}

bool Worker::is_answer_to(const FlowEntry& original, const FlowKey& key) {
  TakePorts ports(shared_.nat_ports);
  const Decision decision = decide_again(original, ports);
  ports.give_back();
  return decision.drop == kNoDrop && decision.has_reply && same_flow(decision.reply_key, key);
}

// Decides the connection of an entry anew, from its first direction. False: the packet is to be decided like a first
// one.
bool Worker::resolve_again(FlowEntry& stale, const FlowKey& key, Resolution& resolution) {
  const bool is_reply = stale.is_reply.load(std::memory_order_relaxed);
  FlowEntry* original = is_reply ? flows_.get(stale.peer()) : &stale;
  if (!original || key.fragment) {
    connections_.end(stale);
    return false;
  }
  TakePorts ports(shared_.nat_ports);
  const Decision decision = decide_again(*original, ports);
  if (decision.drop != kNoDrop || decision.answer_echo) {
    ports.give_back();
    connections_.end(*original);
    resolution.drop = decision.drop;
    return !is_reply && !decision.answer_echo;
  }
  const auto [renewed, reply] = connections_.update(*original, decision, tick_);
  if (!renewed) ports.give_back();
  resolution.entry = is_reply ? reply : renewed;
  if (!is_reply) {
    resolution.content = decision.forward.content;
    return true;
  }
  if (!reply || !same_flow(reply->key, key)) return false;
  resolution.content = content_of(*reply);
  return true;
}

// Enters a new flow, counts its first packet, and refuses it if it cannot do without an entry.
void Worker::begin(Burst& burst, unsigned at, const Decision& decision, TakePorts& ports, Resolution& resolution) {
  const FlowKey& key = burst.key[at];
  const ParsedPacket& packet = burst.packet[at];
  // ICMP errors are of other flows, fragments have their own entries, and the gateway looks at each packet that might
  // be for it.
  if (packet.kind == PacketKind::kIcmpError || packet.kind == PacketKind::kLaterFragment ||
      (key.side == Side::kVm && concerns_gateway(key))) {
    ports.give_back();
    return;
  }
  for (const auto& [hits, rule] : decision.rule_hits) hits->count(rule);
  const auto begun = connections_.begin(key, burst.hash[at], decision, tick_,
                                        [&](const FlowEntry& original) { return is_answer_to(original, key); });
  if (begun.created) stats_.flows_created.increment();
  if (begun.entry) {
    note_use(*begun.entry, burst.frame[at], packet);
    return;
  }
  ports.give_back();
  // What is neither translated nor guarded, and what only passes through, can be decided packet by packet.
  const FlowContent& content = decision.forward.content;
  if (begun.refusal == Connections::Refusal::kTableFull) stats_.flow_table_full.increment();
  if (content.owner.one_way) return;
  if (begun.refusal == Connections::Refusal::kQuota) {
    resolution.drop = DropReason::flow_quota;
  } else if (content.rewrite.kind != translate::RewriteKind::kNone || !decision.rule_hits.empty()) {
    resolution.drop = DropReason::flow_table_full;
  }
}

// Fragments and ICMP errors.
void Worker::forward_unusual(Port& port, const InterfaceView* from, Burst& burst, unsigned at, FlowEntry* entry) {
  const ParsedPacket& packet = burst.packet[at];
  rte_mbuf* frame = burst.frame[at];
  if (packet.kind == PacketKind::kIcmpError) {
    forward_error(port, from, burst, at, entry);
    return;
  }
  FlowContent content;
  if (entry && is_current(*entry)) {
    content = content_of(*entry);
    note_use(*entry, frame, packet);
  } else {
    stats_.slow_path.increment();
    if (from && concerns_gateway(burst.key[at]) && serve_guest(port, *from, frame)) return;
    const Resolution resolution = resolve(port, from, burst, at, entry);
    if (resolution.drop != kNoDrop || resolution.answer_echo) {
      drop(port, frame, resolution.drop != kNoDrop ? resolution.drop : DropReason::fragment_unknown);
      return;
    }
    content = resolution.content;
    entry = flows_.find(burst.key[at], burst.hash[at]);
  }
  if (packet.kind == PacketKind::kFirstFragment && entry)
    connections_.remember_fragments(later_fragment_key(rte_pktmbuf_mtod(frame, const uint8_t*), burst.key[at], packet),
                                    content, entry->generation_index.load(std::memory_order_relaxed),
                                    entry->generation.load(std::memory_order_relaxed), tick_);
  if (trace_nodes_) trace_path(port, frame, content.program, content.rewrite, false);
  execute(port, content.program, content.rewrite, frame, packet);
}

// An error goes the way of the flow that it is about, if only because this host knows who has that flow. Without one it
// is a packet like others. It begins no flow.
void Worker::forward_error(Port& port, const InterfaceView* from, Burst& burst, unsigned at, FlowEntry* entry) {
  ParsedPacket& packet = burst.packet[at];
  rte_mbuf* frame = burst.frame[at];
  auto* start = rte_pktmbuf_mtod(frame, uint8_t*);
  stats_.slow_path.increment();
  const FlowKey outer = error_key(start, burst.key[at], packet);
  if (from && tables_.options.antispoof && !from->source_underlay(outer)) {
    drop(port, frame, DropReason::spoofed_source);
    return;
  }
  Resolution resolution;
  if (entry && is_current(*entry)) {
    resolution.content = content_of(*entry);
  } else {
    if (!entry) burst.key[at] = stray_error_key(tables_, burst.key[at], outer);
    resolution = resolve(port, from, burst, at, entry);
    if (resolution.drop == kNoDrop && resolution.answer_echo) resolution.drop = DropReason::icmp_type_unsupported;
  }
  if (resolution.drop != kNoDrop) {
    drop(port, frame, resolution.drop);
    return;
  }
  FlowProgram program = resolution.content.program;
  if (trace_nodes_) trace_path(port, frame, program, resolution.content.rewrite, false);
  if (program.features & kRewrite) {
    program.features &= static_cast<uint8_t>(~kRewrite);
    translate::PacketView view = view_of(static_cast<uint8_t*>(frame->buf_addr), start, packet);
    if (translate::translate_icmp_error(resolution.content.rewrite, view) != translate::Outcome::kOk) {
      drop(port, frame, DropReason::not_translatable);
      return;
    }
    // The packet may begin elsewhere now, and be shorter.
    const auto moved = static_cast<int32_t>(view.ip - start);
    frame->pkt_len = frame->data_len = static_cast<uint16_t>(moved + static_cast<int32_t>(view.length));
    packet.l3 = static_cast<uint16_t>(moved);
    packet.ip_length = static_cast<uint16_t>(view.length);
  }
  execute(port, program, {}, frame, packet);
}

void Worker::learn_vm_mac(Port& port, const MacAddress& mac) {
  const uint64_t known = AtomicMac::pack(mac) | AtomicMac::kKnown;
  if (port.peer.load() == known) return;
  port.peer.store(known);
  if (shared_.observer) shared_.observer->vm_mac_learned(port.id, mac);
}

void Worker::track(FlowEntry& entry, uint8_t tcp_flags) {
  const FlowEntry* original = entry.is_reply.load(std::memory_order_relaxed) ? flows_.get(entry.peer()) : &entry;
  const uint8_t before = original ? original->tcp.load(std::memory_order_relaxed) : uint8_t{0};
  if (track_tcp(flows_, entry, tcp_flags)) connections_.closing(entry, tick_);
  if (shared_.observer && original && original->tcp.load(std::memory_order_relaxed) != before)
    shared_.observer->connection(ConnectionChange::kState, original->key, content_of(*original));
}

// Turns an echo request for a public address into its reply, back to whoever sent it here.
void Worker::answer_echo(Port& port, rte_mbuf* frame, const ParsedPacket& packet) {
  auto* start = rte_pktmbuf_mtod(frame, uint8_t*);
  const FlowProgram program = echo_reply_program(start, packet, tables_.host_low);
  overlay::turn_echo_into_reply(start + packet.l3, program.next_header == net::kIpv6InIp, start + packet.l4);
  execute(port, program, {}, frame, packet);
}

bool Worker::serve_guest(Port& port, const InterfaceView& from, rte_mbuf* frame) {
  rte_mbuf* reply = rte_pktmbuf_alloc(shared_.ports.pool());
  if (!reply) {
    drop(port, frame, DropReason::no_buffer);
    return true;
  }
  auto* out = rte_pktmbuf_mtod(reply, uint8_t*);
  const guest::GuestReply answer =
      guest::handle(guest_config(shared_, port, from), {rte_pktmbuf_mtod(frame, uint8_t*), frame->data_len},
                    {out, rte_pktmbuf_tailroom(reply)});
  if (answer.learned_vm_mac) learn_vm_mac(port, *answer.learned_vm_mac);
  if (answer.verdict == guest::Verdict::kReply) {
    reply->data_len = static_cast<uint16_t>(answer.length);
    reply->pkt_len = static_cast<uint32_t>(answer.length);
    if (trace_) trace_answer(port, frame, reply);
    send(port, reply);
    rte_pktmbuf_free(frame);
    return true;
  }
  rte_pktmbuf_free(reply);
  switch (answer.verdict) {
    case guest::Verdict::kNotForUs:
      return false;
    case guest::Verdict::kDrop:
      drop(port, frame, drop_reason_of(answer.drop));
      return true;
    case guest::Verdict::kConsumed:
    case guest::Verdict::kReply:
      break;
  }
  rte_pktmbuf_free(frame);
  return true;
}

void Worker::too_big(Port& port, rte_mbuf* frame, const ParsedPacket& packet, uint32_t mtu) {
  const InterfaceView* from = port.is_uplink ? nullptr : port.interface.load(std::memory_order_acquire);
  rte_mbuf* reply = from && icmp_budget_ > 0 ? rte_pktmbuf_alloc(shared_.ports.pool()) : nullptr;
  if (reply) {
    const size_t length = overlay::write_too_big({rte_pktmbuf_mtod(frame, const uint8_t*), frame->data_len}, packet.l3,
                                                 packet.ip_length, mtu, AtomicMac::unpack(port.own_mac),
                                                 {rte_pktmbuf_mtod(reply, uint8_t*), rte_pktmbuf_tailroom(reply)});
    if (length > 0) {
      --icmp_budget_;
      reply->data_len = static_cast<uint16_t>(length);
      reply->pkt_len = static_cast<uint32_t>(length);
      if (trace_) trace_->follow(*frame, *reply);
      send(port, reply);
    } else {
      rte_pktmbuf_free(reply);
    }
  }
  drop(port, frame, DropReason::packet_too_big);
}

}  // namespace ironcore
