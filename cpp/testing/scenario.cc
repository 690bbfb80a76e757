#include "testing/scenario.h"

namespace ironcore::testing {
namespace {

constexpr const char* kInside4[] = {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"};
constexpr const char* kInside6[] = {"2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"};
constexpr const char* kPublic4[] = {"203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"};
constexpr const char* kPublic6[] = {"2001:db8:ff::1", "2001:db8:ff::2", "2001:db8:ff::3", "2001:db8:ff::4"};
constexpr const char* kNextHops[] = {kRemote, "fc00:3::d000:0:1", "fc00:4::d000:0:1", "fc00:5::d000:0:1"};
constexpr const char* kWideRoutes[] = {"0.0.0.0/0", "::/0", "172.16.0.0/12", "2001:db8:9::/48"};
constexpr const char* kRoutes[] = {
    "0.0.0.0/0",  "::/0",         "172.16.0.0/12",  "2001:db8:9::/48",     "8.8.8.0/24",           "172.16.0.9/32",
    "9.9.0.0/16", "10.0.0.16/28", "192.168.0.0/17", "2001:db8:9::9/128",   "64:ff9b::808:808/128", "2001:db8::/64",
    "0.0.0.0/1",  "64:ff9b::/96", "10.0.0.3/32",    "2001:db8:9:0:8::/80",
};
constexpr const char* kAliases[] = {"10.9.0.0/24", "10.9.0.5/32", "192.168.7.0/24", "2001:db8:a::/64"};
constexpr const char* kRuleEnds[] = {"0.0.0.0/0",     "10.0.0.0/30", "8.8.8.8/32", "::/0",
                                     "2001:db8::/64", "10.0.0.1/32", "9.0.0.0/8",  "2001:db8:9::/48"};
constexpr int32_t kRulePorts[] = {-1, 53, 80, 1000};

template <typename Table>
auto pick(const Table& table, unsigned index) {
  return table[index % std::size(table)];
}

}  // namespace

const std::vector<std::string>& scenario_addresses(bool v6) {
  static const std::vector<std::string> v4_addresses = {
      "10.0.0.1",    "10.0.0.2",  "10.0.0.3",    "10.0.0.4",    "10.9.0.5",    "192.168.7.7",
      "8.8.8.8",     "9.9.9.9",   "172.16.0.9",  "203.0.113.1", "203.0.113.2", "203.0.113.3",
      "203.0.113.4", "10.0.0.20", "224.0.0.251", "169.254.0.1", "0.0.0.0",     "198.51.100.7"};
  static const std::vector<std::string> v6_addresses = {
      "2001:db8::1",       "2001:db8::2",      "2001:db8::3",      "2001:db8::4",    "2001:db8:a::5",  "2001:db8:9::9",
      "2001:db8:9:0:8::1", "64:ff9b::808:808", "64:ff9b::909:909", "2001:db8:ff::1", "2001:db8:ff::2", "2001:db8:ff::3",
      "2001:db8:ff::4",    "fe80::1",          "ff02::1",          "2001:db8:77::7"};
  return v6 ? v6_addresses : v4_addresses;
}

EngineOptions Scenario::options(uint8_t choice) {
  EngineOptions options = default_options();
  options.firewall =
      (choice & 1) ? ((choice & 2) ? FirewallMode::kOff : FirewallMode::kObserve) : FirewallMode::kEnforce;
  options.antispoof = !(choice & 4);
  options.ipv6_public = (choice & 8) != 0;
  options.multipath = options.flow_label_entropy = (choice & 16) != 0;
  options.wcmp = (choice & 32) ? 40 : 100;
  options.enable_ipv6_overlay = !(choice & 64);
  options.dhcp_dns = {ip4("8.8.8.8")};
  options.dhcpv6_dns = {ip6("2001:db8:53::53")};
  // Aging follows the test's clock only: no timeout is near what time passes while it runs.
  options.flow_timeouts = {2000, 2000, 1000, 1000, 1000, 1000};
  options.flow_table_size = 4096;
  options.mbufs = 1023;
  options.max_vnis = 8;
  options.max_routes_per_vni = 256;
  options.max_underlay_addresses = 512;
  options.max_nat_flows = 4096;
  options.max_public_addresses = 64;
  options.max_neighbor_nats = 64;
  options.max_load_balancers = 8;
  return options;
}

Ipv6Address Scenario::underlay(uint8_t choice) const {
  return underlays_.empty() ? ip6("fc00:1::d000:0:1") : pick(underlays_, choice);
}

std::optional<Ipv6Address> Scenario::underlay_of(const IpAddress& address) const {
  const auto found = underlay_of_.find(address);
  return found == underlay_of_.end() ? std::nullopt : std::optional(found->second);
}

Status Scenario::note(const IpAddress& address, const Result<Ipv6Address>& created) {
  if (created.ok()) {
    underlays_.push_back(created.value);
    underlay_of_[address] = created.value;
  }
  return created.status;
}

Status Scenario::firewall(const Choice& choice) {
  const std::string vm = "vm" + std::to_string(choice[1] & 3), id = "rule" + std::to_string(choice[1] >> 2 & 7);
  if (choice[3] & 0x80) return net_.engine().delete_firewall_rule(vm, id);
  FirewallRule rule;
  rule.id = id;
  rule.direction = (choice[1] & 0x20) ? TrafficDirection::kEgress : TrafficDirection::kIngress;
  rule.action = (choice[1] & 0x40) ? FirewallAction::kDrop : FirewallAction::kAccept;
  rule.priority = static_cast<uint16_t>(choice[1] >> 7);
  rule.source = prefix(pick(kRuleEnds, choice[2]));
  rule.destination = prefix(pick(kRuleEnds, choice[2] >> 3));
  const PortRange source{pick(kRulePorts, choice[3]), -1}, destination{pick(kRulePorts, choice[3] >> 2), -1};
  switch (choice[2] >> 6) {
    case 1:
      rule.filter = TcpFilter{source, destination};
      break;
    case 2:
      rule.filter = UdpFilter{source, destination};
      break;
    case 3:
      rule.filter = IcmpFilter{(choice[3] & 1) ? 8 : -1, -1};
      break;
    default:
      break;
  }
  return net_.engine().create_firewall_rule(vm, rule);
}

Status Scenario::change(const Choice& choice) {
  Engine& engine = net_.engine();
  const unsigned number = choice[1] & 3;
  const std::string vm = "vm" + std::to_string(number);
  const uint32_t vni = (choice[1] & 4) ? 200 : 100;
  const bool v6 = (choice[1] & 8) != 0, take_back = (choice[3] & 0x80) != 0;
  switch (choice[0] % kKinds) {
    case kCreateInterface: {
      // Mostly the address that belongs to the device.
      const unsigned host = (choice[2] & 0xc0) ? number : choice[2];
      const bool only4 = (choice[2] & 0x0c) == 0x04, only6 = (choice[2] & 0x0c) == 0x08;
      auto request = net_.interface_request(kVf0 + number, vni, only6 ? "" : pick(kInside4, host),
                                            only4 ? "" : pick(kInside6, host));
      request.hostname = vm;
      if (choice[2] & 0x10) request.pxe = PxeOptions{ip(v6 ? "2001:db8:99::1" : "10.0.0.250"), "boot.efi"};
      const auto created = engine.create_interface(request);
      if (created.ok()) {
        underlays_.push_back(created.value.underlay);
        if (!only6) underlay_of_[IpAddress::v4(request.ipv4)] = created.value.underlay;
        if (!only4) underlay_of_[IpAddress::v6(request.ipv6)] = created.value.underlay;
      }
      return created.status;
    }
    case kDeleteInterface:
      return engine.delete_interface(vm);
    case kCreateRoute: {
      const IpAddress hop = (choice[3] & 0x40) ? IpAddress::v6(underlay(choice[3])) : ip(pick(kNextHops, choice[3]));
      return engine.create_route(vni, prefix(wide_routes_ ? pick(kWideRoutes, choice[2]) : pick(kRoutes, choice[2])),
                                 vni, hop);
    }
    case kDeleteRoute:
      return engine.delete_route(vni, prefix(wide_routes_ ? pick(kWideRoutes, choice[2]) : pick(kRoutes, choice[2])),
                                 (choice[3] & 1) ? std::optional(ip6(pick(kNextHops, choice[3] >> 1))) : std::nullopt);
    case kPrefix: {
      const IpPrefix alias = prefix(pick(kAliases, choice[2]));
      if (take_back) return engine.delete_prefix(vm, alias);
      return note(alias.address, engine.create_prefix(vm, alias, std::nullopt));
    }
    case kLbPrefix: {
      const IpAddress address = ip(v6 ? pick(kPublic6, choice[2]) : pick(kPublic4, choice[2]));
      const IpPrefix alias{address, static_cast<uint8_t>(v6 ? 128 : 32)};
      if (take_back) return engine.delete_lb_prefix(vm, alias);
      const auto created = engine.create_lb_prefix(vm, alias, std::nullopt);
      if (created.ok()) underlays_.push_back(created.value);
      return created.status;
    }
    case kVip: {
      if (take_back) return engine.delete_vip(vm);
      const IpAddress address = ip(v6 ? pick(kPublic6, choice[2]) : pick(kPublic4, choice[2]));
      return note(address, engine.create_vip(vm, address, std::nullopt));
    }
    case kNat: {
      if (take_back) return engine.delete_nat(vm);
      const IpAddress address = ip(v6 ? pick(kPublic6, choice[2]) : pick(kPublic4, choice[2]));
      const auto first = static_cast<uint16_t>(1024 + (choice[2] >> 4) * 8);
      return note(address, engine.create_nat(vm, address, first, static_cast<uint16_t>(first + 1 + (choice[3] & 31)),
                                             std::nullopt));
    }
    case kNeighborNat: {
      const IpAddress address = ip(v6 ? pick(kPublic6, choice[2]) : pick(kPublic4, choice[2]));
      const auto first = static_cast<uint16_t>(1024 + (choice[2] >> 4) * 32), last = static_cast<uint16_t>(first + 32);
      if (take_back) return engine.delete_neighbor_nat(address, vni, first, last);
      return engine.create_neighbor_nat({address, vni, first, last, ip6(pick(kNextHops, choice[3]))});
    }
    case kLoadBalancer: {
      const std::string id = "lb" + std::to_string(number & 1);
      if (take_back) return engine.delete_load_balancer(id);
      const IpAddress address = ip(v6 ? pick(kPublic6, choice[2]) : pick(kPublic4, choice[2]));
      std::vector<LoadBalancerPort> ports = {{6, 80}};
      if (choice[3] & 1) ports.push_back({17, 53});
      return note(address, engine.create_load_balancer(id, vni, address, ports, std::nullopt));
    }
    case kTarget: {
      const std::string id = "lb" + std::to_string(number & 1);
      const IpAddress target = (choice[1] & 0x10) ? IpAddress::v6(underlay(choice[2])) : ip(pick(kNextHops, choice[2]));
      return take_back ? engine.delete_load_balancer_target(id, target)
                       : engine.create_load_balancer_target(id, target);
    }
    case kFirewall:
      return firewall(choice);
    case kReset:
      return (choice[2] & 0x1f) == 0x1f ? engine.initialize().status : engine.reset_vni(vni, VniType::kBoth);
    case kUplink:
      if (choice[2] & 1)
        net_.impl().ports().uplink(number & 1)->link_up = (choice[2] & 0x06) != 0;
      else
        engine.set_uplink_neighbour(number & 1, (choice[2] & 0x06) ? std::optional(kRouterMac) : std::nullopt);
      return Status::OK;
    case kAnnounce:
      engine.announce();
      return Status::OK;
    default:
      // Never a sum near a timeout: 15 seconds of fragments, 1000 and 2000 of flows.
      net_.advance(300);
      return Status::OK;
  }
}

void Scenario::populate() {
  for (uint8_t number = 0; number < 4; ++number)
    change({kCreateInterface, static_cast<uint8_t>(number | (number == 3 ? 4 : 0)), 0xc0, 0});
  for (const uint8_t vni : {0, 4})
    for (const uint8_t route : {0, 1}) change({kCreateRoute, vni, route, route});
  change({kVip, 1, 1, 0});
  change({kNat, 0, 0, 15});
  change({kLoadBalancer, 0, 2, 1});
  change({kTarget, 0, 0, 0});
  change({kLbPrefix, 2, 2, 0});
}

}  // namespace ironcore::testing
