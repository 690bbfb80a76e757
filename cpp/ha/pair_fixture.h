// For tests of a pair: two engines, one after the other on the same devices, and a peer in between. What the first had
// goes over the sync port to the peer, from there to the second, and goes on when that one becomes active.
#pragma once

#include <gtest/gtest.h>
#include <rte_eth_ring.h>
#include <rte_mbuf.h>

#include <chrono>

#include "ha/pair.h"
#include "testing/harness.h"

namespace ironcore::testing {
using ha::Bytes;
using ha::Connection;
using ha::Record;
using ha::Role;
using ha::ServiceSlot;
using ha::Session;

inline constexpr uint16_t kMinPort = 1024, kMaxPort = 1028;
inline const Ipv6Address kVm0 = ip6("fc00:1::8000:0:1"), kVm1 = ip6("fc00:1::8000:0:2"), kNat = ip6("fc00:1::8000:0:3"),
                         kVip = ip6("fc00:1::8000:0:4"), kBalancer = ip6("fc00:1::8000:0:5"),
                         kTarget = ip6("fc00:1::8000:0:6");

// The device to the peer, made once per process like the harness's.
struct SyncRings {
  rte_ring* rx;
  rte_ring* tx;

  SyncRings() {
    drain_rings();  // starts the EAL
    rx = rte_ring_create("sync_rx", 1024, SOCKET_ID_ANY, 0);
    tx = rte_ring_create("sync_tx", 1024, SOCKET_ID_ANY, 0);
    if (!rx || !tx || rte_eth_from_rings("sync", &rx, 1, &tx, 1, SOCKET_ID_ANY) < 0) std::abort();
  }
};

inline SyncRings& rings() {
  static auto* rings = new SyncRings;
  return *rings;
}

inline EngineOptions options(bool standby) {
  EngineOptions options = default_options();
  options.sync_tap = "net_ring_sync";
  // Nothing locks it here: the pair's thread does not run.
  if (standby) options.active_lockfile = "/nonexistent/lock";
  return options;
}

inline std::vector<Frame> sent_to_peer() {
  std::vector<Frame> frames;
  void* object;
  while (rte_ring_dequeue(rings().tx, &object) == 0) {
    auto* mbuf = static_cast<rte_mbuf*>(object);
    const auto* data = rte_pktmbuf_mtod(mbuf, const uint8_t*);
    frames.emplace_back(data, data + mbuf->data_len);
    rte_pktmbuf_free(mbuf);
  }
  return frames;
}

inline bool send_from_peer(Bytes frame) {
  rte_mbuf* mbuf = make_mbuf({frame.begin(), frame.end()});
  if (rte_ring_enqueue(rings().rx, mbuf) == 0) return true;
  rte_pktmbuf_free(mbuf);
  return false;
}

// What stands on the other side of the sync port.
class Peer final : public ha::Sink, public ha::Source {
 public:
  explicit Peer(Role role, std::vector<Connection> known = {}, std::vector<ServiceSlot> held = {})
      : connections(std::move(known)),
        slots(std::move(held)),
        session(role == Role::kActive ? 3 : 5, role, *this, *this) {}

  void apply(const Record& record) override {
    if (const auto* put = std::get_if<ha::Put>(&record)) replica.put(put->connection);
    if (const auto* gone = std::get_if<ha::Gone>(&record)) replica.remove(gone->id);
    if (const auto* mac = std::get_if<ha::PortMac>(&record)) macs.push_back(*mac);
    if (const auto* slot = std::get_if<ServiceSlot>(&record)) slots.push_back(*slot);
  }
  void apply(const ha::NatCreate& message) override { replica.put(message); }
  void apply(const ha::NatDelete& message) override { replica.remove(message); }
  bool take(Record&) override { return false; }
  bool dump(uint64_t&, std::vector<Record>& part) override {
    for (const Connection& connection : connections) part.push_back(ha::Put{connection});
    part.insert(part.end(), slots.begin(), slots.end());
    return false;
  }
  uint64_t dropped() const override { return 0; }

  void round(ha::Pair& pair) {
    pair.poll();
    for (const Frame& frame : sent_to_peer()) session.receive(frame, ++now);
    session.poll(++now, send_from_peer);
  }

  NatPorts nat_ports{1000};
  ha::Replica replica{nat_ports, 1 << 17, [](const FlowKey& key) { return uint64_t{key.src_port}; }};
  std::vector<Connection> connections;
  std::vector<ha::PortMac> macs;
  std::vector<ServiceSlot> slots;
  Session session;
  uint64_t now = 1000;
};

template <typename Condition>
bool wait_for(Condition condition) {
  using std::chrono::steady_clock;
  for (const auto end = steady_clock::now() + std::chrono::seconds(30); steady_clock::now() < end;)
    if (condition()) return true;
  return false;
}

class HaPair : public ::testing::Test {
 protected:
  HaPair() { rings(); }
  ~HaPair() override {
    net.reset();
    sent_to_peer();
    void* object;
    while (rte_ring_dequeue(rings().rx, &object) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(object));
  }

  void start(bool standby, EngineOptions with) {
    net.reset();
    sent_to_peer();
    net = std::make_unique<Harness>(std::move(with));
    pair = net->impl().pair();
    ASSERT_NE(pair, nullptr);
    EXPECT_EQ(net->engine().ha_state(), standby ? HaState::kStandby : HaState::kActive);
  }
  void start(bool standby) { start(standby, options(standby)); }

