// Where copies of received frames go: Ethernet, IPv6, UDP without checksum (RFC 6935), the frame as it was received.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ironcore/capture.h"
#include "net/headers.h"
#include "overlay/outer_header.h"

namespace ironcore {

struct CaptureSink {
  static constexpr size_t kUdpLen = 8;
  static constexpr size_t kHeaders = net::kEthLen + net::kIpv6Len + kUdpLen;  // 62 bytes in front of the frame
  static constexpr uint8_t kHopLimit = 64;

  CaptureSink(const Ipv6Address& host, const CaptureConfig& config) {
    uint8_t* ip = headers.data() + net::kEthLen;
    ip[0] = 0x60;
    ip[6] = net::kUdp;
    ip[7] = kHopLimit;
    std::copy(host.begin(), host.end(), ip + 8);
    std::copy(config.sink.begin(), config.sink.end(), ip + 24);
    net::store(ip + net::kIpv6Len, net::swap16(config.udp_src_port));
    net::store(ip + net::kIpv6Len + 2, net::swap16(config.udp_dst_port));
  }

  // Writes the headers at `at` for a copy of `length` bytes, at most 65527 less kHeaders; MACs as in AtomicMac.
  void write(uint8_t* at, uint64_t dst_mac, uint64_t src_mac, size_t length) const {
    std::memcpy(at, headers.data(), kHeaders);
    overlay::write_ethernet(at, dst_mac, src_mac, net::kEtherIpv6);
    const uint16_t payload = net::swap16(static_cast<uint16_t>(kUdpLen + length));
    net::store(at + net::kEthLen + 4, payload);
    net::store(at + net::kEthLen + net::kIpv6Len + 4, payload);
  }

  // Whether a frame is a copy of ours that the fabric brought back: copying it again would never end.
  bool made(const uint8_t* frame, size_t length) const {
    constexpr size_t kNextHeader = net::kEthLen + 6, kAddresses = net::kEthLen + 8, kPorts = 2 * 16 + 4;
    return length >= kHeaders && net::load<uint16_t>(frame + 12) == net::kEtherIpv6 &&
           frame[kNextHeader] == net::kUdp && std::memcmp(frame + kAddresses, headers.data() + kAddresses, kPorts) == 0;
  }

  std::array<uint8_t, kHeaders> headers{};  // without MACs and lengths
  std::atomic<uint64_t> copied{0}, truncated{0}, dropped{0};
};

}  // namespace ironcore
