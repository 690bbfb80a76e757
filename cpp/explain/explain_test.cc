// An explanation and the packet itself must agree: verdict, port and every byte, before and after the flow exists.
#include <gtest/gtest.h>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

class Explain : public ::testing::Test {
 protected:
  explicit Explain(EngineOptions options = default_options()) : net(options) {
    underlay = net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
    net.add_interface(kVf1, 100, "10.0.0.2", "2001:db8::2");
    net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
    net.engine().create_route(100, prefix("::/0"), 100, ip(kRemote));
  }

  static PacketSource source_of(unsigned port) {
    if (port < kVf0) return {"", port};
    return {"vm" + std::to_string(port - kVf0), 0};
  }
  std::string netdev(unsigned port) { return net.impl().ports().by_device_name(device_name(port))->netdev_name; }
  Explanation ask(unsigned in, const Frame& frame) {
    const auto explained = net.engine().explain_packet(source_of(in), frame);
    EXPECT_EQ(explained.status, Status::OK);
    return explained.value;
  }

  struct State {
    DropCounters drops;
    std::vector<uint64_t> tables;
    std::vector<std::pair<uint64_t, uint64_t>> ports;
    uint64_t slow_path, created, redecided;
    bool operator==(const State&) const = default;
  };
  State state() {
    const EngineCounters counters = net.engine().counters();
    State now{counters.drops,
              {},
              {},
              counters.workers[0].slow_path,
              counters.workers[0].flows_created,
              counters.workers[0].flows_redecided};
    for (const auto& table : counters.tables) now.tables.push_back(table.used);
    for (const auto& port : counters.ports) now.ports.emplace_back(port.rx_packets, port.tx_packets);
    return now;
  }

  // Explains, then sends.
  ExplainedPart check_once(unsigned in, const Frame& frame) {
    const State before = state();
    const Explanation parts = ask(in, frame);
    EXPECT_EQ(state(), before) << "explaining must change nothing";
    EXPECT_FALSE(parts.empty());
    if (parts.empty()) return {};
    for (const auto& part : parts) EXPECT_FALSE(part.steps.empty());
    const ExplainedPart& last = parts.back();
    net.inject(in, frame);
    net.poll();
    const State after = state();
    for (unsigned port = 0; port < kPortCount; ++port) {
      std::vector<Frame> expected;
      const bool out = last.verdict == PacketVerdict::kDelivered || last.verdict == PacketVerdict::kSent;
      if (port == in && !last.reply.empty()) expected.push_back(last.reply);
      if (out && last.device == netdev(port)) expected.push_back(last.output);
      EXPECT_EQ(net.sent(port), expected) << "on " << netdev(port) << ": " << text(parts);
    }
    for (size_t i = 0; i < kDropReasonCount; ++i) {
      const bool told = last.verdict == PacketVerdict::kDropped && i == static_cast<size_t>(last.drop);
      EXPECT_EQ(after.drops[i] - before.drops[i], told ? 1u : 0u)
          << drop_reason_name(static_cast<DropReason>(i)) << ": " << text(parts);
    }
    return last;
  }
  // As a first packet, and as a later one of the flow that the first began. Returns the first explanation.
  ExplainedPart check(unsigned in, const Frame& frame) {
    const ExplainedPart first = check_once(in, frame);
    const ExplainedPart second = check_once(in, frame);
    EXPECT_EQ(first.verdict, second.verdict);
    EXPECT_EQ(first.output, second.output);
    return first;
  }
  void expect_drop(unsigned in, const Frame& frame, DropReason reason) {
    const ExplainedPart part = check(in, frame);
    EXPECT_EQ(part.verdict, PacketVerdict::kDropped);
    EXPECT_EQ(drop_reason_name(part.drop), drop_reason_name(reason));
  }
  void expect_out(unsigned in, const Frame& frame, unsigned out) {
    const ExplainedPart part = check(in, frame);
    EXPECT_EQ(part.verdict, out < kVf0 ? PacketVerdict::kSent : PacketVerdict::kDelivered);
    EXPECT_EQ(part.device, netdev(out));
    EXPECT_EQ(part.interface_id, source_of(out).interface_id);
  }
  static std::string text(const Explanation& parts) {
    std::string all;
    for (const auto& part : parts)
      for (const auto& [stage, outcome] : part.steps) all += "\n  " + stage + ": " + outcome;
    return all;
  }
  static bool has_step(const ExplainedPart& part, const std::string& stage, const std::string& words) {
    for (const auto& step : part.steps)
      if (step.stage == stage && step.outcome.find(words) != std::string::npos) return true;
    return false;
  }
  Frame from_outside(const Frame& frame) { return overlay(kRemote, underlay, frame); }
  Ipv6Address add_nat(const std::string& address = "203.0.113.1") {
    const auto created = net.engine().create_nat("vm0", ip(address), 1024, 1028, std::nullopt);
    EXPECT_EQ(created.status, Status::OK);
    return created.value;
  }

