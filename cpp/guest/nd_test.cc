#include "guest_test_support.h"

namespace ironcore::guest {
namespace {

TEST(Nd, AdvertisesTheGateway) {
  expect_reply(vm_config(), golden::kSolicitation, golden::kAdvertisement);
  EXPECT_EQ(ask(vm_config(), golden::kSolicitation).reply.learned_vm_mac, kVmMac);
}

TEST(Nd, AddsItsAddressEvenIfTheRequestHadNoOption) {
  expect_reply(vm_config(), golden::kSolicitationBare, golden::kAdvertisement);
}

TEST(Nd, DuplicateAddressDetectionIsAnsweredToAllNodes) {
  expect_reply(vm_config(), golden::kSolicitationDad, golden::kAdvertisementDad);
}

TEST(Nd, ThereIsNoProxyNd) { expect_drop(vm_config(), golden::kSolicitationOther, GuestDrop::kNdNotGateway); }

TEST(Nd, SilentWithoutOverlayOrAddress) {
  GuestConfig config = vm_config();
  config.ipv6_overlay = false;
  expect_drop(config, golden::kSolicitation, GuestDrop::kNdDisabled);
  expect_drop(config, golden::kRouterSolicitation, GuestDrop::kNdDisabled);
  config = vm_config();
  config.has_ipv6 = false;
  expect_drop(config, golden::kSolicitation, GuestDrop::kNdDisabled);
}

TEST(Nd, ChecksWhatRfc4861Demands) {
  const auto broken = [](std::string_view request, size_t at, uint8_t value) {
    Frame frame = from_hex(request);
    frame[at] = value;
    expect_drop(vm_config(), frame, GuestDrop::kNdMalformed);
  };
  for (const std::string_view request : {golden::kSolicitation, golden::kRouterSolicitation}) {
    broken(request, 21, 254);   // hop limit: it crossed a router
    broken(request, 55, 1);     // code
    broken(request, 56, 0x5a);  // checksum
  }
  broken(golden::kSolicitation, 79, 0);           // option of length zero
  broken(golden::kSolicitation, 79, 2);           // option longer than the packet
  broken(golden::kRouterSolicitation, 63, 0xff);  // same
}

TEST(Nd, RouterMessagesOfVmsAreDropped) { expect_drop(vm_config(), golden::kRogueRa, GuestDrop::kNdFromGuest); }

GuestConfig with_mtu(uint16_t mtu) {
  GuestConfig config = vm_config();
  config.dhcp_mtu = mtu;
  return config;
}

TEST(Ra, AnswersSolicitations) {
  expect_reply(with_mtu(1500), golden::kRouterSolicitation, golden::kRouterAdvertisement);
}

TEST(Ra, TellsAnMtuThatIsNotTheDefault) {
  Frame out(128), usual(128);
  usual.resize(periodic_ra(with_mtu(1500), usual));
  for (const uint16_t mtu : {uint16_t{1280}, uint16_t{1450}}) {
    out.resize(128);
    out.resize(periodic_ra(with_mtu(mtu), out));
    ASSERT_EQ(out.size(), usual.size() + 8);
    EXPECT_EQ(out[19], usual[19] + 8);
    EXPECT_TRUE(std::equal(usual.begin() + 20, usual.begin() + 56, out.begin() + 20));
    EXPECT_TRUE(std::equal(usual.begin() + 58, usual.end(), out.begin() + 58));
    EXPECT_EQ(Frame(out.end() - 8, out.end()),
              (Frame{5, 1, 0, 0, 0, 0, static_cast<uint8_t>(mtu >> 8), static_cast<uint8_t>(mtu)}));
    uint32_t sum = 58 + static_cast<uint32_t>(out.size() - 54);
    for (size_t i = 22; i < out.size(); i += 2) sum += uint32_t{out[i]} << 8 | out[i + 1];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    EXPECT_EQ(sum, 0xffffu);
  }
  // No MTU of an IPv6 link.
  EXPECT_EQ(periodic_ra(with_mtu(1279), out), usual.size());
}

TEST(Nd, PeriodicFrames) {
  Frame out(128);
  GuestConfig config = with_mtu(1500);
  EXPECT_EQ(to_hex(std::span(out).first(periodic_ra(config, out))), golden::kPeriodicRa);
  EXPECT_EQ(to_hex(std::span(out).first(periodic_na(config, out))), golden::kPeriodicNa);
  EXPECT_EQ(periodic_ra(config, std::span(out).first(20)), 0u);
  config.ipv6_overlay = false;
  EXPECT_EQ(periodic_ra(config, out), 0u);
  EXPECT_EQ(periodic_na(config, out), 0u);
}

TEST(Icmp, GatewayAnswersPing) {
  expect_reply(vm_config(), golden::kEcho4, golden::kEcho4Reply);
  expect_reply(vm_config(), golden::kEcho6, golden::kEcho6Reply);
}

TEST(Icmp, OtherTargetsAndMessagesAreOrdinaryTraffic) {
  Frame other = from_hex(golden::kEcho4);
  other[33] = 2;  // 169.254.0.2
  EXPECT_EQ(ask(vm_config(), other).reply.verdict, Verdict::kNotForUs);
  Frame reply = from_hex(golden::kEcho4);
  reply[34] = 0;  // echo reply
  EXPECT_EQ(ask(vm_config(), reply).reply.verdict, Verdict::kNotForUs);
}

TEST(Icmp, BadChecksumIsNotAnswered) {
  Frame frame = from_hex(golden::kEcho4);
  frame[36] ^= 1;
  expect_drop(vm_config(), frame, GuestDrop::kIcmpMalformed);
  frame = from_hex(golden::kEcho6);
  frame[56] ^= 1;
  expect_drop(vm_config(), frame, GuestDrop::kIcmpMalformed);
}

}  // namespace
}  // namespace ironcore::guest
