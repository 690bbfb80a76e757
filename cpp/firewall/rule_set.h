// The firewall rules of one interface, control side. For one thread at a time.
//
// Rules may come one by one, with a compile() after each. What is new since the last compile goes into the tail of the
// classifier; when that is full, into the young table of its group, which is rebuilt; when that holds more than
// kYoung rules and an eighth of the old one, into the old table. What is removed is masked in its table, which is
// rebuilt when more than a quarter of it is gone. n changes cost O(n log n) apart from the rebuilds of old tables, of
// which there are n/kYoung, or log n once there are more than 8 kYoung rules.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "firewall/classifier.h"
#include "ironcore/status.h"

namespace ironcore {

class RuleSet {
 public:
  static constexpr uint32_t kMaxRules = 16384;  // default limit; a classifier's memory grows faster than its rules
  static constexpr size_t kYoung = 1024;

  explicit RuleSet(uint32_t max_rules = kMaxRules) : max_rules_(max_rules) {}

  // BAD_REQUEST: id not of 1..63 bytes, or a length, range or ICMP value that its protocol does not have;
  // ALREADY_EXISTS: the id; LIMIT_REACHED: max_rules. Nothing has changed then.
  Status add(const FirewallRule& rule);
  Status remove(std::string_view id);  // NOT_FOUND
  void clear();

  size_t size() const { return by_id_.size(); }

  // The slot of a rule never changes. That of a removed one is used again, so a counter by slot starts at 0 with add().
  std::optional<uint32_t> find(std::string_view id) const;
  const FirewallRule& rule(uint32_t slot) const { return stored_[slot]->rule; }
  uint32_t slots() const { return static_cast<uint32_t>(stored_.size()); }  // all are below
  std::vector<uint32_t> in_creation_order() const;

  std::unique_ptr<const Classifier> compile();

 private:
  struct Stored {
    FirewallRule rule;
    uint64_t created;
  };

  void forget(const firewall::Match& match);
  void spill();
  void append_live(const firewall::LiveTable& table, std::vector<firewall::Match>& rules) const;

  uint32_t max_rules_;
  uint64_t created_ = 0;
  std::vector<std::optional<Stored>> stored_;  // by slot
  std::vector<uint32_t> free_;
  std::map<std::string, uint32_t, std::less<>> by_id_;
  std::map<uint64_t, uint32_t> by_creation_;
  Classifier next_;  // what compile() copies, but for spilling its tail
};

}  // namespace ironcore
