#include "net/flow_key.h"

#include <gtest/gtest.h>

#include <set>

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

TEST(ReferenceHash, GoldenVectors) {
  EXPECT_EQ(reference_flow_hash(key("10.1.2.3", "198.51.100.20", 6, 40000, 443), 77), 0xe634ab2cu);
  EXPECT_EQ(reference_flow_hash(key("2001:db8:7::1", "2001:db8:5::9", 17, 5000, 53), 77), 0x32ed3e3eu);
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
