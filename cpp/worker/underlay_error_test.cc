// A router of the fabric finds our packets too big: the VM behind them is told.
#include "overlay/underlay_error.h"

#include <gtest/gtest.h>

#include "net/checksum.h"
#include "testing/harness.h"

namespace ironcore::testing {
namespace {

constexpr const char* kRouter = "fc00:9::1";
constexpr size_t kOuter = 54;

uint16_t at16(const Frame& frame, size_t at) { return static_cast<uint16_t>(frame.at(at) << 8 | frame.at(at + 1)); }

// "Packet too big" about a frame that left here.
Frame too_big(const Frame& sent, uint32_t mtu, size_t quoted = 1232) {
  Frame message = {2,
                   0,
                   0,
                   0,
                   static_cast<uint8_t>(mtu >> 24),
                   static_cast<uint8_t>(mtu >> 16),
                   static_cast<uint8_t>(mtu >> 8),
                   static_cast<uint8_t>(mtu)};
  const Frame quote = slice(sent, 14, quoted);
  message.insert(message.end(), quote.begin(), quote.end());
  Ipv6Address source;
  std::copy_n(sent.begin() + 22, 16, source.begin());
  Frame packet = ipv6(kRouter, to_string(source), 58, message);
  net::write_l4_checksum(packet.data(), true, 58, packet.data() + 40, packet.size() - 40);
  return ethernet({2, 0, 0, 0, 0, 9}, kRouterMac, 0x86dd, packet);
}

void renew_checksum(Frame& frame) {
  net::write_l4_checksum(frame.data() + 14, true, 58, frame.data() + kOuter, frame.size() - kOuter);
}

class UnderlayError : public ::testing::Test {
 protected:
  UnderlayError() {
    net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
    net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
    net.engine().create_route(100, prefix("::/0"), 100, ip(kRemote));
  }
  // What the VM is told after it sent this.
  Frame told(const Frame& vm_frame, uint32_t mtu) {
    return net.forward(kPf0, too_big(net.forward(kVf0, vm_frame, kPf0), mtu), kVf0);
  }
  void expect_silence(const Frame& notice) { net.expect_drop(kPf0, notice, DropReason::underlay_error); }

  void expect_ipv4_error(const Frame& error, const Frame& vm_frame, uint16_t mtu) {
    ASSERT_EQ(error.size(), 14u + 20 + 8 + 28);
    EXPECT_EQ(slice(error, 26, 8), (Frame{169, 254, 0, 1, 10, 0, 0, 1}));
    EXPECT_EQ(slice(error, 34, 2), (Frame{3, 4}));
    EXPECT_EQ(at16(error, 40), mtu);
    EXPECT_EQ(net::checksum_sum(error.data() + 14, 20), 0xffff);
    EXPECT_EQ(net::checksum_sum(error.data() + 34, error.size() - 34), 0xffff);
    EXPECT_EQ(slice(error, 42), slice(vm_frame, 14, 28));
  }

