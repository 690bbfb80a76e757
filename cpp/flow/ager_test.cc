// Idle times, with a clock that the test moves.
#include <gtest/gtest.h>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

class Aging : public ::testing::Test {
 protected:
  Aging() {
    underlay = net.add_interface(kVf0, 100, "10.0.0.1");
    net.engine().create_route(100, prefix("10.0.0.0/8"), 100, ip(kRemote));
  }
  // Both directions of a connection have an entry.
  uint64_t flows() { return net.impl().flows().size(); }
  void segment_out(uint8_t flags) { net.forward(kVf0, from_vm("10.0.0.1", "10.0.0.2", 6, tcp(1000, 80, flags)), kPf0); }
  void segment_in(uint8_t flags) {
    net.forward(kPf0, overlay(kRemote, underlay, from_vm("10.0.0.2", "10.0.0.1", 6, tcp(80, 1000, flags))), kVf0);
  }
  void handshake() {
    segment_out(0xc2);  // a SYN that offers ECN
    segment_in(0x52);
    segment_out(0x10);
  }
  Harness net;
  Ipv6Address underlay;
};

TEST_F(Aging, IdleFlowsGoAfterThirtySeconds) {
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"), kPf0);
  net.advance(28);
  EXPECT_EQ(flows(), 2u);
  net.advance(5);
  EXPECT_EQ(flows(), 0u);
  EXPECT_EQ(net.worker().flows_expired, 1u);
}

TEST_F(Aging, TrafficOfEitherDirectionKeepsBoth) {
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", 1000, 53), kPf0);
  const Frame reply = overlay(kRemote, underlay, udp_from_vm("10.0.0.2", "10.0.0.1", 53, 1000));
  for (int i = 0; i < 4; ++i) {
    net.advance(20);
    net.forward(kPf0, reply, kVf0);
  }
  EXPECT_EQ(flows(), 2u);
  net.advance(40);
  EXPECT_EQ(flows(), 0u);
}

TEST_F(Aging, EstablishedTcpLivesForADay) {
  handshake();
  net.advance(3600);
  net.advance(36000);
  EXPECT_EQ(flows(), 2u);
  net.advance(60000);
  EXPECT_EQ(flows(), 0u);
}

TEST_F(Aging, HalfOpenAndClosedTcpDoNot) {
  segment_out(0x02);
  net.advance(35);
  EXPECT_EQ(flows(), 0u);
  handshake();
  segment_in(0x11);  // FIN
  net.advance(35);
  EXPECT_EQ(flows(), 0u);
  handshake();
  segment_out(0x04);  // RST
  net.advance(35);
  EXPECT_EQ(flows(), 0u);
}

TEST_F(Aging, AnOpenConnectionIsPickedUp) {
  segment_out(0x10);
  segment_in(0x18);
  net.advance(3600);
  EXPECT_EQ(flows(), 2u);
}

TEST_F(Aging, ConnectionStateSurvivesARouteChange) {
  handshake();
  net.engine().create_route(100, prefix("10.0.0.2/32"), 100, ip("fc00:3::d000:0:1"));
  segment_out(0x10);
  EXPECT_EQ(net.worker().flows_redecided, 1u);
  net.advance(3600);
  EXPECT_EQ(flows(), 2u);
}

TEST_F(Aging, LotsOfFlowsAgeInBoundedSteps) {
  for (uint16_t port = 0; port < 4000; port = static_cast<uint16_t>(port + 250)) {
    for (uint16_t i = 0; i < 250; ++i)
      net.inject(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", static_cast<uint16_t>(port + i + 1), 53));
    net.poll(10);
    net.sent(kPf0);
  }
  EXPECT_EQ(flows(), 8000u);
  net.impl().clock().advance(40);
  net.poll(2);
  EXPECT_GE(flows(), 8000u - 2 * 2 * 64u);
  net.poll(100);
  EXPECT_EQ(flows(), 0u);
}

}  // namespace
}  // namespace ironcore::testing
