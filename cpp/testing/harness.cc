#include "testing/harness.h"

#include <gtest/gtest.h>
#include <rte_eth_ring.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <unistd.h>

#include "control/eal.h"

namespace ironcore::testing {
namespace {

constexpr unsigned kTxQueues = 2;
constexpr const char* kNames[kPortCount] = {"pf0", "pf1", "vf0", "vf1", "vf2", "vf3"};

// Everything that DPDK lets a process create once.
struct Devices {
  rte_mempool* pool;
  rte_ring* rx[kPortCount];
  rte_ring* tx[kPortCount][kTxQueues];

  Devices() {
    const std::string file_prefix = "--file-prefix=ironcore_test_" + std::to_string(getpid());
    start_eal({"--no-huge", "-m", "512", "--no-pci", "--no-shconf", "--no-telemetry", file_prefix,
               "--log-level=*:error", "--lcores=0@(0,1),1@(0,1),2@(0,1)"});
    pool = rte_pktmbuf_pool_create("test_frames", 8191, 64, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    if (!pool) std::abort();
    for (unsigned port = 0; port < kPortCount; ++port) {
      const std::string name = kNames[port];
      rx[port] = rte_ring_create((name + "_rx").c_str(), 1024, SOCKET_ID_ANY, 0);
      for (unsigned queue = 0; queue < kTxQueues; ++queue)
        tx[port][queue] = rte_ring_create((name + "_tx" + std::to_string(queue)).c_str(), 1024, SOCKET_ID_ANY, 0);
      if (rte_eth_from_rings(kNames[port], &rx[port], 1, tx[port], kTxQueues, SOCKET_ID_ANY) < 0) std::abort();
    }
  }
};

Devices& devices() {
  static Devices* devices = new Devices;  // outlives every test
  return *devices;
}

}  // namespace

std::string device_name(unsigned port) { return std::string("net_ring_") + kNames[port]; }
rte_ring* rx_ring(unsigned port) { return devices().rx[port]; }
rte_ring* tx_ring(unsigned port, unsigned queue) { return devices().tx[port][queue]; }

rte_mbuf* make_mbuf(const Frame& frame) {
  rte_mbuf* mbuf = rte_pktmbuf_alloc(devices().pool);
  if (!mbuf) std::abort();
  char* data = rte_pktmbuf_append(mbuf, static_cast<uint16_t>(frame.size()));
  if (!data) std::abort();
  std::memcpy(data, frame.data(), frame.size());
  return mbuf;
}

void drain_rings() {
  const auto drain = [](rte_ring* ring) {
    void* mbuf;
    while (rte_ring_dequeue(ring, &mbuf) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(mbuf));
  };
  for (unsigned port = 0; port < kPortCount; ++port) {
    drain(devices().rx[port]);
    for (rte_ring* ring : devices().tx[port]) drain(ring);
  }
}

unsigned test_frames_in_use() { return rte_mempool_in_use_count(devices().pool); }

EngineOptions default_options() {
  EngineOptions options;
  options.pf0 = device_name(kPf0);
  options.pf1 = device_name(kPf1);
  options.vf_pattern = "vf";
  options.underlay = ip6(kHost);
  options.nic_type = NicType::kTap;
  options.poll_mode = PollMode::kAdaptive;
  options.enable_ipv6_overlay = true;
  options.flow_table_size = 1 << 14;
  options.mbufs = 4095;
  options.workers = 1;
  options.underlay_static = true;
  options.version = "test";
  return options;
}

Harness::Harness(EngineOptions options) {
  devices();
  drain_rings();
  engine_ = std::make_unique<Engine>(std::move(options));
  impl().start_ports_only();
  for (auto& worker : impl().workers()) impl().rcu().enter(worker->id());
  engine_->initialize();
  for (unsigned pf = 0; pf < 2; ++pf) engine_->set_uplink_neighbour(pf, kRouterMac);
}

Harness::~Harness() {
  for (auto& worker : impl().workers()) impl().rcu().leave(worker->id());
  drain_rings();
}

CreateInterfaceRequest Harness::interface_request(unsigned vf, uint32_t vni, const std::string& ipv4,
                                                  const std::string& ipv6) {
  CreateInterfaceRequest request;
  request.id = "vm" + std::to_string(vf - kVf0);
  request.device_name = device_name(vf);
  request.vni = vni;
  if (!ipv4.empty()) request.ipv4 = ip4(ipv4);
  if (!ipv6.empty()) request.ipv6 = ip6(ipv6);
  return request;
}

Ipv6Address Harness::add_interface(unsigned vf, uint32_t vni, const std::string& ipv4, const std::string& ipv6) {
  const auto reply = engine_->create_interface(interface_request(vf, vni, ipv4, ipv6));
  EXPECT_EQ(status_name(reply.status), "Success");
  return reply.value.underlay;
}

void Harness::inject(unsigned port, const Frame& frame, uint64_t ol_flags) {
  rte_mbuf* mbuf = make_mbuf(frame);
  mbuf->ol_flags = ol_flags;
  ASSERT_EQ(rte_ring_enqueue(rx_ring(port), mbuf), 0);
}

void Harness::poll(unsigned rounds) {
  for (unsigned round = 0; round < rounds; ++round)
    for (auto& worker : impl().workers()) {
      worker->poll();
      impl().rcu().quiescent(worker->id());
    }
}

std::vector<Frame> Harness::sent(unsigned port) {
  std::vector<Frame> frames;
  for (unsigned queue = 0; queue < kTxQueues; ++queue) {
    void* object;
    while (rte_ring_dequeue(tx_ring(port, queue), &object) == 0) {
      auto* mbuf = static_cast<rte_mbuf*>(object);
      EXPECT_EQ(mbuf->nb_segs, 1);
      EXPECT_EQ(mbuf->pkt_len, mbuf->data_len);
      const auto* data = rte_pktmbuf_mtod(mbuf, const uint8_t*);
      frames.emplace_back(data, data + mbuf->data_len);
      rte_pktmbuf_free(mbuf);
    }
  }
  return frames;
}

Frame Harness::forward(unsigned in, const Frame& frame, unsigned out) {
  inject(in, frame);
  poll();
  Frame result;
  for (unsigned port = 0; port < kPortCount; ++port) {
    const auto frames = sent(port);
    EXPECT_EQ(frames.size(), port == out ? 1u : 0u) << "on " << kNames[port];
    if (port == out && frames.size() == 1) result = frames[0];
  }
  return result;
}

void Harness::expect_drop(unsigned in, const Frame& frame, DropReason reason) {
  const auto before = engine_->counters().drops;
  inject(in, frame);
  poll();
  for (unsigned port = 0; port < kPortCount; ++port) EXPECT_EQ(sent(port).size(), 0u) << "on " << kNames[port];
  const auto after = engine_->counters().drops;
  for (size_t i = 0; i < kDropReasonCount; ++i)
    EXPECT_EQ(after[i] - before[i], i == static_cast<size_t>(reason) ? 1u : 0u)
        << drop_reason_name(static_cast<DropReason>(i));
}

uint64_t Harness::drops(DropReason reason) { return engine_->counters().drops[static_cast<size_t>(reason)]; }

MacAddress Harness::mac(unsigned port) {
  return AtomicMac::unpack(impl().ports().by_device_name(device_name(port))->own_mac);
}

void Harness::advance(uint32_t seconds) {
  impl().clock().advance(seconds);
  poll(64);
}

}  // namespace ironcore::testing
