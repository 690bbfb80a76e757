// What a pair keeps over a takeover: NAT mappings and connections.
#include "ha/pair_fixture.h"

namespace ironcore::testing {
namespace {

TEST_F(HaPair, AnEngineAloneHasNone) {
  Harness alone;
  EXPECT_EQ(alone.impl().pair(), nullptr);
  EXPECT_EQ(alone.engine().ha_state(), HaState::kActive);
  EXPECT_TRUE(alone.engine().counters().ha.messages.empty());
}

TEST_F(HaPair, ASyncPortThatIsNotThereIsAnError) {
  EngineOptions with = default_options();
  with.sync_tap = "nothing";
  EXPECT_THROW(Harness{with}, EngineError);
}

TEST_F(HaPair, ConnectionsGoOnInBothDirections) {
  const auto connections = connections_of_an_active();
  start(true);
  configure(true);
  tell(connections);
  EXPECT_EQ(flows(), 0u);
  EXPECT_EQ(nat_flows(), 3u);
  pair->become_active();
  EXPECT_EQ(net->engine().ha_state(), HaState::kActive);
  EXPECT_EQ(counters().pending, 0u);
  net->poll();
  for (unsigned port = kPf0; port < kPortCount; ++port) net->sent(port);  // announcements
  EXPECT_EQ(flows(), 2 * kOpened);

  // The first packet comes from outside.
  EXPECT_EQ(in(kNat, udp_from_vm("8.8.8.8", "203.0.113.1", 53, udp_port), kVf0),
            payload_of(udp_from_vm("8.8.8.8", "10.0.0.1", 53, 1000)));
  EXPECT_EQ(in(kNat, from_vm("8.8.8.8", "203.0.113.1", 6, tcp(443, tcp_port, 0x10)), kVf0),
            payload_of(from_vm("8.8.8.8", "10.0.0.1", 6, tcp(443, 1001, 0x10))));
  EXPECT_EQ(slice(in(kNat, udp_from_vm("9.9.9.9", "203.0.113.1", 53, nat64_port), kVf0), 40, 4),
            (Frame{0, 53, 0x03, 0xea}));
  // No rule of vm1 would let this in.
  EXPECT_EQ(in(kVip, from_vm("9.9.9.9", "203.0.113.9", 6, tcp(22, 2000, 0x10)), kVf1),
            payload_of(from_vm("9.9.9.9", "10.0.0.2", 6, tcp(22, 2000, 0x10))));
  in(kBalancer, from_vm("7.7.7.7", "203.0.113.7", 6, tcp(3000, 80, 0x10)), kVf1);
  // And the answers leave as before.
  EXPECT_EQ(port_at(out(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53)), 20), udp_port);
  EXPECT_EQ(port_at(out(kVf0, from_vm("10.0.0.1", "8.8.8.8", 6, tcp(1001, 443, 0x10))), 20), tcp_port);
  EXPECT_EQ(port_at(out(kVf0, udp_from_vm("2001:db8::1", "64:ff9b::909:909", 1002, 53)), 20), nat64_port);
  out(kVf1, from_vm("203.0.113.7", "7.7.7.7", 6, tcp(80, 3000, 0x10)));
  EXPECT_EQ(net->worker().slow_path, 0u);
  EXPECT_EQ(net->worker().flows_created, 0u);

  // Open TCP connections stay, the others end when idle, and give their ports back.
  net->impl().clock().advance(3600);
  EXPECT_TRUE(wait_for([&] {
    pair->poll();
    net->poll();
    return flows() == 6;
  }));
  EXPECT_EQ(nat_flows(), 1u);
  in(kVip, from_vm("9.9.9.9", "203.0.113.9", 6, tcp(22, 2000, 0x10)), kVf1);
  EXPECT_EQ(net->worker().slow_path, 0u);
}

TEST_F(HaPair, WithoutThemNothingWouldComeIn) {
  start(true);
  configure();
  pair->become_active();
  net->poll();
  for (unsigned port = kPf0; port < kPortCount; ++port) net->sent(port);
  net->expect_drop(kPf0, overlay(kRemote, kNat, udp_from_vm("8.8.8.8", "203.0.113.1", 53, kMinPort)),
                   DropReason::nat_unsolicited);
  net->expect_drop(kPf0, overlay(kRemote, kVip, from_vm("9.9.9.9", "203.0.113.9", 6, tcp(22, 2000, 0x10))),
                   DropReason::firewall);
}

TEST_F(HaPair, AStandbyReceivesNothingAndForgetsWhatWaited) {
  start(true);
  configure();
  for (int i = 0; i < 10; ++i) net->inject(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53));
  net->inject(kPf0, overlay(kRemote, kVm0, udp_from_vm("8.8.8.8", "10.0.0.1")));
  net->poll(8);
  EXPECT_TRUE(net->sent(kPf0).empty());
  EXPECT_TRUE(net->sent(kVf0).empty());
  EXPECT_EQ(rte_ring_count(rx_ring(kVf0)), 10u);
  pair->become_active();
  EXPECT_EQ(counters().discarded, 11u);
  net->poll();
  EXPECT_TRUE(net->sent(kPf0).empty());
  EXPECT_FALSE(net->sent(kVf0).empty());  // the gateway announces itself
  for (unsigned port = kPf0; port < kPortCount; ++port) net->sent(port);
  out(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53));
}

