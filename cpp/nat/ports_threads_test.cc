#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "nat/ports.h"

namespace ironcore {
namespace {

IpAddress v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) { return IpAddress::v4({a, b, c, d}); }
const IpAddress kNat = v4(203, 0, 113, 1);

// Threads of which each has sources of its own, all towards the same few destinations, through the same ports.
TEST(NatPortsThreads, NoTwoFlowsEverShareAPortTowardsADestination) {
  constexpr unsigned kThreads = 4, kSteps = 20000, kDestinations = 3;
  constexpr uint16_t kMin = 2000, kMax = 2300;
  NatPorts ports(1024);
  // Who holds (port, destination): set by whoever has got it, cleared before it is given back.
  std::vector<std::atomic<unsigned>> holder((kMax - kMin) * kDestinations);
  std::atomic<unsigned> violations{0};
  std::vector<std::vector<NatMapping>> held(kThreads);
  const auto slot = [](const NatMapping& m) {
    return static_cast<size_t>(m.nat_port - kMin) * kDestinations + m.destination.address.bytes[3];
  };
  const auto work = [&](unsigned me) {
    std::mt19937 random(me);
    auto& mine = held[me];
    for (unsigned step = 0; step < kSteps; ++step) {
      if (random() % 100 < (step / 2000 % 2 ? 35u : 65u)) {
        const NatSource source{me % 2, v4(10, 0, 0, static_cast<uint8_t>(me)), static_cast<uint16_t>(random() % 200)};
        const NatDestination to{v4(8, 8, 8, static_cast<uint8_t>(random() % kDestinations)), 53, 17};
        const NatPort port = ports.allocate(source, to, {kNat, kMin, kMax});
        if (port.outcome != NatOutcome::kCreated) continue;
        mine.push_back({source, to, kNat, port.port});
        unsigned nobody = 0;
        if (!holder[slot(mine.back())].compare_exchange_strong(nobody, me + 1)) ++violations;
      } else if (!mine.empty()) {
        std::swap(mine[random() % mine.size()], mine.back());
        holder[slot(mine.back())] = 0;
        if (!ports.release(mine.back())) ++violations;
        mine.pop_back();
      }
    }
  };
  // Meanwhile dumps: each shows possible mappings only, and those that stay exactly once.
  constexpr uint16_t kStaying = 100;
  const auto staying = [](uint16_t i) {
    return NatMapping{{9, v4(10, 9, 9, 9), i}, {v4(1, 1, 1, 1), 443, 6}, kNat, i};
  };
  for (uint16_t i = 0; i < kStaying; ++i) ASSERT_EQ(ports.insert_verbatim(staying(i)), NatOutcome::kCreated);
  std::atomic<bool> done{false};
  std::thread dumper([&] {
    do {
      std::multiset<uint16_t> seen;
      ports.for_each([&](const NatMapping& m) {
        if (m.source.vni == 9) {
          seen.insert(m.nat_port);
          if (m != staying(m.nat_port)) ++violations;
        } else if (m.nat_address != kNat || m.nat_port < kMin || m.nat_port >= kMax || m.destination.port != 53 ||
                   m.source.address.bytes[3] % 2 != m.source.vni) {
          ++violations;
        }
      });
      if (seen.size() != kStaying || std::set(seen.begin(), seen.end()).size() != kStaying) ++violations;
    } while (!done);
  });
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
  for (auto& thread : threads) thread.join();
  done = true;
  dumper.join();

  EXPECT_EQ(violations, 0u);
  EXPECT_EQ(ports.drop_source(9, v4(10, 9, 9, 9)), kStaying);
  std::vector<NatMapping> expected, all;
  for (unsigned i = 0; i < kThreads; ++i) {
    expected.insert(expected.end(), held[i].begin(), held[i].end());
    EXPECT_EQ(ports.flows_of(i % 2, v4(10, 0, 0, static_cast<uint8_t>(i))), held[i].size());
  }
  ports.for_each([&](const NatMapping& m) { all.push_back(m); });
  std::sort(expected.begin(), expected.end());
  std::sort(all.begin(), all.end());
  EXPECT_FALSE(all.empty());
  EXPECT_EQ(all, expected);
  EXPECT_EQ(ports.size(), all.size());
}

// Threads that all use the same sources: who loses a race is told so, and a table that is full at times leaks nothing.
TEST(NatPortsThreads, SharedSourcesAndAFullTableLeakNothing) {
  constexpr unsigned kThreads = 4, kSteps = 20000;
  constexpr uint32_t kCapacity = 64;
  NatPorts ports(kCapacity);
  std::atomic<unsigned> violations{0};
  std::atomic<uint64_t> created{0}, ended{0};
  std::vector<std::thread> threads;
  for (unsigned me = 0; me < kThreads; ++me)
    threads.emplace_back([&, me] {
      std::mt19937 random(me);
      for (unsigned step = 0; step < kSteps; ++step) {
        const NatSource source{1, v4(10, 0, 0, 1), static_cast<uint16_t>(random() % 20)};
        const NatDestination to{v4(8, 8, 8, static_cast<uint8_t>(random() % 6)), 53, 17};
        const NatPort port = ports.allocate(source, to, {kNat, 100, 115});
        if (port.outcome == NatOutcome::kCreated) ++created;
        if (port.ok() && (port.port < 100 || port.port >= 115)) ++violations;
        if (ports.size() > kCapacity) ++violations;
        if (port.ok() && random() % 2 && ports.release({source, to, kNat, port.port})) ++ended;
        if (random() % 500 == 0) ended += ports.drop_source(1, v4(10, 0, 0, 1));
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(violations, 0u);
  EXPECT_EQ(ports.size(), created - ended);
  EXPECT_EQ(ports.flows_of(1, v4(10, 0, 0, 1)), created - ended);
  EXPECT_EQ(ports.drop_source(1, v4(10, 0, 0, 1)), created - ended);
  EXPECT_EQ(ports.size(), 0u);
  for (uint16_t i = 0; i < kCapacity; ++i)
    EXPECT_EQ(ports.allocate({2, v4(10, 0, 0, 2), i}, {v4(8, 8, 8, 8), i, 17}, {kNat, 1, 2}).outcome,
              NatOutcome::kCreated);
}

}  // namespace
}  // namespace ironcore
