// Virtual services, packet by packet: IPv4 with the VM, IPv6 without overlay in the fabric.
#include <gtest/gtest.h>
#include <rte_mbuf.h>

#include <algorithm>

#include "net/checksum.h"
#include "testing/harness.h"

namespace ironcore::testing {
namespace {

constexpr const char* kServer = "fc00:77::53";
constexpr const char* kWeb = "fc00:77::80";
constexpr const char* kVirtual = "169.254.1.53";
constexpr const char* kUnderlay = "fc00:1::d0ff:4000:0:0";
constexpr const char* kWebUnderlay = "fc00:1::d0ff:4000:100:0";

EngineOptions with_services() {
  EngineOptions options = default_options();
  options.virtual_services = {{17, ip4(kVirtual), 53, ip6(kServer), 5353}, {6, ip4(kVirtual), 80, ip6(kWeb), 8080}};
  return options;
}

// A UDP or TCP packet with its checksum.
Frame checked(const std::string& src, const std::string& dst, uint8_t proto, const Frame& segment) {
  Frame frame = from_vm(src, dst, proto, segment);
  const size_t l4 = frame[12] == 0x08 ? 34 : 54;
  net::write_l4_checksum(frame.data() + 14, l4 == 54, proto, frame.data() + l4, frame.size() - l4);
  return frame;
}

class VirtualService : public ::testing::Test {
 protected:
  explicit VirtualService(EngineOptions options = with_services()) : net(std::move(options)) {
    net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
    net.add_interface(kVf1, 200, "10.0.0.1");  // another tenant with the same address
  }
  Frame request(const Frame& frame, unsigned vf = kVf0, unsigned pf = kPf0) { return net.forward(vf, frame, pf); }
  Frame answer(const Frame& frame, unsigned vf = kVf0, unsigned pf = kPf0) {
    Frame wire = frame;
    std::copy(kRouterMac.begin(), kRouterMac.end(), wire.begin() + 6);
    return net.forward(pf, wire, vf);
  }
  static Frame ask(uint16_t port) { return checked("10.0.0.1", kVirtual, 17, udp(port, 53)); }
  static Frame tell(uint16_t slot_port) { return checked(kServer, kUnderlay, 17, udp(5353, slot_port)); }
  uint32_t used(size_t service = 0) { return net.engine().virtual_services().at(service).used_ports; }

