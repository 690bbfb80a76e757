#include "firewall/rule_set.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "firewall/test_support.h"

namespace ironcore::firewall::testing {
namespace {

constexpr auto kIn = TrafficDirection::kIngress;

std::vector<std::string> ids(const RuleSet& set) {
  std::vector<std::string> ids;
  for (const uint32_t slot : set.in_creation_order()) ids.push_back(set.rule(slot).id);
  return ids;
}

TEST(FirewallRuleSet, ListsAsCreatedAndKeepsWhatWasGiven) {
  RuleSet set;
  FirewallRule rule = make_rule("b");
  rule.source = prefix4(0x0a0000ff, 8);
  rule.priority = 9;
  ASSERT_EQ(set.add(rule), Status::OK);
  ASSERT_EQ(set.add(make_rule("a")), Status::OK);
  ASSERT_EQ(set.add(make_rule("c")), Status::OK);
  EXPECT_EQ(ids(set), (std::vector<std::string>{"b", "a", "c"}));
  EXPECT_EQ(set.rule(set.find("b").value()), rule);
  ASSERT_EQ(set.remove("b"), Status::OK);
  ASSERT_EQ(set.add(rule), Status::OK);
  EXPECT_EQ(ids(set), (std::vector<std::string>{"a", "c", "b"}));
  EXPECT_EQ(set.slots(), 3u);  // the freed one is used again
  set.clear();
  EXPECT_EQ(set.size(), 0u);
  EXPECT_FALSE(set.compile()->has_rules(kIn));
}

TEST(FirewallRuleSet, RefusesAndChangesNothing) {
  RuleSet set(2);
  EXPECT_EQ(set.add(make_rule("")), Status::BAD_REQUEST);
  EXPECT_EQ(set.add(make_rule(std::string(64, 'x'))), Status::BAD_REQUEST);
  FirewallRule bad = make_rule("bad");
  bad.destination.length = 33;
  EXPECT_EQ(set.add(bad), Status::BAD_REQUEST);
  bad = make_rule("bad");
  for (const PortRange range : {PortRange{-2, 1}, {1, -2}, {65536, -1}, {0, 65536}, {2, 1}}) {
    bad.filter = TcpFilter{range, {}};
    EXPECT_EQ(set.add(bad), Status::BAD_REQUEST);
    bad.filter = UdpFilter{{}, range};
    EXPECT_EQ(set.add(bad), Status::BAD_REQUEST);
  }
  for (const IcmpFilter icmp : {IcmpFilter{256, 0}, {0, 256}, {-2, 0}, {0, -2}}) {
    bad.filter = icmp;
    EXPECT_EQ(set.add(bad), Status::BAD_REQUEST);
  }
  EXPECT_EQ(set.remove("bad"), Status::NOT_FOUND);
  EXPECT_FALSE(set.find("bad"));
  EXPECT_FALSE(set.compile()->has_rules(kIn));

  ASSERT_EQ(set.add(make_rule(std::string(63, 'x'))), Status::OK);
  ASSERT_EQ(set.add(make_rule("b")), Status::OK);
  EXPECT_EQ(set.add(make_rule("b")), Status::ALREADY_EXISTS);
  EXPECT_EQ(set.add(make_rule("c")), Status::LIMIT_REACHED);
  EXPECT_EQ(ids(set), (std::vector<std::string>{std::string(63, 'x'), "b"}));
  ASSERT_EQ(set.remove("b"), Status::OK);
  EXPECT_EQ(set.add(make_rule("c")), Status::OK);
}

TEST(FirewallRuleSet, RulesThatMatchNothingStillCloseTheirDirection) {
  RuleSet set;
  FirewallRule mixed = make_rule("mixed");
  mixed.destination = prefix6(0, 0, 0);
  ASSERT_EQ(set.add(mixed), Status::OK);
  const FirewallPacket p = packet(prefix4(1, 32).address, prefix4(2, 32).address, kTcp);
  auto closed = set.compile();
  EXPECT_EQ(closed->evaluate(kIn, p), (FirewallVerdict{FirewallAction::kDrop, -1}));
  EXPECT_EQ(closed->evaluate(TrafficDirection::kEgress, p), (FirewallVerdict{FirewallAction::kAccept, -1}));
  ASSERT_EQ(set.remove("mixed"), Status::OK);
  EXPECT_EQ(set.compile()->evaluate(kIn, p), (FirewallVerdict{FirewallAction::kAccept, -1}));
  EXPECT_EQ(closed->evaluate(kIn, p).action, FirewallAction::kDrop);
}

TEST(FirewallRuleSet, MemoryFollowsTheRules) {
  RuleSet set;
  for (int i = 0; i < 3000; ++i) {
    FirewallRule rule = make_rule(std::to_string(i));
    rule.source = prefix4(static_cast<uint32_t>(i) << 8, 24);
    ASSERT_EQ(set.add(rule), Status::OK);
    set.compile();
  }
  const size_t full = set.compile()->memory();
  EXPECT_GT(full, 100'000u);
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(set.remove(std::to_string(i)), Status::OK);
    set.compile();
  }
  EXPECT_LT(set.compile()->memory(), 16'384u);
}

// Readers of one classifier while the set goes on: what they read never changes.
TEST(FirewallRuleSet, ClassifiersAreReadBesideChanges) {
  Random random(3);
  RuleSet set;
  for (int i = 0; i < 700; ++i) ASSERT_EQ(set.add(random.rule(std::to_string(i))), Status::OK);
  std::shared_ptr<const Classifier> classifier = set.compile();
  std::vector<FirewallPacket> packets;
  std::vector<FirewallVerdict> expected;
  for (int i = 0; i < 200; ++i) {
    packets.push_back(random.packet());
    expected.push_back(classifier->evaluate(kIn, packets.back()));
  }
  std::atomic<bool> stop = false;
  std::atomic<unsigned> wrong = 0, rounds = 0;
  std::vector<std::thread> readers;
  for (int t = 0; t < 2; ++t) {
    readers.emplace_back([&] {
      do {
        for (size_t i = 0; i < packets.size(); ++i) wrong += classifier->evaluate(kIn, packets[i]) != expected[i];
        ++rounds;
      } while (!stop);
    });
  }
  for (int i = 0; i < 700; ++i) {
    EXPECT_EQ(set.remove(std::to_string(i)), Status::OK);
    EXPECT_EQ(set.add(random.rule(std::to_string(1000 + i))), Status::OK);
    set.compile();
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_GE(rounds, 2u);
}

}  // namespace
}  // namespace ironcore::firewall::testing
