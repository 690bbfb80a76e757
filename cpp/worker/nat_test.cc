// Virtual IPs, NAT, NAT64 and ports of other hosts, packet by packet.
#include <gtest/gtest.h>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

constexpr uint16_t kMinPort = 1024, kMaxPort = 1028;

uint16_t port_at(const Frame& frame, size_t at) { return static_cast<uint16_t>(frame.at(at) << 8 | frame.at(at + 1)); }

class Nat : public ::testing::Test {
 protected:
  explicit Nat(EngineOptions options = default_options()) : net(options) {
    underlay = net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
    net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
    net.engine().create_route(100, prefix("::/0"), 100, ip(kRemote));
  }
  void add_nat(const std::string& address = "203.0.113.1") {
    const auto created = net.engine().create_nat("vm0", ip(address), kMinPort, kMaxPort, std::nullopt);
    ASSERT_EQ(created.status, Status::OK);
    nat_underlay = created.value;
  }
  void add_vip(const std::string& address = "203.0.113.9") {
    const auto created = net.engine().create_vip("vm0", ip(address), std::nullopt);
    ASSERT_EQ(created.status, Status::OK);
    vip_underlay = created.value;
  }
  // The IP packet that leaves for what the VM sends.
  Frame out(const Frame& frame) { return slice(net.forward(kVf0, frame, kPf0), 54); }
  // What the VM gets of an IP packet that comes to an underlay address.
  Frame in(const Ipv6Address& to, const Frame& frame) {
    return slice(net.forward(kPf0, overlay(kRemote, to, frame), kVf0), 14);
  }
  static Frame payload_of(const Frame& frame) { return slice(frame, 14); }
  uint64_t flows() { return net.impl().flows().size(); }

  Harness net;
  Ipv6Address underlay, nat_underlay, vip_underlay;
};

TEST_F(Nat, VipBothWays) {
  add_vip();
  for (int packet = 0; packet < 2; ++packet) {
    EXPECT_EQ(out(udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53)),
              payload_of(udp_from_vm("203.0.113.9", "8.8.8.8", 1000, 53)));
    EXPECT_EQ(in(vip_underlay, udp_from_vm("8.8.8.8", "203.0.113.9", 53, 1000)),
              payload_of(udp_from_vm("8.8.8.8", "10.0.0.1", 53, 1000)));
  }
  EXPECT_EQ(net.worker().slow_path, 1u);
  // And opened from outside.
  for (int packet = 0; packet < 2; ++packet) {
    EXPECT_EQ(in(vip_underlay, udp_from_vm("9.9.9.9", "203.0.113.9", 7, 80)),
              payload_of(udp_from_vm("9.9.9.9", "10.0.0.1", 7, 80)));
    EXPECT_EQ(out(udp_from_vm("10.0.0.1", "9.9.9.9", 80, 7)), payload_of(udp_from_vm("203.0.113.9", "9.9.9.9", 80, 7)));
  }
  EXPECT_EQ(net.worker().slow_path, 2u);
}

TEST_F(Nat, OnlyTheDefaultRouteTranslates) {
  add_vip();
  net.engine().create_route(100, prefix("172.16.0.0/12"), 100, ip(kRemote));
  const Frame sent = udp_from_vm("10.0.0.1", "172.16.0.9");
  EXPECT_EQ(out(sent), payload_of(sent));
}

TEST_F(Nat, TwoHalvesOfTheAddressSpaceAreNoDefaultRoute) {
  add_nat();
  ASSERT_EQ(net.engine().delete_route(100, prefix("0.0.0.0/0")), Status::OK);
  for (const char* half : {"0.0.0.0/1", "128.0.0.0/1"})
    ASSERT_EQ(net.engine().create_route(100, prefix(half), 100, ip(kRemote)), Status::OK);
  for (const char* outside : {"8.8.8.8", "198.51.100.7"}) {
    const Frame sent = udp_from_vm("10.0.0.1", outside);
    EXPECT_EQ(out(sent), payload_of(sent));
  }
}