TEST_F(HaPair, APeerOfTheReferenceIsToldMappingsAndMacs) {
  start(false);
  configure();
  pair->poll();
  sent_to_peer();
  const uint16_t port = port_at(out(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1000, 53)), 20);
  out(kVf1, udp_from_vm("10.0.0.2", "8.8.8.8", 1000, 53));  // a VIP has no mappings
  net->inject(kVf1, arp_request(kVmMac, "10.0.0.2", "169.254.0.1"));
  net->poll();
  net->sent(kVf1);
  pair->poll();
  const NatMapping mapping{{100, ip("10.0.0.1"), 1000}, {ip("8.8.8.8"), 53, 17}, ip("203.0.113.1"), port};
  const uint16_t vf0 = net->impl().ports().by_device_name(device_name(kVf0))->id;
  const uint16_t vf1 = net->impl().ports().by_device_name(device_name(kVf1))->id;
  EXPECT_EQ(sent_to_peer(),
            (std::vector<Frame>{ha::encode(ha::NatCreate{mapping, vf0, 0, 0}), ha::encode(ha::PortMac{vf1, kVmMac})}));
  // It asks for everything.
  send_from_peer(ha::encode(ha::DumpRequest{}));
  pair->poll();
  EXPECT_EQ(sent_to_peer(),
            (std::vector<Frame>{ha::encode(ha::NatCreate{mapping, vf0, 0, 0}), ha::encode(ha::PortMac{vf1, kVmMac})}));
  net->advance(40);
  pair->poll();
  EXPECT_EQ(sent_to_peer(), (std::vector<Frame>{ha::encode(ha::NatDelete{mapping})}));
}

TEST_F(HaPair, AStandbyOfTheReferencesPeerTakesItsMappings) {
  start(true);
  configure();
  const uint16_t vf0 = net->impl().ports().by_device_name(device_name(kVf0))->id;
  const NatMapping udp{{100, ip("10.0.0.1"), 1000}, {ip("8.8.8.8"), 53, 17}, ip("203.0.113.1"), 1027};
  NatMapping ended = udp, ping = udp;
  ended.source.port = 1001;
  ended.nat_port = 1026;
  ping.source.port = ping.destination.port = 7;
  ping.destination.protocol = 1;
  for (const NatMapping& mapping : {udp, ended}) send_from_peer(ha::encode(ha::NatCreate{mapping, vf0, 0, 0}));
  send_from_peer(ha::encode(ha::NatCreate{ping, vf0, 8, 0}));
  send_from_peer(ha::encode(ha::NatDelete{ended}));
  send_from_peer(ha::encode(ha::PortMac{vf0, {2, 0, 0, 0, 0, 9}}));
  pair->poll();
  EXPECT_EQ(net->engine().get_interface("vm0").value.vm_mac, (MacAddress{2, 0, 0, 0, 0, 9}));
  EXPECT_EQ(nat_flows(), 2u);
  pair->become_active();
  net->poll();
  for (unsigned port = kPf0; port < kPortCount; ++port) net->sent(port);
  EXPECT_EQ(in(kNat, udp_from_vm("8.8.8.8", "203.0.113.1", 53, 1027), kVf0),
            payload_of(udp_from_vm("8.8.8.8", "10.0.0.1", 53, 1000)));
  EXPECT_EQ(in(kNat, from_vm("8.8.8.8", "203.0.113.1", 1, icmp_echo(0, 1027)), kVf0),
            payload_of(from_vm("8.8.8.8", "10.0.0.1", 1, icmp_echo(0, 7))));
  net->expect_drop(kPf0, overlay(kRemote, kNat, udp_from_vm("8.8.8.8", "203.0.113.1", 53, 1026)),
                   DropReason::nat_unsolicited);
}

TEST_F(HaPair, ConnectionsWaitForTheirInterface) {
  const auto connections = connections_of_an_active();
  start(true);
  tell(connections);
  pair->become_active();
  pair->poll();
  EXPECT_EQ(counters().pending, kOpened);
  configure();
  EXPECT_TRUE(wait_for([&] {
    pair->poll();
    return counters().pending == 0;
  }));
  EXPECT_EQ(counters().restored, kOpened);
  net->poll();
  for (unsigned port = kPf0; port < kPortCount; ++port) net->sent(port);
  in(kNat, from_vm("8.8.8.8", "203.0.113.1", 6, tcp(443, tcp_port, 0x10)), kVf0);
}

