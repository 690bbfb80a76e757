#include "firewall/classifier.h"

#include <gtest/gtest.h>

#include "firewall/test_support.h"

namespace ironcore::firewall::testing {
namespace {

constexpr auto kIn = TrafficDirection::kIngress;
constexpr auto kOut = TrafficDirection::kEgress;
constexpr FirewallVerdict kAcceptAll = {FirewallAction::kAccept, -1};
constexpr FirewallVerdict kDropRest = {FirewallAction::kDrop, -1};

const IpPrefix kAny4 = prefix4(0, 0);
const IpPrefix kAny6 = prefix6(0, 0, 0);
const IpAddress kHost4 = prefix4(0x0a000001, 32).address;
const IpAddress kOther4 = prefix4(0x0a000002, 32).address;
const IpAddress kHost6 = prefix6(0x20010db8'00000000, 1, 128).address;
const IpAddress kOther6 = prefix6(0x20010db8'00000000, 2, 128).address;

FirewallRule accept(IpPrefix source, IpPrefix destination, ProtocolFilter filter = {}) {
  return make_rule("r", source, destination, filter);
}

FirewallVerdict accepted_by(int32_t rule) { return {FirewallAction::kAccept, rule}; }
FirewallVerdict dropped_by(int32_t rule) { return {FirewallAction::kDrop, rule}; }

// Runs a test with the rules in the tail, and in tables behind enough rules that match nothing it sends.
class FirewallClassifier : public ::testing::TestWithParam<bool> {
 protected:
  FirewallVerdict evaluate(std::vector<FirewallRule> rules, const FirewallPacket& p, TrafficDirection direction = kIn) {
    if (GetParam() && !rules.empty()) {
      for (unsigned i = 0; i < 600; ++i) {
        const FirewallRule& like = rules[i % rules.size()];
        FirewallRule rule = accept(like.source, like.destination, like.filter);
        rule.direction = like.direction;
        rule.source.address.bytes = {203, 0, 113, static_cast<uint8_t>(i), static_cast<uint8_t>(i >> 8)};
        rule.source.length = rule.source.address.is_v6 ? 128 : 32;
        rules.push_back(rule);
      }
    }
    return Classifier::compile(rules)->evaluate(direction, p);
  }
};
INSTANTIATE_TEST_SUITE_P(, FirewallClassifier, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Tables" : "Tail"; });

TEST_P(FirewallClassifier, DirectionWithoutRulesAcceptsEverything) {
  FirewallRule rule = accept(kAny4, kAny4);
  rule.direction = kOut;
  const FirewallPacket p = packet(kHost6, kOther6, 132);
  EXPECT_EQ(evaluate({}, p), kAcceptAll);
  EXPECT_EQ(evaluate({rule}, p, kIn), kAcceptAll);
  EXPECT_EQ(evaluate({rule}, p, kOut), kDropRest);
}

TEST_P(FirewallClassifier, LowerPriorityValueDecidesWhateverTheOrderOfCreation) {
  FirewallRule late = accept(kAny4, kAny4), early = accept(kAny4, kAny4);
  late.priority = 1000;
  early.priority = 999;
  late.action = FirewallAction::kDrop;
  EXPECT_EQ(evaluate({late, early}, packet(kHost4, kOther4, kTcp)), accepted_by(1));
  EXPECT_EQ(evaluate({early, late}, packet(kHost4, kOther4, kTcp)), accepted_by(0));
  early.priority = 65535;
  EXPECT_EQ(evaluate({early, late}, packet(kHost4, kOther4, kTcp)), dropped_by(1));
}

TEST_P(FirewallClassifier, DropComesFirstAtEqualPriorityThenTheOlderRule) {
  FirewallRule drop = accept(kAny4, kAny4);
  drop.action = FirewallAction::kDrop;
  const FirewallRule plain = accept(kAny4, kAny4);
  EXPECT_EQ(evaluate({plain, plain}, packet(kHost4, kOther4, kTcp)), accepted_by(0));
  EXPECT_EQ(evaluate({plain, drop, drop}, packet(kHost4, kOther4, kTcp)), dropped_by(1));
  // Also when one of them names the protocol.
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, TcpFilter{}), drop}, packet(kHost4, kOther4, kTcp)), dropped_by(1));
  EXPECT_EQ(evaluate({plain, accept(kAny4, kAny4, TcpFilter{})}, packet(kHost4, kOther4, kTcp)), accepted_by(0));
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, TcpFilter{}), plain}, packet(kHost4, kOther4, kTcp)), accepted_by(0));
}

