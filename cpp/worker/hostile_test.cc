// What a guest or the fabric must not be able to do, and that every lost packet has a name.
#include <gtest/gtest.h>

#include <random>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

class Hostile : public ::testing::Test {
 protected:
  Hostile() {
    underlay = net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
    net.add_interface(kVf1, 100, "10.0.0.2", "2001:db8::2");
    net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
    net.engine().create_route(100, prefix("::/0"), 100, ip(kRemote));
  }
  Harness net;
  Ipv6Address underlay;
};

TEST_F(Hostile, EveryRefusalHasItsName) {
  const Frame good = overlay(kRemote, underlay, udp_from_vm("10.0.0.9", "10.0.0.1"));
  net.expect_drop(kVf0, Frame(10), DropReason::truncated);
  net.expect_drop(kVf0, slice(udp_from_vm("10.0.0.1", "10.0.0.2"), 0, 30), DropReason::truncated);
  net.expect_drop(kVf0, ethernet(kVmMac, kVmMac, 0x8100, Frame(60)), DropReason::vlan_tagged);
  net.expect_drop(kVf0, ethernet(kVmMac, kVmMac, 0x88cc, Frame(60)), DropReason::ethertype_unsupported);

  net.expect_drop(kPf0, ethernet(kVmMac, kVmMac, 0x0800, Frame(60)), DropReason::not_overlay);
  net.expect_drop(kPf0, udp_from_vm("fc00:2::1", "fc00:1::1"), DropReason::not_overlay);
  net.expect_drop(kPf0, overlay(kRemote, ip6("fc00:9::d000:0:1"), udp_from_vm("10.0.0.9", "10.0.0.1")),
                  DropReason::underlay_prefix_mismatch);
  net.expect_drop(kPf0, overlay(kRemote, ip6("fc00:1::d000:0:77"), udp_from_vm("10.0.0.9", "10.0.0.1")),
                  DropReason::underlay_unknown);
  net.expect_drop(kPf0, slice(good, 0, good.size() - 4), DropReason::truncated);
  Frame beyond = good;  // inner packet longer than the outer says
  beyond[54 + 3] = static_cast<uint8_t>(beyond[54 + 3] + 1);
  beyond.push_back(0);
  net.expect_drop(kPf0, beyond, DropReason::truncated);
  Frame not_ip = good;
  not_ip[54] = 0x75;
  net.expect_drop(kPf0, not_ip, DropReason::ip_malformed);
}

TEST_F(Hostile, OverlayFramesFromAVmAreOrdinaryTraffic) {
  // A VM that forges the overlay must not reach another network: its packet is IPv6 from a foreign source.
  net.expect_drop(kVf0, overlay(kHost, underlay, udp_from_vm("10.0.0.1", "10.0.0.2")), DropReason::spoofed_source);
}

// Hop limits stay as they are in the overlay, so a receiver could not tell that the message was not of its link.
TEST_F(Hostile, NeighbourDiscoveryEndsAtTheGatewayHoweverItIsWrapped) {
  Frame advertisement = {136, 0, 0, 0, 0xa0, 0, 0, 0};
  const Ipv6Address gateway = ip6("fe80::1");
  advertisement.insert(advertisement.end(), gateway.begin(), gateway.end());
  const auto wrapped = [&](uint8_t header, const Frame& extension) {
    Frame payload = extension;
    payload.insert(payload.end(), advertisement.begin(), advertisement.end());
    return from_vm("2001:db8::1", "2001:db8::2", header, payload);
  };
  const Frame options = {58, 0, 1, 4, 0, 0, 0, 0}, whole = {58, 0, 0, 0, 0, 0, 0, 7}, first = {58, 0, 0, 1, 0, 0, 0, 7};
  const uint64_t flows_before = net.engine().counters().workers.at(0).flows_created;
  for (const Frame& frame : {from_vm("2001:db8::1", "2001:db8::2", 58, advertisement), wrapped(0, options),
                             wrapped(60, options), wrapped(44, whole), wrapped(44, first)}) {
    net.inject(kVf0, frame);
    net.poll();
    for (unsigned port = 0; port < kPortCount; ++port) EXPECT_TRUE(net.sent(port).empty()) << port;
  }
  EXPECT_EQ(net.engine().counters().workers.at(0).flows_created, flows_before);
  // Behind the same headers other messages pass.
  advertisement[0] = 128;
  net.forward(kVf0, wrapped(60, options), kVf1);
}

