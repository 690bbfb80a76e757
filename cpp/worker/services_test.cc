// Load balancers, firewall rules, rates, several next hops, quotas: packet by packet.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

FirewallRule rule(const std::string& id, TrafficDirection direction, FirewallAction action, const std::string& source,
                  const std::string& destination, ProtocolFilter filter = {}, uint16_t priority = 1000) {
  return {id, direction, action, priority, prefix(source), prefix(destination), filter};
}

class Services : public ::testing::Test {
 protected:
  explicit Services(EngineOptions options = default_options()) : net(options) {
    underlay = net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
    net.add_interface(kVf1, 100, "10.0.0.2", "2001:db8::2");
    net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
    net.engine().create_route(100, prefix("::/0"), 100, ip(kRemote));
  }
  void add_rule(const FirewallRule& added, const std::string& id = "vm0") {
    ASSERT_EQ(net.engine().create_firewall_rule(id, added), Status::OK);
  }
  static Frame bytes(const Ipv6Address& address) { return Frame(address.begin(), address.end()); }

  Harness net;
  Ipv6Address underlay;
};

class Balancer : public Services {
 protected:
  Balancer() {
    const auto created =
        net.engine().create_load_balancer("lb", 100, ip("203.0.113.5"), {{6, 80}, {17, 53}}, std::nullopt);
    EXPECT_EQ(created.status, Status::OK);
    lb = created.value;
  }
  Frame to_lb(const Frame& frame) { return overlay(kRemote, lb, frame); }
  Frame syn(uint16_t port) { return to_lb(from_vm("198.51.100.7", "203.0.113.5", 6, tcp(port, 80, 0x02))); }
  Ipv6Address lb;
};

TEST_F(Balancer, ForwardsToRemoteTargetsAndKeepsThem) {
  for (const char* target : {"fc00:3::d000:0:1", "fc00:4::d000:0:1", "fc00:5::d000:0:1"})
    ASSERT_EQ(net.engine().create_load_balancer_target("lb", ip(target)), Status::OK);
  std::map<uint16_t, Frame> chosen;
  std::set<Frame> targets;
  for (uint16_t port = 1000; port < 1100; ++port) {
    const Frame out = net.forward(kPf1, syn(port), kPf1);  // by the uplink it came in on
    chosen[port] = slice(out, 38, 16);
    targets.insert(chosen[port]);
    EXPECT_EQ(slice(out, 22, 16), bytes(ip6(kHost)));
    EXPECT_EQ(slice(out, 54), slice(syn(port), 54));
  }
  EXPECT_EQ(targets.size(), 3u);
  // A new target moves nobody; a removed one only its own.
  ASSERT_EQ(net.engine().create_load_balancer_target("lb", ip("fc00:6::d000:0:1")), Status::OK);
  for (const auto& [port, target] : chosen) EXPECT_EQ(slice(net.forward(kPf1, syn(port), kPf1), 38, 16), target);
  ASSERT_EQ(net.engine().delete_load_balancer_target("lb", ip("fc00:4::d000:0:1")), Status::OK);
  const Frame gone = bytes(ip6("fc00:4::d000:0:1"));
  for (const auto& [port, target] : chosen) {
    const Frame now = slice(net.forward(kPf1, syn(port), kPf1), 38, 16);
    EXPECT_NE(now, gone);
    if (target != gone) {
      EXPECT_EQ(now, target);
    }
  }
}

TEST_F(Balancer, AnIdleConnectionStaysWithItsTargetWhileOthersCome) {
  ASSERT_EQ(net.engine().create_load_balancer_target("lb", ip("fc00:3::d000:0:1")), Status::OK);
  const auto segment = [&](uint16_t port, uint8_t flags) {
    return slice(net.forward(kPf0, to_lb(from_vm("198.51.100.7", "203.0.113.5", 6, tcp(port, 80, flags))), kPf0), 38,
                 16);
  };
  const Frame first = bytes(ip6("fc00:3::d000:0:1"));
  for (uint16_t port = 1; port <= 50; ++port) {
    segment(port, 0x02);
    segment(port, 0x10);
  }
  for (int i = 0; i < 10; ++i)
    net.engine().create_load_balancer_target("lb", ip("fc00:4::d000:0:" + std::to_string(i + 1)));
  net.advance(600);
  for (uint16_t port = 1; port <= 50; ++port) EXPECT_EQ(segment(port, 0x10), first);
  for (uint16_t port = 1; port <= 50; ++port) segment(port, 0x11);  // FIN
  net.advance(40);
  EXPECT_EQ(net.impl().flows().size(), 0u);
}