TEST_P(FirewallClassifier, HostBitsOfPrefixesAreIgnored) {
  const auto rules =
      std::vector{accept(prefix4(0x0a0000ff, 24), kAny4), accept(prefix6(0x20010db8'00000000, 99, 64), kAny6)};
  EXPECT_EQ(evaluate(rules, packet(kHost4, kOther4, kTcp)), accepted_by(0));
  EXPECT_EQ(evaluate(rules, packet(prefix4(0x0a000100, 32).address, kOther4, kTcp)), kDropRest);
  EXPECT_EQ(evaluate(rules, packet(kHost6, kOther6, kTcp)), accepted_by(1));
  EXPECT_EQ(evaluate(rules, packet(prefix6(0x20010db8'00000001, 99, 128).address, kOther6, kTcp)), kDropRest);
}

TEST_P(FirewallClassifier, PrefixesReachTheEndsOfTheAddressSpace) {
  const auto rules =
      std::vector{accept(prefix4(0xffffffff, 32), prefix4(0, 32)), accept(prefix4(0x80000000, 1), kAny4),
                  accept(prefix6(~0ull, ~0ull, 128), prefix6(0, 0, 128)), accept(kAny6, prefix6(1ull << 63, 0, 1))};
  const auto at4 = [](uint32_t a) { return prefix4(a, 32).address; };
  const auto at6 = [](uint64_t a, uint64_t b) { return prefix6(a, b, 128).address; };
  EXPECT_EQ(evaluate(rules, packet(at4(0xffffffff), at4(0), kUdp)), accepted_by(0));
  EXPECT_EQ(evaluate(rules, packet(at4(0xffffffff), at4(1), kUdp)), accepted_by(1));
  EXPECT_EQ(evaluate(rules, packet(at4(0x7fffffff), at4(0), kUdp)), kDropRest);
  EXPECT_EQ(evaluate(rules, packet(at6(~0ull, ~0ull), at6(0, 0), kUdp)), accepted_by(2));
  EXPECT_EQ(evaluate(rules, packet(at6(~0ull, ~0ull), at6(~0ull, ~0ull), kUdp)), accepted_by(3));
  EXPECT_EQ(evaluate(rules, packet(at6(~0ull, ~0ull - 1), at6(0, 0), kUdp)), kDropRest);
}

TEST_P(FirewallClassifier, FamiliesDoNotMix) {
  EXPECT_EQ(evaluate({accept(kAny4, kAny4)}, packet(kHost6, kOther6, kTcp)), kDropRest);
  EXPECT_EQ(evaluate({accept(kAny6, kAny6)}, packet(kHost4, kOther4, kTcp)), kDropRest);
  const auto mixed = std::vector{accept(kAny4, kAny6), accept(kAny6, kAny4)};
  EXPECT_EQ(evaluate(mixed, packet(kHost4, kOther4, kTcp)), kDropRest);
  EXPECT_EQ(evaluate(mixed, packet(kHost6, kOther6, kTcp)), kDropRest);
}

TEST_P(FirewallClassifier, NoFilterMeansTcpUdpIcmpAndIcmp6Only) {
  const auto rules = std::vector{accept(kAny4, kAny4), accept(kAny6, kAny6)};
  for (unsigned proto = 0; proto < 256; ++proto) {
    const bool known = proto == kTcp || proto == kUdp || proto == kIcmp || proto == kIcmp6;
    const auto p = static_cast<uint8_t>(proto);
    EXPECT_EQ(evaluate(rules, packet(kHost4, kOther4, p)), known ? accepted_by(0) : kDropRest) << proto;
    EXPECT_EQ(evaluate(rules, packet(kHost6, kOther6, p)), known ? accepted_by(1) : kDropRest) << proto;
  }
}

TEST_P(FirewallClassifier, IcmpFilterMatchesTheProtocolOfItsFamily) {
  const auto rules = std::vector{accept(kAny4, kAny4, IcmpFilter{8, 0}), accept(kAny6, kAny6, IcmpFilter{128, -1})};
  EXPECT_EQ(evaluate(rules, packet(kHost4, kOther4, kIcmp, 8, 0)), accepted_by(0));
  EXPECT_EQ(evaluate(rules, packet(kHost4, kOther4, kIcmp, 8, 1)), kDropRest);
  EXPECT_EQ(evaluate(rules, packet(kHost4, kOther4, kIcmp, 0, 0)), kDropRest);
  EXPECT_EQ(evaluate(rules, packet(kHost4, kOther4, kIcmp6, 8, 0)), kDropRest);
  EXPECT_EQ(evaluate(rules, packet(kHost6, kOther6, kIcmp6, 128, 7)), accepted_by(1));
  EXPECT_EQ(evaluate(rules, packet(kHost6, kOther6, kIcmp6, 129, 7)), kDropRest);
  EXPECT_EQ(evaluate(rules, packet(kHost6, kOther6, kIcmp, 128, 7)), kDropRest);
  EXPECT_EQ(evaluate(rules, packet(kHost4, kOther4, kTcp, 8, 0)), kDropRest);
}

TEST_P(FirewallClassifier, PortRangesAreInclusiveAndMinusOneLeavesThemOpen) {
  const auto verdict = [&](PortRange source, PortRange destination, uint16_t src, uint16_t dst) {
    return evaluate({accept(kAny4, kAny4, TcpFilter{source, destination})}, packet(kHost4, kOther4, kTcp, src, dst));
  };
  EXPECT_EQ(verdict({-1, -1}, {80, 90}, 0, 80), accepted_by(0));
  EXPECT_EQ(verdict({-1, 5}, {80, 90}, 65535, 90), accepted_by(0));
  EXPECT_EQ(verdict({-1, -1}, {80, 90}, 1, 79), kDropRest);
  EXPECT_EQ(verdict({-1, -1}, {80, 90}, 1, 91), kDropRest);
  EXPECT_EQ(verdict({1024, -1}, {-1, -1}, 65535, 1), accepted_by(0));
  EXPECT_EQ(verdict({1024, -1}, {-1, -1}, 1023, 1), kDropRest);
  EXPECT_EQ(verdict({0, 0}, {0, 0}, 0, 0), accepted_by(0));
  EXPECT_EQ(verdict({0, 0}, {0, 0}, 0, 1), kDropRest);
  EXPECT_EQ(verdict({65535, 65535}, {65535, -1}, 65535, 65535), accepted_by(0));
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, UdpFilter{{}, {53, 53}})}, packet(kHost4, kOther4, kTcp, 1, 53)), kDropRest);
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, UdpFilter{{}, {53, 53}})}, packet(kHost4, kOther4, kUdp, 1, 53)),
            accepted_by(0));
}

