#include <algorithm>

#include "translate/packet_builder.h"
#include "translate/rewrite.h"

namespace ironcore::translate::testing {
namespace {

const IpAddress kVm = v6("2001:db8::1"), kNat = v4("203.0.113.7"), kServer = v4("8.8.8.8");

// The same packet in both families, as the VM and as the server see it. `towards_vm` swaps the ends.
struct Pair {
  Description six, four;
};

struct Ends {
  IpAddress vm, nat, server;
  uint16_t vm_port, nat_port, server_port;
  bool towards_vm;
};

Pair make_pair(Random& random, const Ends& ends, uint8_t proto) {
  Description six;
  six.traffic_class = static_cast<uint8_t>(random());
  six.hop_limit = static_cast<uint8_t>(random());
  six.proto = proto;
  const Bytes payload = random_bytes(random, random() % 64);
  if (proto == net::kTcp) {
    six.body = random_bytes(random, 16 + payload.size());
  } else if (proto == net::kUdp) {
    six.body = payload;
  } else {
    six.proto = net::kIcmp6;
    six.body = echo(ends.towards_vm ? 129 : 128, ends.vm_port, payload);
  }
  if (proto != net::kIcmp && random() % 4 == 0) {
    six.fragment_header = six.more = true;
    six.hidden = static_cast<uint16_t>(random() % 1000);
    six.id = static_cast<uint16_t>(random());
  } else if (proto != net::kIcmp && random() % 8 == 0) {
    six.fragment_header = true;
    six.offset = static_cast<uint16_t>(1 + random() % 100);
    six.more = random() % 2;
    six.id = static_cast<uint16_t>(random());
    six.body = payload;
  }
  Description four = six;
  if (proto == net::kIcmp) {
    four.proto = net::kIcmp;
    four.body = echo(ends.towards_vm ? 0 : 8, ends.nat_port, payload);
  }
  six.source = ends.vm, six.destination = in_prefix(ends.server);
  six.source_port = ends.vm_port, six.destination_port = ends.server_port;
  four.source = ends.nat, four.destination = ends.server;
  four.source_port = ends.nat_port, four.destination_port = ends.server_port;
  for (Description* d : {&six, &four}) {
    if (!ends.towards_vm) continue;
    std::swap(d->source, d->destination);
    std::swap(d->source_port, d->destination_port);
  }
  return {six, four};
}

Ends random_ends(Random& random, bool towards_vm) {
  return {random_address(random, true),
          random_address(random, false),
          random_address(random, false),
          random_port(random),
          random_port(random),
          random_port(random),
          towards_vm};
}

constexpr uint8_t kProtocols[] = {net::kTcp, net::kUdp, net::kIcmp};

void check_out(Random& random) {
  const Ends ends = random_ends(random, false);
  Pair pair = make_pair(random, ends, kProtocols[random() % 3]);
  if (random() % 4 == 0)
    pair.six.extensions = {net::kHopByHop, 0, 5, 2, 0, 0, 1, 0, net::kRouting, 0, 3, 0, 0, 0, 0, 0};
  Buffer buffer(pair.six, 0);
  const Rewrite rewrite = six_to_four(ends.vm.bytes, v4_of(ends.nat), ports(ends.vm_port, ends.nat_port));
  ASSERT_EQ(apply(rewrite, buffer.view), Outcome::kOk);
  ASSERT_EQ(buffer.packet(), build(pair.four));
  buffer.expect_consistent(pair.four);
}

void check_in(Random& random) {
  const Ends ends = random_ends(random, true);
  Pair pair = make_pair(random, ends, kProtocols[random() % 3]);
  if (random() % 4 == 0) pair.four.options = {148, 4, 0, 0, 1, 1, 1, 0};
  pair.four.dont_fragment = random() % 2;
  const size_t growth = header_length(pair.six) - header_length(pair.four);
  Buffer buffer(pair.four, growth);
  const Rewrite rewrite = four_to_six(v4_of(ends.nat), ends.vm.bytes, ports(ends.nat_port, ends.vm_port));
  ASSERT_EQ(apply(rewrite, buffer.view), Outcome::kOk);
  ASSERT_EQ(buffer.packet(), build(pair.six));
  buffer.expect_consistent(pair.six);
  EXPECT_EQ(buffer.view.headroom, 0u);

  Buffer tight(pair.four, growth - 1);
  ASSERT_EQ(apply(rewrite, tight.view), Outcome::kNoHeadroom);
  ASSERT_EQ(tight.packet(), build(pair.four));
}

TEST(Nat64, OutEqualsAPacketBuiltAnew) {
  Random random(3);
  for (int i = 0; i < 20000 && !HasFatalFailure(); ++i) check_out(random);
}

TEST(Nat64, InEqualsAPacketBuiltAnew) {
  Random random(4);
  for (int i = 0; i < 20000 && !HasFatalFailure(); ++i) check_in(random);
}

// Out, and the same packet back in by the inverse translation of a VM at the other end.
TEST(Nat64, OutAndInRestoreThePacket) {
  Random random(5);
  for (int i = 0; i < 10000; ++i) {
    const Ends ends = random_ends(random, false);
    const Pair pair = make_pair(random, ends, kProtocols[random() % 3]);
    Buffer buffer(pair.six);
    const Rewrite out = six_to_four(ends.vm.bytes, v4_of(ends.nat), ports(ends.vm_port, ends.nat_port));
    ASSERT_EQ(apply(out, buffer.view), Outcome::kOk);
    EndsV6 back{pair.six.source.bytes, pair.six.destination.bytes, net::swap16(pair.six.source_port),
                net::swap16(pair.six.destination_port), pair.six.traffic_class};
    if (pair.six.proto == net::kIcmp6) continue;
    ASSERT_EQ(swap_to_v6(buffer.view, back), Outcome::kOk);
    ASSERT_EQ(buffer.packet(), build(pair.six));
  }
}

TEST(Nat64, GoldenEcho) {
  Bytes packet = {0x62, 0x80, 0x00, 0x00, 0x00, 0x0b, 0x3a, 0x3f, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00,
                  0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x64, 0xff, 0x9b, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                  0x00, 0x00, 0x08, 0x08, 0x08, 0x08, 0x80, 0x00, 0x6e, 0x13, 0x00, 0x77, 0x00, 0x01, 0x6f, 0x64, 0x64};
  const Bytes expected = {0x45, 0x28, 0x00, 0x1f, 0x00, 0x00, 0x00, 0x00, 0x3f, 0x01, 0x2f,
                          0x9f, 0xcb, 0x00, 0x71, 0x07, 0x08, 0x08, 0x08, 0x08, 0x08, 0x00,
                          0x20, 0x99, 0x04, 0x01, 0x00, 0x01, 0x6f, 0x64, 0x64};
  PacketView view{packet.data(), packet.size(), 0, 40, net::kIcmp6, false};
  ASSERT_EQ(apply(six_to_four(kVm.bytes, v4_of(kNat), ports(0x77, 1025)), view), Outcome::kOk);
  EXPECT_EQ(Bytes(view.ip, view.ip + view.length), expected);
}

Rewrite out() { return six_to_four(kVm.bytes, v4_of(kNat), ports(40000, 1025)); }
Rewrite in() { return four_to_six(v4_of(kNat), kVm.bytes, ports(1025, 40000)); }

void expect_refused(const Rewrite& rewrite, const Description& d, Outcome outcome = Outcome::kNotTranslatable) {
  Buffer buffer(d);
  EXPECT_EQ(apply(rewrite, buffer.view), outcome);
  EXPECT_EQ(buffer.packet(), build(d));
  EXPECT_EQ(buffer.view.headroom, 128u);
}

// A fragment header around a whole packet (RFC 6946): the IPv4 packet is none, but keeps the identification.
TEST(Nat64, AtomicFragment) {
  Description six{.source = kVm, .destination = in_prefix(kServer), .source_port = 40000, .body = {1, 2, 3}};
  six.fragment_header = true;
  six.id = 77;
  Description four = six;
  four.source = kNat, four.destination = kServer, four.source_port = 1025;
  Buffer buffer(six);
  ASSERT_EQ(apply(out(), buffer.view), Outcome::kOk);
  EXPECT_EQ(buffer.packet(), build(four));
  buffer.expect_consistent(four);
}

TEST(Nat64, ComputesTheChecksumThatIpv6Needs) {
  Description four{.source = kServer, .destination = kNat, .destination_port = 1025, .body = {1, 2, 3}};
  Description six = four;
  six.source = in_prefix(kServer), six.destination = kVm, six.destination_port = 40000;
  four.no_checksum = true;
  Buffer buffer(four);
  ASSERT_EQ(apply(in(), buffer.view), Outcome::kOk);
  EXPECT_EQ(buffer.packet(), build(six));
}

TEST(Nat64, RefusesFragmentsWithoutAChecksum) {
  Description four{.source = kServer, .destination = kNat, .destination_port = 1025, .body = {1, 2, 3}};
  four.no_checksum = four.more = true;
  expect_refused(in(), four);
}

// The length in the UDP header is not that of the packet, and there is no checksum to trust.
TEST(Nat64, RefusesToInventAChecksumOfAMalformedDatagram) {
  Description four{.source = kServer, .destination = kNat, .destination_port = 1025, .body = {1, 2, 3}};
  four.no_checksum = true;
  for (const uint16_t length : {uint16_t{0}, uint16_t{7}, uint16_t{12}}) {
    Bytes packet = build(four);
    set16(packet, 24, length);
    Buffer buffer(packet, four);
    EXPECT_EQ(apply(in(), buffer.view), Outcome::kNotTranslatable);
    EXPECT_EQ(buffer.packet(), packet);
  }
}

TEST(Nat64, RefusesRoutesThatAreNotFinished) {
  Description six{.source = kVm, .destination = in_prefix(kServer), .source_port = 40000};
  six.extensions = {net::kRouting, 0, 3, 1, 0, 0, 0, 0};
  expect_refused(out(), six);
  Description four{.source = kServer, .destination = kNat, .destination_port = 1025};
  for (const uint8_t type : {uint8_t{131}, uint8_t{137}}) {
    four.options = {1, type, 7, 4, 1, 2, 3, 4};
    expect_refused(in(), four);
    four.options[3] = 8;  // the pointer is behind the last address
    Buffer buffer(four);
    EXPECT_EQ(apply(in(), buffer.view), Outcome::kOk);
  }
}

TEST(Nat64, RefusesWhatHasNoCounterpart) {
  Description six{.source = kVm, .destination = in_prefix(kServer)};
  Description four{.source = kServer, .destination = kNat};
  six.body = four.body = Bytes(24);
  for (const uint8_t proto : {uint8_t{47}, uint8_t{51}, uint8_t{132}}) {
    six.proto = four.proto = proto;
    expect_refused(out(), six);
    expect_refused(in(), four);
  }
  six.proto = net::kIcmp6, four.proto = net::kIcmp;
  six.body = echo(135, 0, Bytes(16)), four.body = echo(13, 0, Bytes(16));
  expect_refused(out(), six);
  expect_refused(in(), four);
  six.body = echo(128, 40000, Bytes(16)), four.body = echo(0, 1025, Bytes(16));  // RFC 7915 section 1.2
  six.fragment_header = six.more = four.more = true;
  expect_refused(out(), six);
  expect_refused(in(), four);
}

TEST(Nat64, RefusesAnythingCutOff) {
  Random random(6);
  for (int i = 0; i < 300; ++i) {
    const bool towards_vm = i % 2;
    const Ends ends = random_ends(random, towards_vm);
    const Pair pair = make_pair(random, ends, kProtocols[random() % 3]);
    const Description& d = towards_vm ? pair.four : pair.six;
    if (d.offset != 0) continue;
    const Bytes whole = build(d);
    const size_t needed = header_length(d) + (d.proto == net::kTcp ? 20 : 8);
    for (size_t length = 0; length < needed; ++length) {
      const Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length));
      Buffer buffer(cut, d);
      ASSERT_EQ(apply(towards_vm ? in() : out(), buffer.view), Outcome::kTruncated) << length;
      ASSERT_EQ(buffer.packet(), cut);
    }
  }
}