TEST_F(Balancer, DeliversToATargetOnThisHostAndTheVmAnswersDirectly) {
  const auto target = net.engine().create_lb_prefix("vm0", prefix("203.0.113.5/32"), std::nullopt);
  ASSERT_TRUE(target.ok());
  ASSERT_EQ(net.engine().create_load_balancer_target("lb", {true, target.value}), Status::OK);
  const Frame request = from_vm("198.51.100.7", "203.0.113.5", 6, tcp(999, 80, 0x02));
  for (int packet = 0; packet < 2; ++packet) {
    EXPECT_EQ(slice(net.forward(kPf0, to_lb(request), kVf0), 14), slice(request, 14));
    const Frame answer = from_vm("203.0.113.5", "198.51.100.7", 6, tcp(80, 999, 0x12));
    const Frame out = net.forward(kVf0, answer, kPf0);
    EXPECT_EQ(slice(out, 54), slice(answer, 14));
    EXPECT_EQ(slice(out, 22, 16), bytes(underlay));
  }
  EXPECT_EQ(net.worker().slow_path, 1u);
}

TEST_F(Balancer, RefusesWhatItDoesNotServe) {
  net.expect_drop(kPf0, syn(1), DropReason::lb_no_target);
  net.expect_drop(kPf0, to_lb(from_vm("198.51.100.7", "203.0.113.5", 6, tcp(1, 81, 2))), DropReason::lb_port);
  net.expect_drop(kPf0, to_lb(udp_from_vm("198.51.100.7", "203.0.113.5", 1, 80)), DropReason::lb_port);
  net.expect_drop(kPf0, to_lb(udp_from_vm("198.51.100.7", "203.0.113.6", 1, 53)), DropReason::lb_address);
  const Frame request = from_vm("198.51.100.7", "203.0.113.5", 1, icmp_echo(8, 7));
  EXPECT_EQ(slice(net.forward(kPf1, to_lb(request), kPf1), 54),
            slice(from_vm("203.0.113.5", "198.51.100.7", 1, icmp_echo(0, 7)), 14));
  ASSERT_EQ(net.engine().delete_load_balancer("lb"), Status::OK);
  net.expect_drop(kPf0, syn(1), DropReason::underlay_unknown);
}

// A router's error may come to another host than the flow does: that one chooses the flow's target all the same.
TEST_F(Balancer, ErrorsAboutUnknownFlowsReachTheTarget) {
  for (const char* target : {"fc00:3::d000:0:1", "fc00:4::d000:0:1", "fc00:5::d000:0:1"})
    ASSERT_EQ(net.engine().create_load_balancer_target("lb", ip(target)), Status::OK);
  const auto error_about = [&](const Frame& answer) {
    return to_lb(from_vm("7.7.7.7", "203.0.113.5", 1, icmp_error(3, 4, 1300, slice(answer, 14))));
  };
  std::set<Frame> targets;
  for (uint16_t port = 1000; port < 1020; ++port) {
    const Frame error = error_about(from_vm("203.0.113.5", "198.51.100.7", 6, tcp(80, port, 0x10)));
    const uint64_t flows = net.impl().flows().size();
    const Frame out = net.forward(kPf1, error, kPf1);
    EXPECT_EQ(slice(out, 54), slice(error, 54));
    EXPECT_EQ(slice(out, 22, 16), bytes(ip6(kHost)));
    EXPECT_EQ(net.impl().flows().size(), flows);
    const Frame target = slice(out, 38, 16);
    EXPECT_EQ(slice(net.forward(kPf1, syn(port), kPf1), 38, 16), target);
    targets.insert(target);
  }
  EXPECT_EQ(targets.size(), 3u);
  net.expect_drop(kPf1, error_about(from_vm("203.0.113.5", "198.51.100.7", 6, tcp(81, 1, 0x10))), DropReason::lb_port);
  net.expect_drop(kPf1, error_about(from_vm("203.0.113.6", "198.51.100.7", 6, tcp(80, 1, 0x10))), DropReason::lb_port);
}

