#include "explain/events.h"

#include <gtest/gtest.h>

#include <thread>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

TEST(EventLog, NumbersAndForgets) {
  EventLog log(4);
  EXPECT_EQ(log.read(0, 10).events.size(), 0u);
  EXPECT_EQ(log.read(0, 10).next, 1u);
  for (int i = 0; i < 6; ++i) log.add(EventType::kLinkUp, "pf" + std::to_string(i));
  const EventBatch all = log.read(0, 10);
  ASSERT_EQ(all.events.size(), 4u);
  EXPECT_EQ(all.events[0].sequence, 3u);
  EXPECT_EQ(all.events[0].subject, "pf2");
  EXPECT_EQ(all.lost, 0u) << "whoever asks for what is there has missed nothing";
  EXPECT_EQ(all.next, 7u);
  const EventBatch late = log.read(1, 2);
  EXPECT_EQ(late.lost, 2u);
  EXPECT_EQ(late.events.at(0).sequence, 3u);
  EXPECT_EQ(late.next, 5u);
  EXPECT_EQ(log.read(7, 10).events.size(), 0u);
  EXPECT_EQ(log.read(99, 10).next, 7u) << "a number of the future begins with the next one";
}

TEST(EventLog, WakesWhoWaits) {
  EventLog log(4);
  std::thread writer([&] { log.add(EventType::kLinkUp, "pf0"); });
  EXPECT_TRUE(log.wait(1, std::chrono::seconds(60)));
  writer.join();
  EXPECT_FALSE(log.wait(2, std::chrono::milliseconds(1)));
}

TEST(TableState, HasHysteresis) {
  using enum TableState;
  EXPECT_EQ(next_table_state(kFree, 90, 100), kFree);
  EXPECT_EQ(next_table_state(kFree, 91, 100), kNearlyFull);
  EXPECT_EQ(next_table_state(kNearlyFull, 85, 100), kNearlyFull);
  EXPECT_EQ(next_table_state(kNearlyFull, 100, 100), kFull);
  EXPECT_EQ(next_table_state(kFull, 85, 100), kNearlyFull);
  EXPECT_EQ(next_table_state(kNearlyFull, 79, 100), kFree);
  EXPECT_EQ(next_table_state(kFull, 5, 0), kFree) << "no limit";
}

class Events : public ::testing::Test {
 protected:
  Events() : first(net.engine().next_event()) {}
  std::vector<EventType> types() {
    std::vector<EventType> types;
    for (const Event& event : net.engine().read_events(first, 100).events) types.push_back(event.type);
    return types;
  }
  Harness net;
  uint64_t first;
};

TEST_F(Events, EveryChangeIsTold) {
  Engine& engine = net.engine();
  net.add_interface(kVf0, 100, "10.0.0.1");
  engine.create_prefix("vm0", prefix("10.1.0.0/24"), std::nullopt);
  engine.create_lb_prefix("vm0", prefix("203.0.113.5/32"), std::nullopt);
  engine.create_vip("vm0", ip("203.0.113.9"), std::nullopt);
  engine.create_nat("vm0", ip("203.0.113.1"), 1024, 2048, std::nullopt);
  engine.create_neighbor_nat({ip("203.0.113.1"), 100, 2048, 3072, ip6("fc00:7::1")});
  engine.create_load_balancer("lb", 100, ip("203.0.113.5"), {{6, 80}}, std::nullopt);
  engine.create_load_balancer_target("lb", ip("fc00:3::1"));
  engine.create_firewall_rule("vm0", {"r", {}, {}, 1, prefix("0.0.0.0/0"), prefix("0.0.0.0/0"), {}});
  engine.create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  engine.set_flow_limits("vm0", {}, 5);
  engine.delete_route(100, prefix("0.0.0.0/0"));
  engine.delete_firewall_rule("vm0", "r");
  engine.delete_load_balancer_target("lb", ip("fc00:3::1"));
  engine.delete_load_balancer("lb");
  engine.delete_neighbor_nat(ip("203.0.113.1"), 100, 2048, 3072);
  engine.delete_nat("vm0");
  engine.delete_vip("vm0");
  engine.delete_lb_prefix("vm0", prefix("203.0.113.5/32"));
  engine.delete_prefix("vm0", prefix("10.1.0.0/24"));
  engine.reset_vni(100, VniType::kBoth);
  engine.delete_interface("vm0");
  engine.set_uplink_neighbour(1, std::nullopt);
  engine.set_uplink_neighbour(1, kRouterMac);
  engine.set_uplink_neighbour(1, kRouterMac);  // no news
  using enum EventType;
  EXPECT_EQ(
      types(),
      (std::vector{
          kInterfaceCreated,   kPrefixCreated,       kPrefixCreated,       kVipCreated,          kNatCreated,
          kNeighborNatCreated, kLoadBalancerCreated, kTargetCreated,       kFirewallRuleCreated, kRouteCreated,
          kFlowLimitsChanged,  kRouteDeleted,        kFirewallRuleDeleted, kTargetDeleted,       kLoadBalancerDeleted,
          kNeighborNatDeleted, kNatDeleted,          kVipDeleted,          kPrefixDeleted,       kPrefixDeleted,
          kVniReset,           kInterfaceDeleted,    kNeighbourLost,       kNeighbourKnown}));
  for (const Event& event : engine.read_events(first, 100).events) EXPECT_GT(event.time_ns, 0);
}

TEST_F(Events, WhatFailsIsNone) {
  net.engine().create_vip("nobody", ip("203.0.113.9"), std::nullopt);
  net.engine().delete_interface("nobody");
  net.engine().create_route(7, prefix("0.0.0.0/0"), 7, ip(kRemote));
  net.engine().delete_load_balancer("nobody");
  EXPECT_EQ(net.engine().set_flow_limits("nobody", {}, 1), Status::NOT_FOUND);
  EXPECT_EQ(net.engine().next_event(), first);
}

TEST_F(Events, TableLevels) {
  net.impl().note_table_levels();
  const uint64_t before = net.engine().next_event();
  for (unsigned vf = kVf0; vf <= kVf3; ++vf) net.add_interface(vf, 100, "10.0.0." + std::to_string(vf));
  net.impl().note_table_levels();
  net.impl().note_table_levels();
  const auto events = net.engine().read_events(before, 100).events;
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[4].type, EventType::kTableFull);
  EXPECT_EQ(events[4].subject, "interfaces");
  EXPECT_EQ(events[4].detail, "4 of 4");
  net.engine().delete_interface("vm0");
  net.impl().note_table_levels();
  EXPECT_EQ(net.engine().read_events(0, 100).events.back().type, EventType::kTableRelieved);
}

}  // namespace
}  // namespace ironcore::testing
