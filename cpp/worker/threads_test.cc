// Two workers in their own threads, with control calls going on beside them.
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <thread>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

using std::chrono::steady_clock;

// An engine that runs as in production.
class Running : public ::testing::Test {
 protected:
  Running() {
    EngineOptions options = default_options();
    make_mbuf(Frame(60));  // starts the devices
    drain_rings();
    options.workers = 2;
    options.follow_uplink_neighbour = false;
    engine = std::make_unique<Engine>(options);
    engine->start();
    engine->initialize();
    for (unsigned pf = 0; pf < 2; ++pf) engine->set_uplink_neighbour(pf, kRouterMac);
  }
  ~Running() override {
    engine->stop();
    drain_rings();
  }

  Ipv6Address add(unsigned vf, uint32_t vni, const std::string& ipv4) {
    CreateInterfaceRequest request;
    request.id = "vm" + std::to_string(vf - kVf0);
    request.device_name = device_name(vf);
    request.vni = vni;
    request.ipv4 = ip4(ipv4);
    const auto reply = engine->create_interface(request);
    EXPECT_EQ(reply.status, Status::OK);
    return reply.value.underlay;
  }

  // Frames sent on a port, until there are `wanted` UDP ones or the time is over. Announcements are left out.
  size_t receive(unsigned port, size_t wanted, std::chrono::seconds limit = std::chrono::seconds(20)) {
    const auto deadline = steady_clock::now() + limit;
    size_t got = 0;
    while (got < wanted && steady_clock::now() < deadline) {
      for (unsigned queue = 0; queue < 2; ++queue) {
        void* object;
        while (rte_ring_dequeue(tx_ring(port, queue), &object) == 0) {
          auto* mbuf = static_cast<rte_mbuf*>(object);
          const auto* data = rte_pktmbuf_mtod(mbuf, const uint8_t*);
          got += data[12] == 0x86 || (data[12] == 0x08 && data[13] == 0x00);
          rte_pktmbuf_free(mbuf);
        }
      }
      std::this_thread::yield();
    }
    return got;
  }

  void send(unsigned port, const Frame& frame) {
    rte_mbuf* mbuf = make_mbuf(frame);
    while (rte_ring_enqueue(rx_ring(port), mbuf) != 0) std::this_thread::yield();
  }

  std::unique_ptr<Engine> engine;
};

TEST_F(Running, TwoWorkersShareUplinkTraffic) {
  const Ipv6Address underlay = add(kVf0, 100, "10.0.0.1");
  for (uint16_t port = 1; port <= 400; ++port)
    send(kPf0, overlay(kRemote, underlay, udp_from_vm("10.0.0.9", "10.0.0.1", port, 53)));
  EXPECT_EQ(receive(kVf0, 400), 400u);
  const auto workers = engine->counters().workers;
  ASSERT_EQ(workers.size(), 2u);
  EXPECT_GT(workers[0].flows_created, 100u);
  EXPECT_GT(workers[1].flows_created, 100u);
  EXPECT_EQ(workers[0].flows_created + workers[1].flows_created, 400u);
}

TEST_F(Running, ControlCallsLoseNoPacketOfOtherInterfaces) {
  add(kVf0, 100, "10.0.0.1");
  add(kVf1, 100, "10.0.0.2");
  std::atomic<bool> stop{false};
  std::atomic<unsigned> calls{0};
  std::thread control([&] {
    for (unsigned i = 0; !stop; ++i) {
      const IpPrefix route{IpAddress::v4({20, uint8_t(i >> 8), uint8_t(i), 0}), 24};
      ASSERT_EQ(engine->create_route(100, route, 0, ip(kRemote)), Status::OK);
      add(kVf2, 100, "10.0.0.3");
      ASSERT_TRUE(engine->create_prefix("vm2", prefix("30.0.0.0/8"), std::nullopt).ok());
      ASSERT_EQ(engine->delete_prefix("vm2", prefix("30.0.0.0/8")), Status::OK);
      ASSERT_EQ(engine->delete_interface("vm2"), Status::OK);
      ASSERT_EQ(engine->delete_route(100, route), Status::OK);
      calls += 6;
    }
  });
  size_t sent = 0, received = 0;
  // Until there were calls enough, however seldom their thread gets a processor.
  for (int round = 0; (round < 200 || calls <= 60) && round < 1'000'000; ++round) {
    for (uint16_t i = 0; i < 20; ++i, ++sent) send(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", 1000, i));
    received += receive(kVf1, 20);
  }
  stop = true;
  control.join();
  EXPECT_EQ(received, sent);
  EXPECT_GT(calls, 60u);
}

TEST_F(Running, DeletedDeviceStopsAndComesBack) {
  for (int round = 0; round < 20; ++round) {
    add(kVf0, 100, "10.0.0.1");
    add(kVf1, 100, "10.0.0.2");
    send(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"));
    EXPECT_EQ(receive(kVf1, 1), 1u);
    ASSERT_EQ(engine->delete_interface("vm0"), Status::OK);
    ASSERT_EQ(engine->delete_interface("vm1"), Status::OK);
  }
}

TEST_F(Running, IdleWorkersSleep) {
  add(kVf0, 100, "10.0.0.1");
  const auto deadline = steady_clock::now() + std::chrono::seconds(20);
  while (steady_clock::now() < deadline && engine->counters().workers[0].sleeps < 100) std::this_thread::yield();
  EXPECT_GE(engine->counters().workers[0].sleeps, 100u);
}

}  // namespace
}  // namespace ironcore::testing