TEST_F(Balancer, ErrorsReachATargetOnThisHost) {
  const auto target = net.engine().create_lb_prefix("vm0", prefix("203.0.113.5/32"), std::nullopt);
  ASSERT_EQ(net.engine().create_load_balancer_target("lb", {true, target.value}), Status::OK);
  const Frame answer = from_vm("203.0.113.5", "198.51.100.7", 6, tcp(80, 999, 0x10));
  const Frame error = from_vm("7.7.7.7", "203.0.113.5", 1, icmp_error(3, 4, 1300, slice(answer, 14)));
  for (const bool known : {false, true}) {
    if (known) net.forward(kPf0, syn(999), kVf0);
    EXPECT_EQ(slice(net.forward(kPf0, to_lb(error), kVf0), 14), slice(error, 14));
  }
}

TEST_F(Balancer, BalancesIpv6Alike) {
  const auto created = net.engine().create_load_balancer("lb6", 100, ip("2001:db8:5::5"), {{6, 80}}, std::nullopt);
  ASSERT_TRUE(created.ok());
  lb = created.value;
  ASSERT_EQ(net.engine().create_load_balancer_target("lb6", ip("fc00:3::d000:0:1")), Status::OK);
  const auto expect_target = [&](const Frame& sent) {
    const Frame out = net.forward(kPf1, to_lb(sent), kPf1);
    EXPECT_EQ(slice(out, 20, 1), Frame{41});
    EXPECT_EQ(slice(out, 38, 16), bytes(ip6("fc00:3::d000:0:1")));
    EXPECT_EQ(slice(out, 54), slice(sent, 14));
  };
  const Frame answer = from_vm("2001:db8:5::5", "2001:db8:9::9", 6, tcp(80, 7, 0x10));
  expect_target(from_vm("2001:db8:77::7", "2001:db8:5::5", 58, icmp_error(2, 0, 1300, slice(answer, 14))));
  expect_target(from_vm("2001:db8:9::9", "2001:db8:5::5", 6, tcp(7, 80, 0x02)));
  net.expect_drop(kPf1, to_lb(from_vm("2001:db8:9::9", "2001:db8:5::5", 6, tcp(7, 81, 0x02))), DropReason::lb_port);

  const Frame reply = net.forward(kPf1, to_lb(from_vm("2001:db8:9::9", "2001:db8:5::5", 58, icmp_echo(128, 7))), kPf1);
  EXPECT_EQ(slice(reply, 38, 16), bytes(ip6(kRemote)));
  const Frame expected = from_vm("2001:db8:5::5", "2001:db8:9::9", 58, icmp_echo(129, 7));
  EXPECT_EQ(slice(reply, 54, 42), slice(expected, 14, 42));  // up to the checksum
  EXPECT_EQ(slice(reply, 98), slice(expected, 58));
}

TEST(BalancerGolden, ChoosesTheTargetOfTheReference) {
  Harness net;
  const auto lb = net.engine().create_load_balancer("lb", 77, ip("203.0.113.10"), {{6, 80}}, std::nullopt);
  ASSERT_TRUE(lb.ok());
  for (const char* target :
       {"2001:db8:0:1:d000:0:0:1", "2001:db8:0:1:d000:0:0:2", "2001:db8:0:2:d000:0:0:1", "2001:db8:0:3:d000:0:0:7"})
    ASSERT_EQ(net.engine().create_load_balancer_target("lb", ip(target)), Status::OK);
  const Frame syn = from_vm("198.51.100.77", "203.0.113.10", 6, tcp(50001, 80, 0x02));
  const Ipv6Address chosen = ip6("2001:db8:0:1:d000:0:0:1");
  EXPECT_EQ(slice(net.forward(kPf0, overlay(kRemote, lb.value, syn), kPf0), 38, 16),
            Frame(chosen.begin(), chosen.end()));
}

