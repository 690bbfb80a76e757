// Which firewall rule decides about the first packet of a flow.
//
// A classifier never changes: any number of threads may read it without locks. It looks through
//  - a tail of at most kTail rules, one by one, and
//  - two tables (firewall/table.h) of the packet's kind and two of the rules that name no protocol: a large one and one
//    of younger rules, so that a new rule costs the work of the small one only (firewall/rule_set.h).
// What a packet costs is therefore bounded by the number of rules, whatever they say: per table four searches for its
// intervals, and per 512 rules at most four cache lines. A rule stands in one table only, so a packet meets n/512 + 4
// such blocks at most, where n counts removed rules that are still masked, up to a quarter of a table.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "firewall/match.h"

namespace ironcore {

struct FirewallVerdict {
  FirewallAction action = FirewallAction::kAccept;
  int32_t rule = -1;  // slot of the rule that decided (RuleSet::rule); -1: none did

  bool operator==(const FirewallVerdict&) const = default;
};

namespace firewall {

class TableBase;

// A table and which of its rules still exist.
struct LiveTable {
  std::shared_ptr<const TableBase> table{};             // null: empty
  std::shared_ptr<const std::vector<uint64_t>> live{};  // by position, one bit each; null: all
  size_t gone = 0;                                      // how many no longer do
};

struct Group {
  LiveTable old, young;
};

}  // namespace firewall

class Classifier {
 public:
  static constexpr size_t kTail = 32;

  // Rules in the order they were created; slots of verdicts are indexes into `rules`. Rules that are not valid match
  // nothing.
  static std::unique_ptr<const Classifier> compile(std::span<const FirewallRule> rules);

  FirewallVerdict evaluate(TrafficDirection direction, const FirewallPacket& packet) const;

  bool has_rules(TrafficDirection direction) const { return rules_[static_cast<unsigned>(direction)] > 0; }

  // Bytes of tables and tail. Tables are shared by the classifiers of a RuleSet that follow each other.
  size_t memory() const;

 private:
  friend class RuleSet;

  std::array<firewall::Group, firewall::kGroups> groups_;
  std::vector<firewall::Match> tail_;  // by order
  std::array<uint32_t, 2> rules_{};    // by direction, those included that match nothing
};

}  // namespace ironcore
