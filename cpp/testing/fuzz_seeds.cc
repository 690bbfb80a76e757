// Writes scripts of random traffic as inputs for fuzz_engine: fuzz_seeds DIRECTORY COUNT
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "testing/engine_input.h"

int main(int argc, char** argv) {
  using namespace ironcore::testing;
  if (argc != 3) {
    std::fprintf(stderr, "usage: fuzz_seeds DIRECTORY COUNT\n");
    return 2;
  }
  constexpr size_t kSteps = 12;
  for (unsigned long seed = 0; seed < std::strtoul(argv[2], nullptr, 10); ++seed) {
    std::mt19937 random(static_cast<uint32_t>(seed));
    const auto options = static_cast<uint8_t>(random());
    Harness net(Scenario::options(options));
    Scenario scenario(net);
    scenario.populate();
    Traffic traffic(random);
    std::vector<Step> steps;
    for (size_t i = 0; i < kSteps; ++i) {
      if (random() % 6 == 0) {
        const auto choice = traffic.next_call();
        steps.emplace_back(choice);
        scenario.change(choice);
      } else {
        const Received received = traffic.next(scenario);
        if (received.frame.empty()) continue;
        steps.emplace_back(received);
        net.inject(received.port, received.frame);
      }
      net.poll();
      for (unsigned port = 0; port < kPortCount; ++port)
        for (const Frame& frame : net.sent(port)) traffic.note(port, frame);
    }
    const auto bytes = engine_input(options, steps);
    std::ofstream file(std::string(argv[1]) + "/seed" + std::to_string(seed), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file) {
      std::fprintf(stderr, "cannot write into %s\n", argv[1]);
      return 1;
    }
  }
  return 0;
}
