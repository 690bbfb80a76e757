#include <gtest/gtest.h>

#include "net/checksum.h"
#include "net/headers.h"
#include "overlay/too_big.h"
#include "testing/packets.h"

namespace ironcore::testing {
namespace {

constexpr MacAddress kGateway = {2, 0, 0, 0, 0, 1};

Frame reply_to(const Frame& frame, uint32_t mtu = 1400, size_t room = 1514) {
  Frame out(room);
  out.resize(overlay::write_too_big(frame, 14, frame.size() - 14, mtu, kGateway, out));
  return out;
}

TEST(TooBig, Ipv4GoldenFrame) {
  const Frame sent = from_vm("10.0.0.1", "10.0.0.2", 17, udp(1, 2, 1400));
  const Frame reply = reply_to(sent);
  ASSERT_EQ(reply.size(), 14u + 20 + 8 + 28);
  EXPECT_EQ(slice(reply, 0, 6), slice(sent, 6, 6));
  EXPECT_EQ(slice(reply, 26, 8), (Frame{169, 254, 0, 1, 10, 0, 0, 1}));
  EXPECT_EQ(slice(reply, 34, 2), (Frame{3, 4}));
  EXPECT_EQ(slice(reply, 40, 2), (Frame{0x05, 0x78}));
  EXPECT_EQ(slice(reply, 42), slice(sent, 14, 28));
  EXPECT_EQ(net::checksum_sum(reply.data() + 14, 20), 0xffff);
  EXPECT_EQ(net::checksum_sum(reply.data() + 34, reply.size() - 34), 0xffff);
}

TEST(TooBig, Ipv6QuotesUpToTheMinimumMtu) {
  const Frame sent = from_vm("2001:db8::1", "2001:db8::2", 17, udp(1, 2, 1400));
  const Frame reply = reply_to(sent);
  ASSERT_EQ(reply.size(), 14u + 1280);
  EXPECT_EQ(reply[20], 58);
  EXPECT_EQ(slice(reply, 54, 2), (Frame{2, 0}));
  EXPECT_EQ(slice(reply, 58, 4), (Frame{0, 0, 0x05, 0x78}));
  EXPECT_EQ(slice(reply, 62), slice(sent, 14, 1232));
}

TEST(TooBig, StaysSilentWhereTheRfcsSaySo) {
  Frame fragmentable = from_vm("10.0.0.1", "10.0.0.2", 17, udp(1, 2, 1400));
  fragmentable[20] = 0;
  EXPECT_TRUE(reply_to(fragmentable).empty());
  Frame fragment = from_vm("10.0.0.1", "10.0.0.2", 17, udp(1, 2, 1400));
  fragment[21] = 9;
  EXPECT_TRUE(reply_to(fragment).empty());
  EXPECT_TRUE(reply_to(from_vm("224.0.0.1", "10.0.0.2", 17, udp(1, 2, 1400))).empty());
  EXPECT_TRUE(reply_to(from_vm("ff02::1", "2001:db8::2", 17, udp(1, 2, 1400))).empty());
  EXPECT_TRUE(reply_to(from_vm("::", "2001:db8::2", 17, udp(1, 2, 1400))).empty());
  EXPECT_TRUE(reply_to(from_vm("2001:db8::1", "2001:db8::2", 58, icmp_echo(1, 1))).empty());
  EXPECT_TRUE(reply_to(from_vm("10.0.0.1", "10.0.0.2", 17, udp(1, 2, 1400)), 1400, 60).empty());
}

TEST(Checksum, OddLengthsAndKnownSum) {
  const Frame rfc1071 = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  EXPECT_EQ(net::swap16(net::checksum_sum(rfc1071.data(), rfc1071.size())), 0xddf2);
  for (size_t length = 0; length < 64; ++length) {
    Frame bytes(length);
    unsigned long sum = 0;
    for (size_t i = 0; i < length; ++i) {
      bytes[i] = static_cast<uint8_t>(i * 37 + 5);
      sum += i % 2 ? bytes[i] : bytes[i] * 256ul;
    }
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    EXPECT_EQ(net::swap16(net::checksum_sum(bytes.data(), length)), sum) << length;
  }
}

}  // namespace
}  // namespace ironcore::testing
