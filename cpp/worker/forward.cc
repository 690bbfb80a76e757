// The path of every packet: parse, look up, execute (output.cc).
#include <rte_prefetch.h>

#include "net/checksum.h"
#include "worker/burst.h"
#include "worker/packet_steps.h"

namespace ironcore {
namespace {

constexpr unsigned kPrefetchFrames = 4;

const uint8_t* data_of(const rte_mbuf* frame) { return rte_pktmbuf_mtod(frame, const uint8_t*); }

// Devices may hand over packets of local senders whose checksum nobody has computed yet. Behind an outer header no NIC
// would do it for us.
void complete_checksum(rte_mbuf* frame, const FlowKey& key, const ParsedPacket& packet) {
  auto* start = rte_pktmbuf_mtod(frame, uint8_t*);
  if (!packet.is_fragment())
    net::write_l4_checksum(start + packet.l3, key.is_v6(), packet.proto, start + packet.l4,
                           size_t{packet.l3} + packet.ip_length - packet.l4);
}

bool checksum_missing(const rte_mbuf* frame) {
  return (frame->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_NONE;
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
    const DropReason reason = parse_vm_frame(start, length, key, burst.packet[at]);
    if (reason != kNoDrop) [[unlikely]] {
      const bool arp = net::load<uint16_t>(start + 12) == net::kEtherArp;
      if (!arp || !serve_guest(port, *from, frame)) drop(port, frame, reason);
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
  uint64_t bytes = 0;
  for (unsigned i = 0; i < count; ++i) bytes += frames[i]->pkt_len;
  PortStats& stats = stats_.ports[port.id];
  stats.rx_packets.add(count);
  stats.rx_bytes.add(bytes);
  take_from_uplink(port, frames, count, spread);
}

void Worker::take_from_uplink(Port& port, rte_mbuf** frames, unsigned count, bool spread) {
  Burst burst;
  for (unsigned i = 0; i < kPrefetchFrames && i < count; ++i) rte_prefetch0(data_of(frames[i]));
  for (unsigned i = 0; i < count; ++i) {
    if (i + kPrefetchFrames < count) rte_prefetch0(data_of(frames[i + kPrefetchFrames]));
    rte_mbuf* frame = frames[i];
    const uint8_t* start = data_of(frame);
    const size_t length = frame->data_len;
    if (frame->nb_segs != 1) [[unlikely]] {
      drop(port, frame, DropReason::multi_segment);
      continue;
    }
    const unsigned at = burst.count;
    FlowKey& key = burst.key[at];
    const DropReason reason = parse_uplink_frame(start, length, tables_.host_prefix, key, burst.packet[at]);
    if (reason != kNoDrop) [[unlikely]] {
      if (reason != DropReason::not_overlay || length < kOuterHeaders) {
        drop(port, frame, reason);
        continue;
      }
      if (!take_plain(port, frame, key, burst.packet[at])) continue;
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
  forward(port, nullptr, burst);
}

// Without overlay come answers of virtual services, which go on as flows, and errors of routers.
bool Worker::take_plain(Port& port, rte_mbuf* frame, FlowKey& key, ParsedPacket& packet) {
  const uint8_t* start = data_of(frame);
  if (shared_.virtual_services)
    if (const auto reason = parse_answer(start, frame->data_len, tables_.host_prefix, key, packet)) {
      if (*reason != kNoDrop) {
        drop(port, frame, *reason);
        return false;
      }
      if (checksum_missing(frame)) complete_checksum(frame, key, packet);
      return true;
    }
  const uint8_t* ip = start + net::kEthLen;
  const uint16_t type = net::load<uint16_t>(start + 12);
  const bool ours = type == net::kEtherIpv6 && ip[0] >> 4 == 6 && net::load<uint64_t>(ip + 24) == tables_.host_prefix;
  if (ours && ip[6] == net::kIcmp6) {
    take_underlay_error(port, frame);
  } else {
    drop(port, frame, unsupported_ether_type(type, false));
  }
  return false;
}

void Worker::forward(Port& port, const InterfaceView* from, Burst& burst) {
  for (unsigned i = 0; i < burst.count; ++i) burst.candidate[i] = flows_.candidate(burst.hash[i]);
  if (trace_nodes_) [[unlikely]]
    trace_hits(port, burst);
  for (unsigned i = 0; i < burst.count; ++i) {
    FlowEntry* entry = flows_.verify(burst.candidate[i], burst.key[i], burst.hash[i]);
    const ParsedPacket& packet = burst.packet[i];
    if (packet.kind != PacketKind::kWhole) [[unlikely]] {
      forward_unusual(port, from, burst, i, entry);
      continue;
    }
    if (!entry || !is_current(*entry)) [[unlikely]] {
      forward_slowly(port, from, burst, i, entry);
      continue;
    }
    note_use(*entry, burst.frame[i], packet);
    execute(port, entry->program, entry->rewrite, burst.frame[i], packet);
  }
}

}  // namespace ironcore
