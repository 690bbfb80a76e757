// Cycles per packet of the whole path (receive, parse, look up, execute, transmit) through one worker, over in-process
// devices. What the generator and the devices cost is measured with a loop that only receives and transmits, and
// reported beside it.
//
//   dataplane_bench [--json] [--runs N] [--packets N] [--case NAME]
//
// vf2pf, pf2vf and vf2vf forward only; nat, vip, lb (32 targets elsewhere) and rules (10 000 of them) do what they are
// called. With 100 000 flows the first pass over all of them tells what a new flow costs.
#include <rte_cycles.h>
#include <rte_eth_ring.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

constexpr unsigned kBatch = 32;  // packets put into the device's ring before each round of the worker

constexpr unsigned kRules = 10000;

struct Case {
  const char* name;
  unsigned in, out;
  // What vm0 (10.0.0.1, VNI 100) has besides routes to 10.1.0.0/16 elsewhere; returns where uplink packets go to.
  Ipv6Address (*set_up)(Harness& net, const Ipv6Address& underlay);
  const char* to = nullptr;  // destination of all packets; none: depends on `in` and `out`
};

Ipv6Address nothing(Harness& net, const Ipv6Address& underlay) {
  net.engine().create_route(100, prefix("10.1.0.0/16"), 100, ip(kRemote));
  return underlay;
}

Ipv6Address nat(Harness& net, const Ipv6Address& underlay) {
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  net.engine().create_nat("vm0", ip("203.0.113.1"), 1024, 65535, std::nullopt);
  return underlay;
}

Ipv6Address vip(Harness& net, const Ipv6Address& underlay) {
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  net.engine().create_vip("vm0", ip("203.0.113.9"), std::nullopt);
  return underlay;
}

Ipv6Address balancer(Harness& net, const Ipv6Address&) {
  const auto created = net.engine().create_load_balancer("lb", 100, ip("203.0.113.5"), {{17, 53}}, std::nullopt);
  for (unsigned target = 1; target <= 32; ++target)
    net.engine().create_load_balancer_target("lb", ip("fc00:3::d000:0:" + std::to_string(target)));
  return created.value;
}

// Rules with prefixes and port ranges of all sizes. What the packets match comes last: no rule before it decides.
Ipv6Address rules(Harness& net, const Ipv6Address& underlay) {
  std::mt19937 random(7);
  for (unsigned i = 0; i < kRules; ++i) {
    FirewallRule rule;
    rule.id = std::string("r").append(std::to_string(i));
    rule.direction = TrafficDirection::kEgress;
    rule.action = FirewallAction::kAccept;
    rule.priority = 100;
    rule.source = prefix("10.0.0.0/8");
    if (i + 1 == kRules) {
      rule.priority = 200;
      rule.destination = prefix("10.1.0.0/16");
      rule.filter = UdpFilter{{}, {53, 53}};
    } else {
      const auto byte = [&] { return static_cast<uint8_t>(random()); };
      const auto low = static_cast<int32_t>(1000 + random() % 60000);
      rule.destination = {IpAddress::v4({10, byte(), byte(), byte()}), static_cast<uint8_t>(16 + random() % 17)};
      rule.filter = UdpFilter{{}, {low, low + static_cast<int32_t>(random() % 1000)}};
    }
    if (net.engine().create_firewall_rule("vm0", rule) != Status::OK) std::abort();
  }
  return nothing(net, underlay);
}

constexpr Case kCases[] = {
    {"vf2pf", kVf0, kPf0, nothing}, {"pf2vf", kPf0, kVf0, nothing}, {"vf2vf", kVf0, kVf1, nothing},
    {"nat", kVf0, kPf0, nat},       {"vip", kVf0, kPf0, vip},       {"lb", kPf0, kPf0, balancer, "203.0.113.5"},
    {"rules", kVf0, kPf0, rules},
};

struct Spread {
  double median, least, most;
};

Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

