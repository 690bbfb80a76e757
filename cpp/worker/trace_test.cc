// What a reader sees of packets on their way.
#include <gtest/gtest.h>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

class Trace : public ::testing::Test {
 protected:
  Trace() {
    underlay = net.add_interface(kVf0, 100, "10.0.0.1");
    net.add_interface(kVf1, 100, "10.0.0.2");
    net.engine().create_route(100, prefix("10.1.0.0/16"), 100, ip(kRemote));
  }
  void start(const TraceOptions& options = {}) {
    std::string error;
    ASSERT_EQ(net.engine().trace_start(options, &error), Status::OK) << error;
  }
  std::vector<TraceRecord> records() { return net.engine().trace_read(1000); }
  // "a>b" for each record; PORT where it comes from or goes to one, DROP where it ends.
  std::vector<std::string> steps() {
    std::vector<std::string> names;
    for (const TraceRecord& record : records())
      names.push_back((record.node.empty() ? "PORT" : record.node) + ">" +
                      (!record.next_node.empty() ? record.next_node
                       : record.drop             ? "DROP"
                                                 : "PORT"));
    return names;
  }
  std::string port(unsigned index) { return std::to_string(net.impl().ports().by_device_name(device_name(index))->id); }
  static Frame bytes_of(const TraceRecord& record) { return Frame(record.bytes.begin(), record.bytes.end()); }

  Harness net;
  Ipv6Address underlay;
};

using Steps = std::vector<std::string>;

TEST_F(Trace, ReceivedAndSent) {
  start();
  const Frame sent = udp_from_vm("10.0.0.1", "10.1.0.1");
  const Frame out = net.forward(kVf0, sent, kPf0);
  const auto seen = records();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].event, TraceEvent::kRx);
  EXPECT_EQ(seen[0].next_node, "rx-" + port(kVf0) + "-0");
  EXPECT_EQ(std::to_string(seen[0].port), port(kVf0));
  EXPECT_EQ(bytes_of(seen[0]), sent);
  EXPECT_EQ(seen[1].event, TraceEvent::kTx);
  EXPECT_EQ(seen[1].node, "tx-" + port(kPf0));
  EXPECT_EQ(std::to_string(seen[1].port), port(kPf0));
  EXPECT_EQ(bytes_of(seen[1]), out);
  EXPECT_EQ(seen[0].packet_id, seen[1].packet_id);
  EXPECT_LE(seen[0].timestamp_ns, seen[1].timestamp_ns);
  net.forward(kVf0, sent, kPf0);
  const auto next = records();
  ASSERT_EQ(next.size(), 2u);
  EXPECT_EQ(next[0].packet_id, seen[0].packet_id + 1);
}

TEST_F(Trace, DropsByReason) {
  start();
  const Frame lost = udp_from_vm("10.0.0.1", "10.9.9.9");
  net.expect_drop(kVf0, lost, DropReason::no_route);
  EXPECT_EQ(records().size(), 1u);
  ASSERT_EQ(net.engine().trace_stop(), Status::OK);
  TraceOptions options;
  options.drops = true;
  start(options);
  net.expect_drop(kVf0, lost, DropReason::no_route);
  const auto seen = records();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[1].event, TraceEvent::kDrop);
  EXPECT_EQ(seen[1].drop, DropReason::no_route);
  EXPECT_EQ(seen[1].node, "ipv4_lookup");
  EXPECT_EQ(bytes_of(seen[1]), lost);
  EXPECT_EQ(seen[0].packet_id, seen[1].packet_id);
}

TEST_F(Trace, NodesOfFirstAndLaterPackets) {
  TraceOptions options;
  options.nodes = true;
  start(options);
  const std::string vf = port(kVf0), pf = port(kPf0);
  const Frame sent = udp_from_vm("10.0.0.1", "10.1.0.1");
  net.forward(kVf0, sent, kPf0);
  EXPECT_EQ(steps(),
            (Steps{"PORT>rx-" + vf + "-0", "rx-" + vf + "-0>cls", "cls>conntrack", "conntrack>ipv4_lookup",
                   "ipv4_lookup>firewall", "firewall>ipip_encap", "ipip_encap>tx-" + pf, "tx-" + pf + ">PORT"}));
  net.forward(kVf0, sent, kPf0);
  EXPECT_EQ(steps(), (Steps{"PORT>rx-" + vf + "-0", "rx-" + vf + "-0>cls", "cls>conntrack", "conntrack>ipip_encap",
                            "ipip_encap>tx-" + pf, "tx-" + pf + ">PORT"}));
  net.forward(kPf0, overlay(kRemote, underlay, udp_from_vm("10.1.0.1", "10.0.0.1", 2000, 1000)), kVf0);
  EXPECT_EQ(steps(), (Steps{"PORT>rx-" + pf + "-0", "rx-" + pf + "-0>cls", "cls>ipip_decap", "ipip_decap>conntrack",
                            "conntrack>tx-" + vf, "tx-" + vf + ">PORT"}));
}

