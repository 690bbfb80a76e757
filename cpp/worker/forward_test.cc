// Golden frames through the whole engine: what goes in, what comes out.
#include <gtest/gtest.h>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

class Forward : public ::testing::Test {
 protected:
  Harness net;
};

// The outer headers a frame must have, built here field by field.
Frame expected_outer(const MacAddress& src_mac, const Ipv6Address& src, const std::string& dst, uint8_t next_header,
                     size_t payload) {
  Frame header(kRouterMac.begin(), kRouterMac.end());
  header.insert(header.end(), src_mac.begin(), src_mac.end());
  const Frame rest = {
      0x86, 0xdd, 0x60, 0, 0, 0, static_cast<uint8_t>(payload >> 8), static_cast<uint8_t>(payload), next_header, 64};
  header.insert(header.end(), rest.begin(), rest.end());
  header.insert(header.end(), src.begin(), src.end());
  const Ipv6Address to = ip6(dst);
  header.insert(header.end(), to.begin(), to.end());
  return header;
}

TEST_F(Forward, EncapsulatesIpv4) {
  const Ipv6Address underlay = net.add_interface(kVf0, 100, "10.0.0.1");
  ASSERT_EQ(net.engine().create_route(100, prefix("10.0.0.2/32"), 100, ip(kRemote)), Status::OK);
  const Frame sent = udp_from_vm("10.0.0.1", "10.0.0.2");
  for (int packet = 0; packet < 2; ++packet) {  // by decision, then by flow program
    const Frame out = net.forward(kVf0, sent, kPf0);
    EXPECT_EQ(slice(out, 0, 54), expected_outer(net.mac(kPf0), underlay, kRemote, 4, sent.size() - 14));
    EXPECT_EQ(slice(out, 54), slice(sent, 14));
  }
  EXPECT_EQ(net.worker().slow_path, 1u);
}

TEST_F(Forward, EncapsulatesIpv6) {
  const Ipv6Address underlay = net.add_interface(kVf0, 100, "", "2001:db8::1");
  ASSERT_EQ(net.engine().create_route(100, prefix("2001:db8:1::/48"), 100, ip(kRemote)), Status::OK);
  const Frame sent = udp_from_vm("2001:db8::1", "2001:db8:1::2");
  for (int packet = 0; packet < 2; ++packet) {
    const Frame out = net.forward(kVf0, sent, kPf0);
    EXPECT_EQ(slice(out, 0, 54), expected_outer(net.mac(kPf0), underlay, kRemote, 41, sent.size() - 14));
    EXPECT_EQ(slice(out, 54), slice(sent, 14));
  }
  EXPECT_EQ(net.worker().slow_path, 1u);
}

TEST_F(Forward, KeepsEthernetPaddingBehindTheDeclaredPayload) {
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  Frame sent = from_vm("10.0.0.1", "10.0.0.2", 17, udp(1, 2, 0));
  const size_t ip_length = sent.size() - 14;
  sent.resize(60);
  const Frame out = net.forward(kVf0, sent, kPf0);
  EXPECT_EQ(out.size(), 100u);
  EXPECT_EQ(slice(out, 18, 2), (Frame{0, static_cast<uint8_t>(ip_length)}));
}

TEST_F(Forward, DecapsulatesBothFamilies) {
  const Ipv6Address underlay = net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
  for (const auto& [sent, type] : {std::pair{udp_from_vm("10.0.0.9", "10.0.0.1"), Frame{0x08, 0x00}},
                                   std::pair{udp_from_vm("2001:db8::9", "2001:db8::1"), Frame{0x86, 0xdd}}}) {
    for (int packet = 0; packet < 2; ++packet) {
      const Frame out = net.forward(kPf1, overlay(kRemote, underlay, sent), kVf0);
      const MacAddress vf = net.mac(kVf0);  // also the best guess of the VM's MAC
      EXPECT_EQ(slice(out, 0, 6), Frame(vf.begin(), vf.end()));
      EXPECT_EQ(slice(out, 6, 6), Frame(vf.begin(), vf.end()));
      EXPECT_EQ(slice(out, 12, 2), type);
      EXPECT_EQ(slice(out, 14), slice(sent, 14));
    }
  }
}