// Frames of all flows, built once; a packet is a buffer into which one of them is copied just before it is received, as
// a NIC would write it.
class Generator {
 public:
  Generator(const Case& c, unsigned flows, const Ipv6Address& underlay) {
    for (unsigned flow = 0; flow < flows; ++flow) {
      const auto src_port = static_cast<uint16_t>(1024 + flow % 50000);
      const unsigned host = flow / 50000;
      const std::string remote = "10.1." + std::to_string(host / 200) + "." + std::to_string(1 + host % 200);
      // 64 bytes with the FCS that a wire would add.
      if (c.in == kPf0) {
        frames_.push_back(overlay(kRemote, underlay, from_vm(remote, c.to ? c.to : "10.0.0.1", 17, udp(src_port, 53))));
      } else if (c.out == kPf0) {
        frames_.push_back(from_vm("10.0.0.1", remote, 17, udp(src_port, 53)));
      } else {
        const std::string local = "10.2." + std::to_string(host / 200) + "." + std::to_string(1 + host % 200);
        frames_.push_back(from_vm("10.0.0.1", local, 17, udp(src_port, 53)));
      }
    }
  }

  void fill(rte_ring* ring, rte_mempool* pool) {
    rte_mbuf* batch[kBatch];
    if (rte_pktmbuf_alloc_bulk(pool, batch, kBatch) != 0) std::abort();
    for (rte_mbuf* mbuf : batch) {
      const Frame& frame = frames_[next_];
      if (++next_ == frames_.size()) next_ = 0;
      std::memcpy(rte_pktmbuf_mtod(mbuf, void*), frame.data(), frame.size());
      mbuf->data_len = static_cast<uint16_t>(frame.size());
      mbuf->pkt_len = static_cast<uint32_t>(frame.size());
    }
    rte_ring_enqueue_bulk(ring, reinterpret_cast<void**>(batch), kBatch, nullptr);
  }

  size_t flows() const { return frames_.size(); }

 private:
  std::vector<Frame> frames_;
  size_t next_ = 0;
};

unsigned collect(rte_ring* ring) {
  rte_mbuf* batch[kBatch * 2];
  unsigned total = 0;
  while (const unsigned count = rte_ring_dequeue_burst(ring, reinterpret_cast<void**>(batch), kBatch * 2, nullptr)) {
    rte_pktmbuf_free_bulk(batch, count);
    total += count;
  }
  return total;
}

struct Result {
  Spread total;      // cycles per packet of the worker's round alone
  double new_flows;  // million per second, first pass over all flows
};

// Cycles per packet from the cycles of each round. Rounds in which the thread lost its CPU are left out: on a shared
// machine they would measure the neighbours.
double per_packet(std::vector<uint32_t>& rounds) {
  auto middle = rounds.begin() + static_cast<std::ptrdiff_t>(rounds.size() / 2);
  std::nth_element(rounds.begin(), middle, rounds.end());
  const uint64_t limit = uint64_t{*middle} * 10;
  uint64_t sum = 0, count = 0;
  for (const uint32_t cycles : rounds) {
    if (cycles > limit) continue;
    sum += cycles;
    ++count;
  }
  return static_cast<double>(sum) / static_cast<double>(count * kBatch);
}

// The worker's rounds are timed one by one, without the generator around them.
double measure(Harness& net, Generator& generator, const Case& c, uint64_t packets, rte_mempool* pool) {
  Worker& worker = *net.impl().workers()[0];
  std::vector<uint32_t> rounds;
  uint64_t seen = 0;
  for (uint64_t sent = 0; sent < packets; sent += kBatch) {
    generator.fill(rx_ring(c.in), pool);
    const uint64_t start = rte_rdtsc();
    worker.poll();
    rounds.push_back(static_cast<uint32_t>(std::min<uint64_t>(rte_rdtsc() - start, UINT32_MAX)));
    net.impl().rcu().quiescent(0);
    seen += collect(tx_ring(c.out, 0));
  }
  if (seen < packets - packets / 1000) {
    std::fprintf(stderr, "%s: %lu of %lu packets came out\n", c.name, static_cast<unsigned long>(seen),
                 static_cast<unsigned long>(packets));
    std::exit(1);
  }
  return per_packet(rounds);
}

