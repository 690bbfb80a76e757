#include "firewall/table.h"

#include <smmintrin.h>

#include <algorithm>
#include <bit>

#include "firewall/starts.h"

namespace ironcore::firewall {
namespace {

constexpr size_t kBlock = TableBase::kBlock;
constexpr size_t kWords = kBlock / 64;
constexpr size_t kAtOnce = 8;  // blocks whose names one SSE register holds

constexpr size_t stride_for(size_t rules) { return ((rules + kBlock - 1) / kBlock + kAtOnce - 1) / kAtOnce * kAtOnce; }

struct alignas(64) Bits {
  std::array<uint64_t, kWords> words{};

  void flip(size_t bit) { words[bit / 64] ^= uint64_t{1} << bit % 64; }
  bool none() const {
    return std::all_of(words.begin(), words.end(), [](uint64_t word) { return word == 0; });
  }
};

template <typename Key>
struct Range {
  Key from, to;
};

template <typename Key>
class Dimension {
 public:
  Dimension() = default;
  explicit Dimension(std::span<const Range<Key>> ranges) : stride_(stride_for(ranges.size())) {
    std::vector<Key> starts = {0};
    starts.reserve(2 * ranges.size() + 1);
    for (const Range<Key>& range : ranges) {
      starts.push_back(range.from);
      if (range.to != std::numeric_limits<Key>::max()) starts.push_back(range.to + 1);
    }
    std::sort(starts.begin(), starts.end());
    starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
    starts_ = Starts<Key>(starts);
    matrix_.resize(starts.size() * stride_);
    for (size_t block = 0; block * kBlock < ranges.size(); ++block)
      add_block(block, ranges.subspan(block * kBlock, std::min(kBlock, ranges.size() - block * kBlock)));
    vectors_.shrink_to_fit();
  }

  // Names of the vectors of the key's interval, by block; 0: the empty one. Filled up with 0 to a multiple of kAtOnce.
  const uint16_t* row(Key key) const { return matrix_.data() + starts_.interval(key) * stride_; }
  const Bits& vector(size_t block, uint16_t name) const { return vectors_[first_[block] + name]; }

  size_t memory() const {
    return starts_.memory() + matrix_.capacity() * sizeof(uint16_t) + vectors_.capacity() * sizeof(Bits);
  }

 private:
  void add_block(size_t block, std::span<const Range<Key>> ranges) {
    struct Flip {
      size_t interval, bit;
    };
    std::vector<Flip> flips;
    flips.reserve(2 * ranges.size());
    for (size_t bit = 0; bit < ranges.size(); ++bit) {
      flips.push_back({starts_.interval(ranges[bit].from), bit});
      if (const size_t end = starts_.interval(ranges[bit].to) + 1; end < starts_.size()) flips.push_back({end, bit});
    }
    std::sort(flips.begin(), flips.end(), [](const Flip& a, const Flip& b) { return a.interval < b.interval; });
    first_.push_back(static_cast<uint32_t>(vectors_.size()));
    vectors_.emplace_back();
    Bits bits;
    uint16_t name = 0;
    for (size_t at = 0, next = 0; at < starts_.size(); ++at) {
      if (next < flips.size() && flips[next].interval == at) {
        for (; next < flips.size() && flips[next].interval == at; ++next) bits.flip(flips[next].bit);
        name = 0;
        if (!bits.none()) {
          name = static_cast<uint16_t>(vectors_.size() - first_[block]);
          vectors_.push_back(bits);
        }
      }
      matrix_[at * stride_ + block] = name;
    }
  }

  size_t stride_ = 0;
  Starts<Key> starts_;
  std::vector<uint16_t> matrix_;  // interval x block
  std::vector<uint32_t> first_;   // of each block's vectors
  std::vector<Bits> vectors_;
};

// AddressKey: as narrow as the family allows.
template <typename AddressKey>
class Table final : public TableBase {
 public:
  explicit Table(std::span<const Match> rules)
      : TableBase(rules),
        src_(ranges<AddressKey>(rules, &Point::src)),
        dst_(ranges<AddressKey>(rules, &Point::dst)),
        low_(ranges<uint32_t>(rules, &Point::low)),
        high_(ranges<uint32_t>(rules, &Point::high)) {}