  Harness net;
  Ipv6Address underlay;
};

// A correct ICMPv4 "destination unreachable" about this IP packet.
Frame unreachable(const std::string& src, const std::string& dst, const Frame& about) {
  return from_vm(src, dst, 1, icmp_error(3, 4, 1400, slice(about, 0, 28)));
}

TEST_F(Explain, PlainTraffic) {
  expect_out(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"), kVf1);
  expect_out(kVf0, udp_from_vm("2001:db8::1", "2001:db8::2"), kVf1);
  expect_out(kVf0, from_vm("10.0.0.1", "10.0.0.2", 6, tcp(1, 2, 2)), kVf1);
  expect_out(kVf0, from_vm("10.0.0.1", "10.0.0.2", 1, icmp_echo(8, 3)), kVf1);
  expect_out(kVf0, from_vm("10.0.0.1", "8.8.8.8", 132, Frame(40)), kPf0);
  expect_out(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8"), kPf0);
  expect_out(kVf0, udp_from_vm("2001:db8::1", "2001:db8:9::9"), kPf0);
  expect_out(kPf0, from_outside(udp_from_vm("9.9.9.9", "10.0.0.1", 7, 80)), kVf0);
  expect_out(kPf1, from_outside(udp_from_vm("2001:db8:9::9", "2001:db8::1", 7, 80)), kVf0);
}

TEST_F(Explain, DropsOfVms) {
  expect_drop(kVf0, udp_from_vm("10.0.0.7", "8.8.8.8"), DropReason::spoofed_source);
  expect_drop(kVf0, udp_from_vm("10.0.0.1", "224.0.0.1"), DropReason::link_local);
  expect_drop(kVf0, slice(udp_from_vm("10.0.0.1", "8.8.8.8"), 0, 30), DropReason::truncated);
  expect_drop(kVf0, Frame(9), DropReason::truncated);
  Frame vlan = udp_from_vm("10.0.0.1", "8.8.8.8");
  vlan[12] = 0x81;
  vlan[13] = 0;
  expect_drop(kVf0, vlan, DropReason::vlan_tagged);
  vlan[12] = 0x88;
  vlan[13] = 0xcc;
  expect_drop(kVf0, vlan, DropReason::ethertype_unsupported);
  ASSERT_EQ(net.engine().delete_route(100, prefix("0.0.0.0/0")), Status::OK);
  expect_drop(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8"), DropReason::no_route);
}

TEST_F(Explain, DropsOfUplinks) {
  const Frame inner = udp_from_vm("9.9.9.9", "10.0.0.1");
  expect_drop(kPf0, inner, DropReason::not_overlay);
  expect_drop(kPf0, overlay(kRemote, ip6("fc00:9::1"), inner), DropReason::underlay_prefix_mismatch);
  expect_drop(kPf0, overlay(kRemote, ip6("fc00:1::7777"), inner), DropReason::underlay_unknown);
  expect_drop(kPf0, slice(from_outside(inner), 0, 70), DropReason::truncated);
}

TEST_F(Explain, UplinkState) {
  const Frame frame = udp_from_vm("10.0.0.1", "8.8.8.8");
  net.engine().set_uplink_neighbour(0, std::nullopt);
  expect_drop(kVf0, frame, DropReason::uplink_neighbour_unknown);
  net.engine().set_uplink_neighbour(0, kRouterMac);
  net.impl().ports().uplink(0)->link_up.store(false);
  expect_out(kVf0, frame, kPf1);
  net.impl().ports().uplink(1)->link_up.store(false);
  expect_drop(kVf0, frame, DropReason::uplink_down);
}

TEST_F(Explain, TooBigPackets) {
  for (Port* uplink : net.impl().ports().uplinks()) uplink->max_frame = 1514;
  Frame big = from_vm("10.0.0.1", "8.8.8.8", 17, udp(1, 2, 1472));
  big[20] = 0x40;  // don't fragment; the header checksum follows
  big[24] = big[25] = 0;
  uint32_t sum = 0;
  for (size_t i = 14; i < 34; i += 2) sum += static_cast<uint32_t>(big[i] << 8 | big[i + 1]);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  big[24] = static_cast<uint8_t>(~sum >> 8);
  big[25] = static_cast<uint8_t>(~sum);
  net.advance(1);  // errors are rationed
  const ExplainedPart part = check_once(kVf0, big);
  EXPECT_EQ(part.drop, DropReason::packet_too_big);
  EXPECT_FALSE(part.reply.empty());
}

TEST_F(Explain, GuestServices) {
  const auto arp = check_once(kVf0, arp_request(kVmMac, "10.0.0.1", "169.254.0.1"));
  EXPECT_EQ(arp.verdict, PacketVerdict::kAnswered);
  EXPECT_TRUE(has_step(arp, "guest service", "learns the VM's MAC 52:54:00:00:00:01"));
  EXPECT_EQ(check(kVf0, from_vm("10.0.0.1", "169.254.0.1", 1, icmp_echo(8, 3))).verdict, PacketVerdict::kAnswered);
  expect_drop(kVf0, arp_request(kVmMac, "10.0.0.1", "10.0.0.9"), DropReason::arp_not_gateway);
  expect_drop(kVf0, from_vm("10.0.0.1", "255.255.255.255", 17, udp(68, 67, 100)), DropReason::dhcp4_malformed);
  Frame forged = udp_from_vm("10.0.0.1", "8.8.8.8");
  forged[11] ^= 1;
  expect_drop(kVf0, forged, DropReason::spoofed_mac);
}

TEST_F(Explain, LearnsNoMac) {
  ask(kVf0, arp_request(kVmMac, "10.0.0.1", "169.254.0.1"));
  EXPECT_FALSE(net.engine().get_interface("vm0").value.vm_mac_learned);
}

TEST_F(Explain, VirtualIp) {
  const auto vip = net.engine().create_vip("vm0", ip("203.0.113.9"), std::nullopt);
  ASSERT_TRUE(vip.ok());
  const ExplainedPart out = check(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53));
  EXPECT_EQ(out.after.source, ip("203.0.113.9"));
  EXPECT_TRUE(has_step(out, "virtual IP", "10.0.0.1 becomes 203.0.113.9"));
  expect_out(kPf0, overlay(kRemote, vip.value, udp_from_vm("8.8.8.8", "203.0.113.9", 53, 1000)), kVf0);
  expect_out(kPf0, overlay(kRemote, vip.value, udp_from_vm("9.9.9.9", "203.0.113.9", 7, 80)), kVf0);
  expect_out(kVf1, udp_from_vm("10.0.0.2", "203.0.113.9", 5, 80), kVf0);
  expect_out(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", 80, 5), kVf1);
}

TEST_F(Explain, Nat) {
  const Ipv6Address nat = add_nat();
  const Frame query = udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53);
  const ExplainedPart first = check(kVf0, query);
  EXPECT_EQ(first.after.source, ip("203.0.113.1"));
  EXPECT_FALSE(first.used_flow);
  const ExplainedPart later = check(kVf0, query);
  EXPECT_TRUE(later.used_flow);
  ASSERT_TRUE(later.flow && later.flow->nat);
  EXPECT_EQ(later.flow->nat->nat_port, first.after.source_port);
  EXPECT_EQ(later.flow->nat->inside_port, 1000);
  const Frame answer = overlay(kRemote, nat, udp_from_vm("8.8.8.8", "203.0.113.1", 53, first.after.source_port));
  const ExplainedPart back = check(kPf0, answer);
  EXPECT_TRUE(back.used_flow);
  EXPECT_TRUE(has_step(back, "flow", "answer of the flow UDP 10.0.0.1:1000 > 8.8.8.8:53"));
  for (uint16_t source = 1001; source < 1004; ++source)
    expect_out(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", source, 53), kPf0);
  expect_drop(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1004, 53), DropReason::nat_exhausted);
  expect_drop(kPf0, overlay(kRemote, nat, udp_from_vm("7.7.7.7", "203.0.113.1", 53, 1025)),
              DropReason::nat_unsolicited);
  expect_drop(kVf0, from_vm("10.0.0.1", "8.8.8.8", 132, Frame(40)), DropReason::nat_unsupported);
  expect_out(kPf1, overlay(kRemote, nat, from_vm("8.8.8.8", "203.0.113.1", 1, icmp_echo(8, 7))), kPf1);
  expect_out(kVf0, from_vm("10.0.0.1", "9.9.9.9", 1, icmp_echo(8, 7)), kPf0);
}

TEST_F(Explain, NatAfterAChangeOfTables) {
  const Ipv6Address nat = add_nat();
  const Frame query = udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53);
  const ExplainedPart first = check(kVf0, query);
  const Frame answer = overlay(kRemote, nat, udp_from_vm("8.8.8.8", "203.0.113.1", 53, first.after.source_port));
  // The entry is outdated now: both directions are decided again, by the first one.
  ASSERT_TRUE(net.engine().create_prefix("vm0", prefix("10.9.0.0/24"), std::nullopt).ok());
  const ExplainedPart back = check_once(kPf0, answer);
  EXPECT_EQ(back.verdict, PacketVerdict::kDelivered);
  EXPECT_FALSE(back.used_flow);
  EXPECT_TRUE(has_step(back, "NAT", "becomes 203.0.113.1"));
  ASSERT_TRUE(net.engine().create_prefix("vm0", prefix("10.9.1.0/24"), std::nullopt).ok());
  EXPECT_EQ(check_once(kVf0, query).output, first.output);
  ASSERT_EQ(net.engine().delete_nat("vm0"), Status::OK);
  const ExplainedPart plain = check_once(kVf0, query);
  EXPECT_EQ(plain.after.source, ip("10.0.0.1"));
  expect_drop(kPf0, answer, DropReason::underlay_unknown);
}

TEST_F(Explain, NeighbourNat) {
  const Ipv6Address nat = add_nat();
  ASSERT_EQ(net.engine().create_neighbor_nat({ip("203.0.113.1"), 100, 2000, 3000, ip6("fc00:7::d000:0:3")}),
            Status::OK);
  const ExplainedPart part = check(kPf1, overlay(kRemote, nat, udp_from_vm("8.8.8.8", "203.0.113.1", 53, 2500)));
  EXPECT_EQ(part.verdict, PacketVerdict::kSent);
  EXPECT_TRUE(has_step(part, "neighbour NAT", "fc00:7::d000:0:3"));
  // About a flow that has not been here.
  const Frame sent = slice(udp_from_vm("203.0.113.1", "8.8.4.4", 2600, 9), 14);
  expect_out(kPf1, overlay(kRemote, nat, unreachable("7.7.7.7", "203.0.113.1", sent)), kPf1);
}

TEST_F(Explain, Nat64) {
  const Ipv6Address nat = add_nat();
  const ExplainedPart out = check(kVf0, udp_from_vm("2001:db8::1", "64:ff9b::808:808", 1000, 53));
  EXPECT_EQ(out.after.source, ip("203.0.113.1"));
  EXPECT_EQ(out.after.destination, ip("8.8.8.8"));
  expect_out(kPf0, overlay(kRemote, nat, udp_from_vm("8.8.8.8", "203.0.113.1", 53, out.after.source_port)), kVf0);
  expect_out(kVf0, from_vm("2001:db8::1", "64:ff9b::808:808", 58, icmp_echo(128, 9)), kPf0);
}

TEST_F(Explain, IcmpErrors) {
  const Ipv6Address nat = add_nat();
  const ExplainedPart sent = check(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53));
  const Frame error = unreachable("7.7.7.7", "203.0.113.1", slice(sent.output, 54));
  const ExplainedPart part = check(kPf0, overlay(kRemote, nat, error));
  EXPECT_EQ(part.verdict, PacketVerdict::kDelivered);
  EXPECT_EQ(part.after.source, ip("7.7.7.7"));
  EXPECT_EQ(part.after.destination, ip("10.0.0.1"));
  // About a flow that nobody knows.
  const Frame unknown = unreachable("7.7.7.7", "203.0.113.1", slice(udp_from_vm("203.0.113.1", "8.8.4.4", 9, 9), 14));
  expect_drop(kPf0, overlay(kRemote, nat, unknown), DropReason::nat_unsolicited);
  expect_out(kVf1, unreachable("10.0.0.2", "10.0.0.1", slice(udp_from_vm("10.0.0.1", "10.0.0.2", 9, 9), 14)), kVf0);
  expect_drop(kVf1, unreachable("10.0.0.7", "10.0.0.1", slice(udp_from_vm("10.0.0.1", "10.0.0.7", 9, 9), 14)),
              DropReason::spoofed_source);
}

