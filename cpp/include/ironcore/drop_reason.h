// Why a packet ended in this engine. Every drop has exactly one of these names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ironcore {

// X(name, what happened)
#define IRONCORE_DROP_REASON_LIST(X)                                                            \
  X(truncated, "frame ends inside a header it announces")                                       \
  X(multi_segment, "frame in more than one buffer")                                             \
  X(vlan_tagged, "VLAN tag on a port that carries none")                                        \
  X(ethertype_unsupported, "neither IPv4, IPv6 nor ARP from a VM")                              \
  X(ip_malformed, "IP version, header length or total length is wrong")                         \
  X(ip_extension_headers, "more IPv6 extension headers than this engine walks")                 \
  X(icmp_type_unsupported, "ICMPv4 type or code that is not forwarded")                         \
  X(icmp_error_malformed, "ICMP error that does not quote a packet as it must")                 \
  X(no_interface, "port has no interface")                                                      \
  X(spoofed_source, "source address does not belong to the sending interface")                  \
  X(spoofed_mac, "Ethernet source is not the VM's MAC")                                         \
  X(link_local, "link-local or limited broadcast address that no router forwards")              \
  X(no_route, "no route to the destination in this VNI")                                        \
  X(interface_gone, "route or underlay address of a device that has no interface in that VNI")  \
  X(firewall, "no rule of sender or receiver allows the flow")                                  \
  X(nat_unsolicited, "for a NAT address, but not an answer, and of no neighbour's ports")       \
  X(nat_unsupported, "protocol without ports or echo identifier from an interface with NAT")    \
  X(nat_exhausted, "no NAT port is free towards this destination")                              \
  X(not_translatable, "no such packet in the other family, or a bad checksum in an ICMP error") \
  X(lb_address, "for a load balancer, but to another address than its own")                     \
  X(lb_port, "protocol or port that the load balancer does not serve")                          \
  X(lb_no_target, "load balancer without target, or its target on this host is gone")           \
  X(flow_table_full, "no room for a flow that needs an entry")                                  \
  X(flow_quota, "interface has as many flows as it may have")                                   \
  X(metered, "beyond the interface's rate")                                                     \
  X(fragment_unknown, "fragment whose first has not been seen, of a flow that needs its ports") \
  X(packet_too_big, "encapsulated packet exceeds the uplink MTU")                               \
  X(uplink_neighbour_unknown, "MAC of the uplink router is not known yet")                      \
  X(uplink_down, "no uplink is up")                                                             \
  X(not_overlay, "uplink frame that is not an overlay packet")                                  \
  X(underlay_prefix_mismatch, "outer destination outside of this host's prefix")                \
  X(underlay_unknown, "outer destination is not registered on this host")                       \
  X(tx_full, "device did not accept the frame")                                                 \
  X(headroom, "no room for the outer header in the buffer")                                     \
  X(worker_ring_full, "ring to another worker is full")                                         \
  X(no_buffer, "packet pool is empty")                                                          \
  X(guest_no_room, "reply of a guest service does not fit into a frame")                        \
  X(guest_eth_source, "Ethernet source of a VM is a group address")                             \
  X(arp_malformed, "not an Ethernet/IPv4 ARP packet")                                           \
  X(arp_not_gateway, "ARP for another address than the gateway")                                \
  X(nd_malformed, "neighbour discovery packet fails the checks of RFC 4861")                    \
  X(nd_disabled, "neighbour discovery on an interface without IPv6 overlay")                    \
  X(nd_not_gateway, "solicitation for another address than the gateway")                        \
  X(nd_from_guest, "router advertisement or redirect sent by a VM")                             \
  X(dhcp4_malformed, "DHCPv4 message that cannot be parsed")                                    \
  X(dhcp4_no_address, "DHCPv4 on an interface without IPv4 address")                            \
  X(dhcp4_relayed, "DHCPv4 message from a relay")                                               \
  X(dhcp4_message_type, "DHCPv4 message that a server does not answer")                         \
  X(dhcp6_malformed, "DHCPv6 message that cannot be parsed")                                    \
  X(dhcp6_no_address, "DHCPv6 on an interface without IPv6 address")                            \
  X(dhcp6_message_type, "DHCPv6 message that a server does not answer")                         \
  X(icmp_malformed, "echo request to the gateway with bad length or checksum")                  \
  X(underlay_error, "ICMP error of the underlay about no flow of this host, or one too many")   \
  X(virtual_service_full, "all ports of the virtual service are in use")                        \
  X(virtual_service_unknown, "from a virtual service's server, but to no client of it")

enum class DropReason : uint8_t {
#define IRONCORE_DROP_ENUM(name, text) name,
  IRONCORE_DROP_REASON_LIST(IRONCORE_DROP_ENUM)
#undef IRONCORE_DROP_ENUM
};

#define IRONCORE_DROP_COUNT(name, text) +1
inline constexpr size_t kDropReasonCount = 0 IRONCORE_DROP_REASON_LIST(IRONCORE_DROP_COUNT);
#undef IRONCORE_DROP_COUNT

std::string_view drop_reason_name(DropReason reason);         // "spoofed_source"
std::string_view drop_reason_description(DropReason reason);  // for operators

}  // namespace ironcore
