// Established flows take a short way: one lookup, one compiled program. Whatever happens to tables in between, it must
// lead where deciding the packet anew would lead. Random scripts of packets and control calls run twice, once as the
// engine is built and once with every entry made stale before every packet; what leaves, by which port, and what is
// dropped for which reason must be the same.
#include <gtest/gtest.h>

#include <sstream>

#include "testing/traffic.h"

namespace ironcore::testing {
namespace {

// What a step led to.
struct Outcome {
  Status status = Status::OK;
  std::vector<Received> sent;
  std::vector<DropReason> drops;
  uint64_t flows = 0;

  bool operator==(const Outcome& other) const {
    const auto same = [](const Received& a, const Received& b) { return a.port == b.port && a.frame == b.frame; };
    return status == other.status && drops == other.drops && flows == other.flows &&
           std::equal(sent.begin(), sent.end(), other.sent.begin(), other.sent.end(), same);
  }
};

std::string hex(const Frame& frame) {
  std::string text;
  char byte[3];
  for (const uint8_t value : frame) {
    std::snprintf(byte, sizeof byte, "%02x", value);
    text += byte;
  }
  return text;
}

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  out << status_name(outcome.status) << ", " << outcome.flows << " flow entries";
  for (const DropReason reason : outcome.drops) out << ", drop " << drop_reason_name(reason);
  for (const auto& [port, frame] : outcome.sent) out << "\n    port " << port << " " << hex(frame);
  return out;
}

std::ostream& operator<<(std::ostream& out, const Step& step) {
  if (const auto* choice = std::get_if<Scenario::Choice>(&step)) {
    out << "call";
    for (const uint8_t byte : *choice) out << " " << unsigned{byte};
  } else {
    const auto& [port, frame] = std::get<Received>(step);
    out << "port " << port << " " << hex(frame);
  }
  return out;
}

// Which entries are made stale before each packet. A reply's entry may outlive a change that concerns its original
// direction only, until the next packet of that: answers to what was allowed are let in. So with route changes that
// concern some destinations only, originals are decided anew, and replies with them.
enum class Anew { kNone, kOriginals, kAll };

class Run {
 public:
  Run(uint8_t options, bool wide_routes, Anew anew)
      : net_(Scenario::options(options)), scenario_(net_, wide_routes), anew_(anew) {
    scenario_.populate();
    collect();
  }

  const Scenario& scenario() const { return scenario_; }

  Outcome perform(const Step& step) {
    Outcome outcome;
    if (const auto* choice = std::get_if<Scenario::Choice>(&step)) {
      outcome.status = scenario_.change(*choice);
    } else {
      const auto& [port, frame] = std::get<Received>(step);
      make_stale();
      if (!frame.empty()) net_.inject(port, frame);
    }
    net_.poll();
    const Outcome collected = collect();
    outcome.sent = collected.sent;
    outcome.drops = collected.drops;
    outcome.flows = net_.impl().flows().size();
    return outcome;
  }

 private:
  void make_stale() {
    FlowTable& flows = net_.impl().flows();
    for (uint32_t i = 1; i < flows.capacity() && anew_ != Anew::kNone; ++i) {
      FlowEntry& entry = flows.at(i);
      // Later fragments have nothing to be decided from but what their first left behind. A flow whose answer's key was
      // another connection's gets that key only if it is decided again after the other's end.
      const bool alone = !entry.is_reply && !entry.owner.one_way && !flows.get(entry.peer());
      if (entry.key.fragment || alone || (anew_ == Anew::kOriginals && entry.is_reply)) continue;
      entry.generation.fetch_sub(1);
    }
  }

  Outcome collect() {
    Outcome outcome;
    for (unsigned port = 0; port < kPortCount; ++port)
      for (Frame& frame : net_.sent(port)) outcome.sent.push_back({port, std::move(frame)});
    const WorkerStats& stats = net_.impl().workers()[0]->stats();
    for (size_t reason = 0; reason < kDropReasonCount; ++reason) {
      uint64_t count = 0;
      for (const Port* port : net_.impl().ports().all()) count += stats.ports[port->id].drops[reason].get();
      for (; drops_[reason] < count; ++drops_[reason]) outcome.drops.push_back(static_cast<DropReason>(reason));
    }
    return outcome;
  }

