#include "lb/maglev.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "lb/lb_test_support.h"

namespace ironcore {
namespace {

// Target sets that only differ in one member; returns the share of all slots that changed hands between the others.
double moved_share(const std::vector<Ipv6Address>& targets, size_t removed, uint32_t size) {
  std::vector<Ipv6Address> fewer = targets;
  fewer.erase(fewer.begin() + static_cast<ptrdiff_t>(removed));
  const auto before = maglev_table(targets, size), after = maglev_table(fewer, size);
  uint32_t moved = 0;
  for (uint32_t slot = 0; slot < size; ++slot)
    moved += before[slot] != removed && targets[before[slot]] != fewer[after[slot]];
  return static_cast<double>(moved) / size;
}

TEST(Maglev, HashesAreTheReferences) {
  struct Expected {
    const char* target;
    uint32_t hash1, hash2, offset, skip;
  };
  for (const auto& [target, hash1, hash2, offset, skip] :
       {Expected{"2001:db8:0:1:d000:0:0:1", 0x483359aa, 0x6042d29d, 242, 300},
        {"2001:db8:0:1:d000:0:0:2", 0xc34798cf, 0x6042d29e, 41, 301},
        {"2001:db8:0:2:d000:0:0:1", 0x5170fab3, 0x54bf439e, 453, 207},
        {"2001:db8:0:3:d000:0:0:7", 0x61a6e3c1, 0x493bb4a5, 400, 120}}) {
    const Ipv6Address address = v6(target);
    EXPECT_EQ(maglev_hash1(address), hash1);
    EXPECT_EQ(maglev_hash2(address), hash2);
    EXPECT_EQ(maglev_hash1(address) % kMaglevSize, offset);
    EXPECT_EQ(maglev_hash2(address) % (kMaglevSize - 1) + 1, skip);
  }
}

TEST(Maglev, TableIsTheReferences) {
  const auto slots = maglev_table(golden_targets(), kMaglevSize);
  ASSERT_EQ(slots.size(), 503u);
  const std::vector<uint16_t> first{2, 1, 2, 0, 2, 1, 2, 2, 2, 1, 0, 3, 0, 1, 3, 0,
                                    1, 3, 3, 0, 1, 0, 3, 2, 3, 1, 0, 3, 0, 1, 0, 2};
  EXPECT_EQ(std::vector(slots.begin(), slots.begin() + 32), first);
  EXPECT_EQ(slots[100], 0);
  EXPECT_EQ(slots[250], 1);
  EXPECT_EQ(slots[400], 3);
  EXPECT_EQ(slots[502], 3);
  EXPECT_EQ(std::ranges::count(slots, 0), 126);
  EXPECT_EQ(std::ranges::count(slots, 1), 126);
  EXPECT_EQ(std::ranges::count(slots, 2), 126);
  EXPECT_EQ(std::ranges::count(slots, 3), 125);
}

TEST(Maglev, NoTargetsNoTable) { EXPECT_TRUE(maglev_table({}, kMaglevSize).empty()); }

TEST(Maglev, OneTargetOwnsAll) {
  const std::vector one{v6("2001:db8::1")};
  EXPECT_EQ(maglev_table(one, kMaglevSize), std::vector<uint16_t>(kMaglevSize, 0));
}

TEST(Maglev, ValidSizesArePrimes) {
  for (const uint32_t size : {3u, 5u, 503u, 65537u, 1048573u}) EXPECT_TRUE(maglev_valid_size(size)) << size;
  for (const uint32_t size : {0u, 1u, 2u, 4u, 9u, 502u, 505u, 65536u, 65535u, 1048575u, 1048583u, 4294967291u})
    EXPECT_FALSE(maglev_valid_size(size)) << size;
}

TEST(Maglev, SizeFollowsTheNumberOfTargets) {
  EXPECT_EQ(maglev_default_size(1), kMaglevSize);
  EXPECT_EQ(maglev_default_size(64), kMaglevSize);
  EXPECT_EQ(maglev_default_size(65), kMaglevLargeSize);
  EXPECT_TRUE(maglev_valid_size(kMaglevSize));
  EXPECT_TRUE(maglev_valid_size(kMaglevLargeSize));
}

// The definition, target by target: each takes the first slot of its permutation that is free at its turn.
TEST(Maglev, FollowsTheDefinition) {
  std::mt19937 random(5);
  for (const uint32_t size : {3u, 7u, 101u, kMaglevSize, 4099u}) {
    for (const size_t count : {1, 2, 3, 7, 64, 100}) {
      const auto targets = random_targets(random, count);
      std::vector<int> expected(size, -1);
      std::vector<uint64_t> next(count);
      for (uint32_t filled = 0; filled < size; ++filled) {
        const size_t target = filled % count;
        const uint64_t offset = maglev_hash1(targets[target]) % size,
                       skip = maglev_hash2(targets[target]) % (size - 1) + 1;
        uint64_t slot;
        do slot = (offset + next[target]++ * skip) % size;
        while (expected[slot] >= 0);
        expected[slot] = static_cast<int>(target);
      }
      const auto slots = maglev_table(targets, size);
      ASSERT_TRUE(std::ranges::equal(slots, expected)) << size << " slots, " << count << " targets";
    }
  }
}

TEST(Maglev, SharesDifferByOneSlot) {
  std::mt19937 random(6);
  for (const uint32_t size : {kMaglevSize, kMaglevLargeSize}) {
    for (const size_t count : {2, 10, 64, 503}) {
      std::vector<uint32_t> shares(count);
      for (const uint16_t target : maglev_table(random_targets(random, count), size)) ++shares[target];
      const auto [least, most] = std::ranges::minmax(shares);
      EXPECT_LE(most - least, 1u);
    }
  }
}

TEST(Maglev, ChangeOfOneTargetMovesFewSlotsOfTheOthers) {
  std::mt19937 random(8);
  struct Limit {
    uint32_t size;
    size_t targets;
    double mean, worst;  // share of slots
  };
  for (const auto& [size, count, mean, worst] : {Limit{kMaglevSize, 2, 0, 0},
                                                 {kMaglevSize, 10, 0.05, 0.15},
                                                 {kMaglevSize, 64, 0.06, 0.10},
                                                 {kMaglevLargeSize, 100, 0.01, 0.015},
                                                 {kMaglevLargeSize, 1000, 0.01, 0.015}}) {
    double sum = 0, most = 0;
    const int rounds = size == kMaglevSize ? 200 : 10;
    for (int round = 0; round < rounds; ++round) {
      const auto targets = random_targets(random, count);
      const double moved = moved_share(targets, random() % count, size);
      sum += moved;
      most = std::max(most, moved);
    }
    EXPECT_LE(sum / rounds, mean) << size << " slots, " << count << " targets";
    EXPECT_LE(most, worst) << size << " slots, " << count << " targets";
  }
}

}  // namespace
}  // namespace ironcore
