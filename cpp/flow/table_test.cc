#include "flow/table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <unordered_map>

namespace ironcore {
namespace {

FlowKey key_of(uint32_t n, bool v6 = false) {
  FlowKey key{};
  key.scope = 1 + n % 7;
  key.src_port = static_cast<uint16_t>(n);
  key.dst_port = 53;
  key.proto = net::kUdp;
  key.family = v6 ? 6 : 4;
  if (v6) {
    std::memcpy(key.src6, &n, 4);
    std::memcpy(key.dst6 + 12, &n, 4);
  } else {
    key.src4 = n;
    key.dst4 = n * 3;
  }
  return key;
}

FlowContent program_of(uint32_t n) {
  FlowContent content;
  content.program.outer_src_low = n;
  return content;
}

constexpr FlowTable::Start kStart{0, 0, 0};

// Against a plain map, with random inserts, replacements and removals in both families.
TEST(FlowTableModel, BehavesLikeAMap) {
  Rcu rcu(1);
  FlowTable table(2048, rcu);
  FlowPool pool;
  std::unordered_map<uint32_t, uint64_t> model;
  std::mt19937 random(7);
  for (int step = 0; step < 200000; ++step) {
    const uint32_t n = random() % 3000;
    const FlowKey key = key_of(n, n % 2);
    const uint64_t hash = table.hash(key);
    FlowEntry* entry = table.verify(table.candidate(hash), key, hash);
    const auto known = model.find(n);
    ASSERT_EQ(entry != nullptr, known != model.end());
    if (entry) {
      ASSERT_EQ(entry->program.outer_src_low, known->second);
    }
    switch (random() % 4) {
      case 0: {
        const auto insertion = table.insert(pool, key, hash, program_of(n), kStart);
        if (entry) {
          EXPECT_EQ(insertion.entry, entry);
          EXPECT_FALSE(insertion.created);
        } else if (insertion.entry) {
          EXPECT_TRUE(insertion.created);
          model[n] = n;
        } else {
          EXPECT_GT(model.size(), 1500u);
        }
        break;
      }
      case 1:
        if (entry) {
          const FlowRef old = table.ref(*entry);
          const auto insertion = table.insert(pool, key, hash, program_of(n + 1000000), kStart, old);
          if (!insertion.entry) break;
          EXPECT_TRUE(insertion.created);
          EXPECT_EQ(table.get(old), nullptr);
          model[n] = n + 1000000;
        }
        break;
      case 2:
        if (entry && model.size() > 1000) {
          const FlowRef ref = table.ref(*entry);
          EXPECT_TRUE(table.remove(pool, ref));
          EXPECT_FALSE(table.remove(pool, ref));
          model.erase(n);
        }
        break;
      default:
        table.recycle(pool);
    }
    ASSERT_EQ(table.size(), model.size());
  }
}

TEST(FlowTableModel, FillsToItsCapacity) {
  Rcu rcu(1);
  FlowTable table(1 << 14, rcu);
  FlowPool pool;
  uint32_t inserted = 0;
  for (uint32_t n = 0; n < 1u << 15; ++n)
    inserted += table.insert(pool, key_of(n), table.hash(key_of(n)), {}, kStart).created;
  EXPECT_EQ(inserted, 1u << 14);
}

TEST(FlowTableGrace, FreedEntriesAreNotReusedWhileAReaderMayHoldThem) {
  Rcu rcu(1);
  rcu.enter(0);
  FlowTable table(1024, rcu);
  FlowPool pool;
  for (uint32_t n = 0; n < 1024; ++n)
    ASSERT_TRUE(table.insert(pool, key_of(n), table.hash(key_of(n)), {}, kStart).created);
  const FlowKey gone = key_of(5);
  ASSERT_TRUE(table.remove(pool, table.ref(*table.find(gone, table.hash(gone)))));
  const FlowKey fresh = key_of(5000);
  EXPECT_EQ(table.insert(pool, fresh, table.hash(fresh), {}, kStart).entry, nullptr);
  rcu.quiescent(0);
  EXPECT_TRUE(table.insert(pool, fresh, table.hash(fresh), {}, kStart).created);
  rcu.leave(0);
}

// Readers must only ever see the program that belongs to the key, while writers insert, replace and remove.
TEST(FlowTableThreads, ReadersNeverSeeAForeignProgram) {
  Rcu rcu(4);
  FlowTable table(4096, rcu);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> hits{0};
  std::atomic<bool> wrong{false};
  const auto reader = [&](unsigned id) {
    rcu.enter(id);
    std::mt19937 random(id);
    while (!stop) {
      for (int i = 0; i < 32; ++i) {
        const uint32_t n = random() % 2000;
        const FlowKey key = key_of(n, n % 2);
        const uint64_t hash = table.hash(key);
        if (const FlowEntry* entry = table.verify(table.candidate(hash), key, hash)) {
          if (entry->program.outer_src_low % 10000 != n) wrong = true;
          hits.fetch_add(1, std::memory_order_relaxed);
        }
      }
      rcu.quiescent(id);
    }
    rcu.leave(id);
  };
  const auto writer = [&](unsigned id) {
    rcu.enter(id);
    FlowPool pool;
    std::mt19937 random(id);
    // Until readers had their share as well, however the system schedules.
    for (int step = 0; step < 150000 || (hits < 20000 && step < 100000000); ++step) {
      const uint32_t n = random() % 2000;
      const FlowKey key = key_of(n, n % 2);
      const uint64_t hash = table.hash(key);
      FlowEntry* entry = table.find(key, hash);
      const FlowRef ref = entry ? table.ref(*entry) : FlowRef{};
      if (entry && random() % 2) {
        table.remove(pool, ref);
      } else {
        table.insert(pool, key, hash, program_of(n + 10000 * (random() % 50)), kStart, ref);
      }
      rcu.quiescent(id);
    }
    rcu.leave(id);
  };
  std::thread readers[] = {std::thread(reader, 0), std::thread(reader, 1)};
  std::thread writers[] = {std::thread(writer, 2), std::thread(writer, 3)};
  for (auto& thread : writers) thread.join();
  stop = true;
  for (auto& thread : readers) thread.join();
  EXPECT_FALSE(wrong);
  EXPECT_GE(hits, 20000u);
  EXPECT_LE(table.size(), 2000u);
  uint64_t found = 0;
  for (uint32_t n = 0; n < 2000; ++n) {
    const FlowKey key = key_of(n, n % 2);
    found += table.find(key, table.hash(key)) != nullptr;
  }
  EXPECT_EQ(found, table.size());
}

}  // namespace
}  // namespace ironcore
