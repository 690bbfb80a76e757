// Copies of received frames in UDP, beside what is forwarded.
#include <gtest/gtest.h>
#include <rte_eth_ring.h>
#include <rte_ring.h>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

constexpr const char* kSink = "fc00:5::5";
constexpr size_t kHeaders = 62;

CaptureInterface vm(const std::string& id) { return {false, 0, id}; }
CaptureInterface uplink(uint32_t index) { return {true, index, {}}; }

class Capture : public ::testing::Test {
 protected:
  explicit Capture(EngineOptions options = default_options()) : net(std::move(options)) {
    underlay = net.add_interface(kVf0, 100, "10.0.0.1");
    net.add_interface(kVf1, 100, "10.0.0.2");
    net.engine().create_route(100, prefix("10.1.0.0/16"), 100, ip(kRemote));
  }
  Status start(std::vector<CaptureInterface> interfaces) {
    return net.engine().capture_start({ip6(kSink), 3000, 4000, std::move(interfaces)});
  }
  // As it must look on the wire, built here field by field.
  Frame copy_of(const Frame& frame, size_t length = SIZE_MAX) {
    const Frame original = slice(frame, 0, length);
    Frame segment = udp(3000, 4000, 0);
    const size_t udp_length = 8 + original.size();
    segment[4] = static_cast<uint8_t>(udp_length >> 8);
    segment[5] = static_cast<uint8_t>(udp_length);
    segment.insert(segment.end(), original.begin(), original.end());
    return ethernet(kRouterMac, net.mac(kPf0), 0x86dd, ipv6(kHost, kSink, 17, segment));
  }
  std::vector<Frame> sent_after(unsigned port, const Frame& frame) {
    net.inject(port, frame);
    net.poll();
    return net.sent(kPf0);
  }

  Harness net;
  Ipv6Address underlay;
};

class NoCapture : public Capture {
 protected:
  NoCapture() : Capture(without()) {}
  static EngineOptions without() {
    EngineOptions options = default_options();
    options.capture_in_software = false;
    return options;
  }
};

TEST_F(Capture, CopiesWhatAVmSends) {
  ASSERT_EQ(start({vm("vm0")}), Status::OK);
  const Frame sent = udp_from_vm("10.0.0.1", "10.0.0.2");
  EXPECT_EQ(sent_after(kVf0, sent), std::vector<Frame>{copy_of(sent)});
  EXPECT_EQ(net.sent(kVf1).size(), 1u);
  // Not what others send, and not what the VM gets.
  EXPECT_TRUE(sent_after(kVf1, udp_from_vm("10.0.0.2", "10.0.0.1")).empty());
  EXPECT_EQ(net.sent(kVf0).size(), 1u);
  const CaptureInfo info = net.engine().capture_status();
  EXPECT_EQ(info.copied, 1u);
  EXPECT_EQ(info.truncated + info.dropped, 0u);
}

TEST_F(Capture, CopiesWhatIsDroppedOrAnswered) {
  ASSERT_EQ(start({vm("vm0")}), Status::OK);
  const Frame spoofed = udp_from_vm("10.9.9.9", "10.0.0.2");
  EXPECT_EQ(sent_after(kVf0, spoofed), std::vector<Frame>{copy_of(spoofed)});
  const Frame arp = arp_request(kVmMac, "10.0.0.1", "169.254.0.1");
  EXPECT_EQ(sent_after(kVf0, arp), std::vector<Frame>{copy_of(arp)});
  EXPECT_EQ(net.sent(kVf0).size(), 1u);
}

TEST_F(Capture, CopiesFollowWhatIsForwarded) {
  ASSERT_EQ(start({vm("vm0"), uplink(0), uplink(1)}), Status::OK);
  const Frame sent = udp_from_vm("10.0.0.1", "10.1.0.1");
  const std::vector<Frame> out = sent_after(kVf0, sent);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(slice(out[0], 54), slice(sent, 14));
  EXPECT_EQ(out[1], copy_of(sent));
  for (const unsigned pf : {kPf0, kPf1}) {
    const Frame arrived = overlay(kRemote, underlay, udp_from_vm("10.1.0.1", "10.0.0.1"));
    EXPECT_EQ(sent_after(pf, arrived), std::vector<Frame>{copy_of(arrived)});
    EXPECT_EQ(net.sent(kVf0).size(), 1u);
    EXPECT_TRUE(net.sent(kPf1).empty());
  }
}

TEST_F(Capture, CutsWhatDoesNotFit) {
  ASSERT_EQ(start({vm("vm0")}), Status::OK);
  const size_t room = net.impl().ports().uplink(0)->max_frame - kHeaders;
  const Frame fits = from_vm("10.0.0.1", "10.0.0.2", 17, udp(1, 2, room - 14 - 20 - 8));
  ASSERT_EQ(fits.size(), room);
  EXPECT_EQ(sent_after(kVf0, fits), std::vector<Frame>{copy_of(fits)});
  EXPECT_EQ(net.engine().capture_status().truncated, 0u);
  const Frame longer = from_vm("10.0.0.1", "10.0.0.2", 17, udp(1, 2, room - 14 - 20 - 8 + 1));
  EXPECT_EQ(sent_after(kVf0, longer), std::vector<Frame>{copy_of(longer, room)});
  EXPECT_EQ(net.engine().capture_status().truncated, 1u);
  EXPECT_EQ(net.engine().capture_status().copied, 2u);
}

