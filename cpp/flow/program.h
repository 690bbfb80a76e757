// What to do with the packets of a flow: compiled once by decide(), executed for every later packet.
//
// A plain value: besides the executor, anything that translates or simulates flows can read it.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

namespace ironcore {

enum class Action : uint8_t {
  kDeliver,  // new Ethernet header (the outer header is stripped if there is one), out of the VM port `out_port`
  kEncap,    // outer IPv6 header, out of uplink `uplink` or, while that is down, of the other one
  kLoop,     // to an underlay address of this host: goes on as if an uplink had received it
  // IPv4 to IPv6 without overlay, out of uplink `uplink`, or back into a VM (worker/virtual_service.h).
  kVirtualService,
};

// What else happens to a packet; a flow that uses none of it pays nothing for it.
enum Feature : uint8_t {
  kRewrite = 1,      // the entry's rewrite applies
  kMeterTotal = 2,   // counts against the sending interface's total rate
  kMeterPublic = 4,  // and against its public rate
};

inline constexpr uint8_t kIngressUplink = 0xff;  // leave by the uplink that the packet came in on

struct FlowProgram {
  Action action;
  uint8_t next_header;                // kEncap: 4 or 41
  uint8_t uplink;                     // kEncap: 0 or 1, the preferred one, or kIngressUplink
  uint8_t features;                   // of Feature
  uint16_t out_port;                  // kDeliver: DPDK port
  uint16_t flow_label;                // kEncap: low 16 bits of the outer flow label, network order; 0 without entropy
  uint64_t outer_src_low;             // kEncap: low 64 bits, network order; the upper ones are the host's
  std::array<uint8_t, 16> outer_dst;  // kEncap, kLoop

  bool operator==(const FlowProgram&) const = default;
};
static_assert(sizeof(FlowProgram) == 32 && std::is_trivially_copyable_v<FlowProgram>);

}  // namespace ironcore