// Addresses of the VM that only it knows of, behind whatever route other hosts have.
TEST_F(Forward, WhatComesToAnInterfaceIsItsVms) {
  const Ipv6Address underlay = net.add_interface(kVf0, 100, "10.0.0.1");
  const Frame sent = udp_from_vm("10.0.0.9", "192.168.55.1");
  EXPECT_EQ(slice(net.forward(kPf0, overlay(kRemote, underlay, sent), kVf0), 14), slice(sent, 14));
}

TEST_F(Forward, LocalDeliveryWithoutOverlay) {
  net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
  net.add_interface(kVf1, 100, "10.0.0.2", "2001:db8::2");
  for (const Frame& sent : {udp_from_vm("10.0.0.1", "10.0.0.2"), udp_from_vm("2001:db8::1", "2001:db8::2")}) {
    const Frame out = net.forward(kVf0, sent, kVf1);
    const MacAddress vf = net.mac(kVf1);
    EXPECT_EQ(slice(out, 6, 6), Frame(vf.begin(), vf.end()));
    EXPECT_EQ(slice(out, 12), slice(sent, 12));
  }
}

TEST_F(Forward, EqualAddressesInTwoNetworksNeverMeet) {
  const Ipv6Address under0 = net.add_interface(kVf0, 100, "10.0.0.1");
  const Ipv6Address under1 = net.add_interface(kVf1, 200, "10.0.0.1");
  net.add_interface(kVf2, 100, "10.0.0.2");
  net.add_interface(kVf3, 200, "10.0.0.2");
  for (int packet = 0; packet < 2; ++packet) {
    net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"), kVf2);
    net.forward(kVf1, udp_from_vm("10.0.0.1", "10.0.0.2"), kVf3);
    net.forward(kVf2, udp_from_vm("10.0.0.2", "10.0.0.1"), kVf0);
    net.forward(kVf3, udp_from_vm("10.0.0.2", "10.0.0.1"), kVf1);
    net.forward(kPf0, overlay(kRemote, under0, udp_from_vm("10.0.0.9", "10.0.0.1")), kVf0);
    net.forward(kPf0, overlay(kRemote, under1, udp_from_vm("10.0.0.9", "10.0.0.1")), kVf1);
  }
  EXPECT_EQ(net.worker().slow_path, 6u);
}

TEST_F(Forward, RouteChangeRedirectsAnExistingFlow) {
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.engine().create_route(100, prefix("10.0.0.0/8"), 100, ip("fc00:2::d000:0:1"));
  const Frame sent = udp_from_vm("10.0.0.1", "10.9.0.2");
  const auto next_hop = [&] { return slice(net.forward(kVf0, sent, kPf0), 38, 16); };
  const auto bytes = [](const char* text) {
    const Ipv6Address address = ip6(text);
    return Frame(address.begin(), address.end());
  };
  EXPECT_EQ(next_hop(), bytes("fc00:2::d000:0:1"));
  ASSERT_EQ(net.engine().create_route(100, prefix("10.9.0.0/16"), 100, ip("fc00:3::d000:0:1")), Status::OK);
  EXPECT_EQ(next_hop(), bytes("fc00:3::d000:0:1"));
  ASSERT_EQ(net.engine().delete_route(100, prefix("10.9.0.0/16")), Status::OK);
  EXPECT_EQ(next_hop(), bytes("fc00:2::d000:0:1"));
  EXPECT_EQ(net.worker().flows_redecided, 2u);
  ASSERT_EQ(net.engine().delete_route(100, prefix("10.0.0.0/8")), Status::OK);
  net.expect_drop(kVf0, sent, DropReason::no_route);
}

TEST_F(Forward, UnrelatedRouteChangeLeavesTheFlowAlone) {
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.engine().create_route(100, prefix("10.0.0.0/8"), 100, ip(kRemote));
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.9.0.2"), kPf0);
  // Of 64 destination groups at least one other must be hit by one of these.
  net.engine().create_route(100, prefix("172.16.0.0/16"), 100, ip(kRemote));
  net.add_interface(kVf1, 200, "10.0.0.1");
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.9.0.2"), kPf0);
  EXPECT_EQ(net.worker().flows_redecided, 0u);
}