TEST_F(Explain, Fragments) {
  add_nat();
  Frame first = udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53);
  first[20] = 0x20;
  first[19] = 9;
  Frame later = first;
  later[20] = 0;
  later[21] = 3;
  expect_drop(kVf0, later, DropReason::fragment_unknown);
  expect_out(kVf0, first, kPf0);
  const ExplainedPart rest = check(kVf0, later);
  EXPECT_EQ(rest.verdict, PacketVerdict::kSent);
  EXPECT_TRUE(rest.before.later_fragment);
  EXPECT_EQ(rest.after.source, ip("203.0.113.1"));
}

TEST_F(Explain, Loop) {
  const auto vip = net.engine().create_vip("vm0", ip("203.0.113.9"), std::nullopt);
  net.add_interface(kVf2, 200, "10.0.0.2");
  ASSERT_TRUE(net.engine().create_vip("vm2", ip("203.0.113.8"), std::nullopt).ok());
  net.engine().create_route(200, prefix("0.0.0.0/0"), 100, {true, vip.value});
  const Frame frame = udp_from_vm("10.0.0.2", "203.0.113.9", 5, 80);
  const Explanation parts = ask(kVf2, frame);
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].verdict, PacketVerdict::kLooped);
  EXPECT_EQ(parts[1].verdict, PacketVerdict::kDelivered);
  EXPECT_EQ(parts[1].before.source, ip("203.0.113.8"));
  EXPECT_EQ(parts[1].after.destination, ip("10.0.0.1"));
  expect_out(kVf2, frame, kVf0);
}

