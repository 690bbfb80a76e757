#include "meter/meter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

namespace ironcore {
namespace {

constexpr double kBytesPerMbit = 131072;
constexpr uint64_t kRates[] = {1, 7, 100, 10'000, 100'000};
constexpr uint64_t kClocks[] = {1'000'000'000, 2'399'999'987, 5'000'000'000};

// The marker as RFC 2697 words it, over real numbers.
class Model {
 public:
  Model(double bytes_per_second, MeterBurst burst)
      : rate_(bytes_per_second),
        committed_max_(static_cast<double>(burst.committed)),
        excess_max_(static_cast<double>(burst.excess)),
        committed_(committed_max_),
        excess_(excess_max_) {}

  // Negative: does not conform, by that many bytes.
  double room(double seconds, double bytes) {
    const double tokens = (seconds - last_) * rate_;
    last_ = seconds;
    const double into_committed = std::min(tokens, committed_max_ - committed_);
    committed_ += into_committed;
    excess_ = std::min(excess_max_, excess_ + tokens - into_committed);
    return std::max(committed_, excess_) - bytes;
  }
  // How far the choice of bucket is from going the other way.
  double committed_room(double bytes) const { return committed_ - bytes; }
  void charge(double bytes) { (bytes <= committed_ ? committed_ : excess_) -= bytes; }

 private:
  double rate_, committed_max_, excess_max_, committed_, excess_;
  double last_ = 0;
};

TEST(Meter, BurstsAreThoseOfTheReference) {
  EXPECT_EQ(public_meter_burst(1), (MeterBurst{4096, 131072}));
  EXPECT_EQ(public_meter_burst(99), (MeterBurst{4096, 99 * 131072}));
  EXPECT_EQ(public_meter_burst(100), (MeterBurst{4096, 13'107'200}));
  EXPECT_EQ(public_meter_burst(100'000), (MeterBurst{4096, 13'107'200}));
}

TEST(Meter, TotalBurstGrowsWithTheRateWithinLimits) {
  EXPECT_EQ(total_meter_burst(1).committed, 131072u);
  EXPECT_EQ(total_meter_burst(1000).committed, 13'107'200u);
  EXPECT_EQ(total_meter_burst(kMaxMeterRate).committed, kMaxMeterBurst);
}

TEST(Meter, RefusesWhatItCannotCount) {
  EXPECT_THROW(Meter(kMaxMeterRate + 1, {}, 1'000'000'000), std::invalid_argument);
  EXPECT_THROW(Meter(1, {kMaxMeterBurst, 1}, 1'000'000'000), std::invalid_argument);
  EXPECT_THROW(Meter(1, {1, UINT64_MAX}, 1'000'000'000), std::invalid_argument);
  EXPECT_THROW(Meter(1, {}, 999'999), std::invalid_argument);
}

TEST(Meter, WithoutRateAllowsEverything) {
  Meter unlimited;
  Meter zero(0, {}, 1'000'000'000);
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(unlimited.allow(0, UINT32_MAX));
    EXPECT_TRUE(zero.allow(0, UINT32_MAX));
  }
  EXPECT_FALSE(zero.limited());
}

// A sender at twice the rate for 20 seconds: the bytes beyond the bursts are the rate's.
void expect_long_run_rate(uint64_t rate, const MeterBurst& burst, uint64_t tsc_hz, uint32_t bytes) {
  Meter meter(rate, burst, tsc_hz);
  const uint64_t start = tsc_hz * 86400 * 365 * 3;  // a machine that has been up for years
  const auto offered = 2.0 * static_cast<double>(rate) * kBytesPerMbit;
  // At high rates packets come in trains, to keep the test short; a train fits into the bucket.
  const unsigned train = std::max(1u, static_cast<unsigned>(offered / bytes / 50'000));
  const double gap = static_cast<double>(tsc_hz) * bytes * train / offered;
  const double seconds = 20;
  uint64_t now = start;
  while (meter.allow(now, bytes)) continue;  // spend what the buckets start with
  double passed = 0;
  for (uint64_t i = 1; now < start + static_cast<uint64_t>(seconds * static_cast<double>(tsc_hz)); ++i) {
    now = start + static_cast<uint64_t>(gap * static_cast<double>(i));
    for (unsigned packet = 0; packet < train; ++packet) passed += meter.allow(now, bytes) ? bytes : 0;
  }
  const double elapsed = static_cast<double>(now - start) / static_cast<double>(tsc_hz);
  const double expected = static_cast<double>(rate) * kBytesPerMbit * elapsed;
  EXPECT_NEAR(passed, expected, std::max(expected * 0.001, 1.0 * bytes))
      << rate << " Mbit/s at " << tsc_hz << " Hz, " << bytes << " bytes";
}

TEST(Meter, LongRunRateIsExact) {
  for (const uint64_t rate : kRates) {
    for (const uint64_t tsc_hz : kClocks) {
      // The public bucket holds 8 ms at 100 kMbit/s, a train of the sender above 20 us.
      expect_long_run_rate(rate, public_meter_burst(rate), tsc_hz, 1000);
      expect_long_run_rate(rate, total_meter_burst(rate), tsc_hz, 1500);
    }
  }
}

TEST(Meter, LongRunRateHoldsForPacketsLargerThanTheCommittedBucket) {
  for (const uint64_t rate : {1, 100}) expect_long_run_rate(rate, public_meter_burst(rate), 2'000'000'000, 9000);
}

TEST(Meter, NoWindowExceedsRateAndBursts) {
  std::mt19937_64 random(1);
  for (const uint64_t rate : kRates) {
    const MeterBurst burst = public_meter_burst(rate);
    constexpr uint64_t kHz = 1'000'000'000;
    Meter meter(rate, burst, kHz);
    const auto per_cycle = static_cast<double>(rate) * kBytesPerMbit / kHz;
    // The least of (rate * time - passed) seen before: passed in any window is bounded by it.
    double passed = 0, least_slack = 0;
    uint64_t now = 0;
    for (int i = 0; i < 200'000; ++i) {
      now += static_cast<uint64_t>(static_cast<double>(random() % 2000) / per_cycle * (random() % 1000 ? 0.5 : 5000));
      const double entitled = static_cast<double>(now) * per_cycle;
      least_slack = std::max(least_slack, entitled - passed);
      const auto bytes = static_cast<uint32_t>(20 + random() % 9000);
      if (meter.allow(now, bytes)) passed += bytes;
      ASSERT_LE(passed - entitled + least_slack,
                static_cast<double>(burst.committed + burst.excess) + 1 + entitled * 1e-5);
    }
  }
}

TEST(Meter, BucketsAreFullAtFirstAndAfterAPauseButNotFuller) {
  constexpr uint64_t kHz = 2'000'000'000;
  Meter meter(8, {1000, 500}, kHz);
  uint64_t now = 0;
  for (const uint64_t pause : {uint64_t{0}, kHz, kHz * 86400 * 365 * 50, uint64_t{1} << 62}) {
    now += pause;
    EXPECT_TRUE(meter.allow(now, 1000));
    EXPECT_FALSE(meter.allow(now, 501)) << "both buckets together are not one";
    EXPECT_TRUE(meter.allow(now, 500));
    EXPECT_FALSE(meter.allow(now, 1));
    EXPECT_TRUE(meter.allow(now, 0));
  }
}

TEST(Meter, TokensOverflowFromCommittedToExcess) {
  constexpr uint64_t kHz = 1'048'576'000;  // 8 Mbit/s: 1000 cycles per byte
  Meter meter(8, {1000, 500}, kHz);
  ASSERT_TRUE(meter.allow(0, 1000));
  ASSERT_TRUE(meter.allow(0, 500));
  EXPECT_FALSE(meter.allow(999'000, 1000));
  EXPECT_FALSE(meter.allow(1'000'000, 1001));
  EXPECT_TRUE(meter.allow(1'200'000, 1000));  // 1000 committed, 200 excess
  EXPECT_FALSE(meter.allow(1'200'000, 201));
  EXPECT_TRUE(meter.allow(1'200'000, 199));
}

TEST(Meter, TimeThatGoesBackAddsNothing) {
  constexpr uint64_t kHz = 1'000'000'000;
  Meter meter(8, {1000, 0}, kHz);
  ASSERT_TRUE(meter.allow(kHz, 1000));
  EXPECT_FALSE(meter.allow(0, 1));
  EXPECT_FALSE(meter.allow(kHz, 1));
  EXPECT_TRUE(meter.allow(kHz + 1000, 1));  // 954 cycles per byte
}

TEST(Meter, ExtremesDoNotOverflow) {
  Meter fastest(kMaxMeterRate, {0, kMaxMeterBurst}, 1'000'000);
  for (uint64_t now = 1; now < 100; ++now) {
    EXPECT_TRUE(fastest.allow(now, 1u << 29)) << now;  // 563 MB a cycle
    EXPECT_FALSE(fastest.allow(now, UINT32_MAX));
  }
  Meter slowest(1, {kMaxMeterBurst, 0}, UINT64_MAX);
  EXPECT_TRUE(slowest.allow(0, 1u << 30));
  EXPECT_FALSE(slowest.allow(1u << 20, 1));
}

TEST(Meter, DecidesAsTheModel) {
  std::mt19937_64 random(7);
  int decided = 0, refused = 0;
  for (int round = 0; round < 200; ++round) {
    const uint64_t rate = 1 + random() % (round % 2 ? 20 : 100'000);
    const uint64_t tsc_hz = 1'000'000'000 + random() % 4'000'000'000;
    const MeterBurst burst{random() % 20'000, random() % 200'000};
    Meter meter(rate, burst, tsc_hz);
    const double bytes_per_second = static_cast<double>(rate) * kBytesPerMbit;
    Model model(bytes_per_second, burst);
    uint64_t now = 0;
    for (int packet = 0; packet < 1000; ++packet) {
      const auto bytes = static_cast<uint32_t>(random() % 9000);
      const double pause = static_cast<double>(random() % 9000) / bytes_per_second * (random() % 50 ? 0.7 : 30);
      now += static_cast<uint64_t>(pause * static_cast<double>(tsc_hz));
      const double room = model.room(static_cast<double>(now) / static_cast<double>(tsc_hz), bytes);
      // Too close for the model's own arithmetic: start again with full buckets on both sides.
      if (std::abs(room) < 1 || std::abs(model.committed_room(bytes)) < 1) break;
      ASSERT_EQ(meter.allow(now, bytes), room > 0) << "round " << round << ", packet " << packet << ", room " << room;
      if (room > 0) model.charge(bytes);
      ++decided;
      refused += room <= 0;
    }
  }
  EXPECT_GT(decided, 50'000);
  EXPECT_GT(refused, 5'000);
}

// A long-lived TCP connection that halves its window after a loss and adds one segment a round trip (RFC 5681), its
// packets spaced evenly over the round trip. Returns the share of the rate it reaches.
double tcp_share(uint64_t rate, const MeterBurst& burst, double round_trip) {
  constexpr uint64_t kHz = 1'000'000'000;
  constexpr uint32_t kSegment = 1500;
  Meter meter(rate, burst, kHz);
  const double bytes_per_second = static_cast<double>(rate) * kBytesPerMbit;
  double window = 2 * bytes_per_second * round_trip / kSegment;  // ends slow start above the rate
  double now = 1, passed = 0, measured_from = 0;
  const double rounds = 150 * std::max(100.0, bytes_per_second * round_trip / kSegment);
  for (double round = 0; round < rounds; ++round) {
    if (round == std::floor(rounds / 4)) {
      passed = 0;
      measured_from = now;
    }
    const auto packets = static_cast<unsigned>(window);
    bool lost = false;
    for (unsigned i = 0; i < packets; ++i) {
      const bool allowed = meter.allow(static_cast<uint64_t>((now + round_trip * i / packets) * kHz), kSegment);
      allowed ? passed += kSegment : lost = true;
    }
    window = lost ? std::max(2.0, window / 2) : window + 1;
    now += round_trip;
  }
  return passed / (now - measured_from) / bytes_per_second;
}

TEST(Meter, TotalBurstLetsTcpReachTheRate) {
  double sum = 0, sum_small = 0, least = 1;
  int paths = 0;
  for (const uint64_t rate : {10, 50, 100, 500, 1000}) {
    for (const double round_trip : {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04}) {
      // From some segments in flight to some hundred.
      const double megabit_in_flight = static_cast<double>(rate) * round_trip;
      if (megabit_in_flight < 0.05 || megabit_in_flight > 6) continue;
      const double share = tcp_share(rate, total_meter_burst(rate), round_trip);
      EXPECT_LE(share, 1.02) << rate << " Mbit/s over " << round_trip << " s";
      least = std::min(least, share);
      sum += share;
      sum_small += tcp_share(rate, {4096, 0}, round_trip);
      ++paths;
    }
  }
  EXPECT_GT(sum / paths, 0.96);
  EXPECT_GT(least, 0.8);
  EXPECT_LT(sum_small / paths, 0.82) << "a small bucket would do as well";
}

}  // namespace
}  // namespace ironcore
