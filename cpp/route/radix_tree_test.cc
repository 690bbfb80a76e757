#include "route/radix_tree.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "core/rcu.h"

namespace ironcore {
namespace {

using Wide = unsigned __int128;

// Longest match by trying all lengths.
template <typename Key>
struct NaiveTable {
  std::map<std::pair<unsigned, Key>, int> prefixes;
  const int* lookup(Key key) const {
    for (unsigned length = sizeof(Key) * 8 + 1; length-- > 0;) {
      const auto found = prefixes.find({length, RadixTree<Key, int>::mask(key, length)});
      if (found != prefixes.end()) return &found->second;
    }
    return nullptr;
  }
};

template <typename Key>
void compare_with_naive(unsigned seed) {
  std::vector<std::function<void()>> retired;
  {
    RadixTree<Key, int> tree([&](std::function<void()> action) { retired.push_back(std::move(action)); });
    NaiveTable<Key> naive;
    std::mt19937_64 random(seed);
    // Few distinct bits, so that prefixes nest, split and share paths.
    const auto random_key = [&] {
      Key key = 0;
      for (int i = 0; i < 3; ++i) key |= Key{1} << (random() % (sizeof(Key) * 8));
      return key;
    };
    for (int step = 0; step < 20000; ++step) {
      const auto length = static_cast<unsigned>(random() % (sizeof(Key) * 8 + 1));
      const Key key = RadixTree<Key, int>::mask(random_key(), length);
      if (random() % 2) {
        ASSERT_EQ(tree.insert(key, length, step), naive.prefixes.emplace(std::pair{length, key}, step).second);
      } else {
        ASSERT_EQ(tree.remove(key, length), naive.prefixes.erase({length, key}) == 1);
      }
      ASSERT_EQ(tree.size(), naive.prefixes.size());
      for (int i = 0; i < 5; ++i) {
        const Key wanted = random_key();
        const int* expected = naive.lookup(wanted);
        const int* found = tree.lookup(wanted);
        ASSERT_EQ(found != nullptr, expected != nullptr);
        if (found) {
          ASSERT_EQ(*found, *expected);
        }
      }
    }
    size_t walked = 0;
    tree.for_each([&](Key key, unsigned length, int value) {
      ++walked;
      const auto found = naive.prefixes.find({length, key});
      ASSERT_NE(found, naive.prefixes.end());
      EXPECT_EQ(found->second, value);
    });
    EXPECT_EQ(walked, naive.prefixes.size());
    const auto left = naive.prefixes;
    for (const auto& [prefix, value] : left) EXPECT_TRUE(tree.remove(prefix.second, prefix.first));
    EXPECT_EQ(tree.size(), 0u);
    EXPECT_EQ(tree.lookup(0), nullptr);
  }
  for (auto& action : retired) action();
}

TEST(RadixTreeModel, Ipv4AgreesWithTryingAllLengths) { compare_with_naive<uint32_t>(1); }
TEST(RadixTreeModel, Ipv6AgreesWithTryingAllLengths) { compare_with_naive<Wide>(2); }

// A reader must find the covering route at any moment while more specific ones come and go.
TEST(RadixTreeThreads, ReadersAlwaysSeeAConsistentTree) {
  Rcu rcu(1);
  Reclaimer reclaimer(rcu);
  RadixTree<uint32_t, int> tree([&](std::function<void()> action) { reclaimer.defer(std::move(action)); });
  tree.insert(0x0a000000, 8, 8);
  std::atomic<bool> stop{false}, wrong{false};
  std::atomic<uint64_t> rounds{0};
  std::thread reader([&] {
    rcu.enter(0);
    std::mt19937 random(3);
    while (!stop) {
      for (int i = 0; i < 64; ++i) {
        const uint32_t key = 0x0a000000 | random() % (1 << 24);
        const int* value = tree.lookup(key);
        if (!value || (*value != 8 && (*value & 0xffffff) != static_cast<int>((key >> 8 & 0xffff)))) wrong = true;
      }
      rcu.quiescent(0);
      ++rounds;
    }
    rcu.leave(0);
  });
  std::mt19937 random(4);
  // Until the reader had its share as well, however the system schedules.
  for (int step = 0; step < 200000 || (rounds < 500 && step < 100000000); ++step) {
    const uint32_t third = random() % 4096;
    const uint32_t key = 0x0a000000 | third << 8;
    if (!tree.insert(key, 24, static_cast<int>(third | 1 << 24))) tree.remove(key, 24);
    reclaimer.run_due();
  }
  stop = true;
  reader.join();
  EXPECT_FALSE(wrong);
  EXPECT_GE(rounds, 500u);
}

}  // namespace
}  // namespace ironcore
