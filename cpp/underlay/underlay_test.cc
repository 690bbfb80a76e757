#include <gtest/gtest.h>

#include <set>

#include "net/headers.h"
#include "testing/packets.h"
#include "underlay/registry.h"

namespace ironcore::testing {
namespace {

const Ipv6Address kHostAddress = ip6("fc00:1::1");

TEST(UnderlayAddress, Format) {
  UnderlayAddresses fixed(kHostAddress, false, true, 5);
  EXPECT_EQ(to_string(fixed.generate(UnderlayType::kInterface)), "fc00:1::d000:1:0:1");
  EXPECT_EQ(to_string(fixed.generate(UnderlayType::kPrefix)), "fc00:1::d000:1:0:2");
  UnderlayAddresses typed(kHostAddress, true, true, 5);
  EXPECT_EQ(typed.generate(UnderlayType::kInterface)[9], 1);
  EXPECT_EQ(typed.generate(UnderlayType::kPrefix)[9], 6);

  UnderlayAddresses random(kHostAddress, false, false, 5);
  std::set<Ipv6Address> seen;
  std::set<uint8_t> random_bytes;
  uint32_t last = 0;
  for (int i = 0; i < 1000; ++i) {
    const Ipv6Address address = random.generate(UnderlayType::kInterface);
    EXPECT_TRUE(std::equal(address.begin(), address.begin() + 8, kHostAddress.begin()));
    EXPECT_EQ(address[8], 0xd0);
    EXPECT_EQ(address[10], 0);
    const uint32_t counter = net::swap32(net::load<uint32_t>(address.data() + 12));
    if (i == 0) {
      EXPECT_LE(counter, 256u);
    } else {
      EXPECT_EQ(counter, last + 1);
    }
    last = counter;
    random_bytes.insert(address[11]);
    EXPECT_TRUE(seen.insert(address).second);
  }
  EXPECT_GT(random_bytes.size(), 100u);
}

TEST(UnderlayAddress, PreferredNeedsThePrefixAndTheFlag) {
  const UnderlayAddresses addresses(kHostAddress, false, true, 5);
  EXPECT_TRUE(addresses.preferred_allowed(ip6("fc00:1::8000:0:1")));
  EXPECT_TRUE(addresses.preferred_allowed(ip6("fc00:1::c000:0:2")));
  EXPECT_FALSE(addresses.preferred_allowed(ip6("fc00:1::4000:0:1")));
  EXPECT_FALSE(addresses.preferred_allowed(ip6("fc00:2::8000:0:1")));
}

TEST(UnderlayRegistry, GrowsShrinksAndFinds) {
  Rcu rcu(1);
  Reclaimer reclaimer(rcu);
  UnderlayRegistry registry(reclaimer, 5000);
  UnderlayAddresses addresses(kHostAddress, false, false, 9);
  std::vector<std::pair<Ipv6Address, UnderlayObject>> all;
  for (uint32_t round = 0; round < 3; ++round) {
    for (uint32_t i = 0; i < 5000; ++i) {
      const UnderlayObject object{UnderlayType::kInterface, static_cast<uint16_t>(i), i + round, {}};
      const Ipv6Address address = addresses.generate(UnderlayType::kInterface);
      ASSERT_TRUE(registry.insert(address, object));
      EXPECT_FALSE(registry.insert(address, {UnderlayType::kPrefix, 1, 1, {}}));
      all.emplace_back(address, object);
    }
    EXPECT_FALSE(registry.insert(addresses.generate(UnderlayType::kPrefix), {UnderlayType::kPrefix, 1, 1, {}}));
    for (const auto& [address, object] : all) {
      const UnderlayObject* found = registry.lookup(underlay_low(address));
      ASSERT_NE(found, nullptr);
      EXPECT_EQ(*found, object);
      EXPECT_EQ(registry.address_of(object), address);
    }
    for (const auto& [address, object] : all) {
      ASSERT_TRUE(registry.erase(object));
      EXPECT_FALSE(registry.erase(object));
      EXPECT_EQ(registry.lookup(underlay_low(address)), nullptr);
    }
    all.clear();
    reclaimer.run_due(1 << 20);
  }
  EXPECT_EQ(registry.size(), 0u);
}

}  // namespace
}  // namespace ironcore::testing
