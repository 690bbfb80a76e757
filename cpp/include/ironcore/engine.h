// The packet engine's one facade. Calls are thread-safe, never run on a worker and never stop one; a call that does not
// return Status::OK has changed nothing. No call throws except the constructor, start() and std::bad_alloc.
//
// The order in which conditions are checked, and hence which status wins, is part of the dpservice wire contract.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "ironcore/drop_reason.h"
#include "ironcore/inspection.h"
#include "ironcore/services.h"
#include "ironcore/status.h"
#include "ironcore/types.h"

namespace ironcore {

enum class NicType : uint8_t { kMellanox, kTap, kBluefield2 };

// kAdaptive sleeps when idle (200 us at most, up to 1 ms after a second without packets); kBusy never does.
enum class PollMode : uint8_t { kAdaptive, kBusy };

// Seconds without a packet in either direction until a flow is forgotten.
struct FlowTimeouts {
  uint32_t tcp_established = 86400;
  uint32_t tcp_transitory = 30;  // opening, closing, closed
  uint32_t udp = 30;
  uint32_t icmp = 30;
  uint32_t other = 30;
  uint32_t tcp_forwarded = 3600;  // established as far as one direction shows: to another host's target or ports

  static FlowTimeouts all_idle(uint32_t seconds) { return {86400, seconds, seconds, seconds, seconds, 3600}; }
  bool operator==(const FlowTimeouts&) const = default;
};

struct EngineOptions {
  // EAL arguments without the program name. Workers are the EAL's lcores minus the main one; with a single lcore the
  // engine starts one worker thread of its own. The EAL is started once per process: later engines ignore this.
  std::vector<std::string> eal_args;

  std::string pf0;         // kernel netdev name; for devices without netdev their DPDK name
  std::string pf1;         // may be empty: one uplink only
  std::string vf_pattern;  // every other port whose name contains this is a VF
  Ipv6Address underlay{};  // host underlay address; its upper 64 bits prefix every generated address
  NicType nic_type = NicType::kMellanox;
  PollMode poll_mode = PollMode::kAdaptive;

  uint16_t dhcp_mtu = 1500;             // 68..1500
  std::vector<Ipv4Address> dhcp_dns;    // at most 63
  std::vector<Ipv6Address> dhcpv6_dns;  // at most 15
  bool enable_ipv6_overlay = false;     // answer and advertise neighbour discovery towards VMs
  unsigned wcmp = 100;                  // percent of flows on PF0, 0..100; 100: PF1 only while PF0 is down
  bool flow_label_entropy = false;      // outer flow labels differ by flow, for routers that hash them
  bool multipath = false;               // a second create_route() of a prefix adds a next hop; off: ROUTE_EXISTS

  FirewallMode firewall = FirewallMode::kEnforce;
  bool antispoof = true;     // a VM sends only from its own addresses (and MAC, once that is known)
  bool ipv6_public = false;  // VIP and NAT addresses may be IPv6; off: BAD_IPVER, as clients of the reference expect

  uint32_t flow_table_size = 1u << 20;  // flow entries (two per connection), 1024..2^28; memory is taken when used
  uint32_t flow_quota = 0;              // connections that one interface may have, 0: no limit but the table
  FlowTimeouts flow_timeouts;           // each 1..2^24
  uint32_t max_vnis = 4096;
  uint32_t max_routes_per_vni = 1u << 20;  // per family
  uint32_t max_underlay_addresses = 65536;
  uint32_t max_nat_flows = 1u << 20;  // memory is taken when used
  uint32_t max_public_addresses = 65536;
  uint32_t max_neighbor_nats = 1u << 18;
  uint32_t max_load_balancers = 4096;         // at most 65536
  uint32_t max_load_balancer_targets = 1000;  // of one load balancer
  uint32_t maglev_size = 0;                   // a prime; 0: the reference's 503 up to 64 targets, 65537 beyond
  bool meter_software_devices = true;         // false: TAP devices ignore rates and report none, as in the reference
  unsigned workers = 0;                       // 0: one per worker lcore; at most that many
  uint32_t mbufs = 0;                         // packet buffers; 0: by the number of ports