TEST_F(Nat, PortsAreSharedAmongDestinations) {
  add_nat();
  const Frame first = out(udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53));
  const uint16_t port = port_at(first, 20);
  EXPECT_GE(port, kMinPort);
  EXPECT_LT(port, kMaxPort);
  EXPECT_EQ(first, payload_of(udp_from_vm("203.0.113.1", "8.8.8.8", port, 53)));
  EXPECT_EQ(in(nat_underlay, udp_from_vm("8.8.8.8", "203.0.113.1", 53, port)),
            payload_of(udp_from_vm("8.8.8.8", "10.0.0.1", 53, 1000)));
  // One source keeps its port; four sources fit towards one destination, and any number towards others.
  EXPECT_EQ(port_at(out(udp_from_vm("10.0.0.1", "8.8.4.4", 1000, 53)), 20), port);
  for (uint16_t source = 1001; source < 1004; ++source) out(udp_from_vm("10.0.0.1", "8.8.8.8", source, 53));
  net.expect_drop(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1004, 53), DropReason::nat_exhausted);
  out(udp_from_vm("10.0.0.1", "8.8.4.4", 1004, 53));
  EXPECT_EQ(net.engine().list_local_nats(ip("0.0.0.0")).value.at(0).flows, 6u);
  // Idle flows give their ports back.
  net.advance(40);
  EXPECT_EQ(flows(), 0u);
  EXPECT_EQ(net.engine().list_local_nats(ip("0.0.0.0")).value.at(0).flows, 0u);
  out(udp_from_vm("10.0.0.1", "8.8.8.8", 1004, 53));
}

TEST_F(Nat, WhatNobodyAskedForIsDropped) {
  add_nat();
  net.expect_drop(kPf0, overlay(kRemote, nat_underlay, udp_from_vm("8.8.8.8", "203.0.113.1", 53, 1025)),
                  DropReason::nat_unsolicited);
  net.expect_drop(kVf0, from_vm("10.0.0.1", "8.8.8.8", 132, Frame(40)), DropReason::nat_unsupported);
}

TEST_F(Nat, OnlyTheVmIsReachedThroughItsUnderlayAddress) {
  add_nat();
  // Its own address, which is routed here; a foreign one would be transit.
  const Frame own = udp_from_vm("8.8.8.8", "10.0.0.1", 53, 1025);
  EXPECT_EQ(in(nat_underlay, own), payload_of(own));
  net.expect_drop(kPf0, overlay(kRemote, nat_underlay, udp_from_vm("8.8.8.8", "198.51.100.7", 53, 1025)),
                  DropReason::no_route);
}

TEST_F(Nat, AVmOfTheNetworkCannotCallTheNatAddress) {
  add_nat();
  net.add_interface(kVf1, 100, "10.0.0.2");
  net.expect_drop(kVf1, udp_from_vm("10.0.0.2", "203.0.113.1", 5, 1025), DropReason::nat_unsolicited);
  net.expect_drop(kVf1, from_vm("10.0.0.2", "203.0.113.1", 1, icmp_echo(8, 7)), DropReason::nat_unsolicited);
}

TEST_F(Nat, EchoToTheNatAddressIsAnsweredHere) {
  add_nat();
  const Frame request = from_vm("8.8.8.8", "203.0.113.1", 1, icmp_echo(8, 7));
  const Frame reply = net.forward(kPf1, overlay(kRemote, nat_underlay, request), kPf1);
  EXPECT_EQ(slice(reply, 54), payload_of(from_vm("203.0.113.1", "8.8.8.8", 1, icmp_echo(0, 7))));
  const Ipv6Address host = ip6(kHost), remote = ip6(kRemote);
  EXPECT_EQ(slice(reply, 22, 16), Frame(host.begin(), host.end()));
  EXPECT_EQ(slice(reply, 38, 16), Frame(remote.begin(), remote.end()));
  EXPECT_EQ(flows(), 0u);
  // Whichever of the VM's public underlay addresses it comes to.
  add_vip();
  EXPECT_EQ(slice(net.forward(kPf1, overlay(kRemote, vip_underlay, request), kPf1), 54), slice(reply, 54));
}

TEST_F(Nat, PingFromInsideKeepsItsIdentifierOnTheInside) {
  add_nat();
  const Frame request = out(from_vm("10.0.0.1", "8.8.8.8", 1, icmp_echo(8, 7)));
  const uint16_t id = port_at(request, 24);
  EXPECT_EQ(request, payload_of(from_vm("203.0.113.1", "8.8.8.8", 1, icmp_echo(8, id))));
  EXPECT_EQ(in(nat_underlay, from_vm("8.8.8.8", "203.0.113.1", 1, icmp_echo(0, id))),
            payload_of(from_vm("8.8.8.8", "10.0.0.1", 1, icmp_echo(0, 7))));
}

