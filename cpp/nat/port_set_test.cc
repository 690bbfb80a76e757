#include "nat/port_set.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace ironcore::nat {
namespace {

std::optional<uint16_t> first_free(const std::set<uint16_t>& used, uint16_t min, uint16_t max, uint16_t start) {
  for (int i = 0; i < max - min; ++i) {
    const auto port = static_cast<uint16_t>(min + (start - min + i) % (max - min));
    if (!used.contains(port)) return port;
  }
  return std::nullopt;
}

TEST(PortSet, FindsTheOneFreePortOfTheWholeSpace) {
  PortSets sets(65536);
  PortSet set{};
  for (int port = 0; port < 65536; ++port) sets.insert(set, static_cast<uint16_t>(port));
  EXPECT_EQ(sets.first_free(set, 0, 65535, 17), std::nullopt);
  for (const int port : {0, 63, 64, 511, 512, 32767, 65534}) {
    const auto hole = static_cast<uint16_t>(port);
    sets.erase(set, hole);
    for (const uint16_t start : {0, 63, 64, 65, 511, 512, 513, 40000, 65534})
      EXPECT_EQ(sets.first_free(set, 0, 65535, start), hole) << hole << " from " << start;
    EXPECT_FALSE(sets.contains(set, hole));
    sets.insert(set, hole);
  }
  sets.erase(set, 65535);
  EXPECT_EQ(sets.first_free(set, 0, 65535, 65534), std::nullopt) << "max itself does not belong to the range";
}

TEST(PortSet, EqualsAModelOnEdgesOfPages) {
  // Many ranges, so small that they fill, around the borders of words and pages.
  PortSets sets(4096);
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    PortSet set{};
    std::set<uint16_t> model;
    const auto min = static_cast<uint16_t>(random() % 1200);
    const auto max = static_cast<uint16_t>(min + 1 + random() % 700);
    const unsigned bias = 1 + random() % 9;
    for (int step = 0; step < 1500; ++step) {
      const auto start = static_cast<uint16_t>(min + random() % static_cast<unsigned>(max - min));
      const auto expected = first_free(model, min, max, start);
      ASSERT_EQ(sets.first_free(set, min, max, start), expected);
      if (expected && random() % 10 < bias) {
        sets.insert(set, *expected);
        model.insert(*expected);
      } else if (!model.empty()) {
        auto victim = model.lower_bound(start);
        if (victim == model.end()) victim = model.begin();
        sets.erase(set, *victim);
        model.erase(victim);
      }
      ASSERT_EQ(set.count, model.size());
      ASSERT_EQ(sets.contains(set, start), model.contains(start));
    }
    while (!model.empty()) {
      sets.erase(set, *model.begin());
      model.erase(model.begin());
    }
    ASSERT_EQ(set.count, 0u);
    ASSERT_EQ(set.paged, 0u);
  }
}

TEST(PortSet, ManySetsShareExactlyTheMemoryOfTheirPorts) {
  // Nine ports each, all in different pages: the most pages and directories that the ports allow, twice over.
  constexpr uint32_t kSets = 100;
  PortSets sets(kSets * 9);
  for (int turn = 0; turn < 2; ++turn) {
    std::vector<PortSet> all(kSets);
    for (uint32_t port = 0; port < 9; ++port)
      for (PortSet& set : all) sets.insert(set, static_cast<uint16_t>(port * 4096 + 7));
    for (PortSet& set : all) EXPECT_EQ(sets.first_free(set, 7, 40000, 4096 + 7), 4096 + 8);
    for (uint32_t port = 0; port < 9; ++port)
      for (PortSet& set : all) sets.erase(set, static_cast<uint16_t>(port * 4096 + 7));
  }
}

}  // namespace
}  // namespace ironcore::nat