TEST_F(Capture, AFullQueueDropsCopiesOnly) {
  ASSERT_EQ(start({vm("vm0")}), Status::OK);
  rte_ring* queue = tx_ring(kPf0, 0);
  constexpr unsigned kRoom = 20, kSent = 16;  // for all packets and a few copies
  rte_mbuf* filler = make_mbuf(Frame(60, 0));
  std::vector<void*> fill(rte_ring_free_count(queue) - kRoom, filler);
  ASSERT_EQ(rte_ring_enqueue_bulk(queue, fill.data(), static_cast<unsigned>(fill.size()), nullptr), fill.size());
  for (unsigned i = 0; i < kSent; ++i) net.inject(kVf0, udp_from_vm("10.0.0.1", "10.1.0.1"));
  net.poll(1);
  void* object = nullptr;
  for (size_t i = 0; i < fill.size(); ++i) ASSERT_EQ(rte_ring_dequeue(queue, &object), 0);
  rte_pktmbuf_free(filler);
  size_t packets = 0, copies = 0;
  for (const Frame& frame : net.sent(kPf0)) ++(frame.at(20) == 4 ? packets : copies);
  EXPECT_EQ(packets, kSent);
  EXPECT_EQ(copies, kRoom - kSent);
  EXPECT_EQ(net.drops(DropReason::tx_full), 0u);
  const CaptureInfo info = net.engine().capture_status();
  EXPECT_EQ(info.copied, kRoom - kSent);
  EXPECT_EQ(info.dropped, kSent - (kRoom - kSent));
}

TEST_F(Capture, WithoutRouterCopiesAreDroppedAndCounted) {
  ASSERT_EQ(start({vm("vm0")}), Status::OK);
  net.engine().set_uplink_neighbour(0, std::nullopt);
  EXPECT_TRUE(sent_after(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2")).empty());
  EXPECT_EQ(net.sent(kVf1).size(), 1u);
  EXPECT_EQ(net.engine().capture_status().dropped, 1u);
}

TEST_F(Capture, DoesNotCopyItsOwnCopies) {
  ASSERT_EQ(start({vm("vm0"), uplink(0)}), Status::OK);
  const std::vector<Frame> copies = sent_after(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"));
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_TRUE(sent_after(kPf0, copies[0]).empty());
}

TEST_F(Capture, StartsOnceAndAllOrNothing) {
  EXPECT_FALSE(net.engine().capture_status().active);
  EXPECT_EQ(net.engine().capture_stop().status, Status::NOT_ACTIVE);
  EXPECT_EQ(start({vm("vm0"), vm("vm7")}), Status::NOT_FOUND);
  EXPECT_EQ(start({vm("vm0"), uplink(2)}), Status::NOT_FOUND);
  EXPECT_EQ(start({vm("vm0"), uplink(0), vm("vm0")}), Status::ALREADY_ACTIVE);
  EXPECT_EQ(start({uplink(1), uplink(1)}), Status::ALREADY_ACTIVE);
  EXPECT_EQ(start(std::vector<CaptureInterface>(17, vm("vm0"))), Status::BAD_REQUEST);
  EXPECT_FALSE(net.engine().capture_status().active);
  EXPECT_TRUE(sent_after(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2")).empty());

  ASSERT_EQ(start({vm("vm1"), uplink(1)}), Status::OK);
  EXPECT_EQ(start({vm("vm0")}), Status::ALREADY_ACTIVE);
  const CaptureInfo info = net.engine().capture_status();
  EXPECT_TRUE(info.active);
  EXPECT_EQ(info.config, (CaptureConfig{ip6(kSink), 3000, 4000, {vm("vm1"), uplink(1)}}));
  const auto stopped = net.engine().capture_stop();
  EXPECT_EQ(stopped.status, Status::OK);
  EXPECT_EQ(stopped.value, 2u);
  EXPECT_FALSE(net.engine().capture_status().active);
  net.sent(kVf1);
  EXPECT_TRUE(sent_after(kVf1, udp_from_vm("10.0.0.2", "10.0.0.1")).empty());

  // Nothing chosen is a capture too.
  ASSERT_EQ(start({}), Status::OK);
  EXPECT_TRUE(net.engine().capture_status().active);
  EXPECT_EQ(net.engine().capture_stop().value, 0u);
}

TEST_F(Capture, EndsWithTheInterface) {
  ASSERT_EQ(start({vm("vm0"), vm("vm1")}), Status::OK);
  ASSERT_EQ(net.engine().delete_interface("vm0"), Status::OK);
  net.poll();
  net.add_interface(kVf0, 200, "10.0.0.1");  // another tenant
  EXPECT_TRUE(sent_after(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2")).empty());
  EXPECT_EQ(net.engine().capture_status().config.interfaces, std::vector<CaptureInterface>{vm("vm1")});
  EXPECT_EQ(net.engine().capture_stop().value, 1u);
}

TEST_F(NoCapture, AnswersAsWithoutOffload) { EXPECT_EQ(start({vm("vm0")}), Status::NOT_ACTIVE); }

}  // namespace
}  // namespace ironcore::testing
