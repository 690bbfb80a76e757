// Copies of received frames for a collector. What is forwarded goes first: copies are sent at the end of a round, and a
// full queue drops them.
#include "capture/sink.h"
#include "worker/worker.h"

namespace ironcore {

void Worker::capture(CaptureSink& sink, rte_mbuf* const* frames, unsigned count) {
  const Port* out = tables_.ports.uplink(0);
  const uint64_t router = out->peer.load();
  const bool can_send = out->link_up.load(std::memory_order_relaxed) && (router & AtomicMac::kKnown);
  for (unsigned i = 0; i < count; ++i) {
    const rte_mbuf* frame = frames[i];
    if (sink.made(rte_pktmbuf_mtod(frame, const uint8_t*), frame->data_len)) continue;
    rte_mbuf* copy = can_send ? rte_pktmbuf_alloc(shared_.ports.pool()) : nullptr;
    if (!copy) {
      sink.dropped.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    const uint32_t room = std::min<uint32_t>(out->max_frame, rte_pktmbuf_tailroom(copy)) - CaptureSink::kHeaders;
    const uint32_t length = std::min(frame->pkt_len, room);
    if (length < frame->pkt_len) sink.truncated.fetch_add(1, std::memory_order_relaxed);
    auto* start = rte_pktmbuf_mtod(copy, uint8_t*);
    sink.write(start, router, out->own_mac, length);
    const void* bytes = rte_pktmbuf_read(frame, 0, length, start + CaptureSink::kHeaders);
    if (bytes != start + CaptureSink::kHeaders) std::memcpy(start + CaptureSink::kHeaders, bytes, length);
    copy->data_len = static_cast<uint16_t>(CaptureSink::kHeaders + length);
    copy->pkt_len = copy->data_len;
    copies_.emplace_back(&sink, copy);
  }
}

void Worker::send_copies() {
  Port& port = *tables_.ports.uplink(0);
  PortStats& stats = stats_.ports[port.id];
  if (port.shared_tx_queue) rte_spinlock_lock(&port.tx_lock);
  for (auto& [sink, copy] : copies_) {
    const uint32_t length = copy->pkt_len;  // read before the device owns it
    if (rte_eth_tx_burst(port.id, port.tx_queue(id_), &copy, 1) == 1) {
      sink->copied.fetch_add(1, std::memory_order_relaxed);
      stats.tx_packets.increment();
      stats.tx_bytes.add(length);
    } else {
      sink->dropped.fetch_add(1, std::memory_order_relaxed);
      rte_pktmbuf_free(copy);
    }
  }
  if (port.shared_tx_queue) rte_spinlock_unlock(&port.tx_lock);
  copies_.clear();
}

}  // namespace ironcore