TEST_F(Nat, PortsOfNeighboursAreForwarded) {
  add_nat();
  const Ipv6Address neighbour = ip6("fc00:7::d000:0:3");
  ASSERT_EQ(net.engine().create_neighbor_nat({ip("203.0.113.1"), 100, 2000, 3000, neighbour}), Status::OK);
  const Frame answer = udp_from_vm("8.8.8.8", "203.0.113.1", 53, 2500);
  for (int packet = 0; packet < 2; ++packet) {
    const Frame sent = net.forward(kPf1, overlay(kRemote, nat_underlay, answer), kPf1);
    EXPECT_EQ(slice(sent, 54), payload_of(answer));
    EXPECT_EQ(slice(sent, 38, 16), Frame(neighbour.begin(), neighbour.end()));
  }
  ASSERT_EQ(net.engine().delete_neighbor_nat(ip("203.0.113.1"), 100, 2000, 3000), Status::OK);
  net.expect_drop(kPf1, overlay(kRemote, nat_underlay, answer), DropReason::nat_unsolicited);
}

// What a router says about a neighbour's flow may come here though the flow never did.
TEST_F(Nat, ErrorsAboutPortsOfNeighboursAreForwarded) {
  add_nat();
  const Ipv6Address neighbour = ip6("fc00:7::d000:0:3");
  ASSERT_EQ(net.engine().create_neighbor_nat({ip("203.0.113.1"), 100, 2000, 3000, neighbour}), Status::OK);
  const auto error_about = [&](const Frame& sent) {
    const Frame quoted = slice(sent, 14, 28);
    return overlay(kRemote, nat_underlay, from_vm("7.7.7.7", "203.0.113.1", 1, icmp_error(11, 0, 0, quoted)));
  };
  for (const Frame& sent :
       {udp_from_vm("203.0.113.1", "8.8.8.8", 2500, 53), from_vm("203.0.113.1", "8.8.8.8", 1, icmp_echo(8, 2501))}) {
    const Frame error = error_about(sent), out = net.forward(kPf1, error, kPf1);
    EXPECT_EQ(slice(out, 54), slice(error, 54));
    EXPECT_EQ(slice(out, 38, 16), Frame(neighbour.begin(), neighbour.end()));
  }
  EXPECT_EQ(flows(), 0u);
  net.expect_drop(kPf1, error_about(udp_from_vm("203.0.113.1", "8.8.8.8", 3000, 53)), DropReason::nat_unsolicited);
  // Not to the address that the quoted packet is from.
  net.expect_drop(kPf1, error_about(udp_from_vm("203.0.113.77", "8.8.8.8", 2500, 53)), DropReason::nat_unsolicited);
}

TEST_F(Nat, VipAndNatOnOneInterfaceBothWork) {
  add_vip();
  add_nat();
  // NAT wins outwards; what comes to the VIP is answered by it.
  EXPECT_EQ(slice(out(udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53)), 12, 4), (Frame{203, 0, 113, 1}));
  in(vip_underlay, from_vm("9.9.9.9", "203.0.113.9", 6, tcp(7, 80, 0x02)));
  EXPECT_EQ(out(from_vm("10.0.0.1", "9.9.9.9", 6, tcp(80, 7, 0x12))),
            payload_of(from_vm("203.0.113.9", "9.9.9.9", 6, tcp(80, 7, 0x12))));
  in(vip_underlay, from_vm("9.9.9.9", "203.0.113.9", 6, tcp(7, 80, 0x10)));
  net.advance(3600);
  EXPECT_EQ(flows(), 2u);  // established
}

TEST_F(Nat, AnswersToPlainTrafficAreNotTranslated) {
  add_nat();
  // From another host to the VM's own address, though the answer takes the default route.
  in(underlay, from_vm("192.168.7.7", "10.0.0.1", 6, tcp(7, 80, 0x02)));
  const Frame answer = from_vm("10.0.0.1", "192.168.7.7", 6, tcp(80, 7, 0x12));
  EXPECT_EQ(out(answer), payload_of(answer));
}