TEST(VirtualService, RequestAndReply) {
  Random random(7);
  for (int i = 0; i < 5000; ++i) {
    const bool tcp = i % 2;
    Description four{.source = random_address(random, false), .destination = random_address(random, false)};
    four.proto = tcp ? net::kTcp : net::kUdp;
    four.source_port = random_port(random), four.destination_port = random_port(random);
    four.body = random_bytes(random, 16 + random() % 32);
    four.id = static_cast<uint16_t>(random());
    Description six = four;
    six.source = random_address(random, true), six.destination = random_address(random, true);
    six.source_port = random_port(random), six.destination_port = random_port(random);
    Buffer buffer(four);
    ASSERT_EQ(swap_to_v6(buffer.view, {six.source.bytes, six.destination.bytes, net::swap16(six.source_port),
                                       net::swap16(six.destination_port)}),
              Outcome::kOk);
    ASSERT_EQ(buffer.packet(), build(six));
    buffer.expect_consistent(six);
    ASSERT_EQ(swap_to_v4(buffer.view, {v4_of(four.source), v4_of(four.destination), net::swap16(four.source_port),
                                       net::swap16(four.destination_port), 0, net::swap16(four.id)}),
              Outcome::kOk);
    ASSERT_EQ(buffer.packet(), build(four));
    buffer.expect_consistent(four);
  }
}

TEST(VirtualService, RefusesIcmp) {
  const Description four{.source = kServer, .destination = kNat, .proto = net::kIcmp, .body = echo(8, 1, {})};
  Buffer buffer(four);
  EXPECT_EQ(swap_to_v6(buffer.view, {}), Outcome::kNotTranslatable);
  EXPECT_EQ(buffer.packet(), build(four));
  const Description six{.source = kVm, .destination = kVm, .proto = net::kIcmp6, .body = echo(128, 1, {})};
  Buffer buffer6(six);
  EXPECT_EQ(swap_to_v4(buffer6.view, {}), Outcome::kNotTranslatable);
  EXPECT_EQ(buffer6.packet(), build(six));
}

}  // namespace
}  // namespace ironcore::translate::testing
