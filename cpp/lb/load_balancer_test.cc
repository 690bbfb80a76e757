#include "lb/load_balancer.h"

#include <gtest/gtest.h>

#include <set>
#include <stdexcept>

#include "lb/lb_test_support.h"
#include "lb/maglev.h"
#include "net/headers.h"

namespace ironcore {
namespace {

const IpAddress kAddress = IpAddress::v4({203, 0, 113, 10});

LoadBalancer with_ports(std::vector<LoadBalancerPort> ports) { return {77, kAddress, std::move(ports), {}}; }
LoadBalancer with_targets(std::vector<Ipv6Address> targets, uint32_t size = 0) {
  return {77, kAddress, {}, std::move(targets), size};
}

TEST(LoadBalancer, ChoosesAsTheReference) {
  const LoadBalancer lb = with_targets(golden_targets());
  ASSERT_NE(lb.choose(0xf5c9a1b1), nullptr);  // slot 324
  EXPECT_EQ(*lb.choose(0xf5c9a1b1), v6("2001:db8:0:1:d000:0:0:1"));
  EXPECT_EQ(*lb.choose(0), lb.targets()[2]);
  EXPECT_EQ(*lb.choose(502), lb.targets()[3]);
  EXPECT_EQ(*lb.choose(503), lb.targets()[2]);
}

TEST(LoadBalancer, WithoutTargetsThereIsNoChoice) {
  const LoadBalancer lb = with_targets({});
  EXPECT_EQ(lb.choose(0), nullptr);
  EXPECT_EQ(lb.choose(UINT32_MAX), nullptr);
  EXPECT_FALSE(lb.has_target(v6("::")));
}

TEST(LoadBalancer, EveryTargetIsChosen) {
  std::mt19937 random(1);
  for (const size_t count : {1, 64, 65, 1000}) {
    const LoadBalancer lb = with_targets(random_targets(random, count));
    EXPECT_EQ(lb.maglev_slots().size(), maglev_default_size(count));
    std::set<const Ipv6Address*> chosen;
    for (uint32_t hash = 0; hash < lb.maglev_slots().size(); ++hash) chosen.insert(lb.choose(hash));
    EXPECT_EQ(chosen.size(), count);
  }
}

TEST(LoadBalancer, SizeByOption) {
  EXPECT_EQ(with_targets(golden_targets(), 65537).maglev_slots().size(), 65537u);
  EXPECT_EQ(with_targets(golden_targets(), 7).maglev_slots().size(), 7u);
}

TEST(LoadBalancer, KnowsItsTargets) {
  const LoadBalancer lb = with_targets(golden_targets());
  for (const Ipv6Address& target : golden_targets()) EXPECT_TRUE(lb.has_target(target));
  EXPECT_FALSE(lb.has_target(v6("2001:db8:0:1:d000:0:0:3")));
  EXPECT_FALSE(lb.has_target(v6("::")));
}

TEST(LoadBalancer, RefusesWhatItCannotHold) {
  const auto targets = golden_targets();
  EXPECT_THROW(with_targets({targets[1], targets[0]}), std::invalid_argument);
  EXPECT_THROW(with_targets({targets[0], targets[0]}), std::invalid_argument);
  EXPECT_THROW(with_targets(targets, 504), std::invalid_argument);
  EXPECT_THROW(with_targets(targets, 3), std::invalid_argument);
  EXPECT_EQ(with_targets(targets, 5).maglev_slots().size(), 5u);
}

TEST(LoadBalancer, ServesListedPortsOnly) {
  const LoadBalancer lb = with_ports({{net::kTcp, 443}, {net::kTcp, 80}, {net::kUdp, 53}});
  EXPECT_TRUE(lb.serves(net::kTcp, 443));
  EXPECT_TRUE(lb.serves(net::kTcp, 80));
  EXPECT_TRUE(lb.serves(net::kUdp, 53));
  EXPECT_FALSE(lb.serves(net::kTcp, 53));
  EXPECT_FALSE(lb.serves(net::kUdp, 443));
  EXPECT_FALSE(lb.serves(net::kTcp, 0));
  EXPECT_FALSE(lb.serves(net::kIcmp, 443));
  EXPECT_FALSE(with_ports({}).serves(net::kTcp, 80));
}

TEST(LoadBalancer, PortZeroHidesNothing) {
  const std::vector<LoadBalancerPort> ports{{net::kTcp, 443}, {net::kUdp, 0}, {net::kTcp, 80}};
  const LoadBalancer lb = with_ports(ports);
  EXPECT_TRUE(lb.serves(net::kTcp, 80));
  EXPECT_TRUE(lb.serves(net::kUdp, 0));
  EXPECT_FALSE(lb.serves(net::kTcp, 0));
  EXPECT_EQ(lb.ports(), ports);
}

}  // namespace
}  // namespace ironcore
