#include <gtest/gtest.h>

#include "testing/harness.h"

namespace ironcore::testing {
namespace {

class Routes : public ::testing::Test {
 protected:
  Routes() { net.add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1"); }
  std::vector<std::string> list(uint32_t vni) {
    std::vector<std::string> lines;
    for (const auto& route : net.engine().list_routes(vni).value)
      lines.push_back(std::to_string(route.vni) + " " + to_string(route.prefix.address) + "/" +
                      std::to_string(route.prefix.length) + " " + std::to_string(route.nexthop_vni) + " " +
                      to_string(route.nexthop));
    return lines;
  }
  Status create(const std::string& text, uint32_t vni = 100) {
    return net.engine().create_route(vni, prefix(text), 7, ip("fc00:2::1"));
  }
  Harness net;
};

TEST_F(Routes, ChecksInOrder) {
  Engine& engine = net.engine();
  EXPECT_EQ(engine.create_route(999, prefix("10.1.0.0/16"), 0, ip("10.0.0.9")), Status::BAD_IPVER);
  EXPECT_EQ(create("10.1.0.0/16", 999), Status::NO_VNI);
  EXPECT_EQ(create("1.2.3.4/24"), Status::OK);
  EXPECT_EQ(create("1.2.3.255/24"), Status::ROUTE_EXISTS);
  EXPECT_EQ(create("1.2.3.4/25"), Status::OK);
  EXPECT_EQ(engine.create_route(100, {ip("1.2.3.4"), 33}, 0, ip(kRemote)), Status::ROUTE_INSERT);
  EXPECT_EQ(engine.create_route(100, {ip("2001:db8::"), 129}, 0, ip(kRemote)), Status::ROUTE_INSERT);
  EXPECT_EQ(create("10.0.0.1/32"), Status::ROUTE_EXISTS);  // an interface's
  EXPECT_EQ(engine.delete_route(999, prefix("1.2.3.0/24")), Status::NO_VNI);
  EXPECT_EQ(engine.delete_route(100, {ip("1.2.3.4"), 33}), Status::ROUTE_NOT_FOUND);
  EXPECT_EQ(engine.delete_route(100, prefix("10.0.0.1/32")), Status::ROUTE_BAD_PORT);
  EXPECT_EQ(engine.delete_route(100, prefix("1.2.3.9/24")), Status::OK);
  EXPECT_EQ(engine.delete_route(100, prefix("1.2.3.9/24")), Status::ROUTE_NOT_FOUND);
  EXPECT_EQ(engine.list_routes(999).status, Status::NO_VNI);
}

TEST_F(Routes, ListedInOrderBothFamilies) {
  net.add_interface(kVf1, 50, "10.0.0.1");
  for (const char* route :
       {"10.2.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "10.1.0.0/16", "9.0.0.0/8", "10.1.2.0/24", "2001:db8:1::/48", "::/0"})
    ASSERT_EQ(create(route), Status::OK);
  ASSERT_EQ(create("11.0.0.0/8", 50), Status::OK);
  const std::vector<std::string> expected = {"100 0.0.0.0/0 7 fc00:2::1",   "100 9.0.0.0/8 7 fc00:2::1",
                                             "100 10.1.2.0/24 7 fc00:2::1", "100 10.1.0.0/16 7 fc00:2::1",
                                             "100 10.2.0.0/16 7 fc00:2::1", "100 10.0.0.0/8 7 fc00:2::1",
                                             "100 ::/0 7 fc00:2::1",        "100 2001:db8:1::/48 7 fc00:2::1"};
  EXPECT_EQ(list(100), expected);
  auto all = expected;
  all.insert(all.begin(), "50 11.0.0.0/8 7 fc00:2::1");
  EXPECT_EQ(list(0), all);
}

TEST_F(Routes, ResetKeepsWhatInterfacesOwn) {
  Engine& engine = net.engine();
  net.add_interface(kVf1, 100, "10.0.0.2");
  net.add_interface(kVf2, 200, "10.0.0.3");
  ASSERT_TRUE(engine.create_prefix("vm0", prefix("10.9.0.0/16"), std::nullopt).ok());
  create("10.1.0.0/16");
  create("10.1.0.0/16", 200);
  EXPECT_EQ(engine.reset_vni(100, VniType::kIpv4), Status::WRONG_TYPE);
  EXPECT_EQ(engine.reset_vni(100, VniType::kIpv6), Status::WRONG_TYPE);
  EXPECT_EQ(engine.reset_vni(999, VniType::kBoth), Status::OK);
  EXPECT_EQ(engine.check_vni_in_use(100, VniType::kBoth).status, Status::WRONG_TYPE);
  EXPECT_EQ(list(0).size(), 2u);
  ASSERT_EQ(engine.reset_vni(100, VniType::kBoth), Status::OK);
  EXPECT_EQ(list(100).size(), 0u);
  EXPECT_EQ(list(200).size(), 1u);
  net.forward(kVf1, udp_from_vm("10.0.0.2", "10.0.0.1"), kVf0);
  net.forward(kVf1, udp_from_vm("10.0.0.2", "10.9.1.1"), kVf0);
  net.expect_drop(kVf1, udp_from_vm("10.0.0.2", "0.0.0.0"), DropReason::link_local);
  const auto uuid = engine.check_initialized();
  ASSERT_TRUE(uuid);
  EXPECT_EQ(uuid->size(), 36u);
  EXPECT_EQ(engine.initialize().value, *uuid);
  EXPECT_EQ(list(0).size(), 0u);
  net.forward(kVf1, udp_from_vm("10.0.0.2", "10.9.1.1"), kVf0);
}

TEST_F(Routes, ANetworkEndsWithItsLastInterface) {
  create("10.1.0.0/16");
  net.add_interface(kVf1, 100, "10.0.0.2");
  net.engine().delete_interface("vm0");
  EXPECT_EQ(list(100).size(), 1u);
  net.engine().delete_interface("vm1");
  EXPECT_EQ(net.engine().list_routes(100).status, Status::NO_VNI);
  net.add_interface(kVf0, 100, "10.0.0.1");
  EXPECT_EQ(list(100).size(), 0u);
}

TEST_F(Routes, ManyOfThem) {
  for (unsigned i = 0; i < 100000; ++i)
    ASSERT_EQ(net.engine().create_route(100, {IpAddress::v4({20, uint8_t(i >> 16), uint8_t(i >> 8), uint8_t(i)}), 32},
                                        0, ip(kRemote)),
              Status::OK);
  EXPECT_EQ(list(100).size(), 100000u);
  net.forward(kVf0, udp_from_vm("10.0.0.1", "20.1.0.77"), kPf0);
  net.expect_drop(kVf0, udp_from_vm("10.0.0.1", "20.2.0.0"), DropReason::no_route);
}

}  // namespace
}  // namespace ironcore::testing