TEST_F(Explain, LoadBalancer) {
  const auto lb = net.engine().create_load_balancer("lb", 100, ip("203.0.113.5"), {{6, 80}, {17, 53}}, std::nullopt);
  ASSERT_TRUE(lb.ok());
  const auto syn = [&](uint16_t port, const std::string& dst = "203.0.113.5", uint16_t to = 80) {
    return overlay(kRemote, lb.value, from_vm("198.51.100.7", dst, 6, tcp(port, to, 2)));
  };
  expect_drop(kPf1, syn(1), DropReason::lb_no_target);
  const auto local = net.engine().create_lb_prefix("vm1", prefix("203.0.113.5/32"), std::nullopt);
  for (const IpAddress& target : {ip("fc00:3::d000:0:1"), ip("fc00:4::d000:0:1"), IpAddress::v6(local.value)})
    ASSERT_EQ(net.engine().create_load_balancer_target("lb", target), Status::OK);
  unsigned here = 0;
  for (uint16_t port = 1000; port < 1030; ++port) {
    const ExplainedPart part = check(kPf1, syn(port));
    EXPECT_NE(part.verdict, PacketVerdict::kDropped);
    here += part.verdict == PacketVerdict::kDelivered;
  }
  EXPECT_GT(here, 0u);
  EXPECT_LT(here, 30u);
  // A new target: running flows keep theirs.
  ASSERT_EQ(net.engine().create_load_balancer_target("lb", ip("fc00:5::d000:0:1")), Status::OK);
  for (uint16_t port = 1000; port < 1030; ++port) check_once(kPf1, syn(port));
  const Frame unknown = slice(from_vm("203.0.113.5", "198.51.100.7", 6, tcp(80, 9, 0x10)), 14);
  EXPECT_NE(check(kPf1, overlay(kRemote, lb.value, unreachable("7.7.7.7", "203.0.113.5", unknown))).verdict,
            PacketVerdict::kDropped);
  expect_drop(kPf1, syn(1, "203.0.113.6"), DropReason::lb_address);
  expect_drop(kPf1, syn(1, "203.0.113.5", 81), DropReason::lb_port);
  expect_out(kPf1, overlay(kRemote, lb.value, from_vm("198.51.100.7", "203.0.113.5", 1, icmp_echo(8, 1))), kPf1);
}