TEST_F(Trace, NodesOfTranslatedPacketsAndGuestServices) {
  net.engine().create_route(100, prefix("0.0.0.0/0"), 100, ip(kRemote));
  const auto vip = net.engine().create_vip("vm0", ip("203.0.113.9"), std::nullopt);
  ASSERT_EQ(vip.status, Status::OK);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8"), kPf0);
  TraceOptions options;
  options.nodes = true;
  start(options);
  const std::string vf = port(kVf0), pf = port(kPf0);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8"), kPf0);
  EXPECT_EQ(steps(), (Steps{"PORT>rx-" + vf + "-0", "rx-" + vf + "-0>cls", "cls>conntrack", "conntrack>snat",
                            "snat>ipip_encap", "ipip_encap>tx-" + pf, "tx-" + pf + ">PORT"}));
  net.forward(kPf0, overlay(kRemote, vip.value, udp_from_vm("8.8.8.8", "203.0.113.9", 2000, 1000)), kVf0);
  EXPECT_EQ(steps(), (Steps{"PORT>rx-" + pf + "-0", "rx-" + pf + "-0>cls", "cls>ipip_decap", "ipip_decap>conntrack",
                            "conntrack>dnat", "dnat>tx-" + vf, "tx-" + vf + ">PORT"}));
  net.inject(kVf0, arp_request(kVmMac, "10.0.0.1", "169.254.0.1"));
  net.poll();
  ASSERT_EQ(net.sent(kVf0).size(), 1u);
  EXPECT_EQ(steps(),
            (Steps{"PORT>rx-" + vf + "-0", "rx-" + vf + "-0>cls", "cls>arp", "arp>tx-" + vf, "tx-" + vf + ">PORT"}));
}

TEST_F(Trace, AnswersCarryTheNumberOfTheirRequest) {
  start();
  net.inject(kVf0, arp_request(kVmMac, "10.0.0.1", "169.254.0.1"));
  net.inject(kVf0, from_vm("10.0.0.1", "10.1.0.1", 17, udp(1, 2, 1472)));  // too big behind an outer header
  net.poll();
  ASSERT_EQ(net.sent(kVf0).size(), 2u);
  const auto seen = records();
  ASSERT_EQ(seen.size(), 4u);
  EXPECT_EQ(seen[2].packet_id, seen[0].packet_id);
  EXPECT_EQ(seen[3].packet_id, seen[1].packet_id);
  EXPECT_NE(seen[0].packet_id, seen[1].packet_id);
}

TEST_F(Trace, ThePatternChoosesNodes) {
  TraceOptions options;
  options.nodes = true;
  options.node_pattern = "^c.*k$";
  start(options);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"), kVf1);
  EXPECT_EQ(steps(), (Steps{"conntrack>ipv4_lookup"}));
  ASSERT_EQ(net.engine().trace_stop(), Status::OK);
  options.node_pattern = "^rx-" + port(kVf0);
  start(options);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"), kVf1);
  EXPECT_EQ(steps(), (Steps{"PORT>rx-" + port(kVf0) + "-0", "rx-" + port(kVf0) + "-0>cls"}));
}

TEST_F(Trace, TheFilterChoosesFrames) {
  TraceOptions options;
  options.filter = "udp and dst port 53";
  start(options);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", 1000, 53), kVf1);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2", 1000, 54), kVf1);
  EXPECT_EQ(records().size(), 2u);
  EXPECT_EQ(net.engine().trace_status().recorded, 2u);
}

TEST_F(Trace, FramesAreCutToTheSnapLength) {
  TraceOptions options;
  options.snap_length = 64;
  start(options);
  const Frame sent = from_vm("10.0.0.1", "10.0.0.2", 17, udp(1, 2, 500));
  net.forward(kVf0, sent, kVf1);
  const auto seen = records();
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].length, sent.size());
  EXPECT_EQ(bytes_of(seen[0]), slice(sent, 0, 64));
}

TEST_F(Trace, AFullRingLosesWhatComesNext) {
  TraceOptions options;
  options.ring_size = 64;
  start(options);
  for (unsigned i = 0; i < 40; ++i) net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"), kVf1);
  EXPECT_EQ(net.engine().trace_status().recorded, 64u);
  EXPECT_EQ(net.engine().trace_status().lost, 16u);
  const auto first = net.engine().trace_read(10);
  ASSERT_EQ(first.size(), 10u);
  EXPECT_EQ(first[0].event, TraceEvent::kRx);
  EXPECT_EQ(records().size(), 54u);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"), kVf1);
  EXPECT_EQ(records().size(), 2u);
}

TEST_F(Trace, OneSessionAtATime) {
  EXPECT_EQ(net.engine().trace_stop(), Status::NOT_ACTIVE);
  EXPECT_TRUE(records().empty());
  start();
  EXPECT_TRUE(net.engine().trace_status().active);
  EXPECT_EQ(net.engine().trace_start({}), Status::ALREADY_ACTIVE);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"), kVf1);
  ASSERT_EQ(net.engine().trace_stop(), Status::OK);
  EXPECT_TRUE(records().empty());
  EXPECT_FALSE(net.engine().trace_status().active);
  EXPECT_EQ(net.engine().trace_status().recorded, 2u);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "10.0.0.2"), kVf1);
  start();
  EXPECT_TRUE(records().empty());
}

TEST_F(Trace, BadOptionsAreRefusedByName) {
  const auto refused = [&](const TraceOptions& options, const std::string& what) {
    std::string error;
    EXPECT_EQ(net.engine().trace_start(options, &error), Status::BAD_REQUEST);
    EXPECT_NE(error.find(what), std::string::npos) << error;
    EXPECT_FALSE(net.engine().trace_status().active);
  };
  TraceOptions options;
  options.filter = "no such filter";
  refused(options, "filter 'no such filter'");
  options = {};
  options.node_pattern = "[";
  refused(options, "node pattern '['");
  options.node_pattern = std::string("a\0b", 3);
  refused(options, "NUL");
  options = {};
  options.snap_length = 63;
  refused(options, "snap_length");
  options = {};
  options.ring_size = 65537;
  refused(options, "ring_size");
}

}  // namespace
}  // namespace ironcore::testing