TEST_F(Forward, DeletedInterfaceGetsNothingAndItsDeviceCanBeUsedAgain) {
  const Ipv6Address under = net.add_interface(kVf0, 100, "10.0.0.1");
  net.add_interface(kVf1, 100, "10.0.0.2");
  const Frame local = udp_from_vm("10.0.0.2", "10.0.0.1");
  const Frame remote = overlay(kRemote, under, udp_from_vm("10.0.0.9", "10.0.0.1"));
  net.forward(kVf1, local, kVf0);
  net.forward(kPf0, remote, kVf0);
  ASSERT_EQ(net.engine().delete_interface("vm0"), Status::OK);
  net.expect_drop(kVf1, local, DropReason::no_route);
  net.expect_drop(kPf0, remote, DropReason::underlay_unknown);
  // A new tenant on the same device must not be reachable from the old network.
  const Ipv6Address again = net.add_interface(kVf0, 200, "10.0.0.1");
  EXPECT_NE(again, under);
  net.expect_drop(kVf1, local, DropReason::no_route);
  net.expect_drop(kPf0, remote, DropReason::underlay_unknown);
  net.forward(kPf0, overlay(kRemote, again, udp_from_vm("10.0.0.9", "10.0.0.1")), kVf0);
}

TEST_F(Forward, PrefixOfAGoneInterfaceIsNotDeliveredToTheNextTenant) {
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.add_interface(kVf1, 100, "10.0.0.2");
  const auto under = net.engine().create_prefix("vm0", prefix("192.168.0.0/24"), std::nullopt);
  ASSERT_TRUE(under.ok());
  const Frame local = udp_from_vm("10.0.0.2", "192.168.0.7");
  const Frame remote = overlay(kRemote, under.value, udp_from_vm("10.0.0.9", "192.168.0.7"));
  net.forward(kVf1, local, kVf0);
  net.forward(kPf0, remote, kVf0);
  net.engine().delete_interface("vm0");
  net.add_interface(kVf0, 200, "10.0.0.1");
  net.expect_drop(kVf1, local, DropReason::interface_gone);
  net.expect_drop(kPf0, remote, DropReason::interface_gone);
  net.engine().delete_interface("vm0");
  net.add_interface(kVf0, 100, "10.0.0.1");  // same network: the prefix is its device's
  net.forward(kVf1, local, kVf0);
  net.forward(kPf0, remote, kVf0);
}

TEST_F(Forward, SpoofedSourcesAreDropped) {
  net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  net.engine().create_route(100, prefix("::/0"), 100, ip(kRemote));
  net.expect_drop(kVf0, udp_from_vm("10.0.0.3", "10.0.0.2"), DropReason::spoofed_source);
  net.expect_drop(kVf0, udp_from_vm("2001:db8::3", "2001:db8::2"), DropReason::spoofed_source);
  net.expect_drop(kVf0, udp_from_vm("192.168.0.1", "10.0.0.2"), DropReason::spoofed_source);
  net.expect_drop(kVf0, udp_from_vm("0.0.0.0", "10.0.0.2"), DropReason::spoofed_source);

  ASSERT_TRUE(net.engine().create_prefix("vm0", prefix("192.168.0.0/24"), std::nullopt).ok());
  ASSERT_TRUE(net.engine().create_lb_prefix("vm0", prefix("203.0.113.7/32"), std::nullopt).ok());
  net.forward(kVf0, udp_from_vm("192.168.0.1", "10.0.0.2"), kPf0);
  net.forward(kVf0, udp_from_vm("203.0.113.7", "10.0.0.2"), kPf0);
  net.expect_drop(kVf0, udp_from_vm("192.168.1.1", "10.0.0.2"), DropReason::spoofed_source);
  ASSERT_EQ(net.engine().delete_prefix("vm0", prefix("192.168.0.0/24")), Status::OK);
  net.expect_drop(kVf0, udp_from_vm("192.168.0.1", "10.0.0.2"), DropReason::spoofed_source);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"), kPf0);
}

