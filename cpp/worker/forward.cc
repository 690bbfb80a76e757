// The path of every packet: parse, look up, execute.
#include <rte_prefetch.h>

#include "net/checksum.h"
#include "overlay/outer_header.h"
#include "worker/burst.h"

namespace ironcore {
namespace {

constexpr unsigned kPrefetchFrames = 4;
constexpr size_t kInnerStart = net::kEthLen + net::kOverlayLen;

const uint8_t* data_of(const rte_mbuf* frame) { return rte_pktmbuf_mtod(frame, const uint8_t*); }

// Devices may hand over packets of local senders whose checksum nobody has computed yet. Behind an outer header no NIC
// would do it for us.
void complete_checksum(rte_mbuf* frame, const FlowKey& key, const ParsedPacket& packet) {
  auto* start = rte_pktmbuf_mtod(frame, uint8_t*);
  if (!packet.fragment)
    net::write_l4_checksum(start + packet.l3, key.is_v6(), key.proto, start + packet.l4,
                           size_t{packet.l3} + packet.ip_length - packet.l4);
}

bool checksum_missing(const rte_mbuf* frame) {
  return (frame->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_NONE;
}

DropReason unsupported(uint16_t ether_type, bool from_vm) {
  if (ether_type == net::kEtherVlan || ether_type == net::kEtherQinq) return DropReason::vlan_tagged;
  return from_vm ? DropReason::ethertype_unsupported : DropReason::not_overlay;
}

}  // namespace

void Worker::receive_from_vm(Port& port, rte_mbuf** frames, unsigned count) {
  const InterfaceView* from = port.interface.load(std::memory_order_acquire);
  Burst burst;
  uint64_t bytes = 0;
  for (unsigned i = 0; i < kPrefetchFrames && i < count; ++i) rte_prefetch0(data_of(frames[i]));
  for (unsigned i = 0; i < count; ++i) {
    if (i + kPrefetchFrames < count) rte_prefetch0(data_of(frames[i + kPrefetchFrames]));
    rte_mbuf* frame = frames[i];
    const uint8_t* start = data_of(frame);
    const size_t length = frame->data_len;
    bytes += frame->pkt_len;
    if (!from || frame->nb_segs != 1 || length < net::kEthLen) [[unlikely]] {
      drop(port, frame,
           !from                   ? DropReason::no_interface
           : length < net::kEthLen ? DropReason::truncated
                                   : DropReason::multi_segment);
      continue;
    }
    const unsigned at = burst.count;
    FlowKey& key = burst.key[at];
    key.scope = from->instance;
    key.side = Side::kVm;
    const uint16_t type = net::load<uint16_t>(start + 12);
    DropReason reason;
    if (type == net::kEtherIpv4) [[likely]] {
      reason = parse_ipv4(start, net::kEthLen, length, key, burst.packet[at]);
    } else if (type == net::kEtherIpv6) {
      reason = parse_ipv6(start, net::kEthLen, length, key, burst.packet[at]);
    } else {
      if (type == net::kEtherArp && serve_guest(port, *from, frame)) continue;
      reason = unsupported(type, true);
    }
    if (reason != kNoDrop) [[unlikely]] {
      drop(port, frame, reason);
      continue;
    }
    if (checksum_missing(frame)) [[unlikely]]
      complete_checksum(frame, key, burst.packet[at]);
    burst.frame[at] = frame;
    burst.hash[at] = flows_.hash(key);
    flows_.prefetch_bucket(burst.hash[at]);
    ++burst.count;
  }
  PortStats& stats = stats_.ports[port.id];
  stats.rx_packets.add(count);
  stats.rx_bytes.add(bytes);
  forward(port, from, burst);
}

void Worker::receive_from_uplink(Port& port, rte_mbuf** frames, unsigned count, bool spread) {
  Burst burst;
  uint64_t bytes = 0;
  for (unsigned i = 0; i < kPrefetchFrames && i < count; ++i) rte_prefetch0(data_of(frames[i]));
  for (unsigned i = 0; i < count; ++i) {
    if (i + kPrefetchFrames < count) rte_prefetch0(data_of(frames[i + kPrefetchFrames]));
    rte_mbuf* frame = frames[i];
    const uint8_t* start = data_of(frame);
    const size_t length = frame->data_len;
    bytes += frame->pkt_len;
    if (frame->nb_segs != 1 || length < kInnerStart) [[unlikely]] {
      drop(port, frame, frame->nb_segs != 1 ? DropReason::multi_segment : DropReason::not_overlay);
      continue;
    }
    const uint16_t type = net::load<uint16_t>(start + 12);
    const uint8_t* outer = start + net::kEthLen;
    const uint8_t next_header = outer[6];
    if (type != net::kEtherIpv6 || outer[0] >> 4 != 6 || (next_header != net::kIpip && next_header != net::kIpv6InIp))
        [[unlikely]] {
      drop(port, frame, unsupported(type, false));
      continue;
    }
    if (net::load<uint64_t>(outer + 24) != shared_.host_prefix) [[unlikely]] {
      drop(port, frame, DropReason::underlay_prefix_mismatch);
      continue;
    }
    const size_t end = kInnerStart + net::swap16(net::load<uint16_t>(outer + 4));
    const unsigned at = burst.count;
    FlowKey& key = burst.key[at];
    key.scope = net::load<uint64_t>(outer + 32);
    key.side = Side::kUplink;
    DropReason reason = DropReason::truncated;
    if (end <= length) [[likely]]
      reason = next_header == net::kIpip ? parse_ipv4(start, kInnerStart, end, key, burst.packet[at])
                                         : parse_ipv6(start, kInnerStart, end, key, burst.packet[at]);
    if (reason != kNoDrop) [[unlikely]] {
      drop(port, frame, reason);
      continue;
    }
    burst.hash[at] = flows_.hash(key);
    if (spread) {
      Worker& owner = *shared_.workers[(burst.hash[at] >> 20) % shared_.workers.size()];
      if (&owner != this) {
        if (!owner.hand_over(port, frame)) drop(port, frame, DropReason::worker_ring_full);
        continue;
      }
    }
    burst.frame[at] = frame;
    flows_.prefetch_bucket(burst.hash[at]);
    ++burst.count;
  }
  PortStats& stats = stats_.ports[port.id];
  stats.rx_packets.add(count);
  stats.rx_bytes.add(bytes);
  forward(port, nullptr, burst);
}

void Worker::forward(Port& port, const InterfaceView* from, Burst& burst) {
  for (unsigned i = 0; i < burst.count; ++i) burst.candidate[i] = flows_.candidate(burst.hash[i]);
  for (unsigned i = 0; i < burst.count; ++i) {
    FlowEntry* entry = flows_.verify(burst.candidate[i], burst.key[i], burst.hash[i]);
    if (!entry || generations_[entry->generation_index.load(std::memory_order_relaxed)].load(
                      std::memory_order_acquire) != entry->generation.load(std::memory_order_relaxed)) [[unlikely]] {
      decide_and_forward(port, from, burst, i, entry);
      continue;
    }
    const ParsedPacket& packet = burst.packet[i];
    if (packet.tcp_flags && tcp_needs_tracking(*entry, packet.tcp_flags)) track_tcp(flows_, *entry, packet.tcp_flags);
    if (entry->last_used.load(std::memory_order_relaxed) != tick_)
      entry->last_used.store(tick_, std::memory_order_relaxed);
    entry->packets.increment();
    entry->bytes.add(burst.frame[i]->pkt_len);
    execute(port, entry->program, burst.frame[i], packet);
  }
}

void Worker::execute(Port& port, const FlowProgram& program, rte_mbuf* frame, const ParsedPacket& packet) {
  if (program.action == Action::kEncap) {
    encapsulate(port, program, frame, packet);
    return;
  }
  Port& out = *ports_[program.out_port];
  auto* start = rte_pktmbuf_mtod(frame, uint8_t*);
  const auto stripped = static_cast<uint16_t>(packet.l3 - net::kEthLen);
  const uint16_t type = start[packet.l3] >> 4 == 4 ? net::kEtherIpv4 : net::kEtherIpv6;
  if (frame->pkt_len - stripped > out.max_frame) [[unlikely]] {
    drop(port, frame, DropReason::packet_too_big);
    return;
  }
  frame->data_off = static_cast<uint16_t>(frame->data_off + stripped);
  frame->data_len = static_cast<uint16_t>(frame->data_len - stripped);
  frame->pkt_len -= stripped;
  overlay::write_ethernet(start + stripped, out.peer.load(), out.own_mac, type);
  send(out, frame);
}

void Worker::encapsulate(Port& port, const FlowProgram& program, rte_mbuf* frame, const ParsedPacket& packet) {
  Port* out = shared_.ports.uplink(program.uplink);
  if (!out || !out->link_up.load(std::memory_order_relaxed)) [[unlikely]] {
    out = shared_.ports.uplink(program.uplink ^ 1u);
    if (!out || !out->link_up.load(std::memory_order_relaxed)) {
      drop(port, frame, DropReason::uplink_down);
      return;
    }
  }
  const uint64_t router = out->peer.load();
  if (!(router & AtomicMac::kKnown)) [[unlikely]] {
    drop(port, frame, DropReason::uplink_neighbour_unknown);
    return;
  }
  if (frame->pkt_len + net::kOverlayLen > out->max_frame) [[unlikely]] {
    too_big(port, frame, packet, out->max_frame - static_cast<uint32_t>(net::kEthLen + net::kOverlayLen));
    return;
  }
  auto* start = reinterpret_cast<uint8_t*>(rte_pktmbuf_prepend(frame, net::kOverlayLen));
  if (!start) [[unlikely]] {
    drop(port, frame, DropReason::headroom);
    return;
  }
  overlay::write_outer(start, router, out->own_mac, program.next_header, packet.ip_length, shared_.host_prefix,
                       program.outer_src_low, program.outer_dst);
  send(*out, frame);
}

void Worker::send(Port& port, rte_mbuf* frame) {
  TxBuffer& buffer = tx_[port.id];
  if (buffer.count == 0) tx_pending_.push_back(port.id);
  buffer.frames[buffer.count++] = frame;
  if (buffer.count == std::size(buffer.frames)) flush(port.id);
}

}  // namespace ironcore