TEST_F(Balancer, KeepsItsNetworkAlive) {
  net.engine().delete_interface("vm0");
  net.engine().delete_interface("vm1");
  EXPECT_TRUE(net.engine().check_vni_in_use(100, VniType::kIpv4).value);
  net.engine().delete_load_balancer("lb");
  EXPECT_FALSE(net.engine().check_vni_in_use(100, VniType::kIpv4).value);
}

TEST_F(Services, IngressRulesGuardTheVmButNotItsAnswers) {
  add_rule(rule("web", TrafficDirection::kIngress, FirewallAction::kAccept, "0.0.0.0/0", "10.0.0.1/32",
                TcpFilter{{}, {80, 80}}));
  const auto from_outside = [&](const Frame& frame) { return overlay(kRemote, underlay, frame); };
  net.forward(kPf0, from_outside(from_vm("9.9.9.9", "10.0.0.1", 6, tcp(7, 80, 2))), kVf0);
  net.expect_drop(kPf0, from_outside(from_vm("9.9.9.9", "10.0.0.1", 6, tcp(7, 81, 2))), DropReason::firewall);
  net.expect_drop(kPf0, from_outside(udp_from_vm("9.9.9.9", "10.0.0.1", 53, 1000)), DropReason::firewall);
  net.expect_drop(kVf1, udp_from_vm("10.0.0.2", "10.0.0.1", 53, 1000), DropReason::firewall);
  EXPECT_EQ(net.impl().flows().size(), 2u) << "what is dropped takes no entry";
  // What the VM asks for may be answered.
  net.forward(kVf0, udp_from_vm("10.0.0.1", "9.9.9.9", 1000, 53), kPf0);
  net.forward(kPf0, from_outside(udp_from_vm("9.9.9.9", "10.0.0.1", 53, 1000)), kVf0);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", 1000, 53), kVf1);
  net.forward(kVf1, udp_from_vm("10.0.0.2", "10.0.0.1", 53, 1000), kVf0);
  EXPECT_EQ(net.engine().get_firewall_rule("vm0", "web").value.hits, 1u);
}

TEST_F(Services, ARuleChangeDecidesRunningFlowsAgain) {
  const Frame sent = udp_from_vm("10.0.0.1", "9.9.9.9", 1000, 53);
  const Frame answer = overlay(kRemote, underlay, udp_from_vm("9.9.9.9", "10.0.0.1", 53, 1000));
  net.forward(kVf0, sent, kPf0);
  net.forward(kPf0, answer, kVf0);
  // Nothing may come in, but this is an answer still.
  add_rule(rule("in", TrafficDirection::kIngress, FirewallAction::kDrop, "0.0.0.0/0", "0.0.0.0/0"));
  net.forward(kPf0, answer, kVf0);
  add_rule(rule("out", TrafficDirection::kEgress, FirewallAction::kDrop, "0.0.0.0/0", "9.9.9.9/32"));
  net.expect_drop(kVf0, sent, DropReason::firewall);
  net.expect_drop(kPf0, answer, DropReason::firewall);
  EXPECT_EQ(net.impl().flows().size(), 0u);
  ASSERT_EQ(net.engine().delete_firewall_rule("vm0", "out"), Status::OK);
  net.expect_drop(kPf0, answer, DropReason::firewall);
  net.forward(kVf0, sent, kPf0);
  net.forward(kPf0, answer, kVf0);
  EXPECT_EQ(net.engine().create_firewall_rule("vm0", rule("in", {}, {}, "0.0.0.0/0", "0.0.0.0/0")),
            Status::ALREADY_EXISTS);
}

TEST_F(Services, AnswerThatComesFirstAfterARuleChangeMeetsTheRuleToo) {
  net.forward(kVf0, udp_from_vm("10.0.0.1", "9.9.9.9", 1000, 53), kPf0);
  add_rule(rule("out", TrafficDirection::kEgress, FirewallAction::kDrop, "0.0.0.0/0", "9.9.9.9/32"));
  add_rule(rule("in", TrafficDirection::kIngress, FirewallAction::kDrop, "0.0.0.0/0", "0.0.0.0/0"));
  net.expect_drop(kPf0, overlay(kRemote, underlay, udp_from_vm("9.9.9.9", "10.0.0.1", 53, 1000)), DropReason::firewall);
}

