// Guest services as a VM sees them through the engine.
#include <gtest/gtest.h>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

class Guest : public ::testing::Test {
 protected:
  Guest() { underlay = net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1"); }
  Harness net;
  Ipv6Address underlay;
};

TEST_F(Guest, ArpIsAnsweredAndTeachesTheMac) {
  EXPECT_FALSE(net.engine().get_interface("vm0").value.vm_mac_learned);
  const Frame reply = net.forward(kVf0, arp_request(kVmMac, "10.0.0.1", "169.254.0.1"), kVf0);
  EXPECT_EQ(slice(reply, 0, 6), Frame(kVmMac.begin(), kVmMac.end()));
  EXPECT_EQ(slice(reply, 20, 2), (Frame{0, 2}));
  EXPECT_EQ(slice(reply, 28, 4), (Frame{169, 254, 0, 1}));
  const auto info = net.engine().get_interface("vm0").value;
  EXPECT_TRUE(info.vm_mac_learned);
  EXPECT_EQ(info.vm_mac, kVmMac);
  const Frame delivered = net.forward(kPf0, overlay(kRemote, underlay, udp_from_vm("10.0.0.9", "10.0.0.1")), kVf0);
  EXPECT_EQ(slice(delivered, 0, 6), Frame(kVmMac.begin(), kVmMac.end()));

  // The next interface on this device starts with that guess, but learns again.
  net.engine().delete_interface("vm0");
  net.add_interface(kVf0, 100, "10.0.0.1");
  EXPECT_FALSE(net.engine().get_interface("vm0").value.vm_mac_learned);
  EXPECT_EQ(net.engine().get_interface("vm0").value.vm_mac, kVmMac);
}

TEST_F(Guest, ArpForOthersIsDroppedByName) {
  net.forward(kVf0, arp_request(kVmMac, "10.0.0.1", "169.254.0.1"), kVf0);
  net.expect_drop(kVf0, arp_request(kVmMac, "10.0.0.1", "10.0.0.7"), DropReason::arp_not_gateway);
  net.expect_drop(kVf0, ethernet(kVmMac, kVmMac, 0x0806, Frame(28)), DropReason::arp_malformed);
}

TEST_F(Guest, DhcpIsAnsweredBeforeAnySpoofCheck) {
  Frame discover(240);
  discover[0] = 1, discover[1] = 1, discover[2] = 6;
  std::copy(kVmMac.begin(), kVmMac.end(), discover.begin() + 28);
  discover[236] = 0x63, discover[237] = 0x82, discover[238] = 0x53, discover[239] = 0x63;
  for (const uint8_t byte : {53, 1, 1, 255}) discover.push_back(byte);
  Frame segment = udp(68, 67, discover.size());
  std::copy(discover.begin(), discover.end(), segment.begin() + 8);
  const Frame frame =
      ethernet({0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kVmMac, 0x0800, ipv4("0.0.0.0", "255.255.255.255", 17, segment));
  const Frame offer = net.forward(kVf0, frame, kVf0);
  EXPECT_EQ(slice(offer, 14 + 20 + 8 + 16, 4), (Frame{10, 0, 0, 1}));
  EXPECT_EQ(net.impl().flows().size(), 0u);
}

TEST_F(Guest, GatewayAnswersEcho) {
  const Frame reply = net.forward(kVf0, from_vm("10.0.0.1", "169.254.0.1", 1, icmp_echo(8, 7)), kVf0);
  EXPECT_EQ(slice(reply, 34, 1), Frame{0});
}

TEST_F(Guest, AnnouncementsReachEachVmOfEachFamily) {
  net.add_interface(kVf1, 100, "10.0.0.2");
  net.engine().announce();
  net.poll();
  const auto both = net.sent(kVf0), ipv4_only = net.sent(kVf1);
  ASSERT_EQ(both.size(), 3u);
  EXPECT_EQ(slice(both[0], 54, 1), Frame{134});
  EXPECT_EQ(slice(both[1], 54, 1), Frame{136});
  EXPECT_EQ(slice(both[2], 12, 2), (Frame{8, 6}));
  ASSERT_EQ(ipv4_only.size(), 1u);
  net.engine().announce();
  net.engine().delete_interface("vm0");  // between being queued and being sent
  net.poll();
  EXPECT_EQ(net.sent(kVf0).size(), 0u);
  EXPECT_EQ(net.drops(DropReason::interface_gone), 3u);
}

}  // namespace
}  // namespace ironcore::testing
