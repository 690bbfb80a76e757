#include "translate/rewrite.h"

#include <algorithm>

#include "translate/packet_builder.h"

namespace ironcore::translate::testing {
namespace {

// TCP, UDP or echo with random content; one in four is a first, one in eight a later fragment.
Description random_description(Random& random, bool is_v6) {
  Description d;
  d.source = random_address(random, is_v6);
  d.destination = random_address(random, is_v6);
  d.traffic_class = static_cast<uint8_t>(random());
  d.hop_limit = static_cast<uint8_t>(random());
  d.id = static_cast<uint16_t>(random());
  d.source_port = random_port(random);
  d.destination_port = random_port(random);
  const Bytes payload = random_bytes(random, random() % 64);
  switch (random() % 3) {
    case 0:
      d.proto = net::kTcp;
      d.body = random_bytes(random, 16 + payload.size());
      break;
    case 1:
      d.proto = net::kUdp;
      d.body = payload;
      d.no_checksum = random() % 8 == 0;
      break;
    default:
      d.proto = is_v6 ? net::kIcmp6 : net::kIcmp;
      d.body = echo(static_cast<uint8_t>(is_v6 ? 128 + random() % 2 : random() % 2 * 8), 0, payload);
      set16(d.body, 4, d.source_port);
  }
  if (random() % 4 == 0) {
    d.more = true;
    d.hidden = static_cast<uint16_t>(random() % 1000);
  } else if (random() % 8 == 0) {
    d.offset = 5;
    d.body = payload;
  }
  if (is_v6) {
    d.fragment_header = d.more || d.offset != 0 || random() % 4 == 0;
    if (random() % 4 == 0) d.extensions = {net::kDestOptions, 0, 1, 4, 0, 0, 0, 0};
  } else if (random() % 4 == 0) {
    d.options = {148, 4, 0, 0};  // router alert
  }
  return d;
}

void set_port(Description& d, bool destination, uint16_t port) {
  if (d.offset != 0) return;
  if (d.proto == net::kTcp || d.proto == net::kUdp) {
    (destination ? d.destination_port : d.source_port) = port;
  } else {
    set16(d.body, 4, port);
  }
}

uint16_t port_of(const Description& d, bool destination) {
  return destination && (d.proto == net::kTcp || d.proto == net::kUdp) ? d.destination_port : d.source_port;
}

// Against the packet built anew, and back again.
void check_same_family(Random& random, bool is_v6) {
  const Description before = random_description(random, is_v6);
  const bool destination = random() % 2, with_port = random() % 2;
  const IpAddress address = random_address(random, is_v6);
  const uint16_t port = random_port(random), old_port = port_of(before, destination);
  Description after = before;
  const IpAddress old_address = destination ? before.destination : before.source;
  (destination ? after.destination : after.source) = address;
  if (with_port) set_port(after, destination, port);

  const auto compile = destination ? rewrite_destination : rewrite_source;
  const auto there = with_port ? std::optional(ports(old_port, port)) : std::nullopt;
  const auto back = with_port ? std::optional(ports(port, old_port)) : std::nullopt;
  Buffer buffer(before);
  ASSERT_EQ(apply(compile(old_address, address, there), buffer.view), Outcome::kOk);
  ASSERT_EQ(buffer.packet(), build(after));
  ASSERT_EQ(apply(compile(address, old_address, back), buffer.view), Outcome::kOk);
  ASSERT_EQ(buffer.packet(), build(before));
}

TEST(Rewrite, EqualsAPacketBuiltAnewAndIsUndoneByTheWayBack) {
  Random random(1);
  for (int i = 0; i < 40000 && !HasFatalFailure(); ++i) check_same_family(random, i % 2 == 0);
}

// A frame of another implementation, before and after source translation of 10.0.0.1:40000 to 203.0.113.7:1025.
TEST(Rewrite, GoldenUdp) {
  Bytes packet = {0x45, 0x00, 0x00, 0x20, 0x12, 0x34, 0x40, 0x00, 0x40, 0x11, 0x0e, 0x89, 0x0a, 0x00, 0x00, 0x01,
                  0x08, 0x08, 0x08, 0x08, 0x9c, 0x40, 0x00, 0x35, 0x00, 0x0c, 0x84, 0x89, 0x61, 0x62, 0x63, 0x64};
  const Bytes expected = {0x45, 0x00, 0x00, 0x20, 0x12, 0x34, 0x40, 0x00, 0x40, 0x11, 0xdc,
                          0x81, 0xcb, 0x00, 0x71, 0x07, 0x08, 0x08, 0x08, 0x08, 0x04, 0x01,
                          0x00, 0x35, 0x00, 0x0c, 0xea, 0xc1, 0x61, 0x62, 0x63, 0x64};
  PacketView view{packet.data(), packet.size(), 0, 20, net::kUdp, false};
  const Rewrite rewrite = rewrite_source(v4("10.0.0.1"), v4("203.0.113.7"), ports(40000, 1025));
  ASSERT_EQ(apply(rewrite, view), Outcome::kOk);
  EXPECT_EQ(packet, expected);
}

TEST(Rewrite, NoneChangesNothing) {
  const Description d{.source = v4("10.0.0.1"), .destination = v4("10.0.0.2"), .body = {1, 2, 3}};
  Buffer buffer(d);
  EXPECT_EQ(apply(Rewrite{}, buffer.view), Outcome::kOk);
  EXPECT_EQ(buffer.packet(), build(d));
}

// The whole message is zero after translation, where incremental arithmetic yields the other zero.
TEST(Rewrite, EchoReplyOfZeros) {
  Description d{.source = v4("8.8.8.8"), .destination = v4("203.0.113.7"), .proto = net::kIcmp};
  d.body = {0, 0, 0, 0, 0x04, 0x01, 0, 0, 0, 0, 0, 0};
  Buffer buffer(d);
  const Rewrite rewrite = rewrite_destination(d.destination, v4("10.0.0.1"), ports(0x0401, 0));
  ASSERT_EQ(apply(rewrite, buffer.view), Outcome::kOk);
  d.destination = v4("10.0.0.1");
  set16(d.body, 4, 0);
  EXPECT_EQ(buffer.packet(), build(d));
}

TEST(Rewrite, UdpWithoutChecksumStaysSo) {
  Description d{.source = v4("10.0.0.1"), .destination = v4("10.0.0.2"), .body = {1, 2, 3}, .no_checksum = true};
  Buffer buffer(d);
  ASSERT_EQ(apply(rewrite_source(d.source, v4("192.0.2.1")), buffer.view), Outcome::kOk);
  d.source = v4("192.0.2.1");
  EXPECT_EQ(buffer.packet(), build(d));
}

// The sum of the segment is such that its checksum comes out as zero, which UDP writes as 0xffff.
TEST(Rewrite, UdpNeverGetsAZeroChecksum) {
  unsigned seen = 0;
  for (unsigned port = 0; port <= 0xffff; ++port) {
    const Description d{.source = v4("10.0.0.1"), .destination = v4("10.0.0.2"), .source_port = 5};
    Description after = d;
    after.source = v4("192.0.2.1");
    after.source_port = static_cast<uint16_t>(port);
    const Bytes expected = build(after);
    if (expected[26] != 0xff || expected[27] != 0xff) continue;
    ++seen;
    Buffer buffer(d);
    ASSERT_EQ(apply(rewrite_source(d.source, after.source, ports(5, after.source_port)), buffer.view), Outcome::kOk);
    EXPECT_EQ(buffer.packet(), expected);
  }
  EXPECT_GE(seen, 1u);
}

TEST(Rewrite, AddressAloneForAnyTransport) {
  for (const uint8_t proto : {uint8_t{47}, uint8_t{132}}) {  // GRE, SCTP: no pseudo header
    Description d{.source = v4("10.0.0.1"), .destination = v4("10.0.0.2"), .proto = proto, .body = {1, 2, 3, 4}};
    Buffer buffer(d);
    ASSERT_EQ(apply(rewrite_source(d.source, v4("192.0.2.1")), buffer.view), Outcome::kOk);
    d.source = v4("192.0.2.1");
    EXPECT_EQ(buffer.packet(), build(d));
  }
}

// DCCP and UDP-Lite: the checksum at offset 6 covers the addresses.
TEST(Rewrite, OtherPseudoHeaders) {
  for (const uint8_t proto : {uint8_t{33}, uint8_t{136}}) {
    const auto with_checksum = [proto](const IpAddress& source) {
      Description d{.source = source, .destination = v4("10.0.0.2"), .body = {9, 9, 9, 9, 1, 1}};
      const Bytes udp = build(d);  // sum of the same words, but for protocol and length
      d.proto = proto;
      d.body = Bytes(udp.begin() + 20, udp.end());
      return d;
    };
    Buffer buffer(with_checksum(v4("10.0.0.1")));
    ASSERT_EQ(apply(rewrite_source(v4("10.0.0.1"), v4("192.0.2.1")), buffer.view), Outcome::kOk);
    EXPECT_EQ(buffer.packet(), build(with_checksum(v4("192.0.2.1"))));
  }
}

void expect_refused(const Rewrite& rewrite, const Description& d, Outcome outcome) {
  Buffer buffer(d);
  EXPECT_EQ(apply(rewrite, buffer.view), outcome);
  EXPECT_EQ(buffer.packet(), build(d));
}

TEST(Rewrite, RefusesWhatHasNoPort) {
  Description d{.source = v4("10.0.0.1"), .destination = v4("10.0.0.2"), .proto = 47, .body = Bytes(20)};
  const Rewrite rewrite = rewrite_source(d.source, v4("192.0.2.1"), ports(0, 1025));
  expect_refused(rewrite, d, Outcome::kNotTranslatable);
  d.proto = net::kIcmp;
  d.body = echo(13, 0, {});  // timestamp
  expect_refused(rewrite, d, Outcome::kNotTranslatable);
}

TEST(Rewrite, RefusesIcmpErrors) {
  Description d{.source = v4("10.0.0.1"), .destination = v4("10.0.0.2"), .proto = net::kIcmp};
  for (const uint8_t type : {uint8_t{3}, uint8_t{4}, uint8_t{5}, uint8_t{11}, uint8_t{12}}) {
    d.body = echo(type, 0, Bytes(28));
    expect_refused(rewrite_source(d.source, v4("192.0.2.1")), d, Outcome::kNotTranslatable);
  }
  Description d6{.source = v6("2001:db8::1"), .destination = v6("2001:db8::2"), .proto = net::kIcmp6};
  for (const uint8_t type : {uint8_t{1}, uint8_t{2}, uint8_t{3}, uint8_t{4}, uint8_t{100}}) {
    d6.body = echo(type, 0, Bytes(48));
    expect_refused(rewrite_source(d6.source, v6("2001:db8::3")), d6, Outcome::kNotTranslatable);
  }
}

TEST(Rewrite, RefusesAnythingCutOffInItsTransportHeader) {
  Random random(2);
  for (int i = 0; i < 2000; ++i) {
    Description d = random_description(random, i % 2 == 0);
    if (d.offset != 0) continue;
    const Bytes whole = build(d);
    const size_t needed = header_length(d) + (d.proto == net::kTcp ? 20 : 8);
    const Rewrite rewrite = rewrite_source(d.source, random_address(random, d.source.is_v6), ports(d.source_port, 1));
    for (size_t length = 0; length < needed; ++length) {
      const Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
      Buffer buffer(cut, d);
      ASSERT_EQ(apply(rewrite, buffer.view), Outcome::kTruncated) << length;
      ASSERT_EQ(buffer.packet(), cut);
    }
  }
}

}  // namespace
}  // namespace ironcore::translate::testing
