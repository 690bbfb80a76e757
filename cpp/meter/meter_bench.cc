// Cycles per packet of one meter: conforming packets, and a sender of which most are dropped.
#include <x86intrin.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "meter/meter.h"

namespace {

constexpr uint64_t kHz = 2'500'000'000;
constexpr unsigned kPackets = 100'000;

double cycles(uint64_t rate, uint64_t gap, unsigned& passed) {
  std::vector<double> runs;
  for (int run = 0; run < 101; ++run) {
    ironcore::Meter meter(rate, ironcore::public_meter_burst(rate), kHz);
    passed = 0;
    const uint64_t start = __rdtsc();
    for (unsigned i = 1; i <= kPackets; ++i) passed += meter.allow(gap * i, 1000 + i % 400);
    runs.push_back(static_cast<double>(__rdtsc() - start) / kPackets);
  }
  return *std::ranges::min_element(runs);  // the least disturbed run
}

struct Case {
  const char* name;
  uint64_t rate, gap;  // Mbit/s, cycles between packets of 1200 bytes
};

}  // namespace

int main() {
  for (const auto& [name, rate, gap] :
       {Case{"conforming", 100'000, 250}, {"part dropped", 20'000, 600}, {"most dropped", 10, 250}}) {
    unsigned passed = 0;
    const double least = cycles(rate, gap, passed);
    std::printf("%-13s %6.2f cycles/packet, %5.1f %% passed\n", name, least, 100.0 * passed / kPackets);
  }
}