TEST_P(FirewallClassifier, LaterFragmentsMatchOnlyRulesThatNameNoPorts) {
  FirewallPacket tcp = packet(kHost4, kOther4, kTcp), icmp = packet(kHost4, kOther4, kIcmp);
  tcp.has_ports = icmp.has_ports = false;
  EXPECT_EQ(evaluate({accept(kAny4, kAny4)}, tcp), accepted_by(0));
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, TcpFilter{})}, tcp), accepted_by(0));
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, TcpFilter{{0, -1}, {0, 65535}})}, tcp), accepted_by(0));
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, TcpFilter{{}, {0, 0}})}, tcp), kDropRest);
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, TcpFilter{{1, -1}, {}})}, tcp), kDropRest);
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, TcpFilter{{0, 65534}, {}})}, tcp), kDropRest);
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, UdpFilter{})}, tcp), kDropRest);
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, IcmpFilter{})}, icmp), accepted_by(0));
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, IcmpFilter{0, -1})}, icmp), kDropRest);
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, IcmpFilter{-1, 0})}, icmp), kDropRest);
}

TEST_P(FirewallClassifier, RulesThatAreNotValidMatchNothing) {
  FirewallRule long4 = accept(prefix4(0x0a000001, 33), kAny4), long6 = accept(kAny6, prefix6(0, 0, 129));
  EXPECT_EQ(evaluate({long4}, packet(kHost4, kOther4, kTcp)), kDropRest);
  EXPECT_EQ(evaluate({long6}, packet(kHost6, kOther6, kTcp)), kDropRest);
  EXPECT_EQ(evaluate({accept(kAny4, kAny4, TcpFilter{{9, 8}, {}})}, packet(kHost4, kOther4, kTcp, 9, 8)), kDropRest);
}

TEST(FirewallClassifierMemory, TenThousandRulesTakeLessThan16MiB) {
  // Every bound differs in every dimension: as many intervals and vectors as there can be.
  std::vector<FirewallRule> rules;
  for (uint32_t i = 0; i < 10000; ++i) {
    const auto port = static_cast<int32_t>(2 * i);
    rules.push_back(accept(prefix6(uint64_t{2 * i} << 32, i, 128), prefix6(i, uint64_t{2 * i} << 32, 128),
                           TcpFilter{{port, 65535 - port}, {port, 65535 - port}}));
    if (port > 65535 - port) rules.back().filter = TcpFilter{{port, port}, {port, port}};
  }
  EXPECT_LT(Classifier::compile(rules)->memory(), size_t{16} << 20);
}

}  // namespace
}  // namespace ironcore::firewall::testing
