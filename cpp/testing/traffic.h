// Random packets for a Scenario: every protocol and oddity that the engine treats in a way of its own, from VMs and
// from the fabric, answers to what was sent, ICMP errors about it, and damaged frames.
#pragma once

#include <random>
#include <variant>

#include "testing/scenario.h"

namespace ironcore::testing {

struct Received {
  unsigned port;
  Frame frame;
};

// Of a script: a control call or a frame that arrives.
using Step = std::variant<Scenario::Choice, Received>;

class Traffic {
 public:
  explicit Traffic(std::mt19937& random) : random_(random) {}

  Received next(const Scenario& scenario);
  Scenario::Choice next_call();
  // What the engine sent, so that it can be answered.
  void note(unsigned port, const Frame& frame);

 private:
  unsigned below(unsigned limit) { return static_cast<unsigned>(random_() % limit); }
  bool one_in(unsigned count) { return below(count) == 0; }
  const std::string& address(bool v6);
  Frame guest_request();
  Frame segment(uint8_t& proto, bool v6);
  Frame packet(const std::string& src, const std::string& dst);
  Frame to_fabric(const Scenario& scenario, const IpAddress& to, const Frame& vm_frame);
  std::optional<Received> answer(const Scenario& scenario);
  void damage(Frame& frame, size_t from);

  std::mt19937& random_;
  std::vector<Received> seen_;
};

}  // namespace ironcore::testing