  bool underlay_type_byte = false;      // byte 9 of a generated address tells the object's type
  bool underlay_static = false;         // generated addresses start at a fixed value instead of a random one
  bool follow_uplink_neighbour = true;  // learn the uplink router's MAC from the kernel; else set_uplink_neighbour()
  std::string version;                  // what version() answers

  // High availability: two engines on one host, one of which is active.
  std::string active_lockfile;  // packets are received only while this file is locked exclusively; empty: always
  std::string sync_tap;         // netdev of a device that leads to the other engine; empty: none
};

// Start-up failure; what() says which option, port or resource.
class EngineError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct PxeOptions {
  IpAddress next_server;
  std::string boot_filename;  // at most 31 bytes
};

struct CreateInterfaceRequest {
  std::string id;           // 1..63 of A-Za-z0-9_-
  std::string device_name;  // DPDK device name, 1..63 bytes
  uint32_t vni = 0;
  Ipv4Address ipv4{};  // zero: no IPv4
  Ipv6Address ipv6{};  // zero: no IPv6; not both zero
  std::optional<Ipv6Address> preferred_underlay;
  std::optional<PxeOptions> pxe;
  std::string hostname;           // at most 63 bytes
  uint64_t total_meter_rate = 0;  // Mbit/s, 0: unlimited
  uint64_t public_meter_rate = 0;
};

struct CreateInterfaceReply {
  Ipv6Address underlay{};
  std::string netdev_name;  // `vf.name` of the wire contract
};

struct InterfaceInfo {
  std::string id;
  std::string device_name;
  std::string netdev_name;
  std::string hostname;
  uint32_t vni = 0;
  Ipv4Address ipv4{};
  Ipv6Address ipv6{};
  Ipv6Address underlay{};
  MacAddress mac{};     // of the gateway, as the VM sees it
  MacAddress vm_mac{};  // a guess until vm_mac_learned
  bool vm_mac_learned = false;
  uint64_t total_meter_rate = 0;  // as applied: 0 on devices without metering
  uint64_t public_meter_rate = 0;
};

struct PrefixInfo {
  IpPrefix prefix;  // as created, host bits kept
  Ipv6Address underlay{};
};

struct RouteInfo {
  uint32_t vni = 0;
  IpPrefix prefix;  // masked
  uint32_t nexthop_vni = 0;
  Ipv6Address nexthop{};
};

enum class VniType : uint8_t { kIpv4 = 0, kIpv6 = 1, kBoth = 2 };

using DropCounters = std::array<uint64_t, kDropReasonCount>;  // indexed by DropReason

struct PortCounters {
  std::string device_name;
  std::string netdev_name;
  bool is_uplink = false;
  bool link_up = false;
  bool neighbour_known = false;  // uplinks: the router's MAC is known
  std::string interface_id;      // empty: no interface. Counters belong to the device and never restart
  uint64_t rx_packets = 0, rx_bytes = 0;
  uint64_t tx_packets = 0, tx_bytes = 0;
  DropCounters drops{};  // of packets received on this port, and tx_full of packets meant for it
};

struct WorkerCounters {
  unsigned lcore = 0;
  uint64_t packets = 0;
  uint64_t slow_path = 0;    // packets that needed a decision
  uint64_t polls = 0;        // loop iterations
  uint64_t busy_cycles = 0;  // TSC cycles of iterations that had packets
  uint64_t sleeps = 0;
  uint64_t flows_created = 0;
  uint64_t flows_redecided = 0;  // decided again because routes or interfaces changed
  uint64_t flows_expired = 0;
  uint64_t flows_evicted = 0;        // given up for others: table or quota full
  uint64_t flow_table_full = 0;      // packets whose flow found no room
  uint64_t firewall_would_drop = 0;  // flows that an observing firewall let pass
};

struct TableLevel {
  std::string name;
  uint64_t used = 0, capacity = 0;
};

// kStandby: calls and synchronization work, packets are not received. kFailed: the lock file cannot be had; stop.
enum class HaState : uint8_t { kStandby, kActive, kFailed };

struct HaMessages {
  std::string type;
  uint64_t sent = 0, received = 0;
};

struct HaCounters {
  HaState state = HaState::kActive;
  bool peer = false;                 // another engine of this kind answers on the sync port
  bool in_sync = false;              // active: it has acknowledged everything; standby: was told everything once
  std::vector<HaMessages> messages;  // empty without sync port
  uint64_t wrong_role = 0;           // messages that do not fit this engine's role; ignored
  uint64_t unknown = 0, malformed = 0;
  uint64_t gaps = 0, resent = 0;                      // frames of the reliable stream
  uint64_t resyncs = 0;                               // times that everything was told
  uint64_t lost = 0;                                  // changes that were not told when they happened
  uint64_t replicated = 0;                            // standby: connections that it would take over
  uint64_t refused = 0;                               // standby: connections beyond half of flow_table_size
  uint64_t conflicts = 0;                             // standby: NAT ports that another mapping had
  uint64_t restored = 0, pending = 0, abandoned = 0;  // taken over; waiting for their interface or route; given up
  uint64_t discarded = 0;                             // packets that had waited since before the takeover
};

struct EngineCounters {
  std::vector<PortCounters> ports;
  std::vector<WorkerCounters> workers;
  std::vector<TableLevel> tables;
  DropCounters drops{};  // sum over all ports and workers
  uint64_t tsc_hz = 0;
  HaCounters ha;
};

struct FlowLimitsInfo {
  FlowTimeouts timeouts;
  uint32_t quota = 0;  // connections, 0: no limit but the table
};

// All about an interface at one moment.
struct InterfaceState {
  InterfaceInfo info;
  std::vector<PublicAddressInfo> public_addresses;  // virtual IPs, then NAT; IPv4 before IPv6
  std::vector<PrefixInfo> prefixes, lb_prefixes;
  size_t firewall_rules = 0;
  FlowLimitsInfo limits;
  uint32_t flows = 0;      // connections that count for its quota
  uint64_t nat_ports = 0;  // flows that hold one
};

class Engine {
 public:
  explicit Engine(EngineOptions options);  // finds and configures ports; EngineError
  ~Engine();                               // stops
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void start();  // starts uplinks and workers; EngineError. Calling it twice is an error
  void stop();   // stops workers, then ports. Idempotent; a stopped engine does not start again