TEST_F(Nat, LocalVipIsReachedWithoutTheWire) {
  net.add_interface(kVf1, 100, "10.0.0.2");
  add_vip();
  const Frame to_vip = udp_from_vm("10.0.0.2", "203.0.113.9", 5, 80);
  EXPECT_EQ(slice(net.forward(kVf1, to_vip, kVf0), 14), payload_of(udp_from_vm("10.0.0.2", "10.0.0.1", 5, 80)));
  EXPECT_EQ(slice(net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", 80, 5), kVf1), 14),
            payload_of(udp_from_vm("203.0.113.9", "10.0.0.2", 80, 5)));
}

TEST_F(Nat, VmsOfOneNetworkSeeEachOthersPrivateAddress) {
  add_vip();
  net.add_interface(kVf1, 100, "10.0.0.2");
  ASSERT_TRUE(net.engine().create_nat("vm1", ip("203.0.113.1"), kMinPort, kMaxPort, std::nullopt).ok());
  ASSERT_TRUE(net.engine().create_vip("vm1", ip("203.0.113.8"), std::nullopt).ok());
  // By VIP or directly, and one connection in both directions.
  EXPECT_EQ(slice(net.forward(kVf1, udp_from_vm("10.0.0.2", "203.0.113.9", 5, 80), kVf0), 14),
            payload_of(udp_from_vm("10.0.0.2", "10.0.0.1", 5, 80)));
  const uint64_t others = flows();
  const auto segment = [&](unsigned from, uint8_t flags) {
    const Frame sent = from == kVf1 ? from_vm("10.0.0.2", "10.0.0.1", 6, tcp(7, 80, flags))
                                    : from_vm("10.0.0.1", "10.0.0.2", 6, tcp(80, 7, flags));
    EXPECT_EQ(slice(net.forward(from, sent, from == kVf1 ? kVf0 : kVf1), 14), payload_of(sent));
  };
  segment(kVf1, 0x02);
  segment(kVf0, 0x12);
  segment(kVf1, 0x10);
  EXPECT_EQ(flows(), others + 2);
  net.advance(3600);
  EXPECT_EQ(flows(), 2u) << "established";
}

TEST_F(Nat, AddressOfAnotherNetworkOnThisHostTakesTheShortCut) {
  add_vip();  // of vm0 in VNI 100
  net.add_interface(kVf1, 200, "10.0.0.2");
  ASSERT_TRUE(net.engine().create_vip("vm1", ip("203.0.113.8"), std::nullopt).ok());
  net.engine().create_route(200, prefix("0.0.0.0/0"), 100, {true, vip_underlay});
  EXPECT_EQ(slice(net.forward(kVf1, udp_from_vm("10.0.0.2", "203.0.113.9", 5, 80), kVf0), 14),
            payload_of(udp_from_vm("203.0.113.8", "10.0.0.1", 5, 80)));
}

TEST_F(Nat, IcmpErrorsAreTranslatedInBothHeaders) {
  add_nat();
  const Frame sent = out(udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53));
  const Frame error =
      in(nat_underlay, from_vm("7.7.7.7", "203.0.113.1", 1, icmp_error(3, 4, 1400, slice(sent, 0, 28))));
  EXPECT_EQ(slice(error, 12, 8), (Frame{7, 7, 7, 7, 10, 0, 0, 1}));
  EXPECT_EQ(slice(error, 28 + 12, 8), (Frame{10, 0, 0, 1, 8, 8, 8, 8}));
  EXPECT_EQ(port_at(error, 28 + 20), 1000);
  EXPECT_EQ(net.worker().flows_created, 1u);
}

TEST_F(Nat, Nat64) {
  add_nat();
  const Frame sent = out(udp_from_vm("2001:db8::1", "64:ff9b::808:808", 1000, 53));
  EXPECT_EQ(sent[0], 0x45);
  const uint16_t port = port_at(sent, 20);
  EXPECT_EQ(slice(sent, 12, 8), (Frame{203, 0, 113, 1, 8, 8, 8, 8}));
  const Frame answer = in(nat_underlay, udp_from_vm("8.8.8.8", "203.0.113.1", 53, port));
  const Frame expected = payload_of(udp_from_vm("64:ff9b::808:808", "2001:db8::1", 53, 1000));
  EXPECT_EQ(slice(answer, 0, 46), slice(expected, 0, 46));
  EXPECT_NE(slice(answer, 46, 2), (Frame{0, 0})) << "IPv6 needs the UDP checksum";
  EXPECT_EQ(slice(answer, 48), slice(expected, 48));
  const Frame ping = out(from_vm("2001:db8::1", "64:ff9b::808:808", 58, icmp_echo(128, 9)));
  EXPECT_EQ(ping[9], 1);
  EXPECT_EQ(ping[20], 8);
}

