// Frames for tests: built field by field, independently of the code under test.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ironcore/types.h"

namespace ironcore::testing {

using Frame = std::vector<uint8_t>;

inline constexpr MacAddress kVmMac = {0x52, 0x54, 0, 0, 0, 1};
inline constexpr MacAddress kRouterMac = {0x0a, 0, 0, 0, 0, 0xfe};

// Text to address; aborts on a typo in a test.
Ipv4Address ip4(const std::string& text);
Ipv6Address ip6(const std::string& text);
IpAddress ip(const std::string& text);
IpPrefix prefix(const std::string& text);  // "10.0.0.0/8"

Frame ethernet(const MacAddress& dst, const MacAddress& src, uint16_t type, const Frame& payload);
Frame ipv4(const std::string& src, const std::string& dst, uint8_t proto, const Frame& payload);
Frame ipv6(const std::string& src, const std::string& dst, uint8_t proto, const Frame& payload);
Frame udp(uint16_t src_port, uint16_t dst_port, size_t payload = 18);
Frame tcp(uint16_t src_port, uint16_t dst_port, uint8_t flags);
Frame icmp_echo(uint8_t type, uint16_t id);
Frame icmp_error(uint8_t type, uint8_t code, uint16_t mtu, const Frame& quoted);  // `quoted`: an IP packet's beginning

// IP packet of the family of its addresses, in an Ethernet frame as a VM sends it. TCP gets its checksum here.
Frame from_vm(const std::string& src, const std::string& dst, uint8_t proto, const Frame& segment);
Frame udp_from_vm(const std::string& src, const std::string& dst, uint16_t src_port = 1000, uint16_t dst_port = 2000);

// The IP packet of a VM's frame as another host sends it.
Frame overlay(const std::string& outer_src, const Ipv6Address& outer_dst, const Frame& vm_frame);

Frame arp_request(const MacAddress& src, const std::string& sender, const std::string& target);

Frame slice(const Frame& frame, size_t from, size_t length = SIZE_MAX);

}  // namespace ironcore::testing
