// What it costs to allocate and release a NAT port: processor time of the first thread per pair, the least and the
// median of seven runs.
//
//   ports_bench [--pairs N]
//
// "one": a fill of the ports of one range towards one destination, and one flow that comes and goes. "spread": as many
// flows as `fill` of the whole table, each with a source and a destination of its own; the pairs go through all of
// them, so that every access misses the caches. Two threads have VMs, NAT addresses and destinations of their own, or
// share the NAT address and the destination.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "nat/ports.h"

namespace ironcore {
namespace {

constexpr uint16_t kMin = 1024, kMax = 65535;
constexpr uint32_t kRange = kMax - kMin;
constexpr uint32_t kTable = 1u << 20;

// Other processes may run beside this one: the time of this thread counts, not that of the clock.
double thread_nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e9 * static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec);
}

template <typename Work>
double measure(uint64_t operations, Work work) {
  const double begin = thread_nanoseconds();
  work();
  return (thread_nanoseconds() - begin) / static_cast<double>(operations);
}

IpAddress address(uint32_t net, uint32_t host) {
  return IpAddress::v4({static_cast<uint8_t>(net), static_cast<uint8_t>(host >> 16), static_cast<uint8_t>(host >> 8),
                        static_cast<uint8_t>(host)});
}

void check(bool ok) {
  if (ok) return;
  std::fprintf(stderr, "the table refused\n");
  std::exit(1);
}

void pair(NatPorts& ports, const NatSource& source, const NatDestination& to, const NatRange& range) {
  const NatPort port = ports.allocate(source, to, range);
  check(port.outcome == NatOutcome::kCreated);
  check(ports.release({source, to, range.address, port.port}));
}

template <typename Run>
void report(const char* name, Run run) {
  std::vector<double> times;
  for (int i = 0; i < 7; ++i) times.push_back(run());
  std::sort(times.begin(), times.end());
  std::printf("%-56s %9.0f ns %9.0f ns\n", name, times.front(), times[times.size() / 2]);
  std::fflush(stdout);
}

// Fills `used` ports of the range towards one destination.
void fill(NatPorts& ports, uint32_t net, const NatDestination& to, const NatRange& range, uint32_t used) {
  for (uint32_t i = 0; i < used; ++i)
    check(ports.allocate({net, address(net, 1 + i / 50000), static_cast<uint16_t>(i % 50000)}, to, range).ok());
}

void one(uint32_t used, unsigned threads, bool shared, uint64_t pairs) {
  NatPorts ports(4 * kRange);
  const auto range = [&](unsigned i) { return NatRange{address(203, shared ? 0 : i), kMin, kMax}; };
  const auto to = [&](unsigned i) { return NatDestination{address(8, shared ? 0 : i), 53, 17}; };
  for (unsigned i = 0; i < (shared ? 1 : threads); ++i) fill(ports, 10 + i, to(i), range(i), used);
  char name[80];
  std::snprintf(name, sizeof name, "%u of %u ports used, %u thread%s%s", used, kRange, threads, threads > 1 ? "s" : "",
                threads > 1 ? (shared ? ", shared" : ", apart") : "");
  report(name, [&] {
    return measure(pairs, [&] {
      std::vector<std::thread> running;
      const auto work = [&](unsigned i) {
        for (uint64_t n = 0; n < pairs; ++n)
          pair(ports, {100 + i, address(100 + i, 1), static_cast<uint16_t>(n)}, to(i), range(i));
      };
      for (unsigned i = 1; i < threads; ++i) running.emplace_back(work, i);
      work(0);
      for (auto& thread : running) thread.join();
    });
  });
}

