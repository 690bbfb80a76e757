// Every table at its limit: what needs one entry more is refused as a whole, whatever had been done for it before, and
// succeeds once there is room.
#include <gtest/gtest.h>

#include <functional>

#include "route/route_table.h"
#include "testing/harness.h"

namespace ironcore::testing {
namespace {

Status status_of(Status status) { return status; }
template <typename T>
Status status_of(const Result<T>& result) {
  return result.status;
}

class Limits : public ::testing::Test {
 protected:
  // A new engine with vm0, vm1 and a load balancer in VNI 100.
  void start(EngineOptions options) {
    net_.reset();  // one engine at a time
    net_ = std::make_unique<Harness>(std::move(options));
    net_->add_interface(kVf0, 100, "10.0.0.1", "2001:db8::1");
    net_->add_interface(kVf1, 100, "10.0.0.2", "2001:db8::2");
    expect_ok(engine().create_load_balancer("lb", 100, ip("10.0.0.100"), {}, std::nullopt));
  }
  Harness& net() { return *net_; }
  Engine& engine() { return net_->engine(); }

  // Everything that a refused call could have changed, as one comparable value.
  std::vector<std::string> state() {
    std::vector<std::string> lines;
    const auto add = [&lines](auto... parts) { (lines.emplace_back(), ..., lines.back().append(parts).append(" ")); };
    const auto text = [](auto number) { return std::to_string(number); };
    for (const TableLevel& level : engine().counters().tables)
      if (level.name != "packet_buffers") add(level.name, text(level.used));
    for (const InterfaceState& one : engine().list_interface_states()) {
      add(one.info.id, to_string(one.info.underlay), text(one.firewall_rules), text(one.limits.quota));
      for (const auto* prefixes : {&one.prefixes, &one.lb_prefixes})
        for (const PrefixInfo& info : *prefixes) add(to_string(info.prefix), to_string(info.underlay));
      for (const PublicAddressInfo& info : one.public_addresses)
        add(to_string(info.address), text(info.min_port), text(info.max_port), to_string(info.underlay));
    }
    for (const RouteInfo& route : engine().list_routes(0).value)
      add(text(route.vni), to_string(route.prefix), to_string(route.nexthop));
    for (const LoadBalancerInfo& info : engine().list_load_balancers()) add(info.id, to_string(info.underlay));
    for (const Ipv6Address& target : engine().list_load_balancer_targets("").value) add(to_string(target));
    for (const NeighborNat& nat : engine().list_neighbor_nats(ip("0.0.0.0")).value)
      add(to_string(nat.nat_ip), text(nat.min_port));
    for (const uint32_t vni : {100u, 200u}) add(text(engine().check_vni_in_use(vni, VniType::kIpv4).value));
    add(text(engine().next_event()));
    return lines;
  }

  template <typename R>
  void expect_ok(const R& result) {
    EXPECT_EQ(status_name(status_of(result)), "Success");
  }

  // The call is refused without a trace; after `make_room` it succeeds.
  template <typename Call>
  void expect_refused(Status status, Call call, const std::function<void()>& make_room = {}) {
    const auto before = state();
    EXPECT_EQ(status_name(status_of(call())), status_name(status));
    EXPECT_EQ(state(), before);
    if (!make_room) return;
    make_room();
    expect_ok(call());
  }

  // One interface more, which needs as much of everything as an interface can.
  Status third(uint32_t vni = 100, const std::string& ipv4 = "10.0.0.3", const std::string& ipv6 = "2001:db8::3") {
    return engine().create_interface(net().interface_request(kVf2, vni, ipv4, ipv6)).status;
  }
  uint32_t underlay_addresses_in_use() { return static_cast<uint32_t>(level("underlay_addresses").used); }
  TableLevel level(const std::string& name) {
    for (const TableLevel& one : engine().counters().tables)
      if (one.name == name) return one;
    ADD_FAILURE() << name;
    return {};
  }
  void expect_full(const std::string& name) { EXPECT_EQ(level(name).used, level(name).capacity) << name; }