TEST_F(Services, RulesSeeAddressesOnTheInside) {
  const auto vip = net.engine().create_vip("vm0", ip("203.0.113.9"), std::nullopt);
  ASSERT_TRUE(vip.ok());
  add_rule(rule("web", TrafficDirection::kIngress, FirewallAction::kAccept, "0.0.0.0/0", "10.0.0.1/32",
                TcpFilter{{}, {80, 80}}));
  net.forward(kPf0, overlay(kRemote, vip.value, from_vm("9.9.9.9", "203.0.113.9", 6, tcp(7, 80, 2))), kVf0);
  net.expect_drop(kPf0, overlay(kRemote, vip.value, from_vm("9.9.9.9", "203.0.113.9", 6, tcp(7, 81, 2))),
                  DropReason::firewall);
}

// Rules for IPv6 decide about what leaves as IPv4, and its answers.
TEST_F(Services, RulesSeeNat64FromTheInside) {
  const auto nat = net.engine().create_nat("vm0", ip("203.0.113.1"), 1024, 2048, std::nullopt);
  ASSERT_TRUE(nat.ok());
  add_rule(rule("dns", TrafficDirection::kEgress, FirewallAction::kAccept, "2001:db8::1/128", "64:ff9b::808:808/128"));
  add_rule(rule("none", TrafficDirection::kIngress, FirewallAction::kDrop, "::/0", "::/0"));
  const Frame sent = slice(net.forward(kVf0, udp_from_vm("2001:db8::1", "64:ff9b::808:808", 1000, 53), kPf0), 54);
  const auto port = static_cast<uint16_t>(sent.at(20) << 8 | sent.at(21));
  net.forward(kPf0, overlay(kRemote, nat.value, udp_from_vm("8.8.8.8", "203.0.113.1", 53, port)), kVf0);
  net.expect_drop(kVf0, udp_from_vm("2001:db8::1", "64:ff9b::909:909", 1000, 53), DropReason::firewall);
  net.expect_drop(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53), DropReason::firewall);
}

class Observing : public Services {
 protected:
  static EngineOptions observing() {
    EngineOptions options = default_options();
    options.firewall = FirewallMode::kObserve;
    options.antispoof = false;
    return options;
  }
  Observing() : Services(observing()) {}
};

TEST_F(Observing, CountsAndLetsPass) {
  add_rule(rule("no", TrafficDirection::kEgress, FirewallAction::kDrop, "0.0.0.0/0", "9.9.9.9/32"));
  net.forward(kVf0, udp_from_vm("10.0.0.1", "9.9.9.9"), kPf0);
  EXPECT_EQ(net.worker().firewall_would_drop, 1u);
  net.forward(kVf0, udp_from_vm("10.7.7.7", "9.9.9.9"), kPf0);  // nor is its source looked at
}

TEST_F(Services, MacsAreCheckedOnceKnown) {
  net.inject(kVf0, arp_request(kVmMac, "10.0.0.1", "169.254.0.1"));
  net.poll();
  EXPECT_EQ(net.sent(kVf0).size(), 1u);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "9.9.9.9"), kPf0);
  Frame forged = udp_from_vm("10.0.0.1", "9.9.9.9", 5);
  forged[11] ^= 1;
  net.expect_drop(kVf0, forged, DropReason::spoofed_mac);
}

