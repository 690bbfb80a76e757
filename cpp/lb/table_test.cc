#include "lb/table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

#include "lb/lb_test_support.h"
#include "lb/maglev.h"
#include "net/headers.h"

namespace ironcore {
namespace {

const IpAddress kFirst = IpAddress::v4({203, 0, 113, 10});
const IpAddress kSecond = IpAddress::v6(v6("2001:db8:5::9"));
const Ipv6Address kTarget = v6("2001:db8:0:1:d000::1");

LoadBalancerInfo info(const std::string& id, uint32_t vni, const IpAddress& ip) {
  return {id, vni, ip, {{net::kTcp, 443}, {net::kUdp, 0}, {net::kTcp, 80}}, v6("fc00:1::d000:0:0:" + id)};
}

void expect_equal(const LoadBalancerInfo& a, const LoadBalancerInfo& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.vni, b.vni);
  EXPECT_EQ(a.ip, b.ip);
  EXPECT_EQ(a.ports, b.ports);
  EXPECT_EQ(a.underlay, b.underlay);
}

std::vector<std::string> ids(const LoadBalancerTable& table) {
  std::vector<std::string> ids;
  for (const LoadBalancerInfo& lb : table.list()) ids.push_back(lb.id);
  return ids;
}

TEST(LoadBalancerTable, CreatesAndFinds) {
  LoadBalancerTable table;
  EXPECT_EQ(table.can_create("1", 77, kFirst), Status::OK);
  const auto created = table.create(info("1", 77, kFirst));
  ASSERT_TRUE(created.ok());
  EXPECT_EQ(created.value.before, nullptr);
  ASSERT_NE(created.value.after, nullptr);
  EXPECT_EQ(table.find("1"), created.value.after);
  EXPECT_EQ(table.find(77, kFirst), created.value.after);
  EXPECT_EQ(table.find(78, kFirst), nullptr);
  EXPECT_EQ(table.find("2"), nullptr);
  expect_equal(table.get("1").value, info("1", 77, kFirst));  // port 0 is listed back
  EXPECT_EQ(created.value.after->vni(), 77u);
  EXPECT_EQ(created.value.after->ip(), kFirst);
  EXPECT_EQ(table.get("").status, Status::NOT_FOUND);
  EXPECT_EQ(table.size(), 1u);
}

TEST(LoadBalancerTable, NeitherIdNorAddressMayRepeat) {
  LoadBalancerTable table;
  ASSERT_TRUE(table.create(info("1", 77, kFirst)).ok());
  for (const auto& again :
       {info("1", 77, kFirst), info("2", 77, kFirst), info("1", 77, kSecond), info("1", 78, kFirst)}) {
    EXPECT_EQ(table.can_create(again.id, again.vni, again.ip), Status::ALREADY_EXISTS);
    EXPECT_EQ(table.create(again).status, Status::ALREADY_EXISTS);
  }
  EXPECT_EQ(ids(table), std::vector<std::string>{"1"});
  expect_equal(table.get("1").value, info("1", 77, kFirst));
  EXPECT_TRUE(table.create(info("2", 78, kFirst)).ok());
}

TEST(LoadBalancerTable, FullIsOutOfMemory) {
  LoadBalancerTable table({.load_balancers = 2, .targets = 10});
  ASSERT_TRUE(table.create(info("1", 1, kFirst)).ok());
  ASSERT_TRUE(table.create(info("2", 2, kFirst)).ok());
  EXPECT_EQ(table.create(info("3", 3, kFirst)).status, Status::OUT_OF_MEMORY);
  EXPECT_EQ(table.create(info("3", 2, kFirst)).status, Status::ALREADY_EXISTS);  // comes first
  EXPECT_EQ(table.size(), table.capacity());
  ASSERT_TRUE(table.remove("1").ok());
  EXPECT_TRUE(table.create(info("3", 3, kFirst)).ok());
}

TEST(LoadBalancerTable, ListsByVniAndAddress) {
  LoadBalancerTable table;
  for (const auto& [id, vni, ip] :
       {std::tuple{"1", 9u, kSecond}, {"2", 9u, kFirst}, {"3", 1u, kSecond}, {"4", 9u, IpAddress::v4({1, 2, 3, 4})}})
    ASSERT_TRUE(table.create(info(id, vni, ip)).ok());
  EXPECT_EQ(ids(table), (std::vector<std::string>{"3", "4", "2", "1"}));
}

TEST(LoadBalancerTable, RemoveHandsOutTheOldOne) {
  LoadBalancerTable table;
  const auto created = table.create(info("1", 77, kFirst)).value.after;
  EXPECT_EQ(table.remove("2").status, Status::NOT_FOUND);
  const auto removed = table.remove("1");
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ(removed.value.before, created);
  EXPECT_EQ(removed.value.after, nullptr);
  EXPECT_EQ(table.remove("1").status, Status::NOT_FOUND);
  EXPECT_EQ(table.get("1").status, Status::NOT_FOUND);
  EXPECT_EQ(table.find(77, kFirst), nullptr);
  EXPECT_TRUE(table.list().empty());
  EXPECT_TRUE(table.create(info("1", 78, kFirst)).ok());
}

TEST(LoadBalancerTable, TargetStatuses) {
  LoadBalancerTable table({.load_balancers = 2, .targets = 2});
  EXPECT_EQ(table.add_target("1", kTarget).status, Status::NO_LB);
  EXPECT_EQ(table.remove_target("1", kTarget).status, Status::NO_LB);
  EXPECT_EQ(table.targets("1").status, Status::NO_LB);
  ASSERT_TRUE(table.create(info("1", 77, kFirst)).ok());
  EXPECT_TRUE(table.targets("1").value.empty());
  EXPECT_EQ(table.remove_target("1", kTarget).status, Status::NOT_FOUND);
  EXPECT_EQ(table.add_target("1", Ipv6Address{}).status, Status::ALREADY_EXISTS);
  EXPECT_TRUE(table.add_target("1", kTarget).ok());
  EXPECT_EQ(table.add_target("1", kTarget).status, Status::ALREADY_EXISTS);
  EXPECT_TRUE(table.add_target("1", v6("2001:db8::2")).ok());
  EXPECT_EQ(table.add_target("1", v6("2001:db8::3")).status, Status::BACKIP_ADD);
  EXPECT_EQ(table.add_target("1", kTarget).status, Status::ALREADY_EXISTS);  // comes first
  EXPECT_EQ(table.targets("1").value, (std::vector{v6("2001:db8::2"), kTarget}));
  EXPECT_EQ(table.target_count(), 2u);
  EXPECT_TRUE(table.remove_target("1", kTarget).ok());
  EXPECT_EQ(table.remove_target("1", kTarget).status, Status::NOT_FOUND);
  EXPECT_TRUE(table.add_target("1", v6("2001:db8::3")).ok());
}

TEST(LoadBalancerTable, AChangeLeavesTheOldValueAsItWas) {
  LoadBalancerTable table;
  ASSERT_TRUE(table.create(info("1", 77, kFirst)).ok());
  std::shared_ptr<const LoadBalancer> latest = table.find("1");
  for (const Ipv6Address& target : golden_targets()) {
    const auto targets_before = latest->targets();
    const auto change = table.add_target("1", target).value;
    EXPECT_EQ(change.before, latest);
    EXPECT_EQ(change.before->targets(), targets_before);
    EXPECT_TRUE(change.after->has_target(target));
    EXPECT_EQ(change.after->ports(), latest->ports());
    latest = change.after;
    EXPECT_EQ(table.find("1"), latest);
    EXPECT_EQ(table.find(77, kFirst), latest);
  }
  EXPECT_EQ(latest->maglev_slots(), maglev_table(golden_targets(), kMaglevSize));
  const auto change = table.remove_target("1", golden_targets()[1]).value;
  EXPECT_TRUE(change.before->has_target(golden_targets()[1]));
  EXPECT_FALSE(change.after->has_target(golden_targets()[1]));
}

TEST(LoadBalancerTable, OrderOfChangesDoesNotMatter) {
  std::mt19937 random(2);
  const auto targets = random_targets(random, 60);
  LoadBalancerTable table;
  for (const char* id : {"1", "2"}) {
    ASSERT_TRUE(table.create(info(id, static_cast<uint32_t>(id[0]), kFirst)).ok());
    auto shuffled = targets;
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    const auto passing = random_targets(random, 4);
    for (const auto& target : passing) ASSERT_TRUE(table.add_target(id, target).ok());
    for (const auto& target : shuffled) table.add_target(id, target);
    for (const auto& target : passing) {
      if (std::ranges::binary_search(targets, target)) continue;
      ASSERT_TRUE(table.remove_target(id, target).ok());
    }
  }
  EXPECT_EQ(table.find("1")->targets(), targets);
  EXPECT_EQ(table.find("1")->maglev_slots(), table.find("2")->maglev_slots());
}

TEST(LoadBalancerTable, EmptyIdListsTheTargetsOfAll) {
  LoadBalancerTable table;
  EXPECT_TRUE(table.targets("").ok());
  EXPECT_TRUE(table.targets("").value.empty());
  ASSERT_TRUE(table.create(info("1", 2, kFirst)).ok());
  ASSERT_TRUE(table.create(info("2", 1, kFirst)).ok());
  ASSERT_TRUE(table.add_target("1", v6("::1")).ok());
  ASSERT_TRUE(table.add_target("1", v6("::3")).ok());
  ASSERT_TRUE(table.add_target("2", v6("::2")).ok());
  EXPECT_EQ(table.targets("").value, (std::vector{v6("::2"), v6("::1"), v6("::3")}));
  EXPECT_EQ(table.target_count(), 3u);
  ASSERT_TRUE(table.remove("1").ok());
  EXPECT_EQ(table.target_count(), 1u);
}

TEST(LoadBalancerTable, DefaultLimits) {
  EXPECT_EQ(LoadBalancerTable().capacity(), 4096u);
  LoadBalancerTable one({.maglev_size = 1009});  // small, as each target builds a table
  ASSERT_TRUE(one.create(info("1", 1, kFirst)).ok());
  std::mt19937 random(3);
  const auto targets = random_targets(random, 1001);
  for (size_t i = 0; i < 1000; ++i) ASSERT_TRUE(one.add_target("1", targets[i]).ok());
  EXPECT_EQ(one.add_target("1", targets[1000]).status, Status::BACKIP_ADD);
}

TEST(LoadBalancerTable, ConfiguredSizeBoundsTheTargets) {
  LoadBalancerTable table({.load_balancers = 1, .targets = 1000, .maglev_size = 3});
  ASSERT_TRUE(table.create(info("1", 1, kFirst)).ok());
  for (const char* target : {"::1", "::2", "::3"}) ASSERT_TRUE(table.add_target("1", v6(target)).ok());
  EXPECT_EQ(table.add_target("1", v6("::4")).status, Status::BACKIP_ADD);
  EXPECT_EQ(table.find("1")->maglev_slots().size(), 3u);
}

TEST(LoadBalancerTable, RefusesImpossibleLimits) {
  EXPECT_THROW(LoadBalancerTable({.load_balancers = 1, .targets = 65536}), std::invalid_argument);
  EXPECT_THROW(LoadBalancerTable({.load_balancers = 1, .targets = 1, .maglev_size = 504}), std::invalid_argument);
}

}  // namespace
}  // namespace ironcore