TEST_F(Nat, FragmentsFollowTheirFirst) {
  add_nat();
  Frame first = udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53);
  first[20] = 0x20;
  first[19] = 9;
  Frame later = first;
  later[20] = 0;
  later[21] = 3;
  const auto fix = [](Frame& frame) {
    uint32_t sum = 0;
    frame[24] = frame[25] = 0;
    for (size_t i = 14; i < 34; i += 2) sum += static_cast<uint32_t>(frame[i] << 8 | frame[i + 1]);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    frame[24] = static_cast<uint8_t>(~sum >> 8);
    frame[25] = static_cast<uint8_t>(~sum);
  };
  fix(first);
  fix(later);
  net.expect_drop(kVf0, later, DropReason::fragment_unknown);
  const Frame sent = out(first);
  EXPECT_EQ(slice(sent, 12, 4), (Frame{203, 0, 113, 1}));
  const Frame rest = out(later);
  EXPECT_EQ(slice(rest, 12, 4), (Frame{203, 0, 113, 1}));
  EXPECT_EQ(slice(rest, 20), slice(later, 34));
}

TEST_F(Nat, DeletionEndsTranslation) {
  add_nat();
  out(udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53));
  ASSERT_EQ(net.engine().delete_nat("vm0"), Status::OK);
  const Frame plain = udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53);
  EXPECT_EQ(out(plain), payload_of(plain));
  EXPECT_EQ(net.engine().delete_nat("vm0"), Status::SNAT_NO_DATA);
  EXPECT_EQ(net.impl().counters().tables.at(4).used, 0u) << "the port was given back";
  net.expect_drop(kPf0, overlay(kRemote, nat_underlay, udp_from_vm("8.8.8.8", "203.0.113.1", 53, 1025)),
                  DropReason::underlay_unknown);
}

TEST_F(Nat, DeletionOfAVipEndsWhatWasOpenedFromEitherSide) {
  add_vip();
  out(udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53));
  const Frame opened = udp_from_vm("9.9.9.9", "203.0.113.9", 7, 80);
  in(vip_underlay, opened);
  ASSERT_EQ(net.engine().delete_vip("vm0"), Status::OK);
  net.expect_drop(kPf0, overlay(kRemote, vip_underlay, opened), DropReason::underlay_unknown);
  net.expect_drop(kPf0, overlay(kRemote, vip_underlay, udp_from_vm("8.8.8.8", "203.0.113.9", 53, 1000)),
                  DropReason::underlay_unknown);
  for (const Frame& plain : {udp_from_vm("10.0.0.1", "9.9.9.9", 80, 7), udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53)})
    EXPECT_EQ(out(plain), payload_of(plain));
}

TEST_F(Nat, ANewRangeMovesRunningFlows) {
  add_nat();
  out(udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53));
  ASSERT_EQ(net.engine().delete_nat("vm0"), Status::OK);
  ASSERT_TRUE(net.engine().create_nat("vm0", ip("203.0.113.2"), 5000, 5004, std::nullopt).ok());
  const Frame moved = out(udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53));
  EXPECT_EQ(slice(moved, 12, 4), (Frame{203, 0, 113, 2}));
  EXPECT_GE(port_at(moved, 20), 5000);
  EXPECT_EQ(net.engine().list_local_nats(ip("203.0.113.2")).value.at(0).flows, 1u);
}

class PublicIpv6 : public Nat {
 protected:
  static EngineOptions with_ipv6() {
    EngineOptions options = default_options();
    options.ipv6_public = true;
    return options;
  }
  PublicIpv6() : Nat(with_ipv6()) {}
};

TEST_F(PublicIpv6, VipAndNat) {
  add_vip("2001:db8:ff::9");
  EXPECT_EQ(out(udp_from_vm("2001:db8::1", "2001:db8:9::9", 1000, 53)),
            payload_of(udp_from_vm("2001:db8:ff::9", "2001:db8:9::9", 1000, 53)));
  add_nat("2001:db8:ff::1");
  const Frame sent = out(udp_from_vm("2001:db8::1", "2001:db8:9::9", 1001, 53));
  const uint16_t port = port_at(sent, 40);
  EXPECT_EQ(sent, payload_of(udp_from_vm("2001:db8:ff::1", "2001:db8:9::9", port, 53)));
  EXPECT_EQ(in(nat_underlay, udp_from_vm("2001:db8:9::9", "2001:db8:ff::1", 53, port)),
            payload_of(udp_from_vm("2001:db8:9::9", "2001:db8::1", 53, 1001)));
}

}  // namespace
}  // namespace ironcore::testing