TEST(Metering, LimitsWhatAVmSends) {
  Harness net;
  auto request = net.interface_request(kVf0, 100, "10.0.0.1", "2001:db8::1");
  request.total_meter_rate = 100;
  request.public_meter_rate = 1;
  ASSERT_TRUE(net.engine().create_interface(request).ok());
  net.add_interface(kVf1, 100, "10.0.0.2", "2001:db8::2");
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  net.engine().create_route(100, prefix("::/0"), 100, ip(kRemote));
  const auto burst = [&](const Frame& frame, unsigned count, unsigned out) {
    for (unsigned i = 0; i < count; ++i) {
      net.inject(kVf0, frame);
      if (i % 64 == 63) net.poll();
    }
    net.poll(4);
    return net.sent(out).size();
  };
  // The public bucket holds 4096 + 131072 bytes.
  const Frame v4 = from_vm("10.0.0.1", "9.9.9.9", 17, udp(1, 2, 1372));
  const size_t passed = burst(v4, 200, kPf0);
  EXPECT_GE(passed, 4096u / 1400 + 131072u / 1400);
  EXPECT_LE(passed, 135072u / 1400 + 20);
  EXPECT_EQ(net.drops(DropReason::metered), 200 - passed);
  // Empty now for IPv6 too, while local traffic is under the total rate.
  EXPECT_LE(burst(from_vm("2001:db8::1", "2001:db8:9::9", 17, udp(1, 2, 1352)), 50, kPf0), 20u);
  EXPECT_EQ(burst(from_vm("10.0.0.1", "10.0.0.2", 17, udp(1, 2, 1372)), 50, kVf1), 50u);
  EXPECT_EQ(net.engine().get_interface("vm0").value.public_meter_rate, 1u);
}

TEST(Multipath, FlowsAreSpreadOverNextHops) {
  EngineOptions options = default_options();
  options.multipath = true;
  options.flow_label_entropy = true;
  Harness net(options);
  net.add_interface(kVf0, 100, "10.0.0.1");
  for (const char* hop : {"fc00:2::1", "fc00:3::1", "fc00:4::1"})
    ASSERT_EQ(net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(hop)), Status::OK);
  EXPECT_EQ(net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip("fc00:3::1")), Status::ROUTE_EXISTS);
  EXPECT_EQ(net.engine().list_routes(100).value.size(), 3u);
  std::map<Frame, unsigned> hops;
  std::set<Frame> labels;
  const auto send = [&] {
    hops.clear();
    for (uint16_t port = 1; port <= 300; ++port) {
      const Frame out = net.forward(kVf0, udp_from_vm("10.0.0.1", "9.9.9.9", port, 53), kPf0);
      ++hops[slice(out, 38, 16)];
      labels.insert(slice(out, 14, 4));
    }
  };
  send();
  EXPECT_EQ(hops.size(), 3u);
  for (const auto& [hop, count] : hops) EXPECT_GT(count, 60u);
  EXPECT_GT(labels.size(), 250u);
  ASSERT_EQ(net.engine().delete_route(100, prefix("0.0.0.0/0"), ip6("fc00:3::1")), Status::OK);
  send();
  EXPECT_EQ(hops.size(), 2u);
  ASSERT_EQ(net.engine().delete_route(100, prefix("0.0.0.0/0")), Status::OK);
  EXPECT_EQ(net.engine().list_routes(100).value.size(), 0u);
}

TEST(Quota, OneInterfaceCannotTakeTheTable) {
  EngineOptions options = default_options();
  options.flow_quota = 10;
  Harness net(options);
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.add_interface(kVf1, 100, "10.0.0.2");
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  const auto tcp_out = [&](uint16_t port, uint8_t flags) {
    return from_vm("10.0.0.1", "9.9.9.9", 6, tcp(port, 80, flags));
  };
  const Ipv6Address underlay = net.engine().get_interface("vm0").value.underlay;
  for (uint16_t port = 1; port <= 10; ++port) {
    net.forward(kVf0, tcp_out(port, 0x10), kPf0);
    net.forward(kPf0, overlay(kRemote, underlay, from_vm("9.9.9.9", "10.0.0.1", 6, tcp(80, port, 0x10))), kVf0);
  }
  // All established: none is given up.
  net.expect_drop(kVf0, tcp_out(11, 0x02), DropReason::flow_quota);
  net.forward(kVf1, udp_from_vm("10.0.0.2", "9.9.9.9"), kPf0);
  // Half-open ones make way for each other.
  net.forward(kVf0, tcp_out(1, 0x04), kPf0);  // RST
  net.advance(40);
  for (uint16_t port = 20; port < 40; ++port) net.forward(kVf0, tcp_out(port, 0x02), kPf0);
  EXPECT_EQ(net.worker().flows_evicted, 19u);
}

