#include "explain/flow_list.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

class Flows : public ::testing::Test {
 protected:
  explicit Flows(EngineOptions options = default_options()) : net(options) {
    underlay = net.add_interface(kVf0, 100, "10.0.0.1");
    net.add_interface(kVf1, 200, "10.0.0.2");
    for (const uint32_t vni : {100u, 200u}) net.engine().create_route(vni, prefix("0.0.0.0/0"), vni, ip(kRemote));
  }
  std::vector<FlowInfo> list(const FlowFilter& filter = {}, size_t limit = 1000) {
    std::vector<FlowInfo> all;
    uint64_t from = 0;
    do {
      const auto page = net.engine().list_flows(filter, from, limit);
      EXPECT_EQ(page.status, Status::OK);
      EXPECT_LE(page.value.flows.size(), limit);
      all.insert(all.end(), page.value.flows.begin(), page.value.flows.end());
      from = page.value.next;
    } while (from != 0);
    return all;
  }
  Harness net;
  Ipv6Address underlay;
};

TEST_F(Flows, BothDirections) {
  const auto nat = net.engine().create_nat("vm0", ip("203.0.113.1"), 1024, 1028, std::nullopt);
  net.forward(kVf0, from_vm("10.0.0.1", "8.8.8.8", 6, tcp(1000, 80, 0x02)), kPf0);
  net.advance(3);
  const auto flows = list();
  ASSERT_EQ(flows.size(), 1u);
  const FlowInfo& flow = flows[0];
  EXPECT_EQ(flow.vni, 100u);
  EXPECT_EQ(flow.interface_id, "vm0");
  EXPECT_EQ(flow.tcp_state, "syn");
  EXPECT_TRUE(flow.current);
  EXPECT_EQ(flow.age_seconds, 3u);
  EXPECT_LE(flow.expires_in_seconds, 27u);
  EXPECT_GE(flow.expires_in_seconds, 26u);
  EXPECT_EQ(flow.original.match.destination, ip("8.8.8.8"));
  EXPECT_EQ(flow.original.packets, 1u);
  EXPECT_GT(flow.original.bytes, 50u);
  EXPECT_TRUE(flow.original.from_vm);
  EXPECT_EQ(flow.original.program.translation, Translation::kSource);
  EXPECT_EQ(flow.original.program.outer_destination, ip6(kRemote));
  ASSERT_TRUE(flow.nat && flow.reply);
  EXPECT_EQ(flow.reply->match.destination_port, flow.nat->nat_port);
  EXPECT_EQ(flow.reply->underlay, nat.value);
  EXPECT_EQ(flow.reply->program.interface_id, "vm0");
  EXPECT_EQ(flow.reply->program.new_port, 1000);
}

TEST_F(Flows, Filters) {
  net.forward(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53), kPf0);
  net.forward(kVf0, from_vm("10.0.0.1", "9.9.9.9", 6, tcp(1000, 80, 0x02)), kPf0);
  net.forward(kVf1, udp_from_vm("10.0.0.2", "8.8.8.8", 1001, 53), kPf0);
  net.forward(kVf1, from_vm("10.0.0.2", "8.8.8.8", 1, icmp_echo(8, 77)), kPf0);
  EXPECT_EQ(list().size(), 4u);
  const auto count = [&](auto set) {
    FlowFilter filter;
    set(filter);
    return list(filter).size();
  };
  EXPECT_EQ(count([](FlowFilter& f) { f.interface_id = "vm0"; }), 2u);
  EXPECT_EQ(count([](FlowFilter& f) { f.vni = 200; }), 2u);
  EXPECT_EQ(count([](FlowFilter& f) { f.address = ip("8.8.8.8"); }), 3u);
  EXPECT_EQ(count([](FlowFilter& f) { f.port = 1000; }), 2u);
  EXPECT_EQ(count([](FlowFilter& f) { f.port = 77; }), 1u);
  EXPECT_EQ(count([](FlowFilter& f) { f.protocol = 17; }), 2u);
  EXPECT_EQ(count([](FlowFilter& f) { f.tcp_state = "syn"; }), 1u);
  EXPECT_EQ(count([](FlowFilter& f) { f.translated_only = true; }), 0u);
  FlowFilter nobody;
  nobody.interface_id = "nobody";
  EXPECT_EQ(net.engine().list_flows(nobody, 0, 10).status, Status::NOT_FOUND);
  EXPECT_EQ(net.engine().list_flows({}, 0, 0).status, Status::BAD_REQUEST);
  EXPECT_EQ(net.engine().list_flows({}, 1ull << 60, 10).status, Status::BAD_REQUEST);
}

