// One tracing: workers copy packets into a bounded ring, one reader takes them out. A full ring loses what comes next,
// never what is there, and never makes a worker wait.
#pragma once

#include <rte_mbuf.h>

#include <atomic>
#include <memory>
#include <vector>

#include "ironcore/trace.h"
#include "trace/filter.h"

struct rte_ring;

namespace ironcore::trace {

// What happened to a packet. Ports are DPDK's.
struct Step {
  TraceEvent event;
  Node node, next;
  uint16_t in, out;   // that kReceive and kTransmit are of
  DropReason drop{};  // kDrop only
};

class Session {
 public:
  // Ports 0 to `ports` - 1. std::invalid_argument says which option is wrong; EngineError: no memory.
  Session(const TraceOptions& options, uint16_t ports);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Workers.
  bool drops() const { return drops_; }
  bool nodes() const { return nodes_; }
  void number(rte_mbuf* const* frames, unsigned count);        // they get ids of their own
  void follow(const rte_mbuf& cause, rte_mbuf& answer) const;  // the same id
  void record(const Step& step, const rte_mbuf& frame);

  // One reader at a time.
  std::vector<TraceRecord> read(size_t max);
  uint64_t recorded() const { return recorded_.load(std::memory_order_relaxed); }
  uint64_t lost() const { return lost_.load(std::memory_order_relaxed); }

 private:
  struct Slot;
  struct RingDeleter {
    void operator()(rte_ring* ring) const;
  };
  using Ring = std::unique_ptr<rte_ring, RingDeleter>;

  Slot& slot(size_t index) const;
  int64_t nanoseconds(uint64_t tsc) const;

  const bool drops_, nodes_;
  const uint32_t snap_length_;
  const size_t slot_size_;
  const size_t slots_;
  const NodePattern pattern_;
  const FrameFilter filter_;
  const int id_offset_;  // of the packet's number in a buffer
  const uint64_t started_tsc_;
  const int64_t started_ns_;
  std::unique_ptr<uint8_t[]> memory_;
  Ring free_, filled_;  // of slots
  std::atomic<uint32_t> next_id_{1};
  std::atomic<uint64_t> recorded_{0}, lost_{0};
};

}  // namespace ironcore::trace
