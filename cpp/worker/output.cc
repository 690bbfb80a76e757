// Executes flow programs: rate, size, rewriting, headers, queue.
#include "overlay/outer_header.h"
#include "worker/burst.h"
#include "worker/packet_steps.h"

namespace ironcore {
namespace {

// Lets the frame begin at `start`, in front of or behind where it begins now.
void begin_at(rte_mbuf* frame, uint8_t* start) {
  const auto moved = static_cast<int32_t>(start - rte_pktmbuf_mtod(frame, uint8_t*));
  frame->data_off = static_cast<uint16_t>(frame->data_off + moved);
  frame->data_len = static_cast<uint16_t>(frame->data_len - moved);
  frame->pkt_len = static_cast<uint32_t>(static_cast<int32_t>(frame->pkt_len) - moved);
}

bool has_room(const rte_mbuf* frame, const uint8_t* ip, size_t bytes) {
  return ip - static_cast<const uint8_t*>(frame->buf_addr) >= static_cast<ptrdiff_t>(bytes);
}

}  // namespace

void Worker::execute(Port& port, const FlowProgram& program, const translate::Rewrite& rewrite, rte_mbuf* frame,
                     const ParsedPacket& packet) {
  auto* ip = rte_pktmbuf_mtod(frame, uint8_t*) + packet.l3;
  uint16_t ip_length = packet.ip_length;
  Port* out = nullptr;
  // Sizes first: the sender is told about the packet as it was.
  if (program.action == Action::kEncap) {
    DropReason why = kNoDrop;
    out = uplink_for(tables_.ports, program, port, why);
    if (!out) [[unlikely]] {
      drop(port, frame, why);
      return;
    }
    const int32_t room = room_inside(*out, program, rewrite);
    if (static_cast<int32_t>(frame->pkt_len - packet.l3) > room) [[unlikely]] {
      too_big(port, frame, packet, static_cast<uint32_t>(room));
      return;
    }
  }
  if (program.features) [[unlikely]] {
    if (!within_rate(port, program.features, packet.ip_length)) {
      drop(port, frame, DropReason::metered);
      return;
    }
    if (program.features & kRewrite) {
      translate::PacketView view =
          view_of(static_cast<uint8_t*>(frame->buf_addr), rte_pktmbuf_mtod(frame, uint8_t*), packet);
      if (translate::apply(rewrite, view) != translate::Outcome::kOk) [[unlikely]] {
        drop(port, frame, DropReason::not_translatable);
        return;
      }
      ip = view.ip;
      ip_length = static_cast<uint16_t>(view.length);
    }
  }
  switch (program.action) {
    case Action::kEncap:
      encapsulate(port, *out, program, frame, ip, ip_length);
      break;
    case Action::kDeliver:
      deliver(port, program, frame, ip);
      break;
    case Action::kLoop:
      loop(port, program, frame, ip, ip_length);
      break;
    case Action::kVirtualService:
      execute_virtual(port, program, VirtualFlow::of(rewrite), frame, packet);
      break;
  }
}

bool Worker::within_rate(Port& port, uint8_t features, uint32_t bytes) {
  if (!(features & (kMeterTotal | kMeterPublic)) || port.is_uplink) return true;
  PortMeters* meters = port.meters.load(std::memory_order_acquire);
  if (!meters) return true;
  if ((features & kMeterPublic) && !meters->public_.allow(now_, bytes)) return false;
  return !(features & kMeterTotal) || meters->total.allow(now_, bytes);
}

void Worker::deliver(Port& port, const FlowProgram& program, rte_mbuf* frame, uint8_t* ip) {
  Port& out = *ports_[program.out_port];
  const uint16_t type = ip[0] >> 4 == 4 ? net::kEtherIpv4 : net::kEtherIpv6;
  begin_at(frame, ip - net::kEthLen);
  if (frame->pkt_len > out.max_frame) [[unlikely]] {
    drop(port, frame, DropReason::packet_too_big);
    return;
  }
  overlay::write_ethernet(ip - net::kEthLen, out.peer.load(), out.own_mac, type);
  send(out, frame);
}

void Worker::encapsulate(Port& port, Port& out, const FlowProgram& program, rte_mbuf* frame, uint8_t* ip,
                         uint16_t ip_length) {
  if (!has_room(frame, ip, kOuterHeaders)) [[unlikely]] {
    drop(port, frame, DropReason::headroom);
    return;
  }
  uint8_t* start = ip - kOuterHeaders;
  begin_at(frame, start);
  overlay::write_outer(start, out.peer.load(), out.own_mac, program.next_header, program.flow_label, ip_length,
                       tables_.host_prefix, program.outer_src_low, program.outer_dst);
  send(out, frame);
}

void Worker::loop(Port& port, const FlowProgram& program, rte_mbuf* frame, uint8_t* ip, uint16_t ip_length) {
  if (!has_room(frame, ip, kOuterHeaders)) [[unlikely]] {
    drop(port, frame, DropReason::headroom);
    return;
  }
  uint8_t* start = ip - kOuterHeaders;
  begin_at(frame, start);
  overlay::write_outer(start, 0, 0, program.next_header, 0, ip_length, tables_.host_prefix, program.outer_src_low,
                       program.outer_dst);
  looped_.emplace_back(
      tables_.ports.uplink(program.uplink) ? tables_.ports.uplink(program.uplink) : tables_.ports.uplink(0), frame);
}

void Worker::send(Port& port, rte_mbuf* frame) {
  TxBuffer& buffer = tx_[port.id];
  if (buffer.count == 0) tx_pending_.push_back(port.id);
  buffer.frames[buffer.count++] = frame;
  if (buffer.count == std::size(buffer.frames)) flush(port.id);
}

}  // namespace ironcore
