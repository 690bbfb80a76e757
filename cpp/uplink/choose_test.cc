#include "uplink/choose.h"

#include <gtest/gtest.h>
#include <linux/neighbour.h>

namespace ironcore::uplink {
namespace {

constexpr int kPf0 = 3, kPf1 = 4;

Ipv6 link_local(uint8_t last) { return {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}; }
Mac mac(uint8_t last) { return {2, 0, 0, 0, 0, last}; }
Neighbour neighbour(uint8_t last, uint16_t state = NUD_REACHABLE, bool router = false, int ifindex = kPf0) {
  return {.ifindex = ifindex, .address = link_local(last), .state = state, .is_router = router, .mac = mac(last)};
}
Gateway gateway(uint8_t last, bool is_default = true, uint32_t metric = 1024, int ifindex = kPf0) {
  return {.ifindex = ifindex, .is_default = is_default, .metric = metric, .address = link_local(last)};
}

const Uplink kUplink{.ifindex = kPf0, .own_mac = mac(0xee)};

std::optional<Mac> pick(std::vector<Gateway> gateways, std::vector<Neighbour> neighbours,
                        std::optional<Mac> current = {}) {
  return choose(kUplink, gateways, neighbours, current);
}

TEST(Choose, DefaultGatewayBeatsOtherRoutesBeatsRouterFlag) {
  const std::vector<Neighbour> all = {neighbour(1, NUD_STALE, true), neighbour(2), neighbour(3)};
  EXPECT_EQ(pick({gateway(2, false), gateway(3)}, all), mac(3));
  EXPECT_EQ(pick({gateway(2, false)}, all), mac(2));
  EXPECT_EQ(pick({}, all), mac(1));
}

TEST(Choose, LowerMetricThenLowerAddressWhateverTheState) {
  const std::vector<Neighbour> all = {neighbour(1, NUD_REACHABLE), neighbour(2, NUD_STALE)};
  EXPECT_EQ(pick({gateway(1, true, 200), gateway(2, true, 100)}, all), mac(2));
  EXPECT_EQ(pick({gateway(2), gateway(1)}, {neighbour(1, NUD_STALE), neighbour(2, NUD_REACHABLE)}), mac(1));
}

TEST(Choose, FailedGatewayGivesWayToTheNext) {
  Neighbour failed = neighbour(1, NUD_FAILED);
  EXPECT_EQ(pick({gateway(1), gateway(2)}, {failed, neighbour(2)}), mac(2));
}

TEST(Choose, KeepsTheCurrentMacWithoutACandidate) {
  EXPECT_EQ(pick({gateway(1)}, {neighbour(1, NUD_FAILED)}, mac(1)), mac(1));
  EXPECT_EQ(pick({}, {}, mac(9)), mac(9));
  EXPECT_EQ(pick({}, {}), std::nullopt);
}

TEST(Choose, NeverUsesOtherInterfacesOrItsOwnMac) {
  EXPECT_EQ(pick({gateway(1, true, 1, kPf1)}, {neighbour(1, NUD_REACHABLE, true, kPf1)}), std::nullopt);
  Neighbour self = neighbour(1, NUD_REACHABLE, true);
  self.mac = kUplink.own_mac;
  EXPECT_EQ(pick({gateway(1)}, {self}), std::nullopt);
  EXPECT_EQ(choose({.ifindex = kPf0, .own_mac = {}}, std::vector{gateway(1)}, std::vector{self}, {}), kUplink.own_mac);
}

TEST(Choose, OnlyUnicastMacsOfResolvedNeighbours) {
  Neighbour n = neighbour(1, NUD_NOARP, true);
  EXPECT_FALSE(is_usable(n));
  n.state = NUD_INCOMPLETE;
  EXPECT_FALSE(is_usable(n));
  n.state = NUD_PERMANENT;
  EXPECT_TRUE(is_usable(n));
  n.mac = Mac{0x33, 0x33, 0, 0, 0, 1};
  EXPECT_FALSE(is_usable(n));
  n.mac = Mac{};
  EXPECT_FALSE(is_usable(n));
  n.mac.reset();
  EXPECT_FALSE(is_usable(n));
}

TEST(Probe, AsksForUnconfirmedGatewaysOnceAndBestFirst) {
  std::array<Ipv6, 2> out;
  const std::vector<Gateway> gateways = {gateway(1), gateway(2), gateway(2, false), gateway(3, false), gateway(4)};
  const std::vector<Neighbour> neighbours = {neighbour(1), neighbour(2, NUD_STALE), neighbour(3, NUD_FAILED)};
  ASSERT_EQ(to_probe(kUplink, gateways, neighbours, out), 2u);
  EXPECT_EQ(out[0], link_local(2));
  EXPECT_EQ(out[1], link_local(4));
  EXPECT_EQ(to_probe(kUplink, std::vector{gateway(1)}, neighbours, out), 0u);
}

}  // namespace
}  // namespace ironcore::uplink