TEST_F(HaPair, ALoadBalancersConnectionStaysWithItsTarget) {
  start(false);
  configure();
  // Of another host.
  const Ipv6Address other = ip6("fc00:7::d000:0:3");
  ASSERT_EQ(net->engine().delete_load_balancer_target("lb", IpAddress::v6(kTarget)), Status::OK);
  ASSERT_EQ(net->engine().create_load_balancer_target("lb", IpAddress::v6(other)), Status::OK);
  const Frame packet = from_vm("7.7.7.7", "203.0.113.7", 6, tcp(3000, 80, 0x02));
  net->forward(kPf0, overlay(kRemote, kBalancer, packet), kPf0);
  Peer peer(Role::kStandby);
  ASSERT_TRUE(wait_for([&] {
    peer.round(*pair);
    return counters().in_sync;
  }));
  const auto connections = peer.replica.take_all();
  ASSERT_EQ(connections.size(), 1u);
  start(true);
  configure(true);
  // It has more targets now, and most connections would go to one of them.
  for (int i = 0; i < 20; ++i) {
    Ipv6Address more = ip6("fc00:8::d000:0:3");
    more[15] = static_cast<uint8_t>(i);
    ASSERT_EQ(net->engine().create_load_balancer_target("lb", IpAddress::v6(more)), Status::OK);
  }
  ASSERT_EQ(net->engine().create_load_balancer_target("lb", IpAddress::v6(other)), Status::OK);
  tell(connections);
  pair->become_active();
  net->poll();
  for (unsigned port = kPf0; port < kPortCount; ++port) net->sent(port);
  const Frame sent = net->forward(kPf0, overlay(kRemote, kBalancer, packet), kPf0);
  EXPECT_EQ(slice(sent, 38, 16), Frame(other.begin(), other.end()));
  EXPECT_EQ(net->worker().slow_path, 0u);
}

TEST_F(HaPair, MoreChangesThanTheRingHoldsAreMadeUpFor) {
  EngineOptions with = options(false);
  with.flow_table_size = 1 << 17;
  start(false, with);
  configure();
  Peer peer(Role::kStandby);
  ASSERT_TRUE(wait_for([&] {
    peer.round(*pair);
    return counters().in_sync;
  }));
  constexpr unsigned kMany = ha::Changes::kRing + 2000;
  for (unsigned i = 0; i < kMany; ++i) {
    const auto source = static_cast<uint16_t>(1000 + i % 50'000);
    net->inject(kVf1, udp_from_vm("10.0.0.2", "9.9.9.9", source, 53));
    if (i % 256 == 255) {
      net->poll(10);
      net->sent(kPf0);
    }
  }
  net->poll(10);
  net->sent(kPf0);
  const uint64_t connections = flows() / 2;
  EXPECT_EQ(connections, kMany);
  EXPECT_TRUE(wait_for([&] {
    peer.round(*pair);
    return counters().in_sync;
  }));
  EXPECT_GE(counters().lost, 2000u);
  EXPECT_EQ(counters().resyncs, 2u);
  EXPECT_EQ(peer.replica.size(), connections);
}

TEST_F(HaPair, TheLockDecides) {
  char name[] = "/tmp/ironcore-pair-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string path = std::string(name) + "/active.lock";
  ha::LockFile other(path);
  ASSERT_TRUE(other.try_lock());
  EngineOptions with = options(true);
  with.active_lockfile = path;
  {
    Engine engine(with);
    engine.start();
    EXPECT_TRUE(wait_for([&] { return engine.counters().ha.messages.at(5).sent > 0; }));
    EXPECT_EQ(engine.ha_state(), HaState::kStandby);
    other.release();
    EXPECT_TRUE(wait_for([&] { return engine.ha_state() == HaState::kActive; }));
    ha::LockFile third(path);
    EXPECT_FALSE(third.try_lock());
    engine.resign();
    EXPECT_EQ(engine.ha_state(), HaState::kStandby);
    EXPECT_TRUE(third.try_lock());
    engine.stop();
  }
  ::unlink(path.c_str());
  ::rmdir(name);
}

TEST_F(HaPair, ALockFileThatCannotBeHadIsAFailure) {
  Engine engine(options(true));
  engine.start();
  EXPECT_TRUE(wait_for([&] { return engine.ha_state() == HaState::kFailed; }));
  engine.stop();
}

}  // namespace
}  // namespace ironcore::testing
