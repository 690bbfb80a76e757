#include "translate/icmp_error.h"

#include <algorithm>

#include "translate/embedded.h"
#include "translate/packet_builder.h"

namespace ironcore::translate::testing {
namespace {

const IpAddress kVm4 = v4("10.0.0.1"), kVm6 = v6("2001:db8::1"), kPublic = v4("203.0.113.7"), kServer = v4("8.8.8.8");
const IpAddress kRouter = v4("198.51.100.1");
constexpr uint16_t kVmPort = 40000, kPublicPort = 1025, kServerPort = 53;

// An error about a packet of the flow, of which at most `quoted` bytes of the transport are quoted.
struct Error {
  Description quoted;
  Description outer;
  size_t transport = SIZE_MAX;
  uint8_t type = 3, code = 3;
  uint32_t rest = 0;
  Bytes padding{}, extension{};
};

Bytes quote(const Error& e) {
  Bytes packet = build(e.quoted);
  const size_t header = header_length(e.quoted);
  packet.resize(header + std::min(e.transport, packet.size() - header));
  append(packet, e.padding.data(), e.padding.size());
  append(packet, e.extension.data(), e.extension.size());
  return packet;
}

Description describe(const Error& e) {
  Description d = e.outer;
  d.proto = d.source.is_v6 ? net::kIcmp6 : net::kIcmp;
  d.body = {e.type, e.code, 0, 0};
  put16(d.body, e.rest >> 16);
  put16(d.body, e.rest & 0xffff);
  const Bytes packet = quote(e);
  append(d.body, packet.data(), packet.size());
  return d;
}

// The VM's packet (or the one to it) of the chosen transport, as one side sees it.
Description quoted_packet(uint8_t proto, const IpAddress& vm, uint16_t vm_port, const IpAddress& other, bool to_vm) {
  Description d{.source = vm, .destination = other, .proto = proto};
  d.hop_limit = 60;
  d.source_port = vm_port, d.destination_port = kServerPort;
  if (to_vm) {
    std::swap(d.source, d.destination);
    std::swap(d.source_port, d.destination_port);
  }
  if (proto == net::kIcmp || proto == net::kIcmp6) {
    const bool is_v6 = proto == net::kIcmp6;
    d.body = echo(to_vm ? (is_v6 ? 129 : 0) : (is_v6 ? 128 : 8), vm_port, {1, 2, 3});
  } else {
    d.body = Bytes(24, 0x5a);
  }
  return d;
}

void expect_translated(const Rewrite& rewrite, const Error& before, const Error& after, size_t headroom = 128) {
  const Description expected = describe(after);
  Buffer buffer(describe(before), headroom);
  ASSERT_EQ(translate_icmp_error(rewrite, buffer.view), Outcome::kOk);
  ASSERT_EQ(buffer.packet(), build(expected));
  buffer.expect_consistent(expected);
}

void expect_refused(const Rewrite& rewrite, const Description& d, Outcome outcome = Outcome::kNotTranslatable) {
  Buffer buffer(d);
  EXPECT_EQ(translate_icmp_error(rewrite, buffer.view), outcome);
  EXPECT_EQ(buffer.packet(), build(d));
}

Rewrite to_vm4() { return rewrite_destination(kPublic, kVm4, ports(kPublicPort, kVmPort)); }
Rewrite from_vm4() { return rewrite_source(kVm4, kPublic, ports(kVmPort, kPublicPort)); }
Rewrite to_vm6() { return four_to_six(v4_of(kPublic), kVm6.bytes, ports(kPublicPort, kVmPort)); }
Rewrite from_vm6() { return six_to_four(kVm6.bytes, v4_of(kPublic), ports(kVmPort, kPublicPort)); }

Error error4(uint8_t proto, const IpAddress& vm, uint16_t port) {
  Error e{.quoted = quoted_packet(proto, vm, port, kServer, false), .outer = {.source = kRouter, .destination = vm}};
  e.outer.traffic_class = 0xc0;
  return e;
}

TEST(IcmpError, TowardsTheVm) {
  for (const uint8_t proto : {net::kTcp, net::kUdp, net::kIcmp}) {
    for (const size_t transport : {8, 16, 18, 19, 24, 1000}) {
      Error before = error4(proto, kPublic, kPublicPort), after = error4(proto, kVm4, kVmPort);
      before.transport = after.transport = transport;
      for (const uint8_t type : {3, 11, 12}) {
        before.type = after.type = type;
        before.rest = after.rest = 0x000005dc;
        expect_translated(to_vm4(), before, after);
      }
    }
  }
}

TEST(IcmpError, FromTheVm) {
  for (const uint8_t proto : {net::kTcp, net::kUdp, net::kIcmp}) {
    const auto error = [proto](const IpAddress& vm, uint16_t port) {
      return Error{.quoted = quoted_packet(proto, vm, port, kServer, true),
                   .outer = {.source = vm, .destination = kServer}};
    };
    expect_translated(from_vm4(), error(kVm4, kVmPort), error(kPublic, kPublicPort));
  }
}

TEST(IcmpError, VipHasNoPort) {
  expect_translated(rewrite_destination(kPublic, kVm4), error4(net::kTcp, kPublic, 22), error4(net::kTcp, kVm4, 22));
  // GRE of 2 bytes: nothing of a transport is needed.
  Error before = error4(47, kPublic, 0), after = error4(47, kVm4, 0);
  before.transport = after.transport = 2;
  expect_translated(rewrite_destination(kPublic, kVm4), before, after);
}

TEST(IcmpError, SixToSix) {
  const IpAddress outside = v6("2001:db8:1::7"), server = v6("2001:db8:2::1"), router = v6("2001:db8:3::1");
  for (const uint8_t proto : {net::kTcp, net::kUdp, net::kIcmp6}) {
    const auto error = [&](const IpAddress& vm, uint16_t port) {
      Error e{.quoted = quoted_packet(proto, vm, port, server, false), .outer = {.source = router, .destination = vm}};
      e.type = 1;
      e.quoted.extensions = {net::kDestOptions, 0, 1, 4, 0, 0, 0, 0};
      return e;
    };
    expect_translated(rewrite_destination(outside, kVm6, ports(kPublicPort, kVmPort)), error(outside, kPublicPort),
                      error(kVm6, kVmPort));
  }
}

TEST(IcmpError, OptionsAndExtensionsAreKept) {
  Error before = error4(net::kUdp, kPublic, kPublicPort), after = error4(net::kUdp, kVm4, kVmPort);
  for (Error* e : {&before, &after}) {
    e->outer.options = e->quoted.options = {148, 4, 0, 0};
    e->padding = Bytes(128 - 24 - 32);
    e->extension = {0x20, 0, 1, 2, 0, 8, 1, 1, 9, 9, 9, 9};
    e->rest = 32u << 16;
  }
  expect_translated(to_vm4(), before, after);
}

// Captured from another implementation.
TEST(IcmpError, GoldenPortUnreachable) {
  Bytes packet = {0x45, 0xc0, 0x00, 0x38, 0x00, 0x07, 0x00, 0x00, 0x40, 0x01, 0x2d, 0xe7, 0x08, 0x08,
                  0x08, 0x08, 0xcb, 0x00, 0x71, 0x07, 0x03, 0x03, 0x0d, 0xf9, 0x00, 0x00, 0x00, 0x00,
                  0x45, 0x00, 0x00, 0x20, 0x12, 0x34, 0x40, 0x00, 0x3c, 0x11, 0xe0, 0x81, 0xcb, 0x00,
                  0x71, 0x07, 0x08, 0x08, 0x08, 0x08, 0x04, 0x01, 0x00, 0x35, 0x00, 0x0c, 0xea, 0xc1};
  const Bytes expected = {0x45, 0xc0, 0x00, 0x38, 0x00, 0x07, 0x00, 0x00, 0x40, 0x01, 0x5f, 0xee, 0x08, 0x08,
                          0x08, 0x08, 0x0a, 0x00, 0x00, 0x01, 0x03, 0x03, 0xdb, 0xf1, 0x00, 0x00, 0x00, 0x00,
                          0x45, 0x00, 0x00, 0x20, 0x12, 0x34, 0x40, 0x00, 0x3c, 0x11, 0x12, 0x89, 0x0a, 0x00,
                          0x00, 0x01, 0x08, 0x08, 0x08, 0x08, 0x9c, 0x40, 0x00, 0x35, 0x00, 0x0c, 0x84, 0x89};
  PacketView view{packet.data(), packet.size(), 0, 20, net::kIcmp, false};
  ASSERT_EQ(translate_icmp_error(to_vm4(), view), Outcome::kOk);
  EXPECT_EQ(packet, expected);
}

TEST(IcmpError, GoldenTimeExceededThroughNat64) {
  const Bytes packet = {0x45, 0x00, 0x00, 0x38, 0x00, 0x07, 0x00, 0x00, 0x32, 0x01, 0x22, 0x82, 0xc6, 0x33,
                        0x64, 0x01, 0xcb, 0x00, 0x71, 0x07, 0x0b, 0x00, 0x05, 0xfc, 0x00, 0x00, 0x00, 0x00,
                        0x45, 0x00, 0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x3c, 0x11, 0x32, 0xb6, 0xcb, 0x00,
                        0x71, 0x07, 0x08, 0x08, 0x08, 0x08, 0x04, 0x01, 0x00, 0x35, 0x00, 0x0c, 0xea, 0xc1};
  const Bytes expected = {0x60, 0x00, 0x00, 0x00, 0x00, 0x38, 0x3a, 0x32, 0x00, 0x64, 0xff, 0x9b, 0x00, 0x00,
                          0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xc6, 0x33, 0x64, 0x01, 0x20, 0x01, 0x0d, 0xb8,
                          0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x03, 0x00,
                          0xf8, 0x39, 0x00, 0x00, 0x00, 0x00, 0x60, 0x00, 0x00, 0x00, 0x00, 0x0c, 0x11, 0x3c,
                          0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                          0x00, 0x01, 0x00, 0x64, 0xff, 0x9b, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                          0x08, 0x08, 0x08, 0x08, 0x9c, 0x40, 0x00, 0x35, 0x00, 0x0c, 0x60, 0xd0};
  Bytes room(40);
  append(room, packet.data(), packet.size());
  PacketView view{room.data() + 40, packet.size(), 40, 20, net::kIcmp, false};
  ASSERT_EQ(translate_icmp_error(to_vm6(), view), Outcome::kOk);
  EXPECT_EQ(Bytes(view.ip, view.ip + view.length), expected);
}

// Both views of an error through NAT64.
Error through4(uint8_t proto, bool from_vm) {
  Error e{.quoted = quoted_packet(proto, kPublic, kPublicPort, kServer, from_vm), .outer = {}};
  e.outer.source = from_vm ? kPublic : kRouter;
  e.outer.destination = from_vm ? kServer : kPublic;
  return e;
}
Error through6(uint8_t proto, bool from_vm) {
  Error e{.quoted = quoted_packet(proto == net::kIcmp ? uint8_t{net::kIcmp6} : proto, kVm6, kVmPort, in_prefix(kServer),
                                  from_vm),
          .outer = {}};
  e.outer.source = from_vm ? kVm6 : in_prefix(kRouter);
  e.outer.destination = from_vm ? in_prefix(kServer) : kVm6;
  e.type = 1;
  e.code = 4;
  return e;
}

TEST(IcmpError, Nat64TowardsTheVm) {
  for (const uint8_t proto : {net::kTcp, net::kUdp, net::kIcmp}) {
    for (const size_t transport : {8, 16, 18, 19, 1000}) {
      Error four = through4(proto, false), six = through6(proto, false);
      four.transport = six.transport = transport;
      four.outer.options = {148, 4, 0, 0};
      expect_translated(to_vm6(), four, six, 36);
      Buffer tight(describe(four), 35);
      EXPECT_EQ(translate_icmp_error(to_vm6(), tight.view), Outcome::kNoHeadroom);
      EXPECT_EQ(tight.packet(), build(describe(four)));
    }
  }
}

TEST(IcmpError, Nat64FromTheVm) {
  for (const uint8_t proto : {net::kTcp, net::kUdp, net::kIcmp}) {
    for (const size_t transport : {8, 16, 18, 19, 1000}) {
      Error four = through4(proto, true), six = through6(proto, true);
      four.transport = six.transport = transport;
      six.outer.extensions = six.quoted.extensions = {net::kDestOptions, 0, 1, 4, 0, 0, 0, 0};
      expect_translated(from_vm6(), six, four, 0);
    }
  }
}

TEST(IcmpError, Nat64QuotesFragments) {
  Error four = through4(net::kUdp, false), six = through6(net::kUdp, false);
  four.quoted.more = six.quoted.more = six.quoted.fragment_header = true;
  four.quoted.id = six.quoted.id = 99;
  four.quoted.hidden = six.quoted.hidden = 500;
  expect_translated(to_vm6(), four, six);
  four = through4(net::kIcmp, false);
  four.quoted.more = true;
  expect_refused(to_vm6(), describe(four));
}

struct Mapping {
  uint8_t type, code;
  uint32_t rest;
  int to_type, to_code;  // -1: refused
  uint32_t to_rest;
};

void check(const Mapping& m, bool to_v6) {
  SCOPED_TRACE(::testing::Message() << unsigned{m.type} << '/' << unsigned{m.code} << ' ' << m.rest);
  Error before = to_v6 ? through4(net::kUdp, false) : through6(net::kUdp, true);
  Error after = to_v6 ? through6(net::kUdp, false) : through4(net::kUdp, true);
  before.type = m.type, before.code = m.code, before.rest = m.rest;
  const Rewrite rewrite = to_v6 ? to_vm6() : from_vm6();
  if (m.to_type < 0) return expect_refused(rewrite, describe(before));
  after.type = static_cast<uint8_t>(m.to_type), after.code = static_cast<uint8_t>(m.to_code), after.rest = m.to_rest;
  expect_translated(rewrite, before, after);
}

// RFC 7915 section 4.2. The quoted packet has 52 bytes, so that an MTU of 0 finds no plateau.
TEST(IcmpError, TypesAndCodesToV6) {
  for (const Mapping& m : std::initializer_list<Mapping>{
           {3, 0, 0, 1, 0, 0},           {3, 1, 0, 1, 0, 0},           {3, 2, 0, 4, 1, 6},
           {3, 3, 0, 1, 4, 0},           {3, 4, 1500, 2, 0, 1520},     {3, 4, 576, 2, 0, 1280},
           {3, 4, 0, 2, 0, 1280},        {3, 4, 65535, 2, 0, 65555},   {3, 5, 0, 1, 0, 0},
           {3, 6, 0, 1, 0, 0},           {3, 7, 0, 1, 0, 0},           {3, 8, 0, 1, 0, 0},
           {3, 9, 0, 1, 1, 0},           {3, 10, 0, 1, 1, 0},          {3, 11, 0, 1, 0, 0},
           {3, 12, 0, 1, 0, 0},          {3, 13, 0, 1, 1, 0},          {3, 14, 0, -1, 0, 0},
           {3, 15, 0, 1, 1, 0},          {3, 16, 0, -1, 0, 0},         {4, 0, 0, -1, 0, 0},
           {5, 0, 0, -1, 0, 0},          {11, 0, 0, 3, 0, 0},          {11, 1, 0, 3, 1, 0},
           {12, 1, 0, -1, 0, 0},         {12, 0, 0, 4, 0, 0},          {12, 2, 1u << 24, 4, 0, 1},
           {12, 0, 2u << 24, 4, 0, 4},   {12, 0, 3u << 24, 4, 0, 4},   {12, 0, 4u << 24, -1, 0, 0},
           {12, 0, 7u << 24, -1, 0, 0},  {12, 0, 8u << 24, 4, 0, 7},   {12, 0, 9u << 24, 4, 0, 6},
           {12, 0, 10u << 24, -1, 0, 0}, {12, 0, 12u << 24, 4, 0, 8},  {12, 0, 15u << 24, 4, 0, 8},
           {12, 0, 16u << 24, 4, 0, 24}, {12, 0, 19u << 24, 4, 0, 24}, {12, 0, 20u << 24, -1, 0, 0}})
    check(m, true);
}

// RFC 7915 section 5.2.
TEST(IcmpError, TypesAndCodesToV4) {
  for (const Mapping& m : std::initializer_list<Mapping>{{1, 0, 0, 3, 1, 0},           {1, 1, 0, 3, 10, 0},
                                                         {1, 2, 0, 3, 1, 0},           {1, 3, 0, 3, 1, 0},
                                                         {1, 4, 0, 3, 3, 0},           {1, 5, 0, -1, 0, 0},
                                                         {2, 0, 1500, 3, 4, 1480},     {2, 0, 1280, 3, 4, 1260},
                                                         {2, 0, 10, 3, 4, 68},         {2, 0, 0xffffffff, 3, 4, 65535},
                                                         {3, 0, 0, 11, 0, 0},          {3, 1, 0, 11, 1, 0},
                                                         {4, 0, 0, 12, 0, 0},          {4, 0, 1, 12, 0, 1u << 24},
                                                         {4, 0, 2, -1, 0, 0},          {4, 0, 3, -1, 0, 0},
                                                         {4, 0, 4, 12, 0, 2u << 24},   {4, 0, 5, 12, 0, 2u << 24},
                                                         {4, 0, 6, 12, 0, 9u << 24},   {4, 0, 7, 12, 0, 8u << 24},
                                                         {4, 0, 8, 12, 0, 12u << 24},  {4, 0, 23, 12, 0, 12u << 24},
                                                         {4, 0, 24, 12, 0, 16u << 24}, {4, 0, 39, 12, 0, 16u << 24},
                                                         {4, 0, 40, -1, 0, 0},         {4, 0, 0x10000006, -1, 0, 0},
                                                         {4, 1, 6, 3, 2, 0},           {4, 2, 0, -1, 0, 0},
                                                         {128, 0, 0, -1, 0, 0},        {137, 0, 0, -1, 0, 0}})
    check(m, false);
}

// A router that knows no MTU: the plateau below the length of the packet that did not fit.
TEST(IcmpError, PlateauOfAnUnknownMtu) {
  for (const auto& [size, mtu] : {std::pair<size_t, uint32_t>{9000, 8186}, {1500, 1512}, {1492, 1280}, {3000, 2022}}) {
    Error four = through4(net::kUdp, false), six = through6(net::kUdp, false);
    four.code = 4, six.type = 2, six.code = 0, six.rest = mtu;
    four.quoted.body = six.quoted.body = Bytes(size - 28);
    four.transport = six.transport = 8;
    expect_translated(to_vm6(), four, six);
  }
}

// RFC 4884: the quoted packet grows and is padded anew, the extension stays behind it.
TEST(IcmpError, Nat64MovesExtensions) {
  const Bytes extension = {0x20, 0, 1, 2, 0, 8, 1, 1, 9, 9, 9, 9};
  Error four = through4(net::kUdp, false), six = through6(net::kUdp, false);
  four.quoted.body = six.quoted.body = Bytes(300, 3);
  four.transport = six.transport = 132 - 20;
  four.extension = six.extension = extension;
  four.rest = 33u << 16;  // 132 bytes, in IPv6 152
  six.rest = 19u << 24;
  expect_translated(to_vm6(), four, six);

  four = through4(net::kUdp, true), six = through6(net::kUdp, true);  // 84 bytes, in IPv4 64: padding to 128
  four.quoted.body = six.quoted.body = Bytes(36, 3);
  four.padding = Bytes(64);
  six.padding = Bytes(44);
  four.extension = six.extension = extension;
  four.rest = 32u << 16;
  six.rest = 16u << 24;
  expect_translated(from_vm6(), six, four);
}

// Shorter than RFC 4884 allows: what follows is no extension that a receiver would find.
TEST(IcmpError, Nat64CutsMalformedExtensions) {
  Error four = through4(net::kUdp, false), six = through6(net::kUdp, false);
  four.extension = Bytes(12, 1);
  four.rest = 13u << 16;  // 52 bytes
  expect_translated(to_vm6(), four, six);
}

TEST(IcmpError, Nat64CutsWhatIsTooLong) {
  Error four = through4(net::kUdp, false), six = through6(net::kUdp, false);
  four.quoted.body = six.quoted.body = Bytes(1400, 3);
  six.transport = 1280 - 40 - 8 - 40;
  expect_translated(to_vm6(), four, six);
  four.transport = 1020 - 20;  // an extension behind what fills the message
  four.extension = Bytes(300, 1);
  four.rest = 255u << 16;
  six.transport = 1000;
  expect_translated(to_vm6(), four, six);
}

TEST(IcmpError, RefusesBadChecksums) {
  for (const size_t at : {size_t{22}, size_t{28 + 10}, size_t{28 + 8}}) {  // message; quoted header: checksum, TTL
    const Error good = error4(net::kUdp, kPublic, kPublicPort);
    Bytes packet = build(describe(good));
    packet[at] ^= 1;
    if (at != 22) {  // the message itself is right
      set16(packet, 22, 0);
      set16(packet, 22, plain_checksum(Bytes(packet.begin() + 20, packet.end())));
    }
    for (const Rewrite& rewrite : {to_vm4(), to_vm6()}) {
      Buffer buffer(packet, describe(good));
      EXPECT_EQ(translate_icmp_error(rewrite, buffer.view), Outcome::kBadChecksum) << at;
      EXPECT_EQ(buffer.packet(), packet);
    }
  }
  const Error six = through6(net::kUdp, true);
  Bytes packet = build(describe(six));
  packet[40 + 8 + 48] ^= 1;
  Buffer buffer(packet, describe(six));
  EXPECT_EQ(translate_icmp_error(from_vm6(), buffer.view), Outcome::kBadChecksum);
}

// A VM must not send errors along a flow to somebody who never sent the packet.
TEST(IcmpError, RefusesErrorsToSomebodyElse) {
  Error e = error4(net::kUdp, kPublic, kPublicPort);
  e.outer.destination = v4("203.0.113.8");
  expect_refused(to_vm4(), describe(e));
  Error six = through6(net::kUdp, true);
  six.outer.destination = six.quoted.source = v6("2001:db8:9::1");  // not in the prefix
  expect_refused(from_vm6(), describe(six));
}

TEST(IcmpError, RefusesFragmentsAndOtherProtocols) {
  Description d = describe(error4(net::kUdp, kPublic, kPublicPort));
  d.more = true;
  expect_refused(to_vm4(), d);
  d.more = false;
  d.proto = net::kUdp;
  expect_refused(to_vm4(), d);
}

TEST(IcmpError, RefusesAQuotedPacketWithoutThePort) {
  Error e = error4(net::kUdp, kPublic, kPublicPort);
  e.quoted.offset = 9;
  expect_refused(to_vm4(), describe(e));
  e = error4(47, kPublic, 0);
  expect_refused(to_vm4(), describe(e));
}

TEST(IcmpError, SurvivesBeingCutOffAnywhere) {
  const std::pair<Rewrite, Error> cases[] = {{to_vm4(), error4(net::kTcp, kPublic, kPublicPort)},
                                             {to_vm6(), through4(net::kTcp, false)},
                                             {from_vm6(), through6(net::kTcp, true)}};
  for (const auto& [rewrite, error] : cases) {
    Description d = describe(error);
    const Bytes message = d.body;
    const size_t needed = 8 + header_length(error.quoted) + 8;
    for (size_t length = 0; length <= message.size(); ++length) {
      d.body.assign(message.begin(), message.begin() + static_cast<ptrdiff_t>(length));
      Buffer buffer(d);
      EXPECT_EQ(translate_icmp_error(rewrite, buffer.view) == Outcome::kOk, length >= needed) << length;
      if (length < needed) {
        EXPECT_EQ(buffer.packet(), build(d));
      }
    }
  }
}

}  // namespace
}  // namespace ironcore::translate::testing
