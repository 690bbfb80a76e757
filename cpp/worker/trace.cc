// What a worker tells whoever traces. None of it runs while nobody does.
#include "trace/session.h"
#include "worker/burst.h"

namespace ironcore {

using trace::Node;

void Worker::trace_received(Port& port, rte_mbuf* const* frames, unsigned count) {
  trace_->number(frames, count);
  for (unsigned i = 0; i < count; ++i)
    trace_->record({TraceEvent::kRx, Node::kNone, Node::kReceive, port.id, 0}, *frames[i]);
}

void Worker::trace_sent(uint16_t port, rte_mbuf* const* frames, unsigned count) {
  for (unsigned i = 0; i < count; ++i)
    trace_->record({TraceEvent::kTx, Node::kTransmit, Node::kNone, port, port}, *frames[i]);
}

void Worker::trace_drop(const Port& port, const rte_mbuf* frame, DropReason reason) {
  if (trace_->drops())
    trace_->record({TraceEvent::kDrop, trace::node_of(reason), Node::kNone, port.id, port.id, reason}, *frame);
}

// Packets whose flow is known; those of others are traced when they have been decided.
void Worker::trace_hits(Port& port, const Burst& burst) {
  for (unsigned i = 0; i < burst.count; ++i) {
    const FlowEntry* entry = flows_.verify(burst.candidate[i], burst.key[i], burst.hash[i]);
    if (entry && is_current(*entry) && burst.packet[i].kind == PacketKind::kWhole)
      trace_path(port, burst.frame[i], entry->program, entry->rewrite, false);
  }
}

// The steps of a packet, with the bytes that came in. `decided`: by this packet, not by an earlier one of its flow.
void Worker::trace_path(const Port& port, const rte_mbuf* frame, const FlowProgram& program,
                        const translate::Rewrite& rewrite, bool decided) {
  using translate::RewriteKind;
  const auto* start = rte_pktmbuf_mtod(frame, const uint8_t*);
  const uint8_t* ip = start + net::kEthLen + (port.is_uplink ? net::kOverlayLen : 0);
  const bool rewrites = program.features & kRewrite;
  Node path[12];
  unsigned steps = 0;
  const auto step = [&](bool taken, Node node) {
    if (taken) path[steps++] = node;
  };
  const bool is_virtual = program.action == Action::kVirtualService;
  const bool leaves = program.action == Action::kEncap || program.action == Action::kLoop;
  step(true, Node::kReceive);
  step(true, Node::kClassify);
  step(is_virtual, Node::kVirtualService);
  step(!is_virtual && port.is_uplink, Node::kDecapsulate);
  step(!is_virtual, Node::kFlow);
  step(rewrites && (rewrite.kind == RewriteKind::kDestination || rewrite.kind == RewriteKind::kFourToSix),
       Node::kDestination);
  step(leaves && port.is_uplink, Node::kRelay);
  step(!is_virtual && decided, ip[0] >> 4 == 4 ? Node::kRoute4 : Node::kRoute6);
  step(rewrites && (rewrite.kind == RewriteKind::kSource || rewrite.kind == RewriteKind::kSixToFour), Node::kSource);
  step(!is_virtual && decided, Node::kFirewall);
  step(leaves, Node::kEncapsulate);
  step(program.action != Action::kLoop, Node::kTransmit);
  const bool to_uplink = leaves || (is_virtual && !port.is_uplink);
  const Port* uplink = program.uplink == kIngressUplink ? &port : tables_.ports.uplink(program.uplink);
  trace_steps(port, frame, {path, steps}, to_uplink ? (uplink ? uplink->id : port.id) : program.out_port);
}

void Worker::trace_steps(const Port& port, const rte_mbuf* frame, std::span<const Node> path, uint16_t out) {
  for (size_t i = 0; i + 1 < path.size(); ++i)
    trace_->record({TraceEvent::kNode, path[i], path[i + 1], port.id, out}, *frame);
}

// An answer of the gateway goes on under the number of its request.
void Worker::trace_answer(const Port& port, const rte_mbuf* request, rte_mbuf* answer) {
  trace_->follow(*request, *answer);
  if (!trace_->nodes()) return;
  const auto* start = rte_pktmbuf_mtod(request, const uint8_t*);
  const uint16_t type = net::load<uint16_t>(start + 12);
  const uint8_t* ip = start + net::kEthLen;
  const Node service = type == net::kEtherArp    ? Node::kArp
                       : type == net::kEtherIpv4 ? (ip[9] == net::kUdp ? Node::kDhcp4 : Node::kFlow)
                       : ip[6] == net::kUdp      ? Node::kDhcp6
                                                 : Node::kNeighbourDiscovery;
  const Node by_flow[] = {Node::kReceive, Node::kClassify, Node::kFlow, service, Node::kTransmit};
  const Node direct[] = {Node::kReceive, Node::kClassify, service, Node::kTransmit};
  const bool dhcp = service == Node::kDhcp4 || service == Node::kDhcp6;
  trace_steps(port, request, dhcp ? std::span<const Node>(by_flow) : direct, port.id);
}

}  // namespace ironcore