  // `detour`: interfaces have other instance numbers than in the other engine.
  void configure(bool detour = false) {
    Engine& engine = net->engine();
    for (int i = 0; i < (detour ? 5 : 0); ++i) {
      net->add_interface(kVf2, 7, "10.9.9.9");
      engine.delete_interface("vm2");
    }
    CreateInterfaceRequest request = net->interface_request(kVf0, 100, "10.0.0.1", "2001:db8::1");
    request.preferred_underlay = kVm0;
    ASSERT_EQ(engine.create_interface(request).status, Status::OK);
    request = net->interface_request(kVf1, 100, "10.0.0.2");
    request.preferred_underlay = kVm1;
    ASSERT_EQ(engine.create_interface(request).status, Status::OK);
    engine.create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
    engine.create_route(100, prefix("::/0"), 100, ip(kRemote));
    ASSERT_EQ(engine.create_nat("vm0", ip("203.0.113.1"), kMinPort, kMaxPort, kNat).status, Status::OK);
    ASSERT_EQ(engine.create_vip("vm1", ip("203.0.113.9"), kVip).status, Status::OK);
    ASSERT_EQ(engine.create_load_balancer("lb", 100, ip("203.0.113.7"), {{6, 80}}, kBalancer).status, Status::OK);
    ASSERT_EQ(engine.create_lb_prefix("vm1", prefix("203.0.113.7/32"), kTarget).status, Status::OK);
    ASSERT_EQ(engine.create_load_balancer_target("lb", IpAddress::v6(kTarget)), Status::OK);
    // Nothing may be opened towards vm1 but by way of its load balancer; it may open what it likes.
    FirewallRule rule;
    rule.id = "web";
    rule.filter = TcpFilter{{}, {80, 80}};
    ASSERT_EQ(engine.create_firewall_rule("vm1", rule), Status::OK);
  }
  Frame out(unsigned vf, const Frame& frame) { return slice(net->forward(vf, frame, kPf0), 54); }
  Frame in(const Ipv6Address& to, const Frame& frame, unsigned vf) {
    return slice(net->forward(kPf0, overlay(kRemote, to, frame), vf), 14);
  }
  static uint16_t port_at(const Frame& frame, size_t at) {
    return static_cast<uint16_t>(frame.at(at) << 8 | frame.at(at + 1));
  }
  static Frame payload_of(const Frame& frame) { return slice(frame, 14); }
  uint64_t flows() { return net->impl().flows().size(); }
  uint64_t nat_flows() {
    for (const TableLevel& table : net->engine().counters().tables)
      if (table.name == "nat_flows") return table.used;
    return UINT64_MAX;
  }
  HaCounters counters() { return net->engine().counters().ha; }

  // Opens one of each kind: NAT by UDP and TCP, NAT64, VIP by TCP, load balancer by TCP.
  void open_connections() {
    udp_port = port_at(out(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53)), 20);
    const Frame syn = out(kVf0, from_vm("10.0.0.1", "8.8.8.8", 6, tcp(1001, 443, 0x02)));
    tcp_port = port_at(syn, 20);
    in(kNat, from_vm("8.8.8.8", "203.0.113.1", 6, tcp(443, tcp_port, 0x12)), kVf0);
    out(kVf0, from_vm("10.0.0.1", "8.8.8.8", 6, tcp(1001, 443, 0x10)));
    nat64_port = port_at(out(kVf0, udp_from_vm("2001:db8::1", "64:ff9b::909:909", 1002, 53)), 20);
    out(kVf1, from_vm("10.0.0.2", "9.9.9.9", 6, tcp(2000, 22, 0x02)));
    in(kVip, from_vm("9.9.9.9", "203.0.113.9", 6, tcp(22, 2000, 0x12)), kVf1);
    out(kVf1, from_vm("10.0.0.2", "9.9.9.9", 6, tcp(2000, 22, 0x10)));
    in(kBalancer, from_vm("7.7.7.7", "203.0.113.7", 6, tcp(3000, 80, 0x02)), kVf1);
    out(kVf1, from_vm("203.0.113.7", "7.7.7.7", 6, tcp(80, 3000, 0x12)));
    in(kBalancer, from_vm("7.7.7.7", "203.0.113.7", 6, tcp(3000, 80, 0x10)), kVf1);
  }
  static constexpr size_t kOpened = 5;

  std::vector<Connection> connections_of_an_active() {
    start(false);
    configure();
    open_connections();
    Peer peer(Role::kStandby);
    EXPECT_TRUE(wait_for([&] {
      peer.round(*pair);
      return counters().in_sync;
    }));
    EXPECT_EQ(peer.replica.size(), kOpened);
    EXPECT_EQ(counters().lost, 0u);
    return peer.replica.take_all();
  }
  // A standby that was told so; then active.
  void tell(std::vector<Connection> connections, std::vector<ServiceSlot> slots = {}) {
    const size_t count = connections.size();
    Peer peer(Role::kActive, std::move(connections), std::move(slots));
    EXPECT_TRUE(wait_for([&] {
      peer.round(*pair);
      return counters().replicated == count && counters().in_sync;
    }));
  }

  std::unique_ptr<Harness> net;
  ha::Pair* pair = nullptr;
  uint16_t udp_port = 0, tcp_port = 0, nat64_port = 0;
};

}  // namespace ironcore::testing
