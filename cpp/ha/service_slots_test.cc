// What a pair keeps over a takeover: the ports of virtual services.
#include <algorithm>

#include "ha/pair_fixture.h"

namespace ironcore::testing {
namespace {

class HaVirtualServices : public HaPair {
 protected:
  static constexpr const char* kVirtual = "169.254.1.53";
  static constexpr const char* kServer = "fc00:77::53";

  void start(bool standby) {
    EngineOptions with = options(standby);
    with.virtual_services = {{17, ip4(kVirtual), 53, ip6(kServer), 5353}, {6, ip4(kVirtual), 80, ip6(kServer), 8080}};
    HaPair::start(standby, with);
    configure(standby);
  }
  void take_over() {
    pair->become_active();
    net->poll();
    for (unsigned port = kPf0; port < kPortCount; ++port) net->sent(port);  // announcements
  }
  uint16_t vf_port(unsigned vf) { return net->impl().ports().by_device_name(device_name(vf))->id; }
  uint32_t used(size_t service) { return net->engine().virtual_services().at(service).used_ports; }
  // The client's port towards the server.
  uint16_t ask(unsigned vf, const Frame& frame) { return port_at(net->forward(vf, frame, kPf0), 54); }
  uint16_t ask(uint16_t source) { return ask(kVf0, udp_from_vm("10.0.0.1", kVirtual, source, 53)); }
  uint16_t segment(uint8_t flags) { return ask(kVf1, from_vm("10.0.0.2", kVirtual, 6, tcp(2000, 80, flags))); }
  Frame plain(size_t service, uint8_t proto, const Frame& transport) {
    const std::string underlay = to_string(net->engine().virtual_services().at(service).underlay);
    Frame frame = from_vm(kServer, underlay, proto, transport);
    std::copy(kRouterMac.begin(), kRouterMac.end(), frame.begin() + 6);
    return frame;
  }
  Frame answer(uint16_t port) { return plain(0, 17, udp(5353, port)); }
  // Addresses and ports of what the VM gets.
  static Frame ends(const Frame& frame) { return slice(frame, 26, 12); }
  ServiceSlot slot_of(unsigned client, uint16_t slot) {
    return {ip4(kVirtual), 53, slot, ip4("10.0.0.1"), static_cast<uint16_t>(client), vf_port(kVf0), 17};
  }
};

TEST_F(HaVirtualServices, ConnectionsGoOnWithTheirPorts) {
  constexpr uint16_t kClients = 600;
  start(false);
  for (uint16_t client = 0; client < kClients; ++client)
    ASSERT_EQ(ask(static_cast<uint16_t>(3000 + client)), 1025 + client);
  do pair->poll();
  while (!sent_to_peer().empty());  // the peer comes too late to hear of each
  Peer peer(Role::kStandby);
  ASSERT_TRUE(wait_for([&] {
    peer.round(*pair);
    return counters().in_sync;
  }));
  EXPECT_EQ(peer.slots.size(), kClients);
  // And what begins while the peer follows.
  ASSERT_EQ(segment(0x02), 1025);
  net->forward(kPf0, plain(1, 6, tcp(8080, 1025, 0x12)), kVf1);
  segment(0x10);
  ASSERT_TRUE(wait_for([&] {
    peer.round(*pair);
    return peer.slots.size() > kClients;
  }));
  EXPECT_EQ(peer.slots.size(), kClients + 1u);
  EXPECT_EQ(peer.replica.size(), 0u) << "their flows are decided anew";

  start(true);
  tell({}, peer.slots);
  EXPECT_EQ(used(0), kClients);
  EXPECT_EQ(used(1), 1u);
  take_over();
  // Which direction is first does not matter.
  EXPECT_EQ(ends(net->forward(kPf0, answer(1025 + 7), kVf0)), ends(udp_from_vm(kVirtual, "10.0.0.1", 53, 3007)));
  EXPECT_EQ(ask(3007), 1025 + 7);
  EXPECT_EQ(ask(3500), 1025 + 500);
  EXPECT_EQ(ends(net->forward(kPf0, answer(1025 + 500), kVf0)), ends(udp_from_vm(kVirtual, "10.0.0.1", 53, 3500)));
  EXPECT_EQ(segment(0x10), 1025);
  EXPECT_EQ(ends(net->forward(kPf0, plain(1, 6, tcp(8080, 1025, 0x18)), kVf1)),
            ends(from_vm(kVirtual, "10.0.0.2", 6, tcp(80, 2000, 0x18))));
  // New clients come after those that are known.
  EXPECT_EQ(ask(9), 1025 + kClients);
  EXPECT_EQ(used(0), kClients + 1u);
}

TEST_F(HaVirtualServices, WithoutThemPortsWouldBeOthers) {
  start(true);
  take_over();
  net->expect_drop(kPf0, answer(1025 + 7), DropReason::virtual_service_unknown);
  EXPECT_EQ(ask(3007), 1025);
}

TEST_F(HaVirtualServices, APeerOfTheReferenceIsToldSlots) {
  start(false);
  pair->poll();
  sent_to_peer();
  ask(1000);
  ask(1000);
  pair->poll();
  EXPECT_EQ(sent_to_peer(), (std::vector<Frame>{ha::encode(slot_of(1000, 1))}));
  ask(1001);
  pair->poll();
  EXPECT_EQ(sent_to_peer(), (std::vector<Frame>{ha::encode(slot_of(1001, 2))}));
  // It asks for everything.
  send_from_peer(ha::encode(ha::DumpRequest{}));
  pair->poll();
  EXPECT_EQ(sent_to_peer(), (std::vector<Frame>{ha::encode(slot_of(1000, 1)), ha::encode(slot_of(1001, 2))}));
}

TEST_F(HaVirtualServices, AStandbyOfTheReferencesPeerTakesItsSlots) {
  start(true);
  const auto told = [](const ServiceSlot& slot) { send_from_peer(ha::encode(slot)); };
  told(slot_of(1000, 5));
  told(slot_of(1001, 5));  // the peer gave it to another one
  ServiceSlot unusable = slot_of(1002, 6);
  unusable.service_port = 54;
  told(unusable);
  unusable = slot_of(1002, 6);
  unusable.vf_port = vf_port(kPf0);
  told(unusable);
  unusable.vf_port = UINT16_MAX;
  told(unusable);
  told(slot_of(1002, UINT16_MAX));
  pair->poll();
  EXPECT_EQ(used(0), 1u);
  EXPECT_EQ(used(1), 0u);
  take_over();
  EXPECT_EQ(ends(net->forward(kPf0, answer(1029), kVf0)), ends(udp_from_vm(kVirtual, "10.0.0.1", 53, 1001)));
  EXPECT_EQ(ask(1001), 1029);
  EXPECT_EQ(ask(1000), 1030);
  // One more message comes too late.
  told(slot_of(1003, 5));
  pair->poll();
  EXPECT_EQ(ask(1001), 1029);
}

}  // namespace
}  // namespace ironcore::testing