TEST_F(Hostile, FloodsOfForgedSourcesTakeNoFlows) {
  for (unsigned i = 0; i < 500; ++i)
    net.inject(kVf0, udp_from_vm("10.7." + std::to_string(i / 250) + "." + std::to_string(i % 250), "10.0.0.2"));
  net.poll(20);
  EXPECT_EQ(net.drops(DropReason::spoofed_source), 500u);
  EXPECT_EQ(net.impl().flows().size(), 0u);
}

// Random and mutated frames into every port: nothing crashes, and each frame is either sent or counted as a drop.
TEST_F(Hostile, GarbageIsAccountedFor) {
  const std::vector<Frame> seeds = {
      udp_from_vm("10.0.0.1", "10.0.0.2"),
      udp_from_vm("2001:db8::1", "2001:db8::2"),
      from_vm("10.0.0.1", "8.8.8.8", 6, tcp(1, 2, 0x02)),
      from_vm("10.0.0.1", "8.8.8.8", 1, icmp_echo(8, 1)),
      arp_request(kVmMac, "10.0.0.1", "169.254.0.1"),
      udp_from_vm("10.0.0.1", "10.0.0.2", 68, 67),
      udp_from_vm("fe80::1", "ff02::1:2", 546, 547),
      from_vm("fe80::5", "fe80::1", 58, Frame(24, 135)),
      overlay(kRemote, underlay, udp_from_vm("10.0.0.9", "10.0.0.1")),
      overlay(kRemote, underlay, udp_from_vm("2001:db8::9", "2001:db8::1")),
  };
  std::mt19937 random(11);
  const auto dropped = [&] {
    uint64_t sum = 0;
    for (const uint64_t count : net.engine().counters().drops) sum += count;
    return sum;
  };
  const uint64_t before = dropped();
  uint64_t in = 0, out = 0, consumed = 0;
  for (int round = 0; round < 2000; ++round) {
    for (int i = 0; i < 16; ++i) {
      Frame frame = seeds[random() % seeds.size()];
      if (random() % 4 == 0) frame.resize(1 + random() % frame.size());
      for (unsigned changes = random() % 5; changes > 0; --changes)
        frame[random() % frame.size()] = static_cast<uint8_t>(random());
      if (random() % 64 == 0)
        for (auto& byte : frame) byte = static_cast<uint8_t>(random());
      constexpr unsigned kInputs[] = {kVf0, kVf1, kPf0, kPf1};
      net.inject(kInputs[random() % 4], frame);
      ++in;
    }
    net.poll();
    for (unsigned port = 0; port < kPortCount; ++port) out += net.sent(port).size();
  }
  consumed = in - out - (dropped() - before);
  // Guest services may take a packet without an answer (a DHCP release, an ARP reply), nothing else may.
  EXPECT_LT(consumed, in / 20);
  EXPECT_GT(out, in / 20);
  EXPECT_EQ(net.worker().packets, in);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", 9, 9), kVf1);
}

TEST_F(Hostile, CountersAddUp) {
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"), kVf1);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8"), kPf0);
  net.expect_drop(kVf0, udp_from_vm("10.9.9.9", "8.8.8.8"), DropReason::spoofed_source);
  for (const PortCounters& port : net.engine().counters().ports) {
    if (port.device_name == device_name(kVf0)) {
      EXPECT_EQ(port.rx_packets, 3u);
      EXPECT_EQ(port.rx_bytes, 3u * 60);
      EXPECT_EQ(port.interface_id, "vm0");
      EXPECT_EQ(port.drops[static_cast<size_t>(DropReason::spoofed_source)], 1u);
    } else if (port.device_name == device_name(kVf1)) {
      EXPECT_EQ(port.tx_packets, 1u);
      EXPECT_EQ(port.tx_bytes, 60u);
    } else if (port.device_name == device_name(kPf0)) {
      EXPECT_EQ(port.tx_packets, 1u);
      EXPECT_EQ(port.tx_bytes, 100u);
      EXPECT_TRUE(port.is_uplink);
      EXPECT_TRUE(port.neighbour_known);
    }
  }
}

}  // namespace
}  // namespace ironcore::testing
