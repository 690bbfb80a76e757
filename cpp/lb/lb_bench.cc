// Time of building a Maglev table, of a control call on a large load balancer, and of a choice.
#include <time.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "lb/maglev.h"
#include "lb/table.h"

namespace ironcore {
namespace {

volatile uint64_t sink;

std::vector<Ipv6Address> targets_of(size_t count) {
  std::vector<Ipv6Address> targets;
  for (size_t i = 0; i < count; ++i)
    targets.push_back({0x20, 0x01, 0x0d, 0xb8, 0, 0, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i), 0xd0, 0, 0,
                       static_cast<uint8_t>(i * 37), 0, 0, 0, 1});
  return targets;
}

// CPU time of this thread: what else the machine does counts little.
double cpu_us() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) * 1e-3;
}

template <typename Operation>
double median_us(int runs, Operation&& operation) {
  std::vector<double> times;
  for (int run = 0; run < runs; ++run) {
    const double start = cpu_us();
    operation(run);
    times.push_back(cpu_us() - start);
  }
  std::ranges::sort(times);
  return times[times.size() / 2];
}

void build(size_t count, uint32_t size) {
  const auto targets = targets_of(count);
  const double us = median_us(21, [&](int) { sink = maglev_table(targets, size)[0]; });
  std::printf("maglev_table, %4zu targets, %5u slots  %9.1f us\n", count, size, us);
}

void choose(size_t count) {
  const LoadBalancer lb(77, {}, {}, targets_of(count));
  constexpr unsigned kChoices = 100'000;
  std::vector<double> runs;
  for (int run = 0; run < 101; ++run) {
    uint64_t sum = 0;
    uint32_t hash = 1;
    const uint64_t start = __rdtsc();
    for (unsigned i = 0; i < kChoices; ++i) {
      const Ipv6Address* target = lb.choose(hash);
      sum += (*target)[7];
      hash = hash * 1664525 + 1013904223;
    }
    runs.push_back(static_cast<double>(__rdtsc() - start) / kChoices);
    sink = sum;
  }
  // The least disturbed run.
  std::printf("choose, %4zu targets                    %9.1f cycles\n", count, *std::ranges::min_element(runs));
}

void change() {
  LoadBalancerTable table;
  table.create({"lb", 77, {}, {}, {}});
  const auto targets = targets_of(1000);
  const double us = median_us(1000, [&](int i) { table.add_target("lb", targets[static_cast<size_t>(i)]); });
  std::printf("add_target, 1 to 1000 targets (median)   %9.1f us\n", us);
}

}  // namespace
}  // namespace ironcore

int main() {
  ironcore::build(4, ironcore::kMaglevSize);
  ironcore::build(64, ironcore::kMaglevSize);
  ironcore::build(100, ironcore::kMaglevLargeSize);
  ironcore::build(1000, ironcore::kMaglevLargeSize);
  ironcore::choose(4);
  ironcore::choose(1000);
  ironcore::change();
}
