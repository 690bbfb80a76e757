// Guest services: everything a VM may ask its gateway for (ARP, neighbour discovery, router solicitation, DHCP, ping).
//
// Pure functions: the answer depends on the frame and on a GuestConfig value, nothing else. No table, no clock, no
// DPDK. Every VM sees the same gateway, 169.254.0.1 and fe80::1, whose MAC is the one of the VM's own port.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace ironcore::guest {

using Mac = std::array<uint8_t, 6>;
using Ipv6 = std::array<uint8_t, 16>;

inline constexpr uint32_t kGatewayIpv4 = 0xa9fe0001;  // 169.254.0.1, host byte order
inline constexpr Ipv6 kGatewayIpv6 = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

// An output buffer of this size holds every reply but the echo of a larger ping, which needs the size of its request.
inline constexpr size_t kReplyRoom = 1514;

// Network boot. A server of the wrong family for a protocol leaves boot data out of that protocol's replies.
struct PxeConfig {
  std::optional<uint32_t> server4;  // host byte order
  std::optional<Ipv6> server6;
  std::string_view
      boot_filename;  // at most 31 bytes; appended to "http://<server>" as it is over DHCPv4, after "/" over DHCPv6
};

// All that a reply depends on. Views must outlive the call only.
struct GuestConfig {
  Mac port_mac{};             // MAC of the gateway as this VM sees it
  Mac vm_mac{};               // meaningful if vm_mac_known
  bool vm_mac_known = false;  // false opens the ARP learning cycle: the VM's first ARP packet teaches its MAC
  uint32_t ipv4 = 0;          // host byte order (10.0.0.1 is 0x0a000001)
  bool has_ipv4 = false;
  Ipv6 ipv6{};
  bool has_ipv6 = false;
  bool ipv6_overlay = false;       // answer neighbour and router solicitations
  uint16_t dhcp_mtu = 1500;        // DHCPv4 option 26; router advertisements tell it unless it is 1500
  std::span<const uint32_t> dns4;  // host byte order, at most 63 are sent
  std::span<const Ipv6> dns6;      // at most 15 are sent
  bool virtual_services = false;   // DHCPv4 option 121 also has 169.254.1.0/24, where such services live
  std::string_view hostname;       // DHCPv4 option 12, at most 63 bytes, empty: not sent
  std::optional<PxeConfig> pxe;
};

enum class Verdict : uint8_t {
  kNotForUs,  // ordinary traffic: forward it
  kReply,     // `length` bytes of `out` go back to the VM on the port the frame came from
  kConsumed,  // understood, nothing to send (for example DHCPRELEASE, or an ARP reply that taught the MAC)
  kDrop,      // a service packet that gets no answer; `drop` names why
};

enum class GuestDrop : uint8_t {
  kNone,
  kNoRoom,            // `out` is too small for the reply
  kEthSource,         // Ethernet source is a group address
  kArpMalformed,      // not Ethernet/IPv4 ARP, or truncated
  kArpNotGateway,     // ARP for anything but the gateway (there is no proxy ARP)
  kNdMalformed,       // RFC 4861 validation failed: hop limit, code, length, options, checksum
  kNdDisabled,        // IPv6 overlay is off, or the interface has no IPv6
  kNdNotGateway,      // solicitation for another target (there is no proxy ND)
  kNdFromGuest,       // router advertisement or redirect sent by a VM
  kDhcp4Malformed,    // truncated, bad options, or not a BOOTREQUEST over Ethernet
  kDhcp4NoAddress,    // the interface has no IPv4
  kDhcp4Relayed,      // giaddr set: relays are not served
  kDhcp4MessageType,  // not a client message this server answers
  kDhcp6Malformed,    // truncated or bad options
  kDhcp6NoAddress,    // the interface has no IPv6 and the message has no answer without one
  kDhcp6MessageType,  // not a client message (relay and server messages)
  kIcmpMalformed,     // echo request with a bad length or checksum
  kCount,
};

// Name for counters and traces: "arp_not_gateway" and the like.
std::string_view to_string(GuestDrop drop);

struct GuestReply {
  Verdict verdict = Verdict::kNotForUs;
  GuestDrop drop = GuestDrop::kNone;  // set if and only if verdict is kDrop
  size_t length = 0;                  // bytes written to `out`, 0 unless verdict is kReply
  std::optional<Mac> learned_vm_mac;  // set with any verdict: the VM's MAC as this frame proves it
};

// Answers one frame (starting with its Ethernet header, without FCS) that a VM sent. `out` must not overlap `frame`.
// UDP checksums of requests are not verified: virtual NICs hand over partial ones. All checksums of replies are final.
GuestReply handle(const GuestConfig& config, std::span<const uint8_t> frame, std::span<uint8_t> out);

// Frames the gateway sends by itself; the caller owns the timer. Return the frame's length, or 0 if there is nothing to
// send on this interface (family or overlay off) or `out` is too small.
size_t periodic_garp(const GuestConfig& config,
                     std::span<uint8_t> out);  // ARP request: for itself, or for a VM with unknown MAC
size_t periodic_ra(const GuestConfig& config, std::span<uint8_t> out);  // router advertisement to all nodes
size_t periodic_na(const GuestConfig& config,
                   std::span<uint8_t> out);  // unsolicited neighbour advertisement to all nodes

}  // namespace ironcore::guest