  // Process state.
  Result<std::string> initialize();                      // UUID, same for each call: 36 upper-case characters
  std::optional<std::string> check_initialized() const;  // UUID once initialize() has succeeded
  const std::string& version() const;

  // Interfaces.
  Result<CreateInterfaceReply> create_interface(const CreateInterfaceRequest& request);
  Result<InterfaceInfo> get_interface(std::string_view id) const;
  std::vector<InterfaceInfo> list_interfaces() const;  // in device order
  Status delete_interface(std::string_view id);

  // Alias prefixes (routed to the interface) and load-balancer prefixes (accepted under an underlay address only).
  Result<Ipv6Address> create_prefix(std::string_view id, const IpPrefix& prefix,
                                    const std::optional<Ipv6Address>& preferred_underlay);
  Status delete_prefix(std::string_view id, const IpPrefix& prefix);
  Result<std::vector<PrefixInfo>> list_prefixes(std::string_view id) const;
  Result<Ipv6Address> create_lb_prefix(std::string_view id, const IpPrefix& prefix,
                                       const std::optional<Ipv6Address>& preferred_underlay);
  Status delete_lb_prefix(std::string_view id, const IpPrefix& prefix);
  Result<std::vector<PrefixInfo>> list_lb_prefixes(std::string_view id) const;

  // Public addresses. One VIP and one NAT range per interface and family.
  Result<Ipv6Address> create_vip(std::string_view id, const IpAddress& vip,
                                 const std::optional<Ipv6Address>& preferred_underlay);
  Result<VipInfo> get_vip(std::string_view id) const;  // the IPv4 one if there are two
  Status delete_vip(std::string_view id);
  Result<Ipv6Address> create_nat(std::string_view id, const IpAddress& nat_ip, uint16_t min_port, uint16_t max_port,
                                 const std::optional<Ipv6Address>& preferred_underlay);
  Result<NatInfo> get_nat(std::string_view id) const;
  Status delete_nat(std::string_view id);
  Result<std::vector<LocalNatInfo>> list_local_nats(const IpAddress& nat_ip) const;  // zero: all
  Status create_neighbor_nat(const NeighborNat& nat);
  Status delete_neighbor_nat(const IpAddress& nat_ip, uint32_t vni, uint16_t min_port, uint16_t max_port);
  Result<std::vector<NeighborNat>> list_neighbor_nats(const IpAddress& nat_ip) const;  // zero: all; as created

