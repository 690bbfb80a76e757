// What a verdict and a compile cost for rule sets that are hard on purpose, in nanoseconds.
//
//   firewall_bench [RULES]
//
// "mean" is over 4096 packets in a row, the least of 100 passes; "worst" the most expensive of them, each taken as the
// least of 9 runs that follow each other, so that interrupts do not count; "cold" the median with the caches up to the
// second level and the TLB full of other data before each packet, and "cold99" its 99th percentile.
#include <x86intrin.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>

#include "firewall/rule_set.h"
#include "firewall/test_support.h"

namespace ironcore::firewall::testing {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kIn = TrafficDirection::kIngress;

double ns_since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

double tsc_per_ns() {
  const auto start = Clock::now();
  const uint64_t tsc = __rdtsc();
  while (ns_since(start) < 5e7) {
  }
  return static_cast<double>(__rdtsc() - tsc) / ns_since(start);
}

struct Workload {
  const char* name;
  std::vector<FirewallRule> rules;
  std::vector<FirewallPacket> packets;
};

IpPrefix random6(Random& random, uint8_t length) { return prefix6(random.below(~0ull), random.below(~0ull), length); }
IpPrefix random4(Random& random, uint8_t length) {
  return prefix4(static_cast<uint32_t>(random.below(1ull << 32)), length);
}
uint16_t random_port(Random& random) { return static_cast<uint16_t>(random.below(65536)); }

PortRange around(Random& random, int32_t middle) {
  return {static_cast<int32_t>(random.below(static_cast<uint64_t>(middle))),
          middle + static_cast<int32_t>(random.below(static_cast<uint64_t>(65536 - middle)))};
}

// Every rule one pair of addresses.
Workload hosts(bool is_v6, size_t count) {
  Random random(1);
  Workload w{is_v6 ? "v6 /128 pairs" : "v4 /32 pairs", {}, {}};
  for (size_t i = 0; i < count; ++i) {
    FirewallRule rule = make_rule(std::to_string(i));
    rule.source = is_v6 ? random6(random, 128) : random4(random, 32);
    rule.destination = is_v6 ? random6(random, 128) : random4(random, 32);
    w.rules.push_back(rule);
  }
  for (int i = 0; i < 4096; ++i) {
    const FirewallRule& rule = w.rules[random.below(count)];
    w.packets.push_back(packet(rule.source.address, rule.destination.address, kTcp, random_port(random), 80));
  }
  return w;
}

// Prefixes of all lengths around one address, port ranges around one port; one port of each rule is one that never
// comes, so that every block has rules for the packet in each dimension but none in all.
Workload overlapping(bool is_v6, size_t count) {
  Random random(2);
  Workload w{is_v6 ? "v6 overlapping, no match" : "v4 overlapping, no match", {}, {}};
  const uint8_t most = is_v6 ? 128 : 32;
  const IpPrefix source = is_v6 ? random6(random, most) : random4(random, most);
  const IpPrefix destination = is_v6 ? random6(random, most) : random4(random, most);
  for (size_t i = 0; i < count; ++i) {
    FirewallRule rule = make_rule(std::to_string(i), source, destination);
    rule.source.length = static_cast<uint8_t>(random.below(most + 1u));
    rule.destination.length = static_cast<uint8_t>(random.below(most + 1u));
    TcpFilter filter{around(random, 30000), around(random, 30000)};
    (i % 2 ? filter.source : filter.destination) = {0, 1};
    rule.filter = filter;
    w.rules.push_back(rule);
  }
  for (int i = 0; i < 4096; ++i)
    w.packets.push_back(packet(source.address, destination.address, kTcp,
                               static_cast<uint16_t>(20000 + random.below(20000)),
                               static_cast<uint16_t>(20000 + random.below(20000))));
  return w;
}

// Four dimensions, in each of which half of a block's rules cover the packet, but never the same half in all of them.
Workload crossed(bool is_v6, size_t count) {
  Random random(3);
  Workload w{is_v6 ? "v6 crossed, no match" : "v4 crossed, no match", {}, {}};
  const uint8_t host = is_v6 ? 128 : 32;
  const auto near = [&](uint8_t length) {
    return is_v6 ? prefix6(0x20010db8'00000000, random.below(1 << 16), length)
                 : prefix4(0x0a000000 | static_cast<uint32_t>(random.below(1 << 16)), length);
  };
  const auto wide = [&] { return near(static_cast<uint8_t>(host - 15 - random.below(2))); };
  for (size_t i = 0; i < count; ++i) {
    FirewallRule rule = make_rule(std::to_string(i), wide(), wide());
    TcpFilter filter{around(random, 30000), around(random, 30000)};
    switch (i % 4) {  // one dimension that rarely covers
      case 0:
        rule.source = near(host);
        break;
      case 1:
        rule.destination = near(host);
        break;
      case 2:
        filter.source = {static_cast<int32_t>(2 * i), static_cast<int32_t>(2 * i)};
        break;
      case 3:
        filter.destination = {static_cast<int32_t>(2 * i), static_cast<int32_t>(2 * i)};
        break;
    }
    rule.filter = filter;
    w.rules.push_back(rule);
  }
  for (int i = 0; i < 4096; ++i)
    w.packets.push_back(packet(near(host).address, near(host).address, kTcp,
                               static_cast<uint16_t>(random.below(65536) | 1),
                               static_cast<uint16_t>(random.below(65536) | 1)));
  return w;
}

// All ranges of ports contain one another; the packet's lies in all of the sources, in none of the destinations.
Workload ports(size_t count) {
  Random random(4);
  Workload w{"v4 nested port ranges", {}, {}};
  for (size_t i = 0; i < count; ++i) {
    FirewallRule rule = make_rule(std::to_string(i), prefix4(0, 0), prefix4(0, 0));
    const auto low = static_cast<int32_t>(i % 30000);
    TcpFilter filter{{low, 65535 - low}, {low, 65535 - low}};
    if (i % 2) filter.source.lower = filter.source.upper - 1000;
    rule.filter = filter;
    rule.priority = static_cast<uint16_t>(count - i);
    w.rules.push_back(rule);
  }
  for (int i = 0; i < 4096; ++i)
    w.packets.push_back(packet(random4(random, 32).address, random4(random, 32).address, kTcp, random_port(random),
                               random_port(random)));
  return w;
}

// Half of the rules name TCP, half no protocol; everything random.
Workload mixed(bool is_v6, size_t count) {
  Workload a = crossed(is_v6, count);
  a.name = is_v6 ? "v6 crossed, half any protocol" : "v4 crossed, half any protocol";
  for (size_t i = 0; i < count; i += 2) a.rules[i].filter = {};
  return a;
}

uint64_t checksum = 0;

double evaluate_ns(const Classifier& classifier, const std::vector<FirewallPacket>& packets) {
  double best = 1e9;
  for (int run = 0; run < 100; ++run) {
    const auto start = Clock::now();
    for (const FirewallPacket& p : packets) checksum += static_cast<uint64_t>(classifier.evaluate(kIn, p).rule);
    best = std::min(best, ns_since(start) / static_cast<double>(packets.size()));
  }
  return best;
}

uint64_t cycles(const Classifier& classifier, const FirewallPacket& p) {
  unsigned cpu;
  _mm_lfence();
  const uint64_t start = __rdtsc();
  checksum += static_cast<uint64_t>(classifier.evaluate(kIn, p).rule);
  const uint64_t end = __rdtscp(&cpu);
  _mm_lfence();
  return end - start;
}

void measure(const char* name, const Classifier& classifier, const std::vector<FirewallPacket>& packets, double tsc) {
  uint64_t worst = 0;
  for (const FirewallPacket& p : packets) {
    uint64_t least = ~0ull;
    for (int run = 0; run < 9; ++run) least = std::min(least, cycles(classifier, p));
    worst = std::max(worst, least);
  }
  std::vector<uint64_t> flood(size_t{8} << 20 >> 3);
  std::vector<uint64_t> cold;
  for (size_t i = 0; i < 256; ++i) {
    for (size_t at = 0; at < flood.size(); at += 8) checksum += flood[at]++;
    cold.push_back(cycles(classifier, packets[i * 16]));
  }
  std::sort(cold.begin(), cold.end());
  std::printf("%-38s %7.0f %7.0f %7.0f %7.0f %8.2f\n", name, evaluate_ns(classifier, packets),
              static_cast<double>(worst) / tsc, static_cast<double>(cold[128]) / tsc,
              static_cast<double>(cold[253]) / tsc, static_cast<double>(classifier.memory()) / (1 << 20));
}

void run(const Workload& w, double tsc) {
  double compile = 1e12;
  std::unique_ptr<const Classifier> classifier;
  for (int i = 0; i < 5; ++i) {
    const auto start = Clock::now();
    classifier = Classifier::compile(w.rules);
    compile = std::min(compile, ns_since(start));
  }
  measure(w.name, *classifier, w.packets, tsc);

  RuleSet set;
  double worst = 0;
  const auto start = Clock::now();
  for (const FirewallRule& rule : w.rules) {
    const auto one = Clock::now();
    if (set.add(rule) != Status::OK) std::abort();
    classifier = set.compile();
    worst = std::max(worst, ns_since(one));
  }
  const double all = ns_since(start);
  measure("  after one by one", *classifier, w.packets, tsc);
  const auto removing = Clock::now();
  double worst_removal = 0;
  for (const FirewallRule& rule : w.rules) {
    const auto one = Clock::now();
    if (set.remove(rule.id) != Status::OK) std::abort();
    classifier = set.compile();
    worst_removal = std::max(worst_removal, ns_since(one));
  }
  std::printf(
      "  compile at once %.1f ms; one by one: add %.0f us mean, %.1f ms worst; remove %.0f us mean, %.1f ms worst\n",
      compile / 1e6, all / 1e3 / static_cast<double>(w.rules.size()), worst / 1e6,
      ns_since(removing) / 1e3 / static_cast<double>(w.rules.size()), worst_removal / 1e6);
}

}  // namespace
}  // namespace ironcore::firewall::testing

int main(int argc, char** argv) {
  using namespace ironcore::firewall::testing;
  const size_t count = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 10000;
  if (count < 1 || count > ironcore::RuleSet::kMaxRules) {
    std::fprintf(stderr, "firewall_bench [RULES, 1..%u]\n", ironcore::RuleSet::kMaxRules);
    return 2;
  }
  const double tsc = tsc_per_ns();
  std::printf("%zu rules, TSC %.2f GHz\n%-38s %7s %7s %7s %7s %8s\n", count, tsc, "", "mean", "worst", "cold", "cold99",
              "MiB");
  for (const bool is_v6 : {false, true}) {
    run(hosts(is_v6, count), tsc);
    run(overlapping(is_v6, count), tsc);
    run(crossed(is_v6, count), tsc);
    run(mixed(is_v6, count), tsc);
  }
  run(ports(count), tsc);
  return checksum == 42;
}
