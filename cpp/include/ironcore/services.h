// Values of the control interface for what an interface can have besides routes: firewall rules, public addresses,
// load balancers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "ironcore/types.h"

namespace ironcore {

// --- Firewall ---

// kEnforce drops what no rule allows; kObserve only counts it (`firewall_would_drop`); kOff does not look.
enum class FirewallMode : uint8_t { kEnforce, kObserve, kOff };

enum class TrafficDirection : uint8_t { kIngress = 0, kEgress = 1 };  // towards the VM, from the VM
enum class FirewallAction : uint8_t { kDrop = 0, kAccept = 1 };

// Inclusive; lower -1: any port (upper is ignored then); upper -1: no upper bound.
struct PortRange {
  int32_t lower = -1, upper = -1;

  bool operator==(const PortRange&) const = default;
};
struct TcpFilter {
  PortRange source, destination;

  bool operator==(const TcpFilter&) const = default;
};
struct UdpFilter {
  PortRange source, destination;

  bool operator==(const UdpFilter&) const = default;
};
struct IcmpFilter {  // ICMP with IPv4 prefixes, ICMPv6 with IPv6 prefixes; -1: any
  int32_t type = -1, code = -1;

  bool operator==(const IcmpFilter&) const = default;
};
using ProtocolFilter = std::variant<std::monostate, TcpFilter, UdpFilter, IcmpFilter>;

// Rules of an interface apply in order of priority (lower first), at equal priority DROP before ACCEPT, then in the
// order they were created; the first that matches decides. A direction without rules accepts, one with rules drops what
// none of them matches. Rules see destinations after and sources before translation.
struct FirewallRule {
  std::string id;  // 1..63 bytes, unique per interface
  TrafficDirection direction = TrafficDirection::kIngress;
  FirewallAction action = FirewallAction::kAccept;
  uint16_t priority = 0;
  IpPrefix source, destination;  // length 0: any of that family; mixed families never match. Host bits are kept
  ProtocolFilter filter;         // none: TCP, UDP, ICMP and ICMPv6; other protocols match no rule

  bool operator==(const FirewallRule&) const = default;
};

struct FirewallRuleInfo {
  FirewallRule rule;
  uint64_t hits = 0;  // flows that it decided
};

// --- Public addresses ---

struct VipInfo {
  IpAddress vip;
  Ipv6Address underlay{};
};

// Usable ports are min..max-1.
struct NatInfo {
  IpAddress nat_ip;
  uint16_t min_port = 0, max_port = 0;
  Ipv6Address underlay{};
};

struct LocalNatInfo {
  IpAddress inside;
  uint32_t vni = 0;
  NatInfo nat;
  uint64_t flows = 0;  // that use its ports at present
};

// Ports of a NAT address that belong to another host.
struct NeighborNat {
  IpAddress nat_ip;
  uint32_t vni = 0;
  uint16_t min_port = 0, max_port = 0;
  Ipv6Address underlay{};

  bool operator==(const NeighborNat&) const = default;
};

// --- Load balancers ---

struct LoadBalancerPort {
  uint8_t protocol = 0;  // TCP or UDP
  uint16_t port = 0;     // host byte order

  auto operator<=>(const LoadBalancerPort&) const = default;
};

struct LoadBalancerInfo {
  std::string id;  // 1..63 bytes
  uint32_t vni = 0;
  IpAddress ip;
  std::vector<LoadBalancerPort> ports;  // in the order given
  Ipv6Address underlay{};
};

}  // namespace ironcore
