#include "explain/explain.h"

#include <rte_mbuf.h>

#include "overlay/echo.h"
#include "overlay/too_big.h"
#include "translate/icmp_error.h"
#include "worker/packet_steps.h"

namespace ironcore {
namespace {

// A frame in a buffer with headroom, as in a packet buffer.
class FrameCopy {
 public:
  explicit FrameCopy(const std::vector<uint8_t>& frame)
      : bytes_(RTE_PKTMBUF_HEADROOM + frame.size()), at_(RTE_PKTMBUF_HEADROOM) {
    std::copy(frame.begin(), frame.end(), bytes_.begin() + RTE_PKTMBUF_HEADROOM);
  }

  uint8_t* buffer() { return bytes_.data(); }
  uint8_t* start() { return bytes_.data() + at_; }
  size_t length() const { return bytes_.size() - at_; }
  bool has_room(const uint8_t* ip, size_t size) { return ip - buffer() >= static_cast<ptrdiff_t>(size); }
  void begin_at(const uint8_t* start) { at_ = static_cast<size_t>(start - buffer()); }
  void end_at(const uint8_t* end) { bytes_.resize(static_cast<size_t>(end - buffer())); }
  std::vector<uint8_t> contents() const { return {bytes_.begin() + static_cast<ptrdiff_t>(at_), bytes_.end()}; }

 private:
  std::vector<uint8_t> bytes_;
  size_t at_;
};

class PeekPorts final : public NatPortChoice {
 public:
  explicit PeekPorts(const NatPorts& ports) : ports_(ports) {}

  std::optional<uint16_t> port_for(const NatSource& source, const NatDestination& destination,
                                   const NatRange& range) override {
    const NatPort port = ports_.peek(source, destination, range);
    return port.ok() ? std::optional(port.port) : std::nullopt;
  }

 private:
  const NatPorts& ports_;
};

class PeekSlots final : public SlotChoice {
 public:
  explicit PeekSlots(Tick now) : now_(now) {}

  std::optional<uint16_t> slot_for(virtsvc::Service& service, const virtsvc::Client& client) override {
    return service.slots.peek(client, now_);
  }

 private:
  const Tick now_;
};

// What the rest of the path has to do.
struct Resolution {
  DropReason drop = kNoDrop;
  bool answer_echo = false;
  FlowContent content;
};

// One part of the packet's way. Every function returns once the verdict is known.
class Walk {
 public:
  Walk(const WorkerShared& shared, const FlowContext& flows, Port& port, FrameCopy& frame)
      : shared_(shared), flows_(flows), port_(port), frame_(frame) {}

  ExplainedPart run() {
    follow();
    return std::move(part_);
  }

 private:
  void note(std::string_view stage, std::string outcome) {
    part_.steps.push_back({std::string(stage), std::move(outcome)});
  }
  // `stage` empty: the decision has said so already.
  void drop(std::string_view stage, DropReason reason) {
    part_.verdict = PacketVerdict::kDropped;
    part_.drop = reason;
    if (stage.empty()) return;
    note(stage, "drop " + std::string(drop_reason_name(reason)) + ": " + std::string(drop_reason_description(reason)));
  }

  void follow();
  bool served(const InterfaceView& from);
  void follow_error(const InterfaceView* from);
  Resolution resolve(const InterfaceView* from);
  Resolution resolve_again(const FlowEntry& stale, bool& decided);
  Decision decide(const FlowKey& key, const InterfaceView* from, const FlowContent* before);
  void note_room(const Decision& decision);
  void use_flow();
  DropReason parse_from_uplink();
  void execute_virtual(const FlowProgram& program, VirtualFlow flow);
  void to_server(const FlowProgram& program, virtsvc::Service& service, uint16_t slot, translate::PacketView& view);
  void to_client(const virtsvc::Service& service, uint16_t slot, translate::PacketView& view);
  void frame_is(const translate::PacketView& view);
  void execute(const FlowProgram& program, const translate::Rewrite& rewrite);
  void too_big(uint32_t mtu);
  void finish(PacketVerdict verdict, const Port& out, uint16_t l3);

