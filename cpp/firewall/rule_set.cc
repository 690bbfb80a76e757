#include "firewall/rule_set.h"

#include <algorithm>

#include "firewall/table.h"

namespace ironcore {
namespace {

using firewall::LiveTable;
using firewall::Match;
using firewall::TableBase;

bool is_live(const LiveTable& table, size_t position) {
  return !table.live || ((*table.live)[position / 64] >> position % 64 & 1);
}

// False if the rule is not in the table.
bool mask(LiveTable& table, uint64_t order) {
  const auto position = table.table ? table.table->position(order) : std::nullopt;
  if (!position || !is_live(table, *position)) return false;
  const size_t blocks = (table.table->size() + TableBase::kBlock - 1) / TableBase::kBlock;
  auto live = table.live ? std::make_shared<std::vector<uint64_t>>(*table.live)
                         : std::make_shared<std::vector<uint64_t>>(blocks * (TableBase::kBlock / 64), ~uint64_t{0});
  (*live)[*position / 64] &= ~(uint64_t{1} << *position % 64);
  table.live = std::move(live);
  ++table.gone;
  return true;
}

size_t live_count(const LiveTable& table) { return table.table ? table.table->size() - table.gone : 0; }

}  // namespace

Status RuleSet::add(const FirewallRule& rule) {
  if (rule.id.empty() || rule.id.size() > 63 || !firewall::is_valid(rule)) return Status::BAD_REQUEST;
  if (by_id_.contains(rule.id)) return Status::ALREADY_EXISTS;
  if (size() >= max_rules_) return Status::LIMIT_REACHED;
  uint32_t slot = slots();
  if (free_.empty()) {
    stored_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  stored_[slot] = Stored{rule, created_};
  by_id_.emplace(rule.id, slot);
  by_creation_.emplace(created_, slot);
  if (const auto match = firewall::to_match(rule, created_, slot)) next_.tail_.push_back(*match);
  ++next_.rules_[static_cast<unsigned>(rule.direction)];
  ++created_;
  return Status::OK;
}

Status RuleSet::remove(std::string_view id) {
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return Status::NOT_FOUND;
  const uint32_t slot = found->second;
  const Stored& stored = *stored_[slot];
  if (const auto match = firewall::to_match(stored.rule, stored.created, slot)) forget(*match);
  --next_.rules_[static_cast<unsigned>(stored.rule.direction)];
  by_creation_.erase(stored.created);
  by_id_.erase(found);
  stored_[slot].reset();
  free_.push_back(slot);
  return Status::OK;
}

void RuleSet::clear() { *this = RuleSet(max_rules_); }

std::optional<uint32_t> RuleSet::find(std::string_view id) const {
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return std::nullopt;
  return found->second;
}

std::vector<uint32_t> RuleSet::in_creation_order() const {
  std::vector<uint32_t> slots;
  slots.reserve(by_creation_.size());
  for (const auto& [created, slot] : by_creation_) slots.push_back(slot);
  return slots;
}

std::unique_ptr<const Classifier> RuleSet::compile() {
  for (firewall::Group& group : next_.groups_) {
    for (LiveTable* table : {&group.old, &group.young}) {
      if (!table->table || table->gone * 4 <= table->table->size()) continue;
      std::vector<Match> rules;
      append_live(*table, rules);
      *table = firewall::make_table(std::move(rules));
    }
  }
  if (next_.tail_.size() > Classifier::kTail) spill();
  std::sort(next_.tail_.begin(), next_.tail_.end(), firewall::by_order);
  return std::make_unique<const Classifier>(next_);
}

void RuleSet::forget(const Match& match) {
  const auto in_tail = std::find_if(next_.tail_.begin(), next_.tail_.end(),
                                    [&match](const Match& other) { return other.order == match.order; });
  if (in_tail != next_.tail_.end()) {
    next_.tail_.erase(in_tail);
    return;
  }
  firewall::Group& group = next_.groups_[match.group];
  if (!mask(group.young, match.order)) mask(group.old, match.order);
}

// Moves the tail into the tables.
void RuleSet::spill() {
  for (unsigned index = 0; index < firewall::kGroups; ++index) {
    std::vector<Match> rules;
    std::copy_if(next_.tail_.begin(), next_.tail_.end(), std::back_inserter(rules),
                 [index](const Match& match) { return match.group == index; });
    if (rules.empty()) continue;
    firewall::Group& group = next_.groups_[index];
    append_live(group.young, rules);
    if (rules.size() > std::max(kYoung, live_count(group.old) / 8)) {
      append_live(group.old, rules);
      group = {.old = firewall::make_table(std::move(rules)), .young = {}};
    } else {
      group.young = firewall::make_table(std::move(rules));
    }
  }
  next_.tail_.clear();
}

void RuleSet::append_live(const LiveTable& table, std::vector<Match>& rules) const {
  for (size_t position = 0; table.table && position < table.table->size(); ++position) {
    if (!is_live(table, position)) continue;
    const uint32_t slot = table.table->slot(position);
    rules.push_back(*firewall::to_match(stored_[slot]->rule, stored_[slot]->created, slot));
  }
}

}  // namespace ironcore
