#include "ha/replica.h"

#include <gtest/gtest.h>

#include "testing/packets.h"

namespace ironcore::ha {
namespace {

using testing::ip;

class ReplicaTest : public ::testing::Test {
 protected:
  // A TCP connection of VM 10.0.0.1 from `port`.
  static Connection connection(uint16_t port, std::optional<uint16_t> nat_port = {}) {
    Connection made;
    made.id.vni = 100;
    made.id.port = 3;
    made.id.key.family = 4;
    made.id.key.proto = 6;
    made.id.key.src_port = net::swap16(port);
    made.id.key.dst_port = net::swap16(80);
    set_source(made.id.key, ip("10.0.0.1"));
    set_destination(made.id.key, ip("8.8.8.8"));
    if (nat_port) made.state.nat = NatBinding{ip("203.0.113.1"), *nat_port};
    return made;
  }
  static NatCreate message(uint16_t port, uint16_t nat_port) {
    const Connection of = connection(port, nat_port);
    return {mapping_of(of.id, *of.state.nat), 3, 0, 0};
  }

  NatPorts nat_ports{100};
  Replica replica{nat_ports, 4, [](const FlowKey& key) { return uint64_t{key.src_port}; }};
};

TEST_F(ReplicaTest, NatPortsAreInUseAtOnce) {
  replica.put(connection(1000, 2000));
  EXPECT_EQ(nat_ports.size(), 1u);
  replica.put(connection(1000, 2000));
  replica.put(connection(1001));
  EXPECT_EQ(nat_ports.size(), 1u);
  // It has another port now.
  replica.put(connection(1000, 2001));
  EXPECT_EQ(nat_ports.size(), 1u);
  EXPECT_EQ(nat_ports.insert_verbatim(message(1000, 2001).mapping), NatOutcome::kExisting);
  EXPECT_EQ(replica.conflicts(), 0u);
  replica.remove(connection(1000).id);
  EXPECT_EQ(nat_ports.size(), 0u);
  EXPECT_EQ(replica.size(), 1u);
}

TEST_F(ReplicaTest, MessagesOfTheReference) {
  replica.put(message(1000, 2000));
  replica.put(message(1000, 2000));
  EXPECT_EQ(replica.size(), 1u);
  ASSERT_TRUE(replica.find(connection(1000).id));
  EXPECT_EQ(replica.find(connection(1000).id)->nat->port, 2000);
  replica.remove(NatDelete{message(1000, 2001).mapping});
  EXPECT_EQ(replica.size(), 1u);
  replica.remove(NatDelete{message(1000, 2000).mapping});
  EXPECT_EQ(replica.size(), 0u);
  EXPECT_EQ(nat_ports.size(), 0u);
}

TEST_F(ReplicaTest, ADumpEndsWhatItDoesNotTell) {
  replica.put(connection(1000, 2000));
  replica.put(connection(1001, 2001));
  replica.begin_dump();
  replica.put(connection(1001, 2001));
  replica.put(connection(1002));
  replica.end_dump();
  EXPECT_EQ(replica.size(), 2u);
  EXPECT_FALSE(replica.find(connection(1000).id));
  EXPECT_EQ(nat_ports.size(), 1u);
}

TEST_F(ReplicaTest, IsBounded) {
  for (uint16_t port = 1; port <= 6; ++port) replica.put(connection(port, port));
  EXPECT_EQ(replica.size(), 4u);
  EXPECT_EQ(replica.refused(), 2u);
  EXPECT_EQ(nat_ports.size(), 4u);
}

TEST_F(ReplicaTest, APortThatAnotherHasIsCounted) {
  replica.put(connection(1000, 2000));
  replica.put(connection(1001, 2000));  // towards the same destination
  EXPECT_EQ(replica.conflicts(), 1u);
  EXPECT_EQ(nat_ports.size(), 1u);
}

TEST_F(ReplicaTest, TakenConnectionsKeepTheirMappings) {
  replica.put(connection(1000, 2000));
  const auto all = replica.take_all();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0], connection(1000, 2000));
  EXPECT_EQ(replica.size(), 0u);
  EXPECT_EQ(nat_ports.size(), 1u);
}

}  // namespace
}  // namespace ironcore::ha
