#include "trace/session.h"

#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_mbuf_dyn.h>
#include <rte_ring.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "ironcore/engine.h"

namespace ironcore::trace {
namespace {

constexpr uint32_t kFilterLength = 256;  // bytes that the filter sees
constexpr size_t kMaxMemory = size_t{64} << 20;

const TraceOptions& checked(const TraceOptions& options) {
  if (options.snap_length < 64 || options.snap_length > 9216) throw std::invalid_argument("snap_length (64..9216)");
  if (options.ring_size < 64 || options.ring_size > 65536) throw std::invalid_argument("ring_size (64..65536)");
  return options;
}

int register_id() {
  rte_mbuf_dynfield field{};
  std::strncpy(field.name, "ironcore_trace_id", sizeof field.name - 1);
  field.size = sizeof(uint32_t);
  field.align = alignof(uint32_t);
  const int offset = rte_mbuf_dynfield_register(&field);  // the same each time
  if (offset < 0) throw EngineError(std::string("no room for packet numbers: ") + rte_strerror(rte_errno));
  return offset;
}

int64_t utc_now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

rte_ring* create_ring(size_t slots, unsigned flags) {
  static std::atomic<unsigned> serial{0};
  const std::string name = "ironcore_trace" + std::to_string(serial++);
  rte_ring* ring = rte_ring_create(name.c_str(), static_cast<unsigned>(slots), SOCKET_ID_ANY, RING_F_EXACT_SZ | flags);
  if (!ring) throw EngineError("cannot create ring " + name + ": " + rte_strerror(rte_errno));
  return ring;
}

}  // namespace

struct Session::Slot {
  Step step;
  uint32_t packet_id;
  uint64_t tsc;
  uint32_t length, copied;

  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(this + 1); }
};

void Session::RingDeleter::operator()(rte_ring* ring) const { rte_ring_free(ring); }

Session::Session(const TraceOptions& options, uint16_t ports)
    : drops_(checked(options).drops),
      nodes_(options.nodes),
      snap_length_(options.snap_length),
      slot_size_((sizeof(Slot) + snap_length_ + alignof(Slot) - 1) / alignof(Slot) * alignof(Slot)),
      slots_(std::min<size_t>(options.ring_size, kMaxMemory / slot_size_)),
      pattern_(options.node_pattern, ports),
      filter_(options.filter),
      id_offset_(register_id()),
      started_tsc_(rte_rdtsc()),
      started_ns_(utc_now()),
      memory_(std::make_unique_for_overwrite<uint8_t[]>(slots_ * slot_size_)),
      free_(create_ring(slots_, 0)),
      filled_(create_ring(slots_, RING_F_SC_DEQ)) {
  for (size_t index = 0; index < slots_; ++index) rte_ring_enqueue(free_.get(), &slot(index));
}

Session::~Session() = default;

Session::Slot& Session::slot(size_t index) const {
  return *reinterpret_cast<Slot*>(memory_.get() + index * slot_size_);
}

int64_t Session::nanoseconds(uint64_t tsc) const {
  const auto since = static_cast<unsigned __int128>(tsc - started_tsc_) * 1'000'000'000 / rte_get_tsc_hz();
  return started_ns_ + static_cast<int64_t>(since);
}

void Session::number(rte_mbuf* const* frames, unsigned count) {
  uint32_t id = next_id_.fetch_add(count, std::memory_order_relaxed);
  for (unsigned i = 0; i < count; ++i) *RTE_MBUF_DYNFIELD(frames[i], id_offset_, uint32_t*) = id++;
}

void Session::follow(const rte_mbuf& cause, rte_mbuf& answer) const {
  *RTE_MBUF_DYNFIELD(&answer, id_offset_, uint32_t*) = *RTE_MBUF_DYNFIELD(&cause, id_offset_, const uint32_t*);
}

void Session::record(const Step& step, const rte_mbuf& frame) {
  const bool from_port = step.node == Node::kNone;
  if (!pattern_.matches(from_port ? step.next : step.node,
                        (from_port ? step.next : step.node) == Node::kTransmit ? step.out : step.in))
    return;
  const auto* bytes = rte_pktmbuf_mtod(&frame, const uint8_t*);
  if (!filter_.matches({bytes, std::min<size_t>(frame.data_len, kFilterLength)}, frame.pkt_len)) return;
  void* free = nullptr;
  if (rte_ring_dequeue(free_.get(), &free) != 0) {
    lost_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  auto& slot = *static_cast<Slot*>(free);
  slot.step = step;
  slot.packet_id = *RTE_MBUF_DYNFIELD(&frame, id_offset_, const uint32_t*);
  slot.tsc = rte_rdtsc();
  slot.length = frame.pkt_len;
  slot.copied = std::min<uint32_t>(frame.data_len, snap_length_);
  std::memcpy(slot.bytes(), bytes, slot.copied);
  rte_ring_enqueue(filled_.get(), &slot);  // has room for all slots
  recorded_.fetch_add(1, std::memory_order_relaxed);
}

std::vector<TraceRecord> Session::read(size_t max) {
  std::vector<TraceRecord> records;
  void* filled = nullptr;
  while (records.size() < max && rte_ring_sc_dequeue(filled_.get(), &filled) == 0) {
    auto& slot = *static_cast<Slot*>(filled);
    const Step& step = slot.step;
    TraceRecord& record = records.emplace_back();
    record.timestamp_ns = nanoseconds(slot.tsc);
    record.packet_id = slot.packet_id;
    record.event = step.event;
    record.node = node_name(step.node, step.node == Node::kTransmit ? step.out : step.in);
    record.next_node = node_name(step.next, step.next == Node::kTransmit ? step.out : step.in);
    record.port = step.event == TraceEvent::kTx ? step.out : step.in;
    if (step.event == TraceEvent::kDrop) record.drop = step.drop;
    record.length = slot.length;
    record.bytes.assign(reinterpret_cast<const char*>(slot.bytes()), slot.copied);
    rte_ring_enqueue(free_.get(), filled);
  }
  return records;
}

}  // namespace ironcore::trace