TEST(Quota, ConnectionsOfAGoneInterfaceDoNotCount) {
  EngineOptions options = default_options();
  options.flow_quota = 3;
  Harness net(options);
  const auto flows = [&](const char* id) {
    for (const InterfaceState& state : net.engine().list_interface_states())
      if (state.info.id == id) return state.flows;
    return UINT32_MAX;
  };
  for (int round = 0; round < 2; ++round) {
    net.add_interface(kVf0, 100, "10.0.0.1");
    if (round == 0) net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
    const Ipv6Address underlay = net.engine().get_interface("vm0").value.underlay;
    for (uint16_t port = 1; port <= 3; ++port) {
      net.forward(kVf0, from_vm("10.0.0.1", "9.9.9.9", 6, tcp(port, 80, 0x10)), kPf0);
      net.forward(kPf0, overlay(kRemote, underlay, from_vm("9.9.9.9", "10.0.0.1", 6, tcp(80, port, 0x10))), kVf0);
    }
    EXPECT_EQ(flows("vm0"), 3u);
    net.expect_drop(kVf0, from_vm("10.0.0.1", "9.9.9.9", 6, tcp(4, 80, 0x02)), DropReason::flow_quota);
    if (round == 0) {
      net.add_interface(kVf1, 100, "10.0.0.2");  // the network stays
      ASSERT_EQ(net.engine().delete_interface("vm0"), Status::OK);
    }
  }
  // Those of the first one are forgotten meanwhile, and take nothing from the second one's count.
  net.advance(1000);
  EXPECT_EQ(net.impl().flows().size(), 6u);
  EXPECT_EQ(flows("vm0"), 3u);
}

TEST(Quota, AConnectionCountsForTheInterfaceThatHasItNow) {
  Harness net;
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.add_interface(kVf1, 100, "10.0.0.2");
  const auto flows = [&] {
    std::map<std::string, uint32_t> counts;
    for (const InterfaceState& state : net.engine().list_interface_states()) counts[state.info.id] = state.flows;
    return counts;
  };
  using Counts = std::map<std::string, uint32_t>;
  const Ipv6Address underlay = ip6("fc00:1::8000:0:7");
  const Frame syn = overlay(kRemote, underlay, from_vm("9.9.9.9", "203.0.113.9", 6, tcp(80, 22, 0x02)));
  ASSERT_TRUE(net.engine().create_vip("vm0", ip("203.0.113.9"), underlay).ok());
  net.forward(kPf0, syn, kVf0);
  EXPECT_EQ(flows(), (Counts{{"vm0", 1}, {"vm1", 0}}));
  ASSERT_EQ(net.engine().delete_vip("vm0"), Status::OK);
  ASSERT_TRUE(net.engine().create_vip("vm1", ip("203.0.113.9"), underlay).ok());
  net.forward(kPf0, syn, kVf1);
  EXPECT_EQ(flows(), (Counts{{"vm0", 0}, {"vm1", 1}}));
  net.advance(1000);
  EXPECT_EQ(flows(), (Counts{{"vm0", 0}, {"vm1", 0}}));
}

TEST(Timeouts, DifferByProtocol) {
  EngineOptions options = default_options();
  options.flow_timeouts = {3600, 10, 20, 5, 40, 600};
  Harness net(options);
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  net.forward(kVf0, udp_from_vm("10.0.0.1", "9.9.9.9"), kPf0);
  net.forward(kVf0, from_vm("10.0.0.1", "9.9.9.9", 6, tcp(1, 2, 0x02)), kPf0);
  net.forward(kVf0, from_vm("10.0.0.1", "9.9.9.9", 1, icmp_echo(8, 1)), kPf0);
  net.forward(kVf0, from_vm("10.0.0.1", "9.9.9.9", 132, Frame(40)), kPf0);
  const auto flows = [&] { return net.impl().flows().size(); };
  EXPECT_EQ(flows(), 8u);
  net.advance(8);
  EXPECT_EQ(flows(), 6u);
  net.advance(5);
  EXPECT_EQ(flows(), 4u);
  net.advance(10);
  EXPECT_EQ(flows(), 2u);
  net.advance(20);
  EXPECT_EQ(flows(), 0u);
}

}  // namespace
}  // namespace ironcore::testing