  Harness net_;
  Scenario scenario_;
  const Anew anew_;
  DropCounters drops_{};
};

struct Script {
  uint8_t options;
  bool wide_routes;
  std::vector<Step> steps;

  Anew anew() const { return wide_routes ? Anew::kAll : Anew::kOriginals; }
};

// Answers need what the engine has sent, so a script is written while it runs.
Script write_script(uint32_t seed, size_t length, std::vector<Outcome>& outcomes) {
  std::mt19937 random(seed);
  Script script{static_cast<uint8_t>(random()), (random() & 1) != 0, {}};
  Run run(script.options, script.wide_routes, Anew::kNone);
  Traffic traffic(random);
  for (size_t i = 0; i < length; ++i) {
    if (random() % 12 == 0) {
      script.steps.emplace_back(traffic.next_call());
    } else {
      script.steps.emplace_back(traffic.next(run.scenario()));
    }
    outcomes.push_back(run.perform(script.steps.back()));
    for (const auto& [port, frame] : outcomes.back().sent) traffic.note(port, frame);
  }
  return script;
}

std::vector<Outcome> outcomes_of(const Script& script, Anew anew) {
  Run run(script.options, script.wide_routes, anew);
  std::vector<Outcome> outcomes;
  for (const Step& step : script.steps) outcomes.push_back(run.perform(step));
  return outcomes;
}

// The first step with different outcomes, if there is one.
std::optional<size_t> first_difference(const Script& script) {
  const auto expected = outcomes_of(script, script.anew()), found = outcomes_of(script, Anew::kNone);
  for (size_t i = 0; i < expected.size(); ++i)
    if (!(found[i] == expected[i])) return i;
  return std::nullopt;
}

// The shortest script that shows the difference, by leaving out ever smaller parts.
Script shrunk(Script script) {
  for (size_t part = script.steps.size() / 2; part > 0; part /= 2) {
    for (size_t at = 0; at + part <= script.steps.size();) {
      Script shorter = script;
      const auto first = shorter.steps.begin() + static_cast<std::ptrdiff_t>(at);
      shorter.steps.erase(first, first + static_cast<std::ptrdiff_t>(part));
      if (const auto difference = first_difference(shorter)) {
        shorter.steps.resize(*difference + 1);
        script = std::move(shorter);
      } else {
        at += part;
      }
    }
  }
  return script;
}

std::string explanation(const Script& script) {
  std::ostringstream text;
  text << "options " << unsigned{script.options} << (script.wide_routes ? ", wide routes" : "") << "\n";
  const auto expected = outcomes_of(script, script.anew()), found = outcomes_of(script, Anew::kNone);
  for (size_t i = 0; i < script.steps.size(); ++i) {
    text << script.steps[i] << "\n  " << found[i] << "\n";
    if (!(found[i] == expected[i])) text << "  decided anew: " << expected[i] << "\n";
  }
  return text.str();
}

class Differential : public ::testing::TestWithParam<uint32_t> {};

TEST_P(Differential, AFlowGoesWhereADecisionWouldSendIt) {
  constexpr size_t kScripts = 10, kSteps = 400;
  uint64_t sent = 0, dropped = 0;
  for (uint32_t i = 0; i < kScripts; ++i) {
    const uint32_t seed = GetParam() * kScripts + i;
    std::vector<Outcome> outcomes;
    const Script script = write_script(seed, kSteps, outcomes);
    ASSERT_TRUE(outcomes_of(script, script.anew()) == outcomes)
        << "seed " << seed << ": " << explanation(shrunk(script));
    for (const Outcome& outcome : outcomes) {
      sent += outcome.sent.size();
      dropped += outcome.drops.size();
    }
  }
  EXPECT_GT(sent, kScripts * kSteps / 5) << "scripts must reach something";
  EXPECT_GT(dropped, kScripts * kSteps / 20);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Differential, ::testing::Range(0u, 24u));

}  // namespace
}  // namespace ironcore::testing