  Harness net;
};

TEST_F(UnderlayError, ReachesTheSenderAsFragmentationNeeded) {
  const Frame sent = from_vm("10.0.0.1", "10.1.0.1", 17, udp(1000, 53, 1400));
  const Frame error = told(sent, 1400);
  expect_ipv4_error(error, sent, 1360);
  EXPECT_EQ(at16(error, 12), 0x0800);
}

TEST_F(UnderlayError, ReachesTheSenderAsPacketTooBig) {
  const Frame sent = from_vm("2001:db8::1", "2001:db8:1::1", 17, udp(1000, 53, 1400));
  const Frame error = told(sent, 1400);
  ASSERT_GT(error.size(), kOuter + 8);
  EXPECT_EQ(slice(error, 22, 16), slice(ipv6("fe80::1", "2001:db8::1", 58, {}), 8, 16));
  EXPECT_EQ(slice(error, 38, 16), slice(sent, 22, 16));
  EXPECT_EQ(slice(error, kOuter, 2), (Frame{2, 0}));
  EXPECT_EQ(slice(error, kOuter + 4, 4), (Frame{0, 0, 0x05, 0x50}));
  // As much of the packet as the router quoted: 1232 bytes less the outer header.
  EXPECT_EQ(slice(error, kOuter + 8), slice(sent, 14, 1192));
}

TEST_F(UnderlayError, Ipv6NeverLearnsLessThanItsMinimum) {
  const Frame error = told(from_vm("2001:db8::1", "2001:db8:1::1", 17, udp(1000, 53, 1400)), 1300);
  EXPECT_EQ(slice(error, kOuter + 4, 4), (Frame{0, 0, 0x05, 0x00}));
}

TEST_F(UnderlayError, IsAboutWhatTheVmSentNotAboutItsPublicAddress) {
  ASSERT_EQ(net.engine().create_vip("vm0", ip("203.0.113.9"), std::nullopt).status, Status::OK);
  const Frame sent = from_vm("10.0.0.1", "8.8.8.8", 17, udp(1000, 53, 1400));
  expect_ipv4_error(told(sent, 1400), sent, 1360);
}

TEST_F(UnderlayError, IsAboutWhatTheVmSentNotAboutItsNatPort) {
  ASSERT_EQ(net.engine().create_nat("vm0", ip("203.0.113.1"), 1024, 1028, std::nullopt).status, Status::OK);
  const Frame sent = from_vm("10.0.0.1", "8.8.8.8", 6, [] {
    Frame segment = tcp(1000, 443, 0x10);
    segment.resize(1400, 0x5a);
    return segment;
  }());
  expect_ipv4_error(told(sent, 1400), sent, 1360);
}

TEST_F(UnderlayError, PassesNat64AsItsOwnFamily) {
  ASSERT_EQ(net.engine().create_nat("vm0", ip("203.0.113.1"), 1024, 1028, std::nullopt).status, Status::OK);
  Frame sent = from_vm("2001:db8::1", "64:ff9b::8.8.8.8", 17, udp(1000, 53, 1400));
  net::write_l4_checksum(sent.data() + 14, true, 17, sent.data() + kOuter, sent.size() - kOuter);
  const Frame error = told(sent, 1400);
  ASSERT_EQ(error.size(), kOuter + 8 + 48);
  EXPECT_EQ(error[kOuter], 2);
  EXPECT_EQ(slice(error, 38, 16), slice(sent, 22, 16));
  EXPECT_EQ(slice(error, kOuter + 4, 4), (Frame{0, 0, 0x05, 0x64}));  // 1400 - 40 + 20
  EXPECT_EQ(slice(error, kOuter + 8 + 8, 32), slice(sent, 22, 32));
  EXPECT_EQ(slice(error, kOuter + 8 + 40, 4), slice(sent, kOuter, 4));
}

TEST_F(UnderlayError, IsIgnoredWithoutTheFlow) {
  const Frame sent = net.forward(kVf0, from_vm("10.0.0.1", "10.1.0.1", 17, udp(1000, 53, 1400)), kPf0);
  Frame other_port = sent;
  other_port[kOuter + 21] ^= 1;
  expect_silence(too_big(other_port, 1400));
  Frame other_receiver = sent;
  other_receiver[53] ^= 1;
  expect_silence(too_big(other_receiver, 1400));
  Frame other_sender = sent;
  other_sender[37] ^= 1;
  expect_silence(too_big(other_sender, 1400));
  net.engine().delete_interface("vm0");
  expect_silence(too_big(sent, 1400));
}

TEST_F(UnderlayError, IsIgnoredUnlessWellFormed) {
  const Frame sent = net.forward(kVf0, from_vm("10.0.0.1", "10.1.0.1", 17, udp(1000, 53, 1400)), kPf0);
  const Frame right = too_big(sent, 1400);
  Frame wrong = right;
  wrong[kOuter + 2] ^= 1;
  expect_silence(wrong);
  for (const size_t byte : {kOuter, kOuter + 8, kOuter + 8 + 6, kOuter + 8 + 8, kOuter + 8 + 40}) {
    wrong = right;
    wrong[byte] ^= 0x15;
    renew_checksum(wrong);
    expect_silence(wrong);
  }
  expect_silence(too_big(sent, 1279));
  for (size_t quoted = 0; quoted < 40 + 28; ++quoted) expect_silence(too_big(sent, 1400, quoted));
  net.inject(kPf0, too_big(sent, 1400, 40 + 28));
  net.poll();
  EXPECT_EQ(net.sent(kVf0).size(), 1u);
  // Longer than it is, and cut at every length.
  wrong = right;
  wrong[19] += 1;
  expect_silence(wrong);
  for (size_t length = kOuter; length < right.size(); length += 7) expect_silence(slice(right, 0, length));
}

TEST_F(UnderlayError, IsNotForPacketsThatMayBeFragmented) {
  Frame sent = from_vm("10.0.0.1", "10.1.0.1", 17, udp(1000, 53, 1400));
  sent[20] = 0;
  expect_silence(too_big(net.forward(kVf0, sent, kPf0), 1400));
}

TEST_F(UnderlayError, OtherHostsAndOtherMessagesStayWithTheKernel) {
  const Frame sent = net.forward(kVf0, from_vm("10.0.0.1", "10.1.0.1", 17, udp(1000, 53, 1400)), kPf0);
  Frame to_other_host = too_big(sent, 1400);
  to_other_host[38] ^= 1;
  net.expect_drop(kPf0, to_other_host, DropReason::not_overlay);
}

TEST_F(UnderlayError, AreLimited) {
  const Frame notice = too_big(net.forward(kVf0, from_vm("10.0.0.1", "10.1.0.1", 17, udp(1000, 53, 1400)), kPf0), 1400);
  constexpr size_t kSent = 200;
  for (size_t i = 0; i < kSent; ++i) net.inject(kPf0, notice);
  net.poll(16);
  const size_t relayed = net.sent(kVf0).size();
  EXPECT_GE(relayed, 1u);
  EXPECT_LT(relayed, kSent);
  EXPECT_EQ(net.drops(DropReason::underlay_error), kSent - relayed);
}

}  // namespace
}  // namespace ironcore::testing
