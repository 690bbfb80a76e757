#include "net/parse.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "testing/packets.h"

namespace ironcore::testing {
namespace {

struct Parsed {
  DropReason drop;
  FlowKey key{};
  ParsedPacket packet{};
};

// From a buffer of exactly the frame's size, so that a sanitizer sees each byte too far.
Parsed parse(const Frame& frame) {
  Parsed result;
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[frame.size()]);
  std::copy(frame.begin(), frame.end(), exact.get());
  result.key.scope = 9;
  result.key.side = Side::kUplink;
  const bool v6 = frame.size() > 13 && frame[12] == 0x86;
  result.drop = v6 ? parse_ipv6(exact.get(), 14, frame.size(), result.key, result.packet)
                   : parse_ipv4(exact.get(), 14, frame.size(), result.key, result.packet);
  return result;
}

uint16_t be(uint16_t value) { return net::swap16(value); }

TEST(Parse, UdpAndTcp) {
  const Parsed udp4 = parse(udp_from_vm("10.0.0.1", "10.0.0.2", 1000, 2000));
  EXPECT_EQ(udp4.drop, kNoDrop);
  EXPECT_EQ(udp4.key.scope, 9u);
  EXPECT_EQ(udp4.key.side, Side::kUplink);
  EXPECT_EQ(udp4.key.family, 4);
  EXPECT_EQ(udp4.key.src4, net::swap32(0x0a000001));
  EXPECT_EQ(udp4.key.dst4, net::swap32(0x0a000002));
  EXPECT_EQ(udp4.key.src_port, be(1000));
  EXPECT_EQ(udp4.key.dst_port, be(2000));
  EXPECT_EQ(udp4.packet.ip_length, 46);
  EXPECT_EQ(udp4.packet.l4, 34);
  const Parsed tcp6 = parse(from_vm("2001:db8::1", "2001:db8::2", 6, tcp(1, 2, 0x12)));
  EXPECT_EQ(tcp6.drop, kNoDrop);
  EXPECT_EQ(tcp6.packet.tcp_flags, 0x12);
  EXPECT_EQ(tcp6.packet.l4, 54);
  EXPECT_EQ(tcp6.key.dst_port, be(2));
}

TEST(Parse, FastAndSlowPathAgree) {
  for (const Frame& frame :
       {udp_from_vm("10.0.0.1", "10.0.0.2"), from_vm("10.0.0.1", "10.0.0.2", 6, tcp(5, 6, 0x10))}) {
    const Parsed fast = parse(frame);
    Parsed slow;
    slow.key.scope = 9;
    slow.key.side = Side::kUplink;
    ASSERT_EQ(parse_ipv4_slow(frame.data(), 14, frame.size(), slow.key, slow.packet), kNoDrop);
    EXPECT_TRUE(same_flow(fast.key, slow.key));
    EXPECT_EQ(std::memcmp(&fast.key, &slow.key, sizeof fast.key), 0);
    EXPECT_EQ(fast.packet.l4, slow.packet.l4);
    EXPECT_EQ(fast.packet.ip_length, slow.packet.ip_length);
    EXPECT_EQ(fast.packet.tcp_flags, slow.packet.tcp_flags);
  }
}

TEST(Parse, OptionsAndExtensionHeadersAreSkipped) {
  Frame with_options = from_vm("10.0.0.1", "10.0.0.2", 17, Frame{1, 1, 1, 0});
  with_options[14] = 0x46;
  const Frame segment = udp(7, 8);
  with_options.insert(with_options.end(), segment.begin(), segment.end());
  with_options[17] = static_cast<uint8_t>(with_options.size() - 14);
  const Parsed v4 = parse(with_options);
  EXPECT_EQ(v4.drop, kNoDrop);
  EXPECT_EQ(v4.key.dst_port, be(8));

  Frame chain = {60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0};  // hop-by-hop, destination options
  chain.insert(chain.end(), segment.begin(), segment.end());
  const Parsed v6 = parse(from_vm("2001:db8::1", "2001:db8::2", 0, chain));
  EXPECT_EQ(v6.drop, kNoDrop);
  EXPECT_EQ(v6.key.proto, 17);
  EXPECT_EQ(v6.key.src_port, be(7));

  Frame endless;
  for (int i = 0; i < 12; ++i) endless.insert(endless.end(), {60, 0, 1, 4, 0, 0, 0, 0});
  EXPECT_EQ(parse(from_vm("2001:db8::1", "2001:db8::2", 60, endless)).drop, DropReason::ip_extension_headers);
}

TEST(Parse, FragmentsButTheFirstHaveNoPorts) {
  Frame first = udp_from_vm("10.0.0.1", "10.0.0.2", 1000, 2000);
  first[20] = 0x20;  // more fragments
  EXPECT_EQ(parse(first).key.dst_port, be(2000));
  EXPECT_EQ(parse(first).packet.kind, PacketKind::kFirstFragment);
  Frame later = first;
  later[21] = 5;
  EXPECT_EQ(parse(later).drop, kNoDrop);
  EXPECT_EQ(parse(later).packet.kind, PacketKind::kLaterFragment);
  EXPECT_EQ(parse(later).key.dst_port, 0);
  EXPECT_EQ(parse(later).key.proto, 17);
  EXPECT_TRUE(same_flow(later_fragment_key(first.data(), parse(first).key, parse(first).packet), parse(later).key));

  Frame fragment = {17, 0, 0, 0x10, 0, 0, 0, 1};
  fragment.resize(20, 0xee);
  const Parsed v6 = parse(from_vm("2001:db8::1", "2001:db8::2", 44, fragment));
  EXPECT_EQ(v6.drop, kNoDrop);
  EXPECT_EQ(v6.packet.kind, PacketKind::kLaterFragment);
  EXPECT_EQ(v6.key.proto, 17);
  EXPECT_EQ(v6.key.dst_port, be(1));  // low half of the identification
  Frame beginning = {17, 0, 0, 1, 0, 0, 0, 1};
  const Frame datagram = udp(7, 8);
  beginning.insert(beginning.end(), datagram.begin(), datagram.end());
  const Frame first6 = from_vm("2001:db8::1", "2001:db8::2", 44, beginning);
  EXPECT_EQ(parse(first6).packet.kind, PacketKind::kFirstFragment);
  EXPECT_EQ(parse(first6).key.src_port, be(7));
  EXPECT_TRUE(same_flow(later_fragment_key(first6.data(), parse(first6).key, parse(first6).packet), v6.key));
}

TEST(Parse, Icmp) {
  const Parsed echo = parse(from_vm("10.0.0.1", "10.0.0.2", 1, icmp_echo(8, 0x1234)));
  EXPECT_EQ(echo.drop, kNoDrop);
  EXPECT_EQ(echo.key.dst_port, be(0x1234));
  for (const uint8_t type : {4, 5, 9, 13, 17}) {
    EXPECT_EQ(parse(from_vm("10.0.0.1", "10.0.0.2", 1, icmp_echo(type, 0))).drop, DropReason::icmp_type_unsupported);
  }
  EXPECT_EQ(parse(from_vm("2001:db8::1", "2001:db8::2", 58, icmp_echo(143, 0))).drop, kNoDrop);
}

TEST(Parse, IcmpErrorsAreOfTheFlowTheyQuote) {
  const Frame quoted = slice(udp_from_vm("10.0.0.9", "10.0.0.1", 1000, 53), 14);
  for (const uint8_t type : {3, 11, 12}) {
    Frame message = {type, 1, 0, 0, 0, 0, 0, 0};
    message.insert(message.end(), quoted.begin(), quoted.end());
    const Parsed error = parse(from_vm("10.7.7.7", "10.0.0.9", 1, message));
    ASSERT_EQ(error.drop, kNoDrop);
    EXPECT_EQ(error.packet.kind, PacketKind::kIcmpError);
    EXPECT_TRUE(same_flow(error.key, parse(udp_from_vm("10.0.0.1", "10.0.0.9", 53, 1000)).key));
  }
  Frame message = {3, 4, 0, 0, 0, 0, 0, 0};
  message.insert(message.end(), quoted.begin(), quoted.begin() + 24);
  EXPECT_EQ(parse(from_vm("10.7.7.7", "10.0.0.9", 1, message)).drop, DropReason::icmp_error_malformed);
  EXPECT_EQ(parse(from_vm("2001:db8::1", "2001:db8::2", 58, icmp_echo(2, 0))).drop, DropReason::icmp_error_malformed);
}

TEST(Parse, OtherTransportsHaveNoPorts) {
  const Parsed sctp = parse(from_vm("10.0.0.1", "10.0.0.2", 132, Frame(40, 0x11)));
  EXPECT_EQ(sctp.drop, kNoDrop);
  EXPECT_EQ(sctp.key.src_port, 0);
  EXPECT_EQ(sctp.key.proto, 132);
}

TEST(Parse, WrongLengths) {
  Frame frame = udp_from_vm("10.0.0.1", "10.0.0.2");
  frame[17] = 200;
  EXPECT_EQ(parse(frame).drop, DropReason::truncated);
  frame[17] = 19;
  EXPECT_EQ(parse(frame).drop, DropReason::ip_malformed);
  frame[14] = 0x44;
  EXPECT_EQ(parse(frame).drop, DropReason::ip_malformed);
  frame[14] = 0x65;
  EXPECT_EQ(parse(frame).drop, DropReason::ip_malformed);
}

// Every prefix of valid frames, and frames with random bytes changed: never a read outside, never an offset outside.
TEST(ParseFuzz, StaysInBounds) {
  Frame chain = {60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 51, 0,
                 0,  0, 0, 0, 0, 0, 6, 1, 0,  0, 0, 0, 0, 0, 0, 0, 0,  0};
  const Frame segment = tcp(1, 2, 0);
  chain.insert(chain.end(), segment.begin(), segment.end());
  std::vector<Frame> seeds = {udp_from_vm("10.0.0.1", "10.0.0.2"), from_vm("10.0.0.1", "10.0.0.2", 6, tcp(1, 2, 2)),
                              from_vm("10.0.0.1", "10.0.0.2", 1, icmp_echo(8, 1)), udp_from_vm("fc00::1", "fc00::2"),
                              from_vm("fc00::1", "fc00::2", 0, chain)};
  std::mt19937 random(1);
  for (int round = 0; round < 200000; ++round) {
    Frame frame = seeds[random() % seeds.size()];
    frame.resize(14 + random() % (frame.size() - 13));
    for (unsigned changes = random() % 4; changes > 0; --changes)
      if (frame.size() > 14) frame[14 + random() % (frame.size() - 14)] = static_cast<uint8_t>(random());
    const Parsed result = parse(frame);
    if (result.drop != kNoDrop) continue;
    ASSERT_LE(size_t{result.packet.l3} + result.packet.ip_length, frame.size());
    ASSERT_LE(result.packet.l4, result.packet.l3 + result.packet.ip_length);
    ASSERT_GT(result.packet.l4, result.packet.l3);
  }
}

}  // namespace
}  // namespace ironcore::testing