// The same round without an engine: what devices, clock and cold buffers cost.
double measure_devices(Generator& generator, const Case& c, uint64_t packets, rte_mempool* pool, Harness& net) {
  const uint16_t in = net.impl().ports().by_device_name(device_name(c.in))->id;
  const uint16_t out = net.impl().ports().by_device_name(device_name(c.out))->id;
  std::vector<uint32_t> rounds;
  for (uint64_t sent = 0; sent < packets; sent += kBatch) {
    generator.fill(rx_ring(c.in), pool);
    const uint64_t start = rte_rdtsc();
    rte_mbuf* batch[kBatch];
    const uint16_t count = rte_eth_rx_burst(in, 0, batch, kBatch);
    rte_eth_tx_burst(out, 0, batch, count);
    rounds.push_back(static_cast<uint32_t>(std::min<uint64_t>(rte_rdtsc() - start, UINT32_MAX)));
    collect(tx_ring(c.out, 0));
  }
  return per_packet(rounds);
}

}  // namespace

int run(int argc, char** argv) {
  bool json = false;
  std::string only;
  unsigned runs = 7;
  uint64_t packets = 1'000'000;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--json") {
      json = true;
    } else if (argument == "--runs" && i + 1 < argc) {
      runs = std::max(1u, static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 10)));
    } else if (argument == "--packets" && i + 1 < argc) {
      packets = std::max(320ul, std::strtoul(argv[++i], nullptr, 10)) / kBatch * kBatch;
    } else if (argument == "--case" && i + 1 < argc) {
      only = argv[++i];
    } else {
      std::fprintf(stderr, "usage: dataplane_bench [--json] [--runs N] [--packets N] [--case NAME]\n");
      return 2;
    }
  }
  std::string rows;
  double hz = 0;
  for (const unsigned flows : {1u, 1000u, 100000u}) {
    for (const Case& c : kCases) {
      if (!only.empty() && only != c.name) continue;
      EngineOptions options = default_options();
      options.flow_table_size = 1 << 20;
      Harness net(options);
      hz = static_cast<double>(rte_get_tsc_hz());
      static rte_mempool* pool =
          rte_pktmbuf_pool_create("bench", 4095, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
      const Ipv6Address underlay = net.add_interface(kVf0, 100, "10.0.0.1");
      net.add_interface(kVf1, 100, "10.0.0.2");
      net.engine().create_prefix("vm1", prefix("10.2.0.0/16"), std::nullopt);
      Generator generator(c, flows, c.set_up(net, underlay));
      const uint64_t first_pass = (generator.flows() + kBatch - 1) / kBatch * kBatch;
      const double creation = measure(net, generator, c, first_pass, pool);
      measure(net, generator, c, packets / 10, pool);  // warm
      std::vector<double> values, device_values;
      for (unsigned i = 0; i < runs; ++i) {
        values.push_back(measure(net, generator, c, packets, pool));
        device_values.push_back(measure_devices(generator, c, packets, pool, net));
      }
      const Spread total = spread_of(values), devices = spread_of(device_values);
      const double engine = total.median - devices.median;
      const double new_flows = flows >= 100000 ? hz / creation / 1e6 : 0;
      char row[512];
      if (json) {
        std::snprintf(row, sizeof row,
                      "%s\n    {\"case\": \"%s\", \"flows\": %u, \"cycles\": %.1f, \"min\": %.1f, \"max\": %.1f, "
                      "\"devices\": %.1f, \"engine\": %.1f, \"new_flows_mps\": %.2f}",
                      rows.empty() ? "" : ",", c.name, flows, total.median, total.least, total.most, devices.median,
                      engine, new_flows);
      } else {
        std::snprintf(row, sizeof row, "%-6s %7u  %7.1f (%6.1f-%6.1f)  devices %5.1f  engine %6.1f", c.name, flows,
                      total.median, total.least, total.most, devices.median, engine);
        std::puts(row);
        if (new_flows > 0) std::printf("               new flows %.2f M/s (%.0f cycles each)\n", new_flows, creation);
      }
      rows += row;
    }
  }
  if (json)
    std::printf("{\n  \"tsc_hz\": %.0f, \"frame\": 64, \"runs\": %u, \"packets\": %lu,\n  \"cases\": [%s\n  ]\n}\n", hz,
                runs, static_cast<unsigned long>(packets), rows.c_str());
  return 0;
}

}  // namespace ironcore::testing

int main(int argc, char** argv) { return ironcore::testing::run(argc, argv); }
