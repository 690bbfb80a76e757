// Nanoseconds per operation of a service's slots and of the registry.
#include <time.h>

#include <cstdio>
#include <vector>

#include "net/headers.h"
#include "virtsvc/registry.h"

namespace ironcore::virtsvc {
namespace {

constexpr unsigned kRounds = 1'000'000;
volatile uint64_t sink;

// CPU time of this thread: what else the machine does counts little.
double cpu_ns() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

template <typename Operation>
void measure(const char* name, unsigned count, Operation&& operation) {
  const double start = cpu_ns();
  uint64_t sum = 0;
  for (unsigned i = 0; i < count; ++i) sum += operation(i);
  const double spent = cpu_ns() - start;
  sink = sum;
  std::printf("%-44s %9.1f ns\n", name, spent / count);
}

Client client(unsigned number) {
  return {static_cast<uint16_t>(number >> 16), static_cast<uint16_t>(number), {10, 0, 0, 1}};
}

void run() {
  constexpr SlotTimeouts kTimeouts = SlotTimeouts::of(10);
  constexpr unsigned kCount = ServiceSlots::kCount;
  ServiceSlots slots(kTimeouts, 0x1234567);
  const auto assign = [&](unsigned number, uint32_t now) {
    const auto assigned = slots.assign(client(number), now);
    return assigned ? assigned->slot : uint16_t{0};
  };
  measure("assign, new client, table filling up", kCount, [&](unsigned i) { return assign(i, 0); });
  measure("assign, known client", kRounds, [&](unsigned i) { return assign(i * 7919 % kCount, 0); });
  measure("assign, table known to be full", kRounds, [&](unsigned i) { return assign(kCount + i, 100); });
  measure("assign, new client, idle slot reused", kCount, [&](unsigned i) { return assign(kCount + i, 1000); });
  measure("assign, one slot free in the whole ring", 1000, [&](unsigned i) {
    slots.release(0, *slots.client_of(0));  // the one given last
    return assign(2 * kCount + i, 1000);
  });
  measure("touch", kRounds, [&](unsigned i) {
    const auto slot = static_cast<uint16_t>(i * 7919 % kCount);
    slots.touch(slot, *slots.client_of(slot), i >> 16, false);
    return slot;
  });
  measure("client_of", kRounds,
          [&](unsigned i) { return slots.client_of(static_cast<uint16_t>(i * 7919 % kCount))->port; });
  measure("release of an interface", 10,
          [&](unsigned i) { return slots.release_interface(static_cast<uint16_t>(9 + i)); });

  std::vector<ServiceConfig> configs;
  for (uint16_t port = 1; port <= Registry::kMaxServices; ++port)
    configs.push_back({net::kUdp, {169, 254, 1, 1}, port, *parse_ipv6("2001:db8::1"), port});
  const Registry registry(configs, {}, kTimeouts, 1);
  measure("find_request among 256 services", kRounds, [&](unsigned i) {
    return registry.find_request(net::kUdp, {169, 254, 1, 1}, static_cast<uint16_t>(i * 31 % 512)) != nullptr;
  });
  measure("find_reply among 256 services", kRounds, [&](unsigned i) {
    return registry.find_reply(net::kUdp, configs[0].server_address, static_cast<uint16_t>(i * 31 % 512)) != nullptr;
  });
}

}  // namespace
}  // namespace ironcore::virtsvc

int main() { ironcore::virtsvc::run(); }
