#include "meter/meter.h"

#include <algorithm>
#include <stdexcept>

namespace ironcore {
namespace {

constexpr uint64_t kBytesPerMbit = (uint64_t{1} << 20) / 8;
constexpr uint64_t kMinTscHz = 1'000'000;

}  // namespace

MeterBurst public_meter_burst(uint64_t rate) { return {4096, std::min<uint64_t>(rate, 100) * kBytesPerMbit}; }

MeterBurst total_meter_burst(uint64_t rate) {
  const uint64_t tenth_of_second = std::min(rate, kMaxMeterRate) * kBytesPerMbit / 10;
  return {std::clamp<uint64_t>(tenth_of_second, 128u << 10, kMaxMeterBurst), 0};
}

Meter::Meter(uint64_t rate, const MeterBurst& burst, uint64_t tsc_hz) {
  if (rate > kMaxMeterRate) throw std::invalid_argument("meter rate above 4294967295 Mbit/s");
  if (burst.committed > kMaxMeterBurst || burst.excess > kMaxMeterBurst - burst.committed)
    throw std::invalid_argument("meter burst above 1 GiB");
  if (tsc_hz < kMinTscHz) throw std::invalid_argument("meter clock below 1 MHz");
  if (rate == 0) return;
  const auto per_second = static_cast<unsigned __int128>(rate * kBytesPerMbit) << kFractionBits;
  per_cycle_ = static_cast<uint64_t>(std::max<unsigned __int128>((per_second + tsc_hz / 2) / tsc_hz, 1));
  committed_ = committed_max_ = burst.committed << kFractionBits;
  excess_ = excess_max_ = burst.excess << kFractionBits;
  full_after_ = (committed_max_ + excess_max_) / per_cycle_ + 1;
}

}  // namespace ironcore