TEST_F(Explain, Firewall) {
  const FirewallRule web{"web",
                         TrafficDirection::kIngress,
                         FirewallAction::kAccept,
                         100,
                         prefix("0.0.0.0/0"),
                         prefix("10.0.0.1/32"),
                         TcpFilter{{}, {80, 80}}};
  ASSERT_EQ(net.engine().create_firewall_rule("vm0", web), Status::OK);
  expect_out(kPf0, from_outside(from_vm("9.9.9.9", "10.0.0.1", 6, tcp(7, 80, 2))), kVf0);
  expect_drop(kPf0, from_outside(from_vm("9.9.9.9", "10.0.0.1", 6, tcp(7, 81, 2))), DropReason::firewall);
  expect_drop(kVf1, udp_from_vm("10.0.0.2", "10.0.0.1"), DropReason::firewall);
  expect_out(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", 9, 10), kVf1);
  expect_out(kVf1, udp_from_vm("10.0.0.2", "10.0.0.1", 10, 9), kVf0);
  // Only packets that began a flow count.
  EXPECT_EQ(net.engine().get_firewall_rule("vm0", "web").value.hits, 1u);
  // A rule that ends a running flow.
  FirewallRule no{"no", TrafficDirection::kEgress, FirewallAction::kDrop, 1, prefix("0.0.0.0/0"), prefix("0.0.0.0/0"),
                  {}};
  ASSERT_EQ(net.engine().create_firewall_rule("vm0", no), Status::OK);
  expect_drop(kVf1, udp_from_vm("10.0.0.2", "10.0.0.1", 10, 9), DropReason::firewall);
  expect_drop(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", 9, 10), DropReason::firewall);
}

TEST_F(Explain, RatesAreNotCharged) {
  auto request = net.interface_request(kVf3, 100, "10.0.0.3");
  request.total_meter_rate = request.public_meter_rate = 1;
  ASSERT_TRUE(net.engine().create_interface(request).ok());
  const Frame frame = from_vm("10.0.0.3", "8.8.8.8", 17, udp(1, 2, 1372));
  for (int i = 0; i < 1000; ++i) ask(kVf3, frame);
  const ExplainedPart part = check(kVf3, frame);
  EXPECT_EQ(part.verdict, PacketVerdict::kSent);
  EXPECT_TRUE(has_step(part, "rate", "public"));
}

TEST_F(Explain, WrongQuestionsAreRefused) {
  const Frame frame = udp_from_vm("10.0.0.1", "8.8.8.8");
  EXPECT_EQ(net.engine().explain_packet({"nobody", 0}, frame).status, Status::NOT_FOUND);
  EXPECT_EQ(net.engine().explain_packet({"", 2}, frame).status, Status::NOT_FOUND);
  EXPECT_EQ(net.engine().explain_packet({"vm0", 0}, {}).status, Status::BAD_REQUEST);
  EXPECT_EQ(net.engine().explain_packet({"vm0", 0}, Frame(70000)).status, Status::BAD_REQUEST);
}

constexpr const char* kVirtual = "169.254.1.53";
constexpr const char* kServer = "fc00:77::53";

class ExplainVirtualServices : public Explain {
 protected:
  ExplainVirtualServices() : Explain(options()) {}

  static EngineOptions options() {
    EngineOptions options = default_options();
    options.virtual_services = {{17, ip4(kVirtual), 53, ip6(kServer), 5353}};
    return options;
  }
  static Frame ask(uint16_t source) { return udp_from_vm("10.0.0.1", kVirtual, source, 53); }
  Frame plain(uint8_t proto, const Frame& transport) {
    return ethernet(net.mac(kPf0), kRouterMac, 0x86dd,
                    slice(from_vm(kServer, to_string(service().underlay), proto, transport), 14));
  }
  Frame answer(uint16_t port) { return plain(17, udp(5353, port)); }
  virtsvc::Service& service() { return *net.impl().virtual_service_registry().services()[0]; }
  virtsvc::Client client(unsigned vf, uint16_t port) {
    return {net.impl().ports().by_device_name(device_name(vf))->id, port, ip4("10.0.0.1")};
  }
};

TEST_F(ExplainVirtualServices, Requests) {
  const ExplainedPart part = check(kVf0, ask(1000));
  EXPECT_EQ(part.verdict, PacketVerdict::kSent);
  EXPECT_EQ(part.device, netdev(kPf0));
  EXPECT_EQ(part.after.source, IpAddress::v6(service().underlay));
  EXPECT_EQ(part.after.source_port, 1025);
  EXPECT_EQ(part.after.destination, ip(kServer));
  EXPECT_TRUE(has_step(part, "virtual service", "without overlay, from port 1025"));
  EXPECT_TRUE(has_step(part, "output", std::string(", destination ") + kServer));
  EXPECT_EQ(check(kVf0, ask(1001)).after.source_port, 1026);
  // The entry lives on, the slot passes to another client.
  ASSERT_TRUE(service().slots.take(1, client(kVf1, 7), 0));
  const ExplainedPart again = check(kVf0, ask(1000));
  EXPECT_TRUE(again.used_flow);
  EXPECT_EQ(again.after.source_port, 1027);
}

TEST_F(ExplainVirtualServices, Answers) {
  check_once(kVf0, ask(1000));
  const ExplainedPart part = check_once(kPf0, answer(1025));
  EXPECT_EQ(part.verdict, PacketVerdict::kDelivered);
  EXPECT_EQ(part.interface_id, "vm0");
  EXPECT_TRUE(part.used_flow);
  EXPECT_EQ(part.after.source, ip(kVirtual));
  EXPECT_EQ(part.after.destination_port, 1000);
  EXPECT_TRUE(has_step(part, "virtual service", std::string("as from ") + kVirtual));
}

TEST_F(ExplainVirtualServices, AnswersWithoutAFlow) {
  ASSERT_TRUE(service().slots.take(7, client(kVf0, 1000), 0));
  const ExplainedPart part = check_once(kPf0, answer(1031));
  EXPECT_EQ(part.verdict, PacketVerdict::kDelivered);
  EXPECT_FALSE(part.used_flow);
  EXPECT_EQ(part.after.destination_port, 1000);
}

TEST_F(ExplainVirtualServices, Drops) {
  check_once(kVf0, ask(1000));
  expect_drop(kPf0, answer(1026), DropReason::virtual_service_unknown);
  expect_drop(kPf0, slice(answer(1025), 0, 58), DropReason::truncated);
  expect_drop(kVf0, udp_from_vm("10.0.0.9", kVirtual, 1000, 53), DropReason::spoofed_source);
  Frame error = {1, 4, 0, 0, 0, 0, 0, 0};
  const Frame quoted = slice(from_vm(to_string(service().underlay), kServer, 17, udp(1025, 5353)), 14);
  error.insert(error.end(), quoted.begin(), quoted.end());
  expect_drop(kPf0, plain(58, error), DropReason::not_translatable);
  const size_t room = net.impl().ports().uplink(0)->max_frame - 54;
  expect_drop(kVf0, from_vm("10.0.0.1", kVirtual, 17, udp(1000, 53, room - 7)), DropReason::packet_too_big);
  for (unsigned pf = 0; pf < 2; ++pf) net.impl().ports().uplink(pf)->link_up = false;
  expect_drop(kVf0, ask(1000), DropReason::uplink_down);
  for (unsigned pf = 0; pf < 2; ++pf) net.impl().ports().uplink(pf)->link_up = true;
}

TEST_F(ExplainVirtualServices, NoPortLeft) {
  for (uint16_t slot = 0; slot < virtsvc::ServiceSlots::kCount; ++slot)
    ASSERT_TRUE(service().slots.take(slot, client(kVf1, slot), 0));
  expect_drop(kVf0, ask(1000), DropReason::virtual_service_full);
}

class ExplainObserving : public Explain {
 protected:
  static EngineOptions options() {
    EngineOptions options = default_options();
    options.firewall = FirewallMode::kObserve;
    options.ipv6_public = true;
    options.flow_quota = 1;
    return options;
  }
  ExplainObserving() : Explain(options()) {}
};

TEST_F(ExplainObserving, TellsWhatWouldBeDropped) {
  const FirewallRule no{
      "no", TrafficDirection::kEgress, FirewallAction::kDrop, 1, prefix("0.0.0.0/0"), prefix("9.9.9.9/32"), {}};
  ASSERT_EQ(net.engine().create_firewall_rule("vm0", no), Status::OK);
  const ExplainedPart part = check(kVf0, udp_from_vm("10.0.0.1", "9.9.9.9"));
  EXPECT_EQ(part.verdict, PacketVerdict::kSent);
  EXPECT_TRUE(has_step(part, "firewall", "only observes"));
}

TEST_F(ExplainObserving, Ipv6NatAndQuota) {
  const Ipv6Address nat = add_nat("2001:db8:ff::1");
  const ExplainedPart out = check(kVf0, udp_from_vm("2001:db8::1", "2001:db8:9::9", 1001, 53));
  EXPECT_EQ(out.after.source, ip("2001:db8:ff::1"));
  expect_out(kPf0, overlay(kRemote, nat, udp_from_vm("2001:db8:9::9", "2001:db8:ff::1", 53, out.after.source_port)),
             kVf0);
  const Explanation second = ask(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8"));
  EXPECT_TRUE(has_step(second[0], "flow quota", "1 of 1"));
}

}  // namespace
}  // namespace ironcore::testing
