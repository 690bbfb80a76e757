#include "translate/embedded.h"

#include "translate/packet_builder.h"

namespace ironcore::translate::testing {
namespace {

Bytes error(uint8_t type, const Bytes& quoted) {
  Bytes message = {type, 0, 0, 0, 0, 0, 0, 0};
  append(message, quoted.data(), quoted.size());
  return message;
}

// Exactly the given bytes, so that ASan sees a read behind them.
std::optional<Embedded> parse(const Bytes& message, bool is_v6) {
  const Bytes exact(message.begin(), message.end());
  return parse_embedded(exact, is_v6);
}

Description udp(bool is_v6) {
  Description d{.source = is_v6 ? v6("2001:db8::1") : v4("10.0.0.1"),
                .destination = is_v6 ? v6("2001:db8::2") : v4("10.0.0.2")};
  d.source_port = 40000, d.destination_port = 53;
  d.body = Bytes(32);
  return d;
}

void expect_ports(const std::optional<Embedded>& embedded, const Description& d, size_t l4) {
  ASSERT_TRUE(embedded);
  EXPECT_EQ(embedded->source, d.source);
  EXPECT_EQ(embedded->destination, d.destination);
  EXPECT_EQ(embedded->proto, d.proto);
  EXPECT_TRUE(embedded->has_ports);
  EXPECT_EQ(net::swap16(embedded->source_port), d.source_port);
  EXPECT_EQ(net::swap16(embedded->destination_port), d.destination_port);
  EXPECT_EQ(embedded->ip, 8);
  EXPECT_EQ(embedded->l4, 8 + l4);
}

TEST(Embedded, PortsBehindOptions) {
  Description d = udp(false);
  expect_ports(parse(error(3, build(d)), false), d, 20);
  d.options = {148, 4, 0, 0, 1, 1, 1, 0};
  d.proto = net::kTcp;
  expect_ports(parse(error(11, build(d)), false), d, 28);
}

TEST(Embedded, PortsBehindExtensions) {
  Description d = udp(true);
  expect_ports(parse(error(1, build(d)), true), d, 40);
  d.extensions = {net::kDestOptions, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  d.fragment_header = d.more = true;
  const auto embedded = parse(error(2, build(d)), true);
  expect_ports(embedded, d, 64);
  EXPECT_TRUE(embedded->fragment);
}

TEST(Embedded, EchoAsInAFlowKey) {
  Description d = udp(false);
  d.proto = net::kIcmp;
  d.body = echo(8, 0x1234, Bytes(3));
  auto embedded = parse(error(3, build(d)), false);
  ASSERT_TRUE(embedded && embedded->has_ports);
  EXPECT_EQ(embedded->source_port, 8);  // type, code
  EXPECT_EQ(net::swap16(embedded->destination_port), 0x1234);
  d = udp(true);
  d.proto = net::kIcmp6;
  d.body = echo(129, 0x1234, Bytes(3));
  embedded = parse(error(3, build(d)), true);
  ASSERT_TRUE(embedded && embedded->has_ports);
  EXPECT_EQ(embedded->source_port, 129);
  EXPECT_EQ(net::swap16(embedded->destination_port), 0x1234);
}

TEST(Embedded, ErrorsAboutErrorsAreRefused) {
  Description d = udp(false);
  d.proto = net::kIcmp;
  for (const uint8_t type : {uint8_t{3}, uint8_t{5}, uint8_t{11}}) {
    d.body = echo(type, 0, Bytes(28));
    EXPECT_FALSE(parse(error(3, build(d)), false));
  }
  d = udp(true);
  d.proto = net::kIcmp6;
  d.body = echo(1, 0, Bytes(48));
  EXPECT_FALSE(parse(error(3, build(d)), true));
}

TEST(Embedded, LaterFragmentsHaveNoPorts) {
  for (const bool is_v6 : {false, true}) {
    Description d = udp(is_v6);
    d.offset = 9;
    d.fragment_header = is_v6;
    const auto embedded = parse(error(3, build(d)), is_v6);
    ASSERT_TRUE(embedded);
    EXPECT_TRUE(embedded->fragment);
    EXPECT_FALSE(embedded->has_ports);
    EXPECT_EQ(embedded->source_port, 0);
    EXPECT_EQ(embedded->proto, net::kUdp);
  }
}

// A packet of 40 bytes, padded to the 128 that RFC 4884 demands, and an extension.
TEST(Embedded, EndsBeforePaddingAndExtensions) {
  Description d = udp(false);
  d.body = Bytes(12, 1);
  Bytes message = error(11, build(d));
  message.resize(8 + 128 + 12);
  message[5] = 32;
  auto embedded = parse(message, false);
  ASSERT_TRUE(embedded);
  EXPECT_EQ(embedded->end, 8 + 40);
  d = udp(true);
  d.body = Bytes(200, 1);
  message = error(1, build(d));
  message[4] = 16;
  embedded = parse(message, true);
  ASSERT_TRUE(embedded);
  EXPECT_EQ(embedded->end, 8 + 128);
  message[0] = 2;  // the MTU of "packet too big", no length
  EXPECT_EQ(parse(message, true)->end, message.size());
}

TEST(Embedded, OtherTypesQuoteNothing) {
  for (unsigned type = 0; type < 256; ++type) {
    const auto t = static_cast<uint8_t>(type);
    EXPECT_EQ(parse(error(t, build(udp(false))), false).has_value(), type == 3 || type == 11 || type == 12);
    EXPECT_EQ(parse(error(t, build(udp(true))), true).has_value(), type >= 1 && type <= 4);
  }
}

TEST(Embedded, EightBytesOfTransportAreEnoughAndNeeded) {
  for (const bool is_v6 : {false, true}) {
    Description d = udp(is_v6);
    d.proto = net::kTcp;
    if (is_v6) d.extensions = {net::kHopByHop, 0, 1, 4, 0, 0, 0, 0};
    const Bytes message = error(3, build(d));
    for (size_t length = 0; length <= message.size(); ++length) {
      const Bytes cut(message.begin(), message.begin() + static_cast<ptrdiff_t>(length));
      EXPECT_EQ(parse(cut, is_v6).has_value(), length >= 8 + header_length(d) + 8) << length;
    }
  }
}

TEST(Embedded, MalformedHeadersAreRefused) {
  const Bytes good = error(3, build(udp(false)));
  for (const auto& [at, value] : {std::pair<size_t, uint8_t>{8, 0x44}, {8, 0x65}, {8, 0x4f}, {11, 19}}) {
    Bytes bad = good;
    bad.resize(8 + 50);
    bad[at] = value;
    if (at == 11) bad[10] = 0;
    EXPECT_FALSE(parse(bad, false)) << at << ' ' << unsigned{value};
  }
  Bytes six = error(3, build(udp(true)));
  six[8] = 0x45;
  EXPECT_FALSE(parse(six, true));
  Description chain = udp(true);
  for (int i = 0; i < 9; ++i)
    for (const uint8_t byte : {uint8_t{net::kDestOptions}, uint8_t{0}, uint8_t{1}, uint8_t{4}, uint8_t{0}, uint8_t{0},
                               uint8_t{0}, uint8_t{0}})
      chain.extensions.push_back(byte);
  EXPECT_FALSE(parse(error(3, build(chain)), true));
  chain.extensions.resize(64);
  EXPECT_TRUE(parse(error(3, build(chain)), true));
}

}  // namespace
}  // namespace ironcore::translate::testing
