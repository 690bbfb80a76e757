// Verdicts of the classifier against a walk through all rules, for random rules and packets.
#include <gtest/gtest.h>

#include "firewall/rule_set.h"
#include "firewall/test_support.h"

namespace ironcore::firewall::testing {
namespace {

// What the checked packets met; a test that meets nothing proves nothing.
struct Met {
  unsigned matched = 0, unmatched = 0;
};

// `slots`: of each rule.
void compare(const Classifier& classifier, std::span<const FirewallRule> rules, std::span<const int32_t> slots,
             Random& random, unsigned packets, Met& met) {
  for (unsigned i = 0; i < packets; ++i) {
    const FirewallPacket p =
        i % 2 && !rules.empty() ? random.packet_at_edge_of(rules[random.below(rules.size())]) : random.packet();
    for (const auto direction : {TrafficDirection::kIngress, TrafficDirection::kEgress}) {
      FirewallVerdict expected = naive_verdict(rules, direction, p);
      expected.rule == -1 ? ++met.unmatched : ++met.matched;
      if (expected.rule != -1) expected.rule = slots[static_cast<size_t>(expected.rule)];
      const FirewallVerdict verdict = classifier.evaluate(direction, p);
      ASSERT_EQ(verdict.rule, expected.rule) << "packet " << i << " of " << rules.size() << " rules";
      ASSERT_EQ(verdict.action, expected.action);
    }
  }
}

std::vector<FirewallRule> random_rules(Random& random, size_t count) {
  std::vector<FirewallRule> rules;
  for (size_t i = 0; i < count; ++i) rules.push_back(random.rule(std::to_string(i)));
  return rules;
}

TEST(FirewallProperty, CompiledAtOnceEqualsWalk) {
  Met met;
  for (const size_t count : {0, 1, 2, 31, 32, 33, 64, 511, 512, 513, 1500, 5000}) {
    Random random(static_cast<unsigned>(count) + 1);
    const std::vector<FirewallRule> rules = random_rules(random, count);
    std::vector<int32_t> slots(count);
    for (size_t i = 0; i < count; ++i) slots[i] = static_cast<int32_t>(i);
    const auto classifier = Classifier::compile(rules);
    compare(*classifier, rules, slots, random, count > 1000 ? 2000 : 4000, met);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(met.matched, 10000u);
  EXPECT_GT(met.unmatched, 1000u);
}

TEST(FirewallProperty, TwoHundredSmallSetsEqualWalk) {
  Met met;
  for (unsigned seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const std::vector<FirewallRule> rules = random_rules(random, random.below(90));
    std::vector<int32_t> slots(rules.size());
    for (size_t i = 0; i < rules.size(); ++i) slots[i] = static_cast<int32_t>(i);
    compare(*Classifier::compile(rules), rules, slots, random, 300, met);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(met.matched, 10000u);
  EXPECT_GT(met.unmatched, 10000u);
}

// Adds and removes, with classifiers of every state in between kept alive: an older one must not see a later change.
TEST(FirewallProperty, ChangedOneByOneEqualsWalk) {
  struct Kept {
    std::unique_ptr<const Classifier> classifier;
    std::vector<FirewallRule> rules;
    std::vector<int32_t> slots;
  };
  Random random(7);
  RuleSet set;
  std::vector<FirewallRule> rules;  // as created
  std::vector<Kept> kept;
  Met met;
  unsigned next_id = 0;
  // Grows past what the young tables hold, shrinks, grows again: every rebuild happens.
  const auto churn = [&](unsigned steps, unsigned adds_of_eight) {
    for (unsigned step = 0; step < steps; ++step) {
      if (random.below(8) < adds_of_eight || rules.empty()) {
        const FirewallRule rule = random.rule(std::to_string(next_id++));
        ASSERT_EQ(set.add(rule), Status::OK);
        rules.push_back(rule);
      } else {
        const size_t at = random.below(rules.size());
        ASSERT_EQ(set.remove(rules[at].id), Status::OK);
        rules.erase(rules.begin() + static_cast<ptrdiff_t>(at));
      }
      if (random.below(4) == 0) continue;  // several changes at once, sometimes
      auto classifier = set.compile();
      if (step % 16 && step + 200 < steps) continue;
      std::vector<int32_t> slots;
      for (const FirewallRule& rule : rules) slots.push_back(static_cast<int32_t>(set.find(rule.id).value()));
      compare(*classifier, rules, slots, random, 8, met);
      if (::testing::Test::HasFatalFailure()) return;
      if (step % 512 == 0) kept.push_back({std::move(classifier), rules, slots});
    }
  };
  churn(300, 6);
  churn(600, 2);
  churn(4000, 7);
  churn(3500, 1);
  churn(1000, 5);
  if (HasFatalFailure()) return;
  EXPECT_EQ(set.size(), rules.size());
  EXPECT_GT(kept.size(), 5u);
  for (const Kept& k : kept) {
    compare(*k.classifier, k.rules, k.slots, random, 200, met);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(met.matched, 10000u);
}

// One group only, more rules than one block and one young table hold.
TEST(FirewallProperty, OneGroupOneByOneEqualsWalk) {
  Random random(11);
  RuleSet set;
  std::vector<FirewallRule> rules;
  std::vector<int32_t> slots;
  Met met;
  for (unsigned i = 0; i < 3000; ++i) {
    FirewallRule rule = random.rule(std::to_string(i));
    rule.direction = TrafficDirection::kIngress;
    rule.filter = TcpFilter{{-1, -1}, {static_cast<int32_t>(random.below(60000)), -1}};
    ASSERT_EQ(set.add(rule), Status::OK);
    rules.push_back(rule);
    slots.push_back(static_cast<int32_t>(set.find(rule.id).value()));
    const auto classifier = set.compile();
    if (i % 37 == 0) compare(*classifier, rules, slots, random, 40, met);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(met.matched, 1000u);
}

}  // namespace
}  // namespace ironcore::firewall::testing
