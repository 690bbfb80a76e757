// Rules of one group as bit vectors per dimension (aggregated bit vector, Baboescu and Varghese, SIGCOMM 2001).
//
// The bounds of all rules cut each dimension (source, destination, source port or ICMP type, destination port or ICMP
// code) into at most 2n + 1 intervals. Rules are in blocks of 512 by order. Which of a block's rules cover an interval
// is a vector of 512 bits, one cache line; a block has at most 1024 different ones per dimension besides the empty one,
// so vectors take 512 bytes per rule and dimension at most. A matrix names the vector of each interval and block.
//
// A packet costs four searches for its intervals and, per block, four entries of the matrix; if none of them is the
// empty vector, four vectors are combined, and the first bit that is left is the best rule. No rule set makes that
// more: a matrix of overlapping rules only fills vectors that exist anyway.
#pragma once

#include <memory>
#include <span>

#include "firewall/classifier.h"

namespace ironcore::firewall {

// The best rule so far.
struct Best {
  uint64_t order = ~uint64_t{0};
  uint32_t slot = kNoSlot;
};

class TableBase {
 public:
  static constexpr size_t kBlock = 512;

  // `rules` are of one group, by order, at least one.
  static std::shared_ptr<const TableBase> build(std::span<const Match> rules);

  virtual ~TableBase() = default;

  // Improves `best` if a live rule of lower order contains the point. `live`: see LiveTable, of whole blocks; null:
  // all.
  virtual void find(const Point& point, const uint64_t* live, Best& best) const = 0;
  virtual size_t memory() const = 0;

  size_t size() const { return orders_.size(); }
  uint32_t slot(size_t position) const { return slots_[position]; }
  // Position of a rule that is in the table, or was when it was built.
  std::optional<size_t> position(uint64_t order) const;

 protected:
  explicit TableBase(std::span<const Match> rules);

  std::vector<uint64_t> orders_;
  std::vector<uint32_t> slots_;
};

// Of rules of one group in any order; none: no table.
LiveTable make_table(std::vector<Match> rules);

}  // namespace ironcore::firewall
