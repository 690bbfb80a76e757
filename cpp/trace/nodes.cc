#include "trace/nodes.h"

namespace ironcore::trace {

std::string node_name(Node node, uint16_t port) {
  constexpr std::array<const char*, kNodeCount> kNames = {
      "",           "",           "cls", "arp",  "ipv6_nd",      "dhcp",        "dhcpv6",      "virtsvc",
      "ipip_decap", "conntrack",  "lb",  "dnat", "packet_relay", "ipv4_lookup", "ipv6_lookup", "snat",
      "firewall",   "ipip_encap", ""};
  if (node == Node::kReceive) return "rx-" + std::to_string(port) + "-0";
  if (node == Node::kTransmit) return "tx-" + std::to_string(port);
  return kNames[static_cast<size_t>(node)];
}

Node node_of(DropReason reason) {
  switch (reason) {
    case DropReason::no_interface:
      return Node::kReceive;
    case DropReason::firewall:
      return Node::kFirewall;
    case DropReason::no_route:
    case DropReason::interface_gone:
      return Node::kRoute4;
    case DropReason::metered:
    case DropReason::nat_exhausted:
    case DropReason::nat_unsupported:
      return Node::kSource;
    case DropReason::nat_unsolicited:
    case DropReason::not_translatable:
      return Node::kDestination;
    case DropReason::lb_address:
    case DropReason::lb_port:
    case DropReason::lb_no_target:
      return Node::kLoadBalancer;
    case DropReason::spoofed_source:
    case DropReason::spoofed_mac:
    case DropReason::link_local:
    case DropReason::flow_table_full:
    case DropReason::flow_quota:
    case DropReason::fragment_unknown:
      return Node::kFlow;
    case DropReason::underlay_unknown:
    case DropReason::underlay_prefix_mismatch:
      return Node::kDecapsulate;
    case DropReason::packet_too_big:
    case DropReason::uplink_down:
    case DropReason::uplink_neighbour_unknown:
    case DropReason::headroom:
      return Node::kEncapsulate;
    case DropReason::tx_full:
      return Node::kTransmit;
    case DropReason::virtual_service_full:
    case DropReason::virtual_service_unknown:
      return Node::kVirtualService;
    case DropReason::arp_malformed:
    case DropReason::arp_not_gateway:
      return Node::kArp;
    case DropReason::nd_malformed:
    case DropReason::nd_disabled:
    case DropReason::nd_not_gateway:
    case DropReason::nd_from_guest:
      return Node::kNeighbourDiscovery;
    case DropReason::dhcp4_malformed:
    case DropReason::dhcp4_no_address:
    case DropReason::dhcp4_relayed:
    case DropReason::dhcp4_message_type:
      return Node::kDhcp4;
    case DropReason::dhcp6_malformed:
    case DropReason::dhcp6_no_address:
    case DropReason::dhcp6_message_type:
      return Node::kDhcp6;
    default:
      return Node::kClassify;
  }
}

}  // namespace ironcore::trace