 private:
  std::unique_ptr<Harness> net_;
};

TEST_F(Limits, Interfaces) {
  start(default_options());
  net().add_interface(kVf2, 100, "10.0.0.3");
  net().add_interface(kVf3, 100, "10.0.0.4");
  expect_full("interfaces");
  auto request = net().interface_request(kVf3, 200, "10.0.0.5");
  request.id = "vm5";
  expect_refused(
      Status::ALREADY_EXISTS, [&] { return engine().create_interface(request); },
      [&] { expect_ok(engine().delete_interface("vm3")); });
}

// The last step but one of a creation: all tables have been changed by then.
TEST_F(Limits, Rates) {
  start(default_options());
  auto request = net().interface_request(kVf2, 200, "10.0.0.3", "2001:db8::3");
  request.total_meter_rate = kMaxMeterRate + 1;
  expect_refused(
      Status::PORT_METER, [&] { return engine().create_interface(request); },
      [&] { request.total_meter_rate = kMaxMeterRate; });
}

TEST_F(Limits, Networks) {
  EngineOptions options = default_options();
  options.max_vnis = 1;
  start(options);
  expect_full("vnis");
  expect_refused(Status::VNI_INIT4,
                 [&] { return engine().create_load_balancer("more", 200, ip("10.0.0.9"), {}, std::nullopt); });
  expect_refused(
      Status::VNI_INIT4, [&] { return third(200); },
      [&] {
        expect_ok(engine().delete_load_balancer("lb"));
        for (const char* id : {"vm0", "vm1"}) expect_ok(engine().delete_interface(id));
      });
}

TEST_F(Limits, RoutesOfANetwork) {
  for (const bool is_v6 : {false, true}) {
    SCOPED_TRACE(is_v6);
    EngineOptions options = default_options();
    options.max_routes_per_vni = 3;
    start(options);
    const auto nth = [&](unsigned number) {
      const std::string text = std::to_string(number);
      return is_v6 ? prefix(std::string("2001:db8:").append(text).append("::/48"))
                   : prefix(std::string("10.").append(text).append(".0.0/16"));
    };
    const auto remove = [&] { expect_ok(engine().delete_route(100, nth(1))); };
    const auto fill = [&] { expect_ok(engine().create_route(100, nth(1), 0, ip(kRemote))); };
    fill();
    expect_refused(Status::ROUTE_INSERT, [&] { return engine().create_prefix("vm0", nth(2), std::nullopt); }, remove);
    expect_ok(engine().delete_prefix("vm0", nth(2)));
    fill();
    // The route of its other family finds room and is taken back.
    expect_refused(Status::ROUTE_INSERT, [&] { return third(); }, remove);
    expect_ok(engine().delete_interface("vm2"));
    fill();
    expect_refused(Status::ROUTE_INSERT, [&] { return engine().create_route(100, nth(3), 0, ip(kRemote)); }, remove);
    // Each network has its own.
    expect_ok(third(200));
  }
}

TEST_F(Limits, NextHopsOfARoute) {
  EngineOptions options = default_options();
  options.multipath = true;
  start(options);
  const auto hop = [](unsigned number) { return ip(std::string("fc00:2::").append(std::to_string(number))); };
  for (unsigned number = 1; number <= kMaxNextHops; ++number)
    expect_ok(engine().create_route(100, prefix("0.0.0.0/0"), 0, hop(number)));
  expect_refused(
      Status::LIMIT_REACHED, [&] { return engine().create_route(100, prefix("0.0.0.0/0"), 0, hop(99)); },
      [&] { expect_ok(engine().delete_route(100, prefix("0.0.0.0/0"), ip6("fc00:2::1"))); });
}

TEST_F(Limits, UnderlayAddresses) {
  EngineOptions options = default_options();
  start(options);
  options.max_underlay_addresses = underlay_addresses_in_use() + 1;
  const std::vector<std::pair<const char*, std::function<Status()>>> calls = {
      {"interface", [&] { return third(200); }},
      {"prefix", [&] { return engine().create_prefix("vm0", prefix("10.1.0.0/16"), std::nullopt).status; }},
      {"lb prefix", [&] { return engine().create_lb_prefix("vm0", prefix("10.2.0.0/16"), std::nullopt).status; }},
      {"vip", [&] { return engine().create_vip("vm0", ip("203.0.113.1"), std::nullopt).status; }},
      {"nat", [&] { return engine().create_nat("vm0", ip("203.0.113.2"), 1, 9, std::nullopt).status; }},
      {"lb", [&] { return engine().create_load_balancer("x", 200, ip("10.0.0.9"), {}, std::nullopt).status; }},
  };
  for (const auto& [name, call] : calls) {
    SCOPED_TRACE(name);
    start(options);
    expect_ok(engine().create_lb_prefix("vm1", prefix("10.9.0.0/16"), std::nullopt));
    expect_full("underlay_addresses");
    expect_refused(Status::VNF_INSERT, call,
                   [&] { expect_ok(engine().delete_lb_prefix("vm1", prefix("10.9.0.0/16"))); });
  }
}

TEST_F(Limits, PublicAddresses) {
  EngineOptions options = default_options();
  options.max_public_addresses = 2;
  const IpAddress first = ip("203.0.113.1"), second = ip("203.0.113.2"), more = ip("203.0.113.3");
  const std::vector<std::pair<const char*, std::function<Status()>>> calls = {
      {"vip", [&] { return engine().create_vip("vm1", more, std::nullopt).status; }},
      {"nat", [&] { return engine().create_nat("vm1", more, 1, 9, std::nullopt).status; }},
      {"neighbour", [&] { return engine().create_neighbor_nat({more, 100, 1, 9, ip6(kRemote)}); }},
  };
  for (const auto& [name, call] : calls) {
    SCOPED_TRACE(name);
    start(options);
    expect_ok(engine().create_vip("vm0", first, std::nullopt));
    expect_ok(engine().create_nat("vm0", second, 1, 9, std::nullopt));
    expect_full("public_addresses");
    expect_refused(Status::DNAT_CREATE, call, [&] { expect_ok(engine().delete_vip("vm0")); });
    // An address that is there has room for further users.
    expect_ok(engine().create_neighbor_nat({second, 100, 9, 20, ip6(kRemote)}));
  }
}

TEST_F(Limits, NatRangesOfOtherHosts) {
  EngineOptions options = default_options();
  options.max_neighbor_nats = 2;
  start(options);
  const auto create = [&](uint16_t min) {
    return engine().create_neighbor_nat({ip("203.0.113.1"), 100, min, static_cast<uint16_t>(min + 10), ip6(kRemote)});
  };
  expect_ok(create(10));
  expect_ok(create(20));
  expect_full("neighbor_nats");
  expect_refused(
      Status::OUT_OF_MEMORY, [&] { return create(30); },
      [&] { expect_ok(engine().delete_neighbor_nat(ip("203.0.113.1"), 100, 10, 20)); });
}

TEST_F(Limits, LoadBalancersAndTheirTargets) {
  EngineOptions options = default_options();
  options.max_load_balancers = 2;
  options.max_load_balancer_targets = 2;
  start(options);
  const auto create = [&](const char* id, const char* address) {
    return engine().create_load_balancer(id, 200, ip(address), {}, std::nullopt);
  };
  expect_ok(create("two", "10.0.0.1"));
  expect_full("load_balancers");
  expect_refused(
      Status::OUT_OF_MEMORY, [&] { return create("three", "10.0.0.2"); },
      [&] { expect_ok(engine().delete_load_balancer("two")); });
  for (const char* target : {"fc00:2::1", "fc00:2::2"})
    expect_ok(engine().create_load_balancer_target("lb", ip(target)));
  expect_refused(
      Status::BACKIP_ADD, [&] { return engine().create_load_balancer_target("lb", ip("fc00:2::3")); },
      [&] { expect_ok(engine().delete_load_balancer_target("lb", ip("fc00:2::1"))); });
  expect_ok(engine().create_load_balancer_target("three", ip("fc00:2::1")));
}

TEST_F(Limits, FirewallRulesOfAnInterface) {
  start(default_options());
  const auto create = [&](const char* interface, unsigned number) {
    FirewallRule rule;
    rule.id = std::string("r").append(std::to_string(number));
    rule.source = prefix("0.0.0.0/0");
    rule.destination = {IpAddress::v4({10, 1, static_cast<uint8_t>(number >> 8), static_cast<uint8_t>(number)}), 32};
    return engine().create_firewall_rule(interface, rule);
  };
  for (unsigned number = 0; number < RuleSet::kMaxRules; ++number) ASSERT_EQ(create("vm0", number), Status::OK);
  expect_refused(
      Status::OUT_OF_MEMORY, [&] { return create("vm0", RuleSet::kMaxRules); },
      [&] { expect_ok(engine().delete_firewall_rule("vm0", "r0")); });
  expect_ok(create("vm1", 0));
}

TEST_F(Limits, NatPorts) {
  EngineOptions options = default_options();
  options.max_nat_flows = 2;
  start(options);
  expect_ok(engine().create_route(100, prefix("0.0.0.0/0"), 0, ip(kRemote)));
  expect_ok(engine().create_nat("vm0", ip("203.0.113.1"), 1000, 2000, std::nullopt));
  net().forward(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 1, 53), kPf0);
  net().forward(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 2, 53), kPf0);
  expect_full("nat_flows");
  const uint64_t flows = level("flows").used;
  net().expect_drop(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 3, 53), DropReason::nat_exhausted);
  EXPECT_EQ(level("nat_flows").used, 2u);
  EXPECT_EQ(level("flows").used, flows);
  net().advance(60);
  net().forward(kVf0, udp_from_vm("10.0.0.1", "8.8.8.8", 3, 53), kPf0);
}

}  // namespace
}  // namespace ironcore::testing
