// Copies of received frames, sent in UDP to a collector.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ironcore/types.h"

namespace ironcore {

inline constexpr size_t kMaxCaptureInterfaces = 16;

struct CaptureInterface {
  bool is_uplink = false;
  uint32_t pf_index = 0;     // of uplinks: 0 or 1
  std::string interface_id;  // of VMs

  bool operator==(const CaptureInterface&) const = default;
};

struct CaptureConfig {
  Ipv6Address sink{};  // the collector
  uint16_t udp_src_port = 0, udp_dst_port = 0;
  std::vector<CaptureInterface> interfaces;  // at most kMaxCaptureInterfaces

  bool operator==(const CaptureConfig&) const = default;
};

struct CaptureInfo {
  bool active = false;
  CaptureConfig config;    // empty unless active; interfaces that were deleted are gone from it
  uint64_t copied = 0;     // frames of this capture that were sent,
  uint64_t truncated = 0;  // those among them that did not fit into a frame of PF0,
  uint64_t dropped = 0;    // and those whose copy could not be sent: PF0 is down, its router unknown, its queue full
};

}  // namespace ironcore