void spread(double share, unsigned threads) {
  NatPorts ports(kTable);
  const auto flows = static_cast<uint32_t>(share * kTable) / threads;
  const auto source = [](unsigned thread, uint32_t i) {
    return NatSource{thread, address(10 + thread, i % 100), static_cast<uint16_t>(i / 100)};
  };
  const auto to = [](uint32_t i) { return NatDestination{address(8, i * 2654435761u >> 12), 443, 6}; };
  const auto range = [](unsigned thread) { return NatRange{address(203, thread), kMin, kMax}; };
  std::vector<std::vector<uint16_t>> held(threads, std::vector<uint16_t>(flows));
  for (unsigned t = 0; t < threads; ++t)
    for (uint32_t i = 0; i < flows; ++i) {
      const NatPort port = ports.allocate(source(t, i), to(i), range(t));
      check(port.ok());
      held[t][i] = port.port;
    }
  char name[80];
  std::snprintf(name, sizeof name, "%u flows to as many destinations, %u thread%s", flows * threads, threads,
                threads > 1 ? "s" : "");
  report(name, [&] {
    return measure(flows, [&] {
      std::vector<std::thread> running;
      const auto work = [&](unsigned t) {
        for (uint32_t n = 0; n < flows; ++n) {
          const auto i = static_cast<uint32_t>(uint64_t{n} * 7919 % flows);
          check(ports.release({source(t, i), to(i), range(t).address, held[t][i]}));
          const NatPort port = ports.allocate(source(t, i), to(i), range(t));
          check(port.outcome == NatOutcome::kCreated);
          held[t][i] = port.port;
        }
      };
      for (unsigned t = 1; t < threads; ++t) running.emplace_back(work, t);
      work(0);
      for (auto& thread : running) thread.join();
    });
  });
}

void others(uint64_t pairs) {
  const NatRange range{address(203, 0), kMin, kMax};
  const NatDestination dns{address(8, 0), 53, 17};
  const NatSource late{7, address(99, 1), 1};
  {
    NatPorts ports(kTable);
    fill(ports, 10, dns, range, kRange);
    report("refusal: all 64 511 ports used", [&] {
      return measure(pairs, [&] {
        for (uint64_t n = 0; n < pairs; ++n) check(ports.allocate(late, dns, range).outcome == NatOutcome::kFull);
      });
    });
    report("mapping that exists", [&] {
      const NatSource known{10, address(10, 1), 77};
      return measure(pairs, [&] {
        for (uint64_t n = 0; n < pairs; ++n) check(ports.allocate(known, dns, range).outcome == NatOutcome::kExisting);
      });
    });
  }
  NatPorts ports(850000);
  for (uint32_t i = 0; i < 850000; ++i)
    check(ports.allocate({1, address(10, i / 50000), static_cast<uint16_t>(i % 50000)}, {address(8, i), 53, 17}, range)
              .ok());
  uint64_t seen = 0;
  report("dump of 850 000 mappings, per mapping",
         [&] { return measure(850000, [&] { ports.for_each([&](const NatMapping&) { ++seen; }); }); });
  check(seen == 7 * 850000);
  uint32_t vm = 0;
  report("drop_source of 50 000 of 850 000, per call",
         [&] { return measure(1, [&] { check(ports.drop_source(1, address(10, vm++)) == 50000); }); });
}

}  // namespace
}  // namespace ironcore

int main(int argc, char** argv) {
  uint64_t pairs = 100000;
  if (argc == 3 && !std::strcmp(argv[1], "--pairs")) pairs = std::strtoull(argv[2], nullptr, 10);
  if (argc != 1 && (argc != 3 || !pairs)) {
    std::fprintf(stderr, "usage: ports_bench [--pairs N]\n");
    return 2;
  }
  using ironcore::kRange;
  for (const uint32_t used : {kRange / 10, kRange * 9 / 10, kRange * 999 / 1000, kRange - 1})
    ironcore::one(used, 1, false, pairs);
  for (const bool shared : {false, true})
    for (const uint32_t used : {kRange / 10, kRange * 9 / 10, kRange * 999 / 1000, kRange - 2})
      ironcore::one(used, 2, shared, pairs);
  for (const double share : {0.1, 0.9, 0.999}) ironcore::spread(share, 1);
  for (const double share : {0.1, 0.9, 0.999}) ironcore::spread(share, 2);
  ironcore::others(pairs);
}