TEST_F(Forward, LinkLocalNeverLeaves) {
  net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  net.engine().create_route(100, prefix("::/0"), 100, ip(kRemote));
  net.expect_drop(kVf0, udp_from_vm("10.0.0.1", "255.255.255.255"), DropReason::link_local);
  net.expect_drop(kVf0, udp_from_vm("10.0.0.1", "224.0.0.251"), DropReason::link_local);
  net.expect_drop(kVf0, udp_from_vm("2001:db8::1", "ff02::fb"), DropReason::link_local);
  net.expect_drop(kVf0, udp_from_vm("fe80::5", "2001:db8::2"), DropReason::link_local);
  net.expect_drop(kVf0, udp_from_vm("2001:db8::1", "fe80::5"), DropReason::link_local);
}

TEST_F(Forward, UplinkFailoverNeedsNoNewDecision) {
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  const Frame sent = udp_from_vm("10.0.0.1", "10.0.0.2");
  net.forward(kVf0, sent, kPf0);
  Ports& ports = net.impl().ports();
  ports.uplink(0)->link_up = false;
  net.forward(kVf0, sent, kPf1);
  ports.uplink(1)->link_up = false;
  net.expect_drop(kVf0, sent, DropReason::uplink_down);
  ports.uplink(0)->link_up = true;
  net.forward(kVf0, sent, kPf0);
  EXPECT_EQ(net.worker().slow_path, 1u);
}

TEST_F(Forward, UplinkNeighbourChangesAreFollowed) {
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  const Frame sent = udp_from_vm("10.0.0.1", "10.0.0.2");
  net.forward(kVf0, sent, kPf0);
  net.engine().set_uplink_neighbour(0, std::nullopt);
  net.expect_drop(kVf0, sent, DropReason::uplink_neighbour_unknown);
  const MacAddress other = {0x0a, 0, 0, 0, 0, 0x77};
  net.engine().set_uplink_neighbour(0, other);
  EXPECT_EQ(slice(net.forward(kVf0, sent, kPf0), 0, 6), Frame(other.begin(), other.end()));
}

TEST(ForwardWcmp, SpreadsFlowsAsTheReferenceDoes) {
  EngineOptions options = default_options();
  options.wcmp = 30;
  Harness net(options);
  net.add_interface(kVf0, 77, "10.1.2.3");
  net.engine().create_route(77, prefix("0.0.0.0/0"), 77, ip(kRemote));
  // Slot 2 of ten, below round(30 / 10).
  net.forward(kVf0, from_vm("10.1.2.3", "198.51.100.20", 6, tcp(40000, 443, 0x02)), kPf0);
  unsigned on_pf0 = 0, on_pf1 = 0;
  for (uint16_t port = 1000; port < 1300; ++port) net.inject(kVf0, udp_from_vm("10.1.2.3", "198.51.100.20", port, 53));
  net.poll(20);
  on_pf0 = static_cast<unsigned>(net.sent(kPf0).size());
  on_pf1 = static_cast<unsigned>(net.sent(kPf1).size());
  EXPECT_EQ(on_pf0 + on_pf1, 300u);
  EXPECT_NEAR(on_pf0, 90, 40);
}

// Slots of the reference: what two engines of a site send for one flow must take the same uplink.
TEST(ForwardWcmp, SlotsAreThoseOfTheReferenceInBothFamilies) {
  const auto uplink_is = [](uint32_t wcmp, bool nat, const Frame& sent, unsigned uplink) {
    EngineOptions options = default_options();
    options.wcmp = wcmp;
    Harness net(options);
    net.add_interface(kVf0, 77, "10.1.2.3", "2001:db8:7::1");
    for (const char* all : {"0.0.0.0/0", "::/0"}) net.engine().create_route(77, prefix(all), 77, ip(kRemote));
    if (nat) {
      ASSERT_TRUE(net.engine().create_nat("vm0", ip("203.0.113.1"), 1024, 2048, std::nullopt).ok());
    }
    net.forward(kVf0, sent, uplink);
    // The other one takes over.
    Port& preferred = *net.impl().ports().uplink(uplink == kPf0 ? 0 : 1);
    preferred.link_up = false;
    net.forward(kVf0, sent, uplink == kPf0 ? kPf1 : kPf0);
    preferred.link_up = true;
  };
  const Frame web = from_vm("10.1.2.3", "198.51.100.20", 6, tcp(40000, 443, 0x02));
  const Frame dns = udp_from_vm("2001:db8:7::1", "2001:db8:5::9", 5000, 53);
  uplink_is(20, false, web, kPf1);  // slot 2
  uplink_is(30, false, web, kPf0);
  uplink_is(80, true, web, kPf1);  // slot 8: of an interface with NAT
  uplink_is(90, true, web, kPf0);
  uplink_is(60, true, dns, kPf1);  // slot 6: NAT does not matter
  uplink_is(70, true, dns, kPf0);
}