  Harness net;
};

TEST_F(VirtualService, SwapsRequestsAndAnswers) {
  for (int packet = 0; packet < 2; ++packet) {
    const Frame out = request(ask(1000));
    EXPECT_EQ(slice(out, 0, 14), slice(ethernet(kRouterMac, net.mac(kPf0), 0x86dd, {}), 0, 14));
    EXPECT_EQ(slice(out, 14), slice(checked(kUnderlay, kServer, 17, udp(1025, 5353)), 14));
    const Frame in = answer(tell(1025));
    EXPECT_EQ(slice(in, 6, 8), slice(ethernet({}, net.mac(kVf0), 0x0800, {}), 6, 8));
    const Frame expected = checked(kVirtual, "10.0.0.1", 17, udp(53, 1000));
    EXPECT_EQ(slice(in, 14, 4), slice(expected, 14, 4));
    EXPECT_EQ(slice(in, 20, 4), (Frame{0, 0, 64, 17}));  // no flags, hop limit as TTL
    EXPECT_EQ(net::checksum_sum(in.data() + 14, 20), 0xffff);
    EXPECT_EQ(slice(in, 26), slice(expected, 26));
  }
  EXPECT_EQ(net.worker().slow_path, 1u);
  EXPECT_EQ(used(), 1u);
  EXPECT_EQ(net.engine().virtual_services().at(0).underlay, ip6(kUnderlay));
}

TEST_F(VirtualService, EachClientHasItsPort) {
  EXPECT_EQ(slice(request(ask(1000)), 54, 2), (Frame{0x04, 0x01}));
  EXPECT_EQ(slice(request(ask(1001)), 54, 2), (Frame{0x04, 0x02}));
  EXPECT_EQ(slice(request(ask(1000), kVf1), 54, 2), (Frame{0x04, 0x03}));
  EXPECT_EQ(slice(answer(tell(1026)), 36, 2), (Frame{1001 >> 8, 1001 & 0xff}));
  answer(tell(1027), kVf1);
  EXPECT_EQ(used(), 3u);
}

TEST_F(VirtualService, TcpOpensAndCloses) {
  const auto vm = [](uint8_t flags) { return checked("10.0.0.1", kVirtual, 6, tcp(1000, 80, flags)); };
  const auto server = [](uint8_t flags) { return checked(kWeb, kWebUnderlay, 6, tcp(8080, 1025, flags)); };
  EXPECT_EQ(slice(request(vm(0x02)), 14), slice(checked(kWebUnderlay, kWeb, 6, tcp(1025, 8080, 0x02)), 14));
  answer(server(0x12));
  request(vm(0x10));
  // Open: hours later it goes on, and nobody else gets the port.
  net.advance(3600);
  EXPECT_EQ(slice(answer(server(0x18)), 26), slice(checked(kVirtual, "10.0.0.1", 6, tcp(80, 1000, 0x18)), 26));
  EXPECT_EQ(slice(request(checked("10.0.0.1", kVirtual, 6, tcp(1001, 80, 2))), 54, 2), (Frame{0x04, 0x02}));
  request(vm(0x11));
  EXPECT_EQ(used(1), 2u);
}

TEST_F(VirtualService, AnswersAreAcceptedFromTheServerOnly) {
  request(ask(1000));
  net.expect_drop(kPf0, tell(1026), DropReason::virtual_service_unknown);
  net.expect_drop(kPf0, tell(1000), DropReason::virtual_service_unknown);
  net.expect_drop(kPf0, checked("fc00:77::54", kUnderlay, 17, udp(5353, 1025)), DropReason::virtual_service_unknown);
  net.expect_drop(kPf0, checked(kServer, kUnderlay, 17, udp(53, 1025)), DropReason::virtual_service_unknown);
  net.expect_drop(kPf0, checked(kServer, kUnderlay, 6, tcp(5353, 1025, 0x10)), DropReason::virtual_service_unknown);
  net.expect_drop(kPf0, checked(kServer, kWebUnderlay, 17, udp(5353, 1025)), DropReason::virtual_service_unknown);
  net.expect_drop(kPf0, checked(kServer, "fc00:1::d000:0:1", 17, udp(5353, 1025)), DropReason::not_overlay);
  answer(tell(1025));
}

TEST_F(VirtualService, AnswersGoOnWithoutTheFlowEntry) {
  const auto vm = [](uint8_t flags) { return checked("10.0.0.1", kVirtual, 6, tcp(1000, 80, flags)); };
  const auto server = [](uint8_t flags) { return checked(kWeb, kWebUnderlay, 6, tcp(8080, 1025, flags)); };
  request(vm(0x02));
  net.advance(40);
  EXPECT_EQ(net.impl().flows().size(), 0u);
  EXPECT_EQ(used(1), 1u);  // idle, but nobody else has asked
  answer(server(0x12));
  EXPECT_EQ(slice(request(vm(0x10)), 54, 2), (Frame{0x04, 0x01}));
  EXPECT_EQ(net.impl().flows().size(), 2u);
}

TEST_F(VirtualService, AnotherClientsPortIsNeverUsed) {
  request(ask(1000));
  // The entry lives on, the slot passes to the other tenant.
  virtsvc::ServiceSlots& slots = net.impl().virtual_service_registry().services()[0]->slots;
  const uint16_t other = net.impl().ports().by_device_name(device_name(kVf1))->id;
  ASSERT_TRUE(slots.take(1, {other, 7, ip4("10.0.0.1")}, 0));
  EXPECT_EQ(slice(request(ask(1000)), 54, 2), (Frame{0x04, 0x02}));
  EXPECT_EQ(slice(answer(tell(1025), kVf1), 36, 2), (Frame{0, 7}));
  EXPECT_EQ(slice(answer(tell(1026), kVf0), 36, 2), (Frame{0x03, 0xe8}));
}

TEST_F(VirtualService, WinsOverRoutesAndFirewall) {
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  FirewallRule rule;
  rule.id = "closed";
  rule.action = FirewallAction::kDrop;
  rule.direction = TrafficDirection::kEgress;
  ASSERT_EQ(net.engine().create_firewall_rule("vm0", rule), Status::OK);
  ASSERT_EQ(net.engine().create_nat("vm0", ip("203.0.113.1"), 1024, 1028, std::nullopt).status, Status::OK);
  EXPECT_EQ(slice(request(ask(1000)), 14), slice(checked(kUnderlay, kServer, 17, udp(1025, 5353)), 14));
  // Other ports of that address are none.
  net.expect_drop(kVf0, checked("10.0.0.1", kVirtual, 17, udp(1000, 54)), DropReason::firewall);
  net.expect_drop(kVf0, checked("10.0.0.1", kVirtual, 6, tcp(1000, 53, 2)), DropReason::firewall);
}

TEST_F(VirtualService, SpoofedSourcesDoNotReachIt) {
  net.expect_drop(kVf0, checked("10.0.0.9", kVirtual, 17, udp(1000, 53)), DropReason::spoofed_source);
  EXPECT_EQ(used(), 0u);
}

TEST_F(VirtualService, TheInterfaceTakesItsPortsAlong) {
  request(ask(1000));
  request(ask(1001));
  request(ask(1000), kVf1);
  ASSERT_EQ(net.engine().delete_interface("vm0"), Status::OK);
  EXPECT_EQ(used(), 1u);
  net.expect_drop(kPf0, tell(1025), DropReason::virtual_service_unknown);
  net.add_interface(kVf0, 300, "10.0.0.1");
  net.expect_drop(kPf0, tell(1026), DropReason::virtual_service_unknown);
  answer(tell(1027), kVf1);
}

TEST_F(VirtualService, TheOtherUplinkTakesOver) {
  request(ask(1000));
  net.impl().ports().uplink(0)->link_up = false;
  EXPECT_EQ(slice(request(ask(1000), kVf0, kPf1), 14), slice(checked(kUnderlay, kServer, 17, udp(1025, 5353)), 14));
  answer(tell(1025), kVf0, kPf1);
  net.impl().ports().uplink(1)->link_up = false;
  net.expect_drop(kVf0, ask(1000), DropReason::uplink_down);
  for (unsigned pf = 0; pf < 2; ++pf) net.impl().ports().uplink(pf)->link_up = true;
}

TEST_F(VirtualService, TellsWhatDoesNotFit) {
  const size_t room = net.impl().ports().uplink(0)->max_frame - 54;
  request(checked("10.0.0.1", kVirtual, 17, udp(1000, 53, room - 8)));
  const Frame error = net.forward(kVf0, checked("10.0.0.1", kVirtual, 17, udp(1000, 53, room - 7)), kVf0);
  EXPECT_EQ(slice(error, 34, 2), (Frame{3, 4}));
  EXPECT_EQ(static_cast<size_t>(error.at(40) << 8 | error.at(41)), room + 20);
}

TEST_F(VirtualService, IcmpErrorsAboutItEndHere) {
  const Frame out = request(ask(1000));
  Frame message = {1, 4, 0, 0, 0, 0, 0, 0};
  const Frame quoted = slice(out, 14);
  message.insert(message.end(), quoted.begin(), quoted.end());
  net.expect_drop(kPf0, checked(kServer, kUnderlay, 58, message), DropReason::not_translatable);
  EXPECT_EQ(used(), 1u);
  net.expect_drop(kPf0, slice(tell(1025), 0, 58), DropReason::truncated);
}

TEST_F(VirtualService, FragmentsFollowTheFirst) {
  Frame first = from_vm("10.0.0.1", kVirtual, 17, udp(1000, 53, 64));
  net::write_l4_checksum(first.data() + 14, false, 17, first.data() + 34, first.size() - 34);
  Frame later = first;
  const auto as_fragment = [](Frame& frame, uint8_t flags, uint8_t offset) {
    frame[20] = flags;
    frame[21] = offset;
    frame[24] = frame[25] = 0;
    const auto sum = static_cast<uint16_t>(~net::checksum_sum(frame.data() + 14, 20));
    std::memcpy(frame.data() + 24, &sum, 2);
  };
  as_fragment(first, 0x20, 0);
  as_fragment(later, 0, 9);
  const Frame out = request(first);
  EXPECT_EQ(out[20], 44);
  EXPECT_EQ(slice(out, 62, 4), (Frame{0x04, 0x01, 5353 >> 8, 5353 & 0xff}));
  EXPECT_EQ(slice(request(later), 62), slice(later, 34));
  EXPECT_EQ(used(), 1u);
}

TEST_F(VirtualService, ChecksumsThatNobodyComputedAreCompleted) {
  const Frame right = ask(1000), told = tell(1025);
  const auto without = [](Frame frame, size_t at) {
    frame[at] = 0x12;
    frame[at + 1] = 0x34;
    return frame;
  };
  net.inject(kVf0, without(right, 40), RTE_MBUF_F_RX_L4_CKSUM_NONE);
  net.poll();
  auto sent = net.sent(kPf0);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(slice(sent[0], 14), slice(checked(kUnderlay, kServer, 17, udp(1025, 5353)), 14));
  net.inject(kPf0, without(told, 60), RTE_MBUF_F_RX_L4_CKSUM_NONE);
  net.poll();
  sent = net.sent(kVf0);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(slice(sent[0], 26), slice(checked(kVirtual, "10.0.0.1", 17, udp(53, 1000)), 26));
}

TEST_F(VirtualService, GuestsLearnTheRoute) {
  Frame discover = udp(68, 67, 0);
  Frame bootp = {1, 1, 6, 0, 1, 2, 3, 4};
  bootp.resize(236);
  const Frame options = {0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255};
  bootp.insert(bootp.end(), options.begin(), options.end());
  discover[4] = static_cast<uint8_t>((8 + bootp.size()) >> 8);
  discover[5] = static_cast<uint8_t>(8 + bootp.size());
  discover.insert(discover.end(), bootp.begin(), bootp.end());
  const Frame offer = net.forward(kVf0, from_vm("0.0.0.0", "255.255.255.255", 17, discover), kVf0);
  const Frame routes = {121, 20, 16, 0xa9, 0xfe, 0, 0, 0, 0, 0, 0xa9, 0xfe, 0, 1, 24, 0xa9, 0xfe, 1, 0xa9, 0xfe, 0, 1};
  EXPECT_NE(std::search(offer.begin(), offer.end(), routes.begin(), routes.end()), offer.end());
}

TEST(VirtualServiceOptions, AreChecked) {
  EngineOptions options = with_services();
  options.virtual_services.push_back(options.virtual_services[0]);
  try {
    Harness net(options);
    FAIL() << "the same service twice";
  } catch (const EngineError& error) {
    EXPECT_NE(std::string(error.what()).find("have the same virtual endpoint"), std::string::npos) << error.what();
  }
}

TEST(VirtualServiceSpread, FollowsTheClientsHash) {
  EngineOptions options = with_services();
  options.wcmp = 0;  // all on the second uplink
  Harness net(options);
  net.add_interface(kVf0, 100, "10.0.0.1");
  net.forward(kVf0, checked("10.0.0.1", kVirtual, 17, udp(1000, 53)), kPf1);
}

}  // namespace
}  // namespace ironcore::testing
