// The protocols behind handle(): each answers a frame whose outer headers were parsed and bounds-checked already.
#pragma once

#include "wire.h"

namespace ironcore::guest {

// A received packet, cut into layers. All spans lie inside the frame.
struct Request {
  Mac eth_src;
  Bytes ip;       // from the first byte of the IP header, trailing Ethernet padding cut off
  Bytes payload;  // upper layer: from the first byte of the ARP, ICMP or UDP header
};

GuestReply answer_arp(const GuestConfig& config, const Request& request, std::span<uint8_t> out);
GuestReply answer_nd(const GuestConfig& config, const Request& request, std::span<uint8_t> out);
GuestReply answer_router_solicitation(const GuestConfig& config, const Request& request, std::span<uint8_t> out);
GuestReply answer_dhcp4(const GuestConfig& config, const Request& request, std::span<uint8_t> out);
GuestReply answer_dhcp6(const GuestConfig& config, const Request& request, std::span<uint8_t> out);
GuestReply answer_echo4(const GuestConfig& config, const Request& request, std::span<uint8_t> out);
GuestReply answer_echo6(const GuestConfig& config, const Request& request, std::span<uint8_t> out);

// Neighbour discovery options (RFC 4861 section 4.6): false if one has length zero or runs over the end.
bool nd_options_valid(Bytes options, bool& has_source_link_layer);
// The checks of RFC 4861 sections 6.1.1 and 7.1.1 common to all messages a host sends: hop limit, code, checksum, size.
bool nd_message_valid(const Request& request, size_t header_length);

// Boot stage a client asks for in this very request.
enum class BootStage : uint8_t { kNone, kTftp, kHttp };
inline constexpr std::string_view kPxeVendorClass = "PXEClient:Arch:00007";  // x86-64 UEFI firmware
inline constexpr std::string_view kIpxeUserClass = "iPXE";
inline constexpr std::string_view kIpxeBinary = "ipxe/x86_64/ipxe.new";

inline std::string_view as_text(Bytes b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }

}  // namespace ironcore::guest