TEST_F(Forward, TooLargeForTheUplinkIsReportedToTheVm) {
  net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  net.engine().create_route(100, prefix("::/0"), 100, ip(kRemote));
  net.impl().ports().uplink(0)->max_frame = 1514;
  net.inject(kVf0, from_vm("10.0.0.1", "10.0.0.2", 17, udp(1, 2, 1460 - 28)));
  net.poll();
  EXPECT_EQ(net.sent(kPf0).size(), 1u);

  net.inject(kVf0, from_vm("10.0.0.1", "10.0.0.2", 17, udp(1, 2, 1461 - 28)));
  net.poll();
  auto replies = net.sent(kVf0);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(slice(replies[0], 14 + 9, 1), Frame{1});
  EXPECT_EQ(slice(replies[0], 34, 2), (Frame{3, 4}));
  EXPECT_EQ(slice(replies[0], 34 + 6, 2), (Frame{1460 >> 8, 1460 & 0xff}));

  net.inject(kVf0, from_vm("2001:db8::1", "2001:db8::2", 17, udp(1, 2, 1461 - 48)));
  net.poll();
  replies = net.sent(kVf0);
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(slice(replies[0], 54, 2), (Frame{2, 0}));
  EXPECT_EQ(slice(replies[0], 58, 4), (Frame{0, 0, 1460 >> 8, 1460 & 0xff}));
  EXPECT_EQ(net.drops(DropReason::packet_too_big), 2u);
  EXPECT_EQ(net.sent(kPf0).size(), 0u);
}

TEST_F(Forward, MissingChecksumIsCompletedBeforeEncapsulation) {
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  Frame sent = from_vm("10.0.0.1", "10.0.0.2", 6, tcp(1, 2, 0x02));
  net.inject(kVf0, sent, RTE_MBUF_F_RX_L4_CKSUM_NONE);
  net.poll();
  const auto out = net.sent(kPf0);
  ASSERT_EQ(out.size(), 1u);
  // Sum over pseudo header and segment, checksum included, is all ones.
  const Frame segment = slice(out[0], 54 + 20);
  unsigned long sum = 6 + segment.size();
  const Frame addresses = slice(out[0], 54 + 12, 8);
  for (const Frame& part : {addresses, segment})
    for (size_t i = 0; i < part.size(); ++i) sum += i % 2 ? part[i] : part[i] * 256ul;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  EXPECT_EQ(sum, 0xffffu);
}

TEST(ForwardFull, FullFlowTableStillForwards) {
  EngineOptions options = default_options();
  options.flow_table_size = 1024;
  Harness net(options);
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  size_t forwarded = 0;
  for (unsigned first = 1; first <= 3000; first += 250) {
    for (unsigned i = 0; i < 250; ++i)
      net.inject(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", static_cast<uint16_t>(first + i), 53));
    net.poll(10);
    forwarded += net.sent(kPf0).size();
  }
  EXPECT_EQ(forwarded, 3000u);
  EXPECT_EQ(net.worker().flows_created + net.worker().flow_table_full, 3000u);
  // 512 connections fit; later ones take the place of those that have not come far.
  EXPECT_GT(net.worker().flows_created, 512u);
  EXPECT_GT(net.worker().flows_evicted, 0u);
  EXPECT_LE(net.impl().flows().size(), 1024u);
  // Once the first flows have aged out there is room again.
  net.advance(40);
  const uint64_t full = net.worker().flow_table_full;
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", 60000, 53), kPf0);
  EXPECT_EQ(net.worker().flow_table_full, full);
}

}  // namespace
}  // namespace ironcore::testing