  // Load balancers.
  Result<Ipv6Address> create_load_balancer(std::string_view lb_id, uint32_t vni, const IpAddress& ip,
                                           const std::vector<LoadBalancerPort>& ports,
                                           const std::optional<Ipv6Address>& preferred_underlay);
  Result<LoadBalancerInfo> get_load_balancer(std::string_view lb_id) const;
  std::vector<LoadBalancerInfo> list_load_balancers() const;
  Status delete_load_balancer(std::string_view lb_id);
  Status create_load_balancer_target(std::string_view lb_id, const IpAddress& target);
  Status delete_load_balancer_target(std::string_view lb_id, const IpAddress& target);
  Result<std::vector<Ipv6Address>> list_load_balancer_targets(std::string_view lb_id) const;  // empty: of all

  // Firewall rules.
  Status create_firewall_rule(std::string_view id, const FirewallRule& rule);
  Result<FirewallRuleInfo> get_firewall_rule(std::string_view id, std::string_view rule_id) const;
  Status delete_firewall_rule(std::string_view id, std::string_view rule_id);
  Result<std::vector<FirewallRuleInfo>> list_firewall_rules(std::string_view id) const;  // as created

  // Routes to other hosts. A list has IPv4 before IPv6; in a family the default route, then by address, the more
  // specific first. VNI 0 lists all VNIs.
  Status create_route(uint32_t vni, const IpPrefix& prefix, uint32_t nexthop_vni, const IpAddress& nexthop);
  // All next hops of the prefix, or the one given (ROUTE_NOT_FOUND if the route has it not).
  Status delete_route(uint32_t vni, const IpPrefix& prefix, const std::optional<Ipv6Address>& nexthop = {});
  Result<std::vector<RouteInfo>> list_routes(uint32_t vni) const;

  Result<bool> check_vni_in_use(uint32_t vni, VniType type) const;
  Status reset_vni(uint32_t vni, VniType type);

  // True if `address` may be passed as preferred underlay address: this host's upper 64 bits, flag 0x80 in byte 10.
  bool preferred_underlay_allowed(const Ipv6Address& address) const;

  // Uplink router's MAC of PF0 (0) or PF1 (1); nullopt: unknown, traffic is dropped by name until it is known.
  void set_uplink_neighbour(unsigned pf_index, const std::optional<MacAddress>& mac);

  void
  announce();  // one round of gratuitous ARP and router/neighbour advertisements to all VMs, besides the periodic ones

  EngineCounters counters() const;

  // Inspection (values in inspection.h).
  // What would happen to this frame now; nothing changes. NOT_FOUND: no such interface or uplink, BAD_REQUEST: empty,
  // or longer than a packet buffer.
  Result<Explanation> explain_packet(const PacketSource& source, const std::vector<uint8_t>& frame);
  // A page of at most `limit` (1..1000) flows; `from` is 0 or the `next` of the page before.
  Result<FlowPage> list_flows(const FlowFilter& filter, uint64_t from, size_t limit);
  Result<InterfaceState> get_interface_state(std::string_view id) const;
  std::vector<InterfaceState> list_interface_states() const;  // by identifier
  // Until the interface is deleted. Running flows follow a shorter timeout within 9 minutes.
  Status set_flow_limits(std::string_view id, const FlowTimeouts& timeouts, uint32_t quota);
  // At most `limit` of the last 4096 events, from sequence number `from` on; 0: from the oldest.
  EventBatch read_events(uint64_t from, size_t limit) const;
  uint64_t next_event() const;  // sequence number of the event to come
  // Blocks until the event with this number is there (true), for that long at most, or until interrupted.
  bool wait_event(uint64_t sequence, uint32_t milliseconds) const;
  void interrupt_event_waits();

  // High availability.
  HaState ha_state() const;  // kActive without lock file
  // Lets go of the lock file first, then receives no more packets: what stop() begins with. Not to be taken back.
  void resign();

 private:
  friend struct EngineAccess;  // tests and benches
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ironcore