  const WorkerShared& shared_;
  const FlowContext& flows_;
  Port& port_;
  FrameCopy& frame_;
  ExplainedPart part_;
  FlowKey key_{};
  ParsedPacket packet_{};
  const FlowEntry* entry_ = nullptr;
};

PacketFields parsed_fields(const uint8_t* frame, const FlowKey& key, const ParsedPacket& packet) {
  return fields_of(packet.kind == PacketKind::kIcmpError ? error_key(frame, key, packet) : key);
}

void Walk::follow() {
  const InterfaceView* from = nullptr;
  DropReason reason;
  if (port_.is_uplink) {
    reason = parse_from_uplink();
  } else {
    from = port_.interface.load(std::memory_order_acquire);
    if (!from) return drop("receive", DropReason::no_interface);
    if (frame_.length() < net::kEthLen) return drop("parse", DropReason::truncated);
    key_.scope = from->instance;
    key_.side = Side::kVm;
    reason = parse_vm_frame(frame_.start(), frame_.length(), key_, packet_);
    const bool arp = net::load<uint16_t>(frame_.start() + 12) == net::kEtherArp;
    if (reason != kNoDrop && arp && served(*from)) return;
  }
  if (reason != kNoDrop) return drop("parse", reason);
  part_.before = parsed_fields(frame_.start(), key_, packet_);
  note("parse", to_string(part_.before) + (from ? " from interface " + flows_.names.interface(port_.id) + " in VNI " +
                                                      std::to_string(from->vni)
                                                : " on uplink " + port_.netdev_name + " to underlay address " +
                                                      to_string(underlay_address(flows_.host_prefix, key_.scope))));
  entry_ = flows_.flows.find(key_, flows_.flows.hash(key_));
  if (entry_) use_flow();
  if (packet_.kind == PacketKind::kIcmpError) return follow_error(from);
  Resolution resolution;
  if (part_.used_flow) {
    resolution.content = content_of(*entry_);
  } else {
    if (from && concerns_gateway(key_) && served(*from)) return;
    resolution = resolve(from);
    if (resolution.drop != kNoDrop) return drop("", resolution.drop);
    if (resolution.answer_echo) {
      if (packet_.is_fragment()) return drop("echo", DropReason::fragment_unknown);
      const FlowProgram program = echo_reply_program(frame_.start(), packet_, shared_.tables.host_low);
      overlay::turn_echo_into_reply(frame_.start() + packet_.l3, program.next_header == net::kIpv6InIp,
                                    frame_.start() + packet_.l4);
      return execute(program, {});
    }
  }
  execute(resolution.content.program, resolution.content.rewrite);
}

DropReason Walk::parse_from_uplink() {
  const uint64_t prefix = shared_.tables.host_prefix;
  const DropReason reason = parse_uplink_frame(frame_.start(), frame_.length(), prefix, key_, packet_);
  if (reason != DropReason::not_overlay || !shared_.virtual_services) return reason;
  return parse_answer(frame_.start(), frame_.length(), prefix, key_, packet_).value_or(reason);
}

// Tells about the packet's entry; if it is current, it answers for the packet.
void Walk::use_flow() {
  const FlowEntry* original = entry_;
  const bool is_reply = entry_->is_reply.load(std::memory_order_relaxed);
  if (const FlowEntry* peer = is_reply ? flows_.flows.get(entry_->peer()) : nullptr) original = peer;
  part_.flow = describe(flows_, *original);
  part_.used_flow = flows_.generations.get(entry_->generation_index.load(std::memory_order_relaxed)) ==
                    entry_->generation.load(std::memory_order_relaxed);
  const FlowDirectionInfo& mine = is_reply && original != entry_ ? *part_.flow->reply : part_.flow->original;
  note("flow", std::string(is_reply ? "answer of the flow " : "flow ")
                   .append(to_string(part_.flow->original.match))
                   .append(part_.used_flow ? ": " + to_string(mine.program)
                                           : ": decided before tables changed, decided again"));
}

// ARP, neighbour discovery, DHCP and ping of the gateway. False: ordinary traffic.
bool Walk::served(const InterfaceView& from) {
  std::vector<uint8_t> reply(rte_pktmbuf_data_room_size(shared_.ports.pool()) - RTE_PKTMBUF_HEADROOM);
  const guest::GuestReply answer =
      guest::handle(guest_config(shared_, port_, from), {frame_.start(), frame_.length()}, reply);
  if (answer.learned_vm_mac) note("guest service", "learns the VM's MAC " + to_string(*answer.learned_vm_mac));
  switch (answer.verdict) {
    case guest::Verdict::kNotForUs:
      return false;
    case guest::Verdict::kReply:
      reply.resize(answer.length);
      part_.reply = std::move(reply);
      part_.verdict = PacketVerdict::kAnswered;
      note("guest service", "answers");
      return true;
    case guest::Verdict::kConsumed:
      part_.verdict = PacketVerdict::kConsumed;
      note("guest service", "understands it and has nothing to answer");
      return true;
    case guest::Verdict::kDrop:
      drop("guest service", drop_reason_of(answer.drop));
      return true;
  }
  return false;
}

Decision Walk::decide(const FlowKey& key, const InterfaceView* from, const FlowContent* before) {
  if (shared_.virtual_services) {
    PeekSlots slots(flows_.now);
    if (auto decision = decide_virtual(shared_.tables, *shared_.virtual_services, slots, from, key)) {
      if (decision->drop != kNoDrop) drop("virtual service", decision->drop);
      return *std::move(decision);
    }
  }
  PeekPorts ports(shared_.nat_ports);
  DecisionLog log;
  const DecisionContext context{shared_.tables, ports, before, &log};
  Decision decision = decide_flow(context, from, key);
  for (auto& [stage, outcome] : log) note(stage, std::move(outcome));
  if (decision.would_drop && decision.drop == kNoDrop) note("firewall", "would drop it, but only observes");
  return decision;
}

Resolution Walk::resolve(const InterfaceView* from) {
  Resolution resolution;
  if (from && shared_.options.antispoof && has_spoofed_mac(port_, frame_.start())) {
    drop("source MAC", DropReason::spoofed_mac);
    resolution.drop = DropReason::spoofed_mac;
    return resolution;
  }
  if (entry_) {
    bool decided = false;
    resolution = resolve_again(*entry_, decided);
    if (decided) return resolution;
  }
  const Decision decision = decide(key_, from, nullptr);
  resolution.drop = decision.drop;
  resolution.answer_echo = decision.answer_echo;
  resolution.content = decision.forward.content;
  if (resolution.drop == kNoDrop && !resolution.answer_echo) note_room(decision);
  return resolution;
}

// The connection of an outdated entry is decided by its first direction. Not decided: the packet counts as a first one.
Resolution Walk::resolve_again(const FlowEntry& stale, bool& decided) {
  Resolution resolution;
  const bool is_reply = stale.is_reply.load(std::memory_order_relaxed);
  const FlowEntry* original = is_reply ? flows_.flows.get(stale.peer()) : &stale;
  if (!original || key_.fragment) return resolution;
  const bool from_vm = original->key.side == Side::kVm;
  const InterfaceView* sender =
      from_vm ? sender_of(shared_.tables.ports, original->key, original->owner.port) : nullptr;
  if (from_vm && !sender) {
    decided = !is_reply;
    if (decided) drop("flow", DropReason::interface_gone);
    resolution.drop = DropReason::interface_gone;
    return resolution;
  }
  const FlowContent before = content_of(*original);
  const Decision decision = decide(original->key, sender, &before);
  if (decision.drop != kNoDrop || decision.answer_echo) {
    resolution.drop = decision.drop;
    decided = !is_reply && !decision.answer_echo;
    if (!decided) note("flow", "the flow ends; the packet is decided by itself");
    return resolution;
  }
  if (!is_reply) {
    resolution.content = decision.forward.content;
    decided = true;
  } else if (decision.has_reply && same_flow(decision.reply_key, key_)) {
    resolution.content = decision.reply.content;
    decided = true;
  } else {
    note("flow", "no longer its answer; the packet is decided by itself");
  }
  return resolution;
}

// A new flow needs room. Whether another one makes some depends on all that exist.
void Walk::note_room(const Decision& decision) {
  if (packet_.kind == PacketKind::kIcmpError || packet_.kind == PacketKind::kLaterFragment) return;
  if (decision.forward.content.owner.one_way) return;  // goes on without an entry
  const uint16_t owner = decision.forward.content.owner.port;
  const uint32_t quota = shared_.flow_limits.quota(owner), connections = shared_.flow_limits.connections(owner);
  if (quota != 0 && connections >= quota)
    note("flow quota", std::to_string(connections) + " of " + std::to_string(quota) +
                           " flows: a short-lived one makes room, or this one is dropped (flow_quota)");
  if (flows_.flows.size() >= flows_.flows.capacity())
    note("flow table", "full: a short-lived flow makes room, or one that needs an entry is dropped (flow_table_full)");
}

// An error goes the way of the flow that it is about.
void Walk::follow_error(const InterfaceView* from) {
  const FlowKey outer = error_key(frame_.start(), key_, packet_);
  if (from && shared_.options.antispoof && !from->source_underlay(outer))
    return drop("source", DropReason::spoofed_source);
  Resolution resolution;
  if (part_.used_flow) {
    resolution.content = content_of(*entry_);
  } else {
    if (!entry_) key_ = stray_error_key(shared_.tables, key_, outer);
    resolution = resolve(from);
    if (resolution.drop != kNoDrop) return drop("", resolution.drop);
    if (resolution.answer_echo) return drop("echo", DropReason::icmp_type_unsupported);
  }
  FlowProgram program = resolution.content.program;
  if (program.features & kRewrite) {
    program.features &= static_cast<uint8_t>(~kRewrite);
    translate::PacketView view = view_of(frame_.buffer(), frame_.start(), packet_);
    if (translate::translate_icmp_error(resolution.content.rewrite, view) != translate::Outcome::kOk)
      return drop("translation", DropReason::not_translatable);
    note("translation", "the error and the packet it quotes");
    packet_.l3 = static_cast<uint16_t>(view.ip - frame_.start());
    packet_.ip_length = static_cast<uint16_t>(view.length);
    frame_.end_at(view.ip + view.length);
  }
  execute(program, {});
}

void Walk::execute_virtual(const FlowProgram& program, VirtualFlow flow) {
  if (packet_.kind == PacketKind::kIcmpError) return drop("virtual service", DropReason::not_translatable);
  virtsvc::Service& service = *shared_.virtual_services->services()[flow.service];
  translate::PacketView view = view_of(frame_.buffer(), frame_.start(), packet_);
  if (port_.is_uplink) return to_client(service, flow.slot, view);
  to_server(program, service, flow.slot, view);
}

void Walk::to_server(const FlowProgram& program, virtsvc::Service& service, uint16_t slot,
                     translate::PacketView& view) {
  DropReason why = kNoDrop;
  Port* out = uplink_for(shared_.tables.ports, program, port_, why);
  if (!out) return drop("uplink", why);
  const size_t room = room_for_request(*out, packet_);
  if (packet_.ip_length > room) return too_big(static_cast<uint32_t>(room));
  if (packet_.kind != PacketKind::kLaterFragment) {
    const virtsvc::Client client = client_of_request(port_, view);
    if (service.slots.client_of(slot) != client) {
      const auto assigned = PeekSlots(flows_.now).slot_for(service, client);
      if (!assigned) return drop("virtual service", DropReason::virtual_service_full);
      slot = *assigned;
    }
  }
  if (rewrite_request(view, service, slot) != translate::Outcome::kOk)
    return drop("virtual service", DropReason::not_translatable);
  note("virtual service", "to its server, without overlay, from port " +
                              std::to_string(virtsvc::ServiceSlots::port_of(slot)) + " of " +
                              to_string(service.underlay));
  frame_is(view);
  overlay::write_ethernet(frame_.start(), out->peer.load(), out->own_mac, net::kEtherIpv6);
  finish(PacketVerdict::kSent, *out, net::kEthLen);
}

void Walk::to_client(const virtsvc::Service& service, uint16_t slot, translate::PacketView& view) {
  const auto [client, out] = receiver_of_answer(shared_.tables.ports, service, slot);
  if (!out) return drop("virtual service", DropReason::virtual_service_unknown);
  if (rewrite_answer(view, service, client, 0) != translate::Outcome::kOk)
    return drop("virtual service", DropReason::not_translatable);
  note("virtual service", "to its client, as from " + to_string(service.config.virtual_address));
  frame_is(view);
  if (frame_.length() > out->max_frame) return drop("delivery", DropReason::packet_too_big);
  overlay::write_ethernet(frame_.start(), out->peer.load(), out->own_mac, net::kEtherIpv4);
  finish(PacketVerdict::kDelivered, *out, net::kEthLen);
}

// The packet has another extent now.
void Walk::frame_is(const translate::PacketView& view) {
  frame_.end_at(view.ip + view.length);
  frame_.begin_at(view.ip - net::kEthLen);
}

void Walk::execute(const FlowProgram& program, const translate::Rewrite& rewrite) {
  if (program.action == Action::kVirtualService) return execute_virtual(program, VirtualFlow::of(rewrite));
  uint8_t* ip = frame_.start() + packet_.l3;
  uint16_t ip_length = packet_.ip_length;
  Port* out = nullptr;
  if (program.action == Action::kEncap) {
    DropReason why = kNoDrop;
    out = uplink_for(shared_.tables.ports, program, port_, why);
    if (!out) return drop("uplink", why);
    const int32_t room = room_inside(*out, program, rewrite);
    if (static_cast<int32_t>(frame_.length() - packet_.l3) > room) return too_big(static_cast<uint32_t>(room));
  }
  if (!port_.is_uplink && (program.features & (kMeterTotal | kMeterPublic)))
    note("rate", std::string("counts against the ") + (program.features & kMeterPublic ? "public" : "total") +
                     " rate of its interface, beyond which it is dropped (metered)");
  if (program.features & kRewrite) {
    translate::PacketView view = view_of(frame_.buffer(), frame_.start(), packet_);
    if (translate::apply(rewrite, view) != translate::Outcome::kOk)
      return drop("translation", DropReason::not_translatable);
    ip = view.ip;
    ip_length = static_cast<uint16_t>(view.length);
  }
  if (program.action == Action::kDeliver) {
    const Port& to = *shared_.tables.ports.by_id(program.out_port);
    const uint16_t type = ip[0] >> 4 == 4 ? net::kEtherIpv4 : net::kEtherIpv6;
    frame_.begin_at(ip - net::kEthLen);
    if (frame_.length() > to.max_frame) return drop("delivery", DropReason::packet_too_big);
    overlay::write_ethernet(frame_.start(), to.peer.load(), to.own_mac, type);
    return finish(PacketVerdict::kDelivered, to, net::kEthLen);
  }
  if (!frame_.has_room(ip, kOuterHeaders)) return drop("encapsulation", DropReason::headroom);
  frame_.begin_at(ip - kOuterHeaders);
  const bool loop = program.action == Action::kLoop;
  overlay::write_outer(frame_.start(), loop ? 0 : out->peer.load(), loop ? 0 : out->own_mac, program.next_header,
                       loop ? uint16_t{0} : program.flow_label, ip_length, shared_.tables.host_prefix,
                       program.outer_src_low, program.outer_dst);
  if (loop) {
    const Port* on = shared_.tables.ports.uplink(program.uplink);
    return finish(PacketVerdict::kLooped, on ? *on : *shared_.tables.ports.uplink(0), kOuterHeaders);
  }
  finish(PacketVerdict::kSent, *out, kOuterHeaders);
}

void Walk::too_big(uint32_t mtu) {
  drop("size", DropReason::packet_too_big);
  if (port_.is_uplink || !port_.interface.load(std::memory_order_acquire)) return;
  std::vector<uint8_t> reply(rte_pktmbuf_data_room_size(shared_.ports.pool()) - RTE_PKTMBUF_HEADROOM);
  reply.resize(overlay::write_too_big({frame_.start(), frame_.length()}, packet_.l3, packet_.ip_length, mtu,
                                      AtomicMac::unpack(port_.own_mac), reply));
  if (!reply.empty()) note("size", "the VM is told that " + std::to_string(mtu) + " bytes would fit");
  part_.reply = std::move(reply);
}

void Walk::finish(PacketVerdict verdict, const Port& out, uint16_t l3) {
  part_.verdict = verdict;
  part_.output = frame_.contents();
  part_.device = out.netdev_name;
  if (!out.is_uplink) part_.interface_id = flows_.names.interface(out.id);
  FlowKey key{};
  ParsedPacket packet{};
  const bool is_v6 = frame_.start()[l3] >> 4 == 6;
  const DropReason reason = is_v6 ? parse_ipv6(frame_.start(), l3, frame_.length(), key, packet)
                                  : parse_ipv4(frame_.start(), l3, frame_.length(), key, packet);
  if (reason == kNoDrop) part_.after = parsed_fields(frame_.start(), key, packet);
  if (part_.after != part_.before) note("rewrite", to_string(part_.after));
  if (verdict == PacketVerdict::kDelivered)
    return note("output", "to device " + out.netdev_name + " of interface " + part_.interface_id);
  Ipv6Address target;
  std::memcpy(target.data(), frame_.start() + net::kEthLen + 24, target.size());
  note("output", (verdict == PacketVerdict::kLooped ? "back to this host, " : "by uplink " + out.netdev_name + ", ") +
                     std::string(l3 == kOuterHeaders ? "outer destination " : "destination ") + to_string(target));
}

}  // namespace

Explanation explain(const WorkerShared& shared, const FlowContext& flows, Port& port,
                    const std::vector<uint8_t>& frame) {
  Explanation parts;
  FrameCopy copy(frame);
  parts.push_back(Walk(shared, flows, port, copy).run());
  if (parts.back().verdict != PacketVerdict::kLooped) return parts;
  // As on the worker: on the uplink that the program would prefer.
  for (Port* uplink : shared.tables.ports.uplinks())
    if (uplink->netdev_name == parts.front().device) {
      parts.push_back(Walk(shared, flows, *uplink, copy).run());
      break;
    }
  return parts;
}

}  // namespace ironcore
