// Rate limit of what a VM sends: the single-rate three-colour marker of RFC 2697, colour-blind, where only red is
// dropped. One writer: the worker that polls the VM's port.
#pragma once

#include <cstdint>

namespace ironcore {

inline constexpr uint64_t kMaxMeterRate = UINT32_MAX;          // Mbit/s
inline constexpr uint64_t kMaxMeterBurst = uint64_t{1} << 30;  // bytes, both buckets together

// Sizes of the two token buckets in bytes.
struct MeterBurst {
  uint64_t committed = 0;  // CBS
  uint64_t excess = 0;     // EBS

  bool operator==(const MeterBurst&) const = default;
};

// Of traffic that leaves by a default route, as in the dpservice reference: a second's worth, 12.5 MiB at most.
MeterBurst public_meter_burst(uint64_t rate);

// Of everything a VM sends. The reference leaves this limit to the NIC, which queues; a marker drops instead, and its
// bucket has to give what the queue gave: tokens saved while a sender that met a loss is below the rate carry it above
// the rate later. A TCP that halves its window gets 79 % of the rate with a bucket of some packets, 97 % with 100 ms of
// the rate, 98 % with 200 ms (mean of the paths in meter_test.cc): hence 100 ms, at least 128 KiB (two of the largest
// IP packets), at most kMaxMeterBurst.
MeterBurst total_meter_burst(uint64_t rate);

class Meter {
 public:
  Meter() = default;  // allows everything

  // `rate` in Mbit/s of 2^20 bits, 0 allows everything; `tsc_hz` at least 1 MHz. Buckets start full.
  // std::invalid_argument if a value is out of range.
  Meter(uint64_t rate, const MeterBurst& burst, uint64_t tsc_hz);

  bool limited() const { return per_cycle_ != 0; }

  // Whether a packet of that many bytes, L3 header included, conforms at that time; if so it is charged. Time that goes
  // backwards adds no tokens.
  bool allow(uint64_t now_tsc, uint32_t bytes) {
    if (!limited()) return true;
    const uint64_t elapsed = now_tsc - last_;
    if (static_cast<int64_t>(elapsed) > 0) {
      last_ = now_tsc;
      refill(elapsed);
    }
    const uint64_t cost = uint64_t{bytes} << kFractionBits;
    if (cost <= committed_) {
      committed_ -= cost;
    } else if (cost <= excess_) {
      excess_ -= cost;
    } else {
      return false;
    }
    return true;
  }

 private:
  // Tokens are bytes with a binary fraction: 1 Mbit/s of a 5 GHz clock is off by less than 10 ppm, any uint32_t of
  // bytes fits, and no sum below reaches 2^64.
  static constexpr unsigned kFractionBits = 32;

  void refill(uint64_t elapsed) {
    if (elapsed >= full_after_) {  // hence no overflow below
      committed_ = committed_max_;
      excess_ = excess_max_;
      return;
    }
    committed_ += elapsed * per_cycle_;
    if (committed_ <= committed_max_) return;
    excess_ += committed_ - committed_max_;
    committed_ = committed_max_;
    if (excess_ > excess_max_) excess_ = excess_max_;
  }

  uint64_t per_cycle_ = 0;   // tokens
  uint64_t full_after_ = 0;  // cycles that fill both buckets
  uint64_t committed_max_ = 0, excess_max_ = 0;
  uint64_t committed_ = 0, excess_ = 0;
  uint64_t last_ = 0;
};

}  // namespace ironcore