TEST_F(Flows, PagesHoldEachFlowOnce) {
  constexpr uint16_t kCount = 500;
  for (uint16_t port = 1; port <= kCount; ++port) net.forward(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", port, 53), kPf0);
  std::set<uint16_t> seen;
  for (const FlowInfo& flow : list({}, 7)) EXPECT_TRUE(seen.insert(flow.original.match.source_port).second);
  EXPECT_EQ(seen.size(), kCount);
}

TEST_F(Flows, FlowsOfADeletedInterfaceBelongToNobody) {
  net.forward(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8"), kPf0);
  net.engine().delete_interface("vm0");
  net.add_interface(kVf0, 100, "10.0.0.1");
  const auto flows = list();
  ASSERT_EQ(flows.size(), 1u);
  EXPECT_EQ(flows[0].interface_id, "");
  EXPECT_FALSE(flows[0].current);
  EXPECT_EQ(flows[0].expires_in_seconds, 0u);
}

// Removed flows' memory waits for a reader, and no longer.
TEST_F(Flows, ListingWhileFlowsComeAndGo) {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> pages{0};
  std::thread reader([&] {
    while (!stop.load()) {
      uint64_t from = 0;
      do {
        const auto page = net.engine().list_flows({}, from, 50);
        for (const FlowInfo& flow : page.value.flows) {
          // Never a mixture of two flows: source and destination port were chosen together.
          ASSERT_EQ(flow.original.match.destination_port, flow.original.match.source_port ^ 0x5555);
          // One that begins or ends just now may be seen by its answer alone.
          const FlowProgramInfo& program = flow.original.program;
          ASSERT_EQ(program.outer_destination, flow.original.from_vm ? ip6(kRemote) : Ipv6Address{});
          ASSERT_EQ(program.interface_id, flow.original.from_vm ? "" : "vm0");
        }
        from = page.value.next;
      } while (from != 0 && !stop.load());
      pages.fetch_add(1);
    }
  });
  uint16_t port = 1;
  for (unsigned round = 0; round < 400 || pages.load() < 3; ++round) {
    for (int i = 0; i < 32; ++i, ++port) net.inject(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", port, port ^ 0x5555));
    net.poll(1);
    net.sent(kPf0);
    net.advance(10);
    ASSERT_LT(round, 1'000'000u);
  }
  stop.store(true);
  reader.join();
  net.advance(60);
  EXPECT_EQ(net.impl().flows().size(), 0u);
}

TEST_F(Flows, LimitsOfAnInterface) {
  Engine& engine = net.engine();
  EXPECT_EQ(engine.get_interface_state("vm0").value.limits.timeouts, FlowTimeouts{});
  ASSERT_EQ(engine.set_flow_limits("vm0", {100, 5, 5, 5, 5}, 2), Status::OK);
  EXPECT_EQ(engine.set_flow_limits("vm0", {100, 0, 5, 5, 5}, 2), Status::BAD_REQUEST);
  const InterfaceState state = engine.get_interface_state("vm0").value;
  EXPECT_EQ(state.limits.timeouts, (FlowTimeouts{100, 5, 5, 5, 5}));
  EXPECT_EQ(state.limits.quota, 2u);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1, 53), kPf0);
  net.forward(kVf1, udp_from_vm("10.0.0.2", "8.8.8.8", 1, 53), kPf0);
  EXPECT_EQ(engine.get_interface_state("vm0").value.flows, 1u);
  net.advance(7);
  EXPECT_EQ(list().size(), 1u) << "the other interface has its own";
  // The next interface on the device begins with the defaults.
  engine.delete_interface("vm0");
  net.add_interface(kVf0, 100, "10.0.0.1");
  EXPECT_EQ(engine.get_interface_state("vm0").value.limits.timeouts, FlowTimeouts{});
  EXPECT_EQ(engine.get_interface_state("vm0").value.limits.quota, 0u);
}

TEST_F(Flows, StateOfAnInterface) {
  Engine& engine = net.engine();
  engine.create_vip("vm0", ip("203.0.113.9"), std::nullopt);
  const auto nat = engine.create_nat("vm0", ip("203.0.113.1"), 1024, 2048, std::nullopt);
  engine.create_prefix("vm0", prefix("10.1.0.0/24"), std::nullopt);
  engine.create_lb_prefix("vm0", prefix("203.0.113.5/32"), std::nullopt);
  engine.create_firewall_rule(
      "vm0",
      {"r", TrafficDirection::kIngress, FirewallAction::kAccept, 1, prefix("0.0.0.0/0"), prefix("0.0.0.0/0"), {}});
  net.forward(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1, 53), kPf0);
  const auto states = engine.list_interface_states();
  ASSERT_EQ(states.size(), 2u);
  const InterfaceState& state = states[0];
  EXPECT_EQ(state.info.id, "vm0");
  ASSERT_EQ(state.public_addresses.size(), 2u);
  EXPECT_FALSE(state.public_addresses[0].is_nat);
  EXPECT_EQ(state.public_addresses[1].underlay, nat.value);
  EXPECT_EQ(state.public_addresses[1].max_port, 2048);
  EXPECT_EQ(state.prefixes.size(), 1u);
  EXPECT_EQ(state.lb_prefixes.size(), 1u);
  EXPECT_EQ(state.firewall_rules, 1u);
  EXPECT_EQ(state.nat_ports, 1u);
  EXPECT_EQ(state.flows, 1u);
  EXPECT_EQ(engine.get_interface_state("nobody").status, Status::NOT_FOUND);
}

}  // namespace
}  // namespace ironcore::testing