  void find(const Point& point, const uint64_t* live, Best& best) const override {
    const Rows rows = {src_.row(static_cast<AddressKey>(point.src)), dst_.row(static_cast<AddressKey>(point.dst)),
                       low_.row(point.low), high_.row(point.high)};
    for (size_t first = 0; first < orders_.size(); first += kAtOnce * kBlock) {
      for (uint32_t rest = candidates(rows, first / kBlock); rest; rest &= rest - 1) {
        const size_t block = first / kBlock + static_cast<size_t>(std::countr_zero(rest)) / 2;
        if (orders_[block * kBlock] > best.order || find_in(block, rows, live, best)) return;
      }
    }
  }

  size_t memory() const override {
    return sizeof *this + src_.memory() + dst_.memory() + low_.memory() + high_.memory() +
           orders_.capacity() * sizeof orders_[0] + slots_.capacity() * sizeof slots_[0];
  }

 private:
  template <typename Key, typename Field>
  static Dimension<Key> ranges(std::span<const Match> rules, Field Point::* field) {
    std::vector<Range<Key>> ranges;
    ranges.reserve(rules.size());
    for (const Match& rule : rules)
      ranges.push_back({static_cast<Key>(rule.box.from.*field), static_cast<Key>(rule.box.to.*field)});
    return Dimension<Key>(ranges);
  }

  struct Rows {
    const uint16_t *src, *dst, *low, *high;
  };

  // Which of kAtOnce blocks have rules for the point in every dimension; two bits each, of which the upper one is 0.
  static uint32_t candidates(const Rows& rows, size_t first) {
    const auto names = [first](const uint16_t* row) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + first));
    };
    const __m128i least = _mm_min_epu16(_mm_min_epu16(names(rows.src), names(rows.dst)),
                                        _mm_min_epu16(names(rows.low), names(rows.high)));
    const int empty = _mm_movemask_epi8(_mm_cmpeq_epi16(least, _mm_setzero_si128()));
    return ~static_cast<uint32_t>(empty) & 0x5555;
  }

  // True if a rule of the block contains the point: later blocks have no better one.
  bool find_in(size_t block, const Rows& rows, const uint64_t* live, Best& best) const {
    const Bits& a = src_.vector(block, rows.src[block]);
    const Bits& b = dst_.vector(block, rows.dst[block]);
    const Bits& c = low_.vector(block, rows.low[block]);
    const Bits& d = high_.vector(block, rows.high[block]);
    Bits left;
    uint64_t any = 0;
    for (size_t i = 0; i < kWords; ++i) {
      left.words[i] = a.words[i] & b.words[i] & c.words[i] & d.words[i];
      any |= left.words[i];
    }
    if (!any) return false;
    for (size_t i = 0; i < kWords; ++i) {
      const uint64_t word = live ? left.words[i] & live[block * kWords + i] : left.words[i];
      if (!word) continue;
      const size_t position = block * kBlock + i * 64 + static_cast<size_t>(std::countr_zero(word));
      if (orders_[position] < best.order) best = {orders_[position], slots_[position]};
      return true;
    }
    return false;
  }

  Dimension<AddressKey> src_, dst_;
  Dimension<uint32_t> low_, high_;
};

}  // namespace

TableBase::TableBase(std::span<const Match> rules) {
  orders_.reserve(rules.size());
  slots_.reserve(rules.size());
  for (const Match& rule : rules) {
    orders_.push_back(rule.order);
    slots_.push_back(rule.slot);
  }
}

std::shared_ptr<const TableBase> TableBase::build(std::span<const Match> rules) {
  if (is_v6(rules.front().group)) return std::make_shared<Table<Address>>(rules);
  return std::make_shared<Table<uint32_t>>(rules);
}

std::optional<size_t> TableBase::position(uint64_t order) const {
  const auto found = std::lower_bound(orders_.begin(), orders_.end(), order);
  if (found == orders_.end() || *found != order) return std::nullopt;
  return static_cast<size_t>(found - orders_.begin());
}

LiveTable make_table(std::vector<Match> rules) {
  if (rules.empty()) return {};
  std::sort(rules.begin(), rules.end(), by_order);
  return {.table = TableBase::build(rules)};
}

}  // namespace ironcore::firewall
