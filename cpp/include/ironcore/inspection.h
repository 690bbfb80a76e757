// Values of the control interface for looking into a running engine: explanations of packets, flows, events, limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ironcore/drop_reason.h"
#include "ironcore/types.h"

namespace ironcore {

// What identifies an IP packet. Ports and identifiers are in host byte order.
struct PacketFields {
  IpAddress source, destination;
  uint8_t protocol = 0;                            // 0: no IP packet
  uint16_t source_port = 0, destination_port = 0;  // TCP and UDP
  uint8_t icmp_type = 0, icmp_code = 0;            // ICMP and ICMPv6
  uint16_t icmp_id = 0;
  bool later_fragment = false;  // has neither ports nor type

  bool operator==(const PacketFields&) const = default;
};

enum class PacketAction : uint8_t { kDeliver, kEncapsulate, kLoop };
enum class Translation : uint8_t { kNone, kSource, kDestination, kNat64Out, kNat64In };

// What happens to the packets of one direction of a flow.
struct FlowProgramInfo {
  PacketAction action = PacketAction::kDeliver;
  std::string device;        // netdev name; kDeliver: where to; kEncapsulate: preferred uplink, empty: the ingress one
  std::string interface_id;  // kDeliver: at present
  Ipv6Address outer_source{}, outer_destination{};  // kEncapsulate, kLoop
  Translation translation = Translation::kNone;
  IpAddress new_address;
  std::optional<uint16_t> new_port;              // or ICMP identifier
  bool total_rate = false, public_rate = false;  // counts against these rates of its sender
};

struct FlowDirectionInfo {
  PacketFields match;
  bool from_vm = false;
  Ipv6Address underlay{};  // where packets that do not come from a VM arrive
  FlowProgramInfo program;
  uint64_t packets = 0, bytes = 0;
  uint32_t idle_seconds = 0;
};

struct NatMappingInfo {
  IpAddress inside, nat_address, destination;
  uint16_t inside_port = 0, nat_port = 0, destination_port = 0;
};

struct FlowInfo {
  uint32_t vni = 0;
  std::string interface_id;  // that the flow counts for; empty: of none, or it is gone
  FlowDirectionInfo original;
  std::optional<FlowDirectionInfo> reply;  // as foreseen or seen
  std::string tcp_state;                   // "syn", "established" ...; empty: not TCP
  bool current = false;                    // false: its next packet is decided anew
  uint32_t age_seconds = 0, expires_in_seconds = 0;
  std::optional<NatMappingInfo> nat;
};

// Which flows to list; what is not given does not matter.
struct FlowFilter {
  std::optional<std::string> interface_id;
  std::optional<uint32_t> vni;
  std::optional<IpAddress> address;  // either end, before or after translation
  std::optional<uint16_t> port;      // either end, before or after translation, or ICMP identifier
  std::optional<uint8_t> protocol;
  std::optional<std::string> tcp_state;
  bool translated_only = false;
};

struct FlowPage {
  std::vector<FlowInfo> flows;
  uint64_t next = 0;  // where the next page begins; 0: that was all
};

// One step of a decision.
struct ExplainedStep {
  std::string stage;  // "parse", "flow", "route", "firewall egress" ...
  std::string outcome;
};

enum class PacketVerdict : uint8_t {
  kDropped,
  kDelivered,  // to the VM behind `device`
  kSent,       // by the uplink `device`
  kLooped,     // to an underlay address of this host: the next part goes on from there
  kAnswered,   // by this host: `reply` goes back on the port the packet came from
  kConsumed,   // understood by a guest service, which has nothing to answer
};

// A packet's way from one port or loop to the next.
struct ExplainedPart {
  std::vector<ExplainedStep> steps;
  PacketVerdict verdict = PacketVerdict::kDropped;
  DropReason drop{};                 // kDropped only
  std::string device, interface_id;  // kDelivered, kSent; netdev name
  std::optional<FlowInfo> flow;      // the entry that the packet belongs to
  bool used_flow = false;            // that entry answered, nothing was decided
  PacketFields before, after;        // the VMs' packet as received and as it leaves
  std::vector<uint8_t> output;       // kDelivered, kSent, kLooped: the frame
  std::vector<uint8_t> reply;        // to the sender: an answer, or why its packet was dropped (packet too big)
};

struct PacketSource {
  std::string interface_id;  // whose VM sends it; empty: it comes in on an uplink
  unsigned uplink = 0;       // 0 or 1
};

using Explanation = std::vector<ExplainedPart>;  // one part, or two with a loop

// kTableNearlyFull: above 90 %; kTableRelieved: below 80 % again; kRoleChanged: of a pair of engines.
// X(enumerator, name)
#define IRONCORE_EVENT_TYPE_LIST(X)              \
  X(kInterfaceCreated, INTERFACE_CREATED)        \
  X(kInterfaceDeleted, INTERFACE_DELETED)        \
  X(kPrefixCreated, PREFIX_CREATED)              \
  X(kPrefixDeleted, PREFIX_DELETED)              \
  X(kRouteCreated, ROUTE_CREATED)                \
  X(kRouteDeleted, ROUTE_DELETED)                \
  X(kVniReset, VNI_RESET)                        \
  X(kVipCreated, VIP_CREATED)                    \
  X(kVipDeleted, VIP_DELETED)                    \
  X(kNatCreated, NAT_CREATED)                    \
  X(kNatDeleted, NAT_DELETED)                    \
  X(kNeighborNatCreated, NEIGHBOR_NAT_CREATED)   \
  X(kNeighborNatDeleted, NEIGHBOR_NAT_DELETED)   \
  X(kLoadBalancerCreated, LOAD_BALANCER_CREATED) \
  X(kLoadBalancerDeleted, LOAD_BALANCER_DELETED) \
  X(kTargetCreated, TARGET_CREATED)              \
  X(kTargetDeleted, TARGET_DELETED)              \
  X(kFirewallRuleCreated, FIREWALL_RULE_CREATED) \
  X(kFirewallRuleDeleted, FIREWALL_RULE_DELETED) \
  X(kFlowLimitsChanged, FLOW_LIMITS_CHANGED)     \
  X(kLinkUp, LINK_UP)                            \
  X(kLinkDown, LINK_DOWN)                        \
  X(kNeighbourKnown, NEIGHBOUR_KNOWN)            \
  X(kNeighbourLost, NEIGHBOUR_LOST)              \
  X(kTableNearlyFull, TABLE_NEARLY_FULL)         \
  X(kTableFull, TABLE_FULL)                      \
  X(kTableRelieved, TABLE_RELIEVED)              \
  X(kRoleChanged, ROLE_CHANGED)

enum class EventType : uint8_t {
#define IRONCORE_EVENT_ENUM(enumerator, name) enumerator,
  IRONCORE_EVENT_TYPE_LIST(IRONCORE_EVENT_ENUM)
#undef IRONCORE_EVENT_ENUM
};

#define IRONCORE_EVENT_COUNT(enumerator, name) +1
inline constexpr size_t kEventTypes = 0 IRONCORE_EVENT_TYPE_LIST(IRONCORE_EVENT_COUNT);
#undef IRONCORE_EVENT_COUNT

const char* event_type_name(EventType type);  // "INTERFACE_CREATED"

struct Event {
  uint64_t sequence = 0;  // 1 for the first of a process, no gaps
  int64_t time_ns = 0;    // Unix time
  EventType type{};
  std::string subject;  // identifier of the interface or load balancer, device, table
  uint32_t vni = 0;     // 0: does not matter
  std::string detail;
};

struct EventBatch {
  std::vector<Event> events;
  uint64_t lost = 0;  // that were forgotten before they could be read, in front of the first
  uint64_t next = 0;  // what to ask for next
};

// One public address of an interface.
struct PublicAddressInfo {
  bool is_nat = false;
  IpAddress address;
  uint16_t min_port = 0, max_port = 0;  // NAT: min..max-1
  Ipv6Address underlay{};
};

}  // namespace ironcore
