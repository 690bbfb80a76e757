#include "firewall/table.h"

#include <algorithm>
#include <bit>

namespace ironcore::firewall {
namespace {

constexpr size_t kBlock = TableBase::kBlock;
constexpr size_t kWords = kBlock / 64;

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
  explicit Dimension(std::span<const Range<Key>> ranges) : blocks_((ranges.size() + kBlock - 1) / kBlock) {
    starts_.reserve(2 * ranges.size() + 1);
    starts_.push_back(0);
    for (const Range<Key>& range : ranges) {
      starts_.push_back(range.from);
      if (range.to != std::numeric_limits<Key>::max()) starts_.push_back(range.to + 1);
    }
    std::sort(starts_.begin(), starts_.end());
    starts_.erase(std::unique(starts_.begin(), starts_.end()), starts_.end());
    starts_.shrink_to_fit();
    matrix_.resize(starts_.size() * blocks_);
    for (size_t block = 0; block < blocks_; ++block)
      add_block(block, ranges.subspan(block * kBlock, std::min(kBlock, ranges.size() - block * kBlock)));
    vectors_.shrink_to_fit();
  }

  // Names of the vectors of the key's interval, by block; 0: the empty one.
  const uint16_t* row(Key key) const { return matrix_.data() + interval(key) * blocks_; }
  const Bits& vector(size_t block, uint16_t name) const { return vectors_[first_[block] + name]; }

  size_t memory() const {
    return starts_.capacity() * sizeof(Key) + matrix_.capacity() * sizeof(uint16_t) +
           vectors_.capacity() * sizeof(Bits);
  }

 private:
  // Of the last start that is not above the key. Without branches: the direction of a step cannot be predicted.
  size_t interval(Key key) const {
    const Key* low = starts_.data();
    for (size_t count = starts_.size(); count > 1;) {
      const size_t half = count / 2;
      low += low[half] <= key ? half : 0;
      count -= half;
    }
    return static_cast<size_t>(low - starts_.data());
  }

  void add_block(size_t block, std::span<const Range<Key>> ranges) {
    struct Flip {
      size_t interval, bit;
    };
    std::vector<Flip> flips;
    flips.reserve(2 * ranges.size());
    for (size_t bit = 0; bit < ranges.size(); ++bit) {
      flips.push_back({interval(ranges[bit].from), bit});
      if (const size_t end = interval(ranges[bit].to) + 1; end < starts_.size()) flips.push_back({end, bit});
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
      matrix_[at * blocks_ + block] = name;
    }
  }

  size_t blocks_ = 0;
  std::vector<Key> starts_;       // of the intervals, ascending from 0
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
    const uint16_t* src = src_.row(static_cast<AddressKey>(point.src));
    const uint16_t* dst = dst_.row(static_cast<AddressKey>(point.dst));
    const uint16_t* low = low_.row(point.low);
    const uint16_t* high = high_.row(point.high);
    for (size_t block = 0; block * kBlock < orders_.size(); ++block) {
      if (!src[block] | !dst[block] | !low[block] | !high[block]) continue;
      if (orders_[block * kBlock] > best.order) return;
      const Bits& a = src_.vector(block, src[block]);
      const Bits& b = dst_.vector(block, dst[block]);
      const Bits& c = low_.vector(block, low[block]);
      const Bits& d = high_.vector(block, high[block]);
      Bits left;
      for (size_t i = 0; i < kWords; ++i) left.words[i] = a.words[i] & b.words[i] & c.words[i] & d.words[i];
      if (live)
        for (size_t i = 0; i < kWords; ++i) left.words[i] &= live[block * kWords + i];
      uint64_t any = 0;
      for (const uint64_t word : left.words) any |= word;
      if (!any) continue;
      size_t word = 0;
      while (!left.words[word]) ++word;
      const size_t position = block * kBlock + word * 64 + static_cast<size_t>(std::countr_zero(left.words[word]));
      if (orders_[position] < best.order) best = {orders_[position], slots_[position]};
      return;
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
