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
};

struct FlowProgram {
  Action action;
  uint8_t next_header;  // kEncap: 4 or 41
  uint8_t uplink;       // kEncap: 0 or 1, the preferred one
  uint8_t reserved0;
  uint16_t out_port;  // kDeliver: DPDK port
  uint16_t reserved1;
  uint64_t outer_src_low;  // kEncap: low 64 bits, network order; the upper ones are the host's
  std::array<uint8_t, 16> outer_dst;

  bool operator==(const FlowProgram&) const = default;
};
static_assert(sizeof(FlowProgram) == 32 && std::is_trivially_copyable_v<FlowProgram>);

}  // namespace ironcore
