// What a trace keeps: a pcap filter on frames and a pattern for nodes' names.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trace/nodes.h"

struct bpf_program;

namespace ironcore::trace {

// A pcap filter expression for Ethernet frames, compiled to classic BPF.
class FrameFilter {
 public:
  // std::invalid_argument says what is wrong with it. Empty: everything matches.
  explicit FrameFilter(const std::string& expression);
  ~FrameFilter();
  FrameFilter(const FrameFilter&) = delete;
  FrameFilter& operator=(const FrameFilter&) = delete;

  // From any thread. `length` is that of the whole frame, of which `bytes` are the first ones.
  bool matches(std::span<const uint8_t> bytes, uint32_t length) const;

 private:
  std::unique_ptr<bpf_program> program_;  // null: everything matches
};

// A POSIX basic regular expression, evaluated beforehand for all names that there are.
class NodePattern {
 public:
  // Ports 0 to `ports` - 1. std::invalid_argument says what is wrong. Empty: everything matches.
  NodePattern(const std::string& pattern, uint16_t ports);

  bool matches(Node node, uint16_t port) const {
    return node == Node::kReceive    ? receive_[port]
           : node == Node::kTransmit ? transmit_[port]
                                     : named_[static_cast<size_t>(node)];
  }

 private:
  std::array<bool, kNodeCount> named_{};
  std::vector<bool> receive_, transmit_;
};

}  // namespace ironcore::trace
