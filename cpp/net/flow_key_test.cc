#include "net/flow_key.h"

#include <gtest/gtest.h>

#include <set>

#include "lb/maglev.h"
#include "testing/packets.h"

namespace ironcore::testing {
namespace {

FlowKey key(const std::string& src, const std::string& dst, uint8_t proto, uint16_t src_port, uint16_t dst_port) {
  FlowKey result{};
  const IpAddress from = ip(src), to = ip(dst);
  result.family = from.is_v6 ? 6 : 4;
  result.proto = proto;
  result.src_port = net::swap16(src_port);
  result.dst_port = net::swap16(dst_port);
  if (from.is_v6) {
    std::memcpy(result.src6, from.bytes.data(), 16);
    std::memcpy(result.dst6, to.bytes.data(), 16);
  } else {
    std::memcpy(&result.src4, from.bytes.data(), 4);
    std::memcpy(&result.dst4, to.bytes.data(), 4);
  }
  return result;
}

// Those of the reference implementation; the remainder by ten chooses the uplink.
TEST(ReferenceHash, GoldenVectors) {
  const FlowKey web = key("10.1.2.3", "198.51.100.20", 6, 40000, 443);
  const uint32_t plain = reference_flow_hash(web, 77), from_nat = reference_flow_hash(web, 77, 3);
  EXPECT_EQ(plain, 0xe634ab2cu);
  EXPECT_EQ(plain % 10, 2u);
  EXPECT_EQ(from_nat, 0x978f9276u);
  EXPECT_EQ(from_nat % 10, 8u);
  const uint32_t dns = reference_flow_hash(key("2001:db8:7::1", "2001:db8:5::9", 17, 5000, 53), 77);
  EXPECT_EQ(dns, 0x32ed3e3eu);
  EXPECT_EQ(dns % 10, 6u);
}

// A load balancer's choice for a flow: the slot in its table of 503, and the target that has it.
TEST(ReferenceHash, GoldenVectorOfALoadBalancer) {
  const uint32_t hash = reference_flow_hash(key("198.51.100.77", "203.0.113.10", 6, 50001, 80), 77);
  EXPECT_EQ(hash, 0xf5c9a1b1u);
  const Ipv6Address targets[] = {ip6("2001:db8:0:1:d000:0:0:1"), ip6("2001:db8:0:1:d000:0:0:2"),
                                 ip6("2001:db8:0:2:d000:0:0:1"), ip6("2001:db8:0:3:d000:0:0:7")};
  const auto slots = maglev_table(targets, kMaglevSize);
  EXPECT_EQ(hash % slots.size(), 324u);
  EXPECT_EQ(slots.at(324), 0);
}

TEST(FlowKeyReply, IsTheOtherDirection) {
  const FlowKey forward = key("10.0.0.1", "10.0.0.2", 17, 5, 6);
  EXPECT_TRUE(same_flow(reversed(forward), key("10.0.0.2", "10.0.0.1", 17, 6, 5)));
  EXPECT_TRUE(same_flow(reversed(reversed(forward)), forward));
  FlowKey echo = key("10.0.0.1", "10.0.0.2", 1, 0, 77);
  echo.src_port = 8;
  EXPECT_EQ(reversed(echo).src_port, 0);
  EXPECT_EQ(reversed(echo).dst_port, echo.dst_port);
  FlowKey echo6 = key("fc00::1", "fc00::2", 58, 0, 77);
  echo6.src_port = 128;
  EXPECT_EQ(reversed(echo6).src_port, 129);
}

TEST(FlowKeyHash, DependsOnEveryByteOfTheFamily) {
  const uint64_t secret[4] = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 0xd6e8feb86659fd93};
  const FlowHash hash(secret);
  for (const bool v6 : {false, true}) {
    const FlowKey base = v6 ? key("fc00::1", "fc00::2", 17, 5, 6) : key("10.0.0.1", "10.0.0.2", 17, 5, 6);
    std::set<uint64_t> seen{hash(base)};
    const size_t bytes = v6 ? 48 : 24;
    for (size_t i = 0; i < bytes; ++i) {
      if (i == 13) continue;  // the family itself
      FlowKey changed = base;
      reinterpret_cast<uint8_t*>(&changed)[i] ^= 0x10;
      EXPECT_TRUE(seen.insert(hash(changed)).second) << i;
      EXPECT_FALSE(same_flow(base, changed)) << i;
    }
  }
}

}  // namespace
}  // namespace ironcore::testing
