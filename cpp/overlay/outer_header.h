// The overlay: an IPv6 header (RFC 2473 tunnel without options) in front of the VM's IP packet. No VNI on the wire; the
// outer destination says whose packet it is.
#pragma once

#include <array>
#include <cstdint>

#include "net/headers.h"
#include "port/port.h"

namespace ironcore::overlay {

inline constexpr uint8_t kHopLimit = 64;

// Ethernet header of 14 bytes at `at`; MACs as in AtomicMac, `type` in network order.
inline void write_ethernet(uint8_t* at, uint64_t dst, uint64_t src, uint16_t type) {
  net::store<uint64_t>(at, (dst & (AtomicMac::kKnown - 1)) | src << 48);
  net::store<uint32_t>(at + 8, static_cast<uint32_t>(src >> 16));
  net::store<uint16_t>(at + 12, type);
}

// Ethernet and outer header, 54 bytes at `at`. `payload` in bytes; addresses and flow label in network order.
inline void write_outer(uint8_t* at, uint64_t dst_mac, uint64_t src_mac, uint8_t next_header, uint16_t flow_label,
                        uint16_t payload, uint64_t host_prefix, uint64_t src_low, const std::array<uint8_t, 16>& dst) {
  write_ethernet(at, dst_mac, src_mac, net::kEtherIpv6);
  net::store<uint64_t>(at + 14, 0x60u | uint64_t{flow_label} << 16 | uint64_t{net::swap16(payload)} << 32 |
                                    uint64_t{next_header} << 48 | uint64_t{kHopLimit} << 56);
  net::store<uint64_t>(at + 22, host_prefix);
  net::store<uint64_t>(at + 30, src_low);
  std::memcpy(at + 38, dst.data(), 16);
}

}  // namespace ironcore::overlay
