// Public addresses, load balancers and firewall rules. Identifiers of the last two are any bytes, no text.
#include <pybind11/native_enum.h>

#include "bindings/bindings.h"
#include "bindings/casters.h"

namespace py = pybind11;

namespace ironcore {
namespace {

void bind_public_addresses(py::module_& m) {
  py::class_<VipInfo>(m, "VipInfo").def_readonly("vip", &VipInfo::vip).def_readonly("underlay", &VipInfo::underlay);

  py::class_<NatInfo>(m, "NatInfo")
      .def_readonly("nat_ip", &NatInfo::nat_ip)
      .def_readonly("min_port", &NatInfo::min_port)
      .def_readonly("max_port", &NatInfo::max_port)
      .def_readonly("underlay", &NatInfo::underlay);

  py::class_<LocalNatInfo>(m, "LocalNatInfo")
      .def_readonly("inside", &LocalNatInfo::inside)
      .def_readonly("vni", &LocalNatInfo::vni)
      .def_readonly("nat", &LocalNatInfo::nat)
      .def_readonly("flows", &LocalNatInfo::flows);

  py::class_<NeighborNat>(m, "NeighborNat")
      .def(py::init([](const IpAddress& nat_ip, uint32_t vni, uint16_t min_port, uint16_t max_port,
                       const Ipv6Address& underlay) { return NeighborNat{nat_ip, vni, min_port, max_port, underlay}; }),
           py::arg("nat_ip"), py::arg("vni"), py::arg("min_port"), py::arg("max_port"), py::arg("underlay"))
      .def_readonly("nat_ip", &NeighborNat::nat_ip)
      .def_readonly("vni", &NeighborNat::vni)
      .def_readonly("min_port", &NeighborNat::min_port)
      .def_readonly("max_port", &NeighborNat::max_port)
      .def_readonly("underlay", &NeighborNat::underlay);
}

void bind_load_balancers(py::module_& m) {
  py::class_<LoadBalancerPort>(m, "LoadBalancerPort")
      .def(py::init([](uint8_t protocol, uint16_t port) { return LoadBalancerPort{protocol, port}; }),
           py::arg("protocol"), py::arg("port"))
      .def_readonly("protocol", &LoadBalancerPort::protocol)
      .def_readonly("port", &LoadBalancerPort::port);

  py::class_<LoadBalancerInfo>(m, "LoadBalancerInfo")
      .def_property_readonly("id", [](const LoadBalancerInfo& info) { return py::bytes(info.id); })
      .def_readonly("vni", &LoadBalancerInfo::vni)
      .def_readonly("ip", &LoadBalancerInfo::ip)
      .def_readonly("ports", &LoadBalancerInfo::ports)
      .def_readonly("underlay", &LoadBalancerInfo::underlay);
}

// TcpFilter and UdpFilter are the same in all but the type.
template <typename Filter>
void bind_port_filter(py::module_& m, const char* name) {
  py::class_<Filter>(m, name)
      .def(py::init([](std::pair<int32_t, int32_t> source, std::pair<int32_t, int32_t> destination) {
             return Filter{{source.first, source.second}, {destination.first, destination.second}};
           }),
           py::arg("source"), py::arg("destination"))
      .def_property_readonly("source", [](const Filter& f) { return std::pair(f.source.lower, f.source.upper); })
      .def_property_readonly("destination",
                             [](const Filter& f) { return std::pair(f.destination.lower, f.destination.upper); });
}

void bind_firewall(py::module_& m) {
  py::native_enum<TrafficDirection>(m, "TrafficDirection", "enum.IntEnum")
      .value("INGRESS", TrafficDirection::kIngress)
      .value("EGRESS", TrafficDirection::kEgress)
      .finalize();
  py::native_enum<FirewallAction>(m, "FirewallAction", "enum.IntEnum")
      .value("DROP", FirewallAction::kDrop)
      .value("ACCEPT", FirewallAction::kAccept)
      .finalize();
  bind_port_filter<TcpFilter>(m, "TcpFilter");
  bind_port_filter<UdpFilter>(m, "UdpFilter");
  py::class_<IcmpFilter>(m, "IcmpFilter")
      .def(py::init([](int32_t type, int32_t code) { return IcmpFilter{type, code}; }), py::arg("icmp_type"),
           py::arg("icmp_code"))
      .def_readonly("type", &IcmpFilter::type)
      .def_readonly("code", &IcmpFilter::code);

  py::class_<FirewallRule>(m, "FirewallRule")
      .def(py::init([](std::string id, TrafficDirection direction, FirewallAction action, uint16_t priority,
                       const IpPrefix& source, const IpPrefix& destination, const ProtocolFilter& filter) {
             return FirewallRule{std::move(id), direction, action, priority, source, destination, filter};
           }),
           py::arg("rule_id"), py::arg("direction"), py::arg("action"), py::arg("priority"), py::arg("source"),
           py::arg("destination"), py::arg("protocol_filter"))
      .def_property_readonly("id", [](const FirewallRule& rule) { return py::bytes(rule.id); })
      .def_readonly("direction", &FirewallRule::direction)
      .def_readonly("action", &FirewallRule::action)
      .def_readonly("priority", &FirewallRule::priority)
      .def_readonly("source", &FirewallRule::source)
      .def_readonly("destination", &FirewallRule::destination)
      .def_readonly("filter", &FirewallRule::filter);

  py::class_<FirewallRuleInfo>(m, "FirewallRuleInfo")
      .def_readonly("rule", &FirewallRuleInfo::rule)
      .def_readonly("hits", &FirewallRuleInfo::hits);
}

}  // namespace

void bind_services(py::module_& m) {
  bind_public_addresses(m);
  bind_load_balancers(m);
  bind_firewall(m);
}

void bind_service_calls(EngineClass& engine) {
  using Preferred = std::optional<Ipv6Address>;
  const py::call_guard<py::gil_scoped_release> unlocked;

  engine
      .def(
          "create_vip",
          [](Engine& e, const std::string& id, const IpAddress& vip, const Preferred& preferred) {
            return take(e.create_vip(id, vip, preferred));
          },
          py::arg("interface_id"), py::arg("vip"), py::arg("preferred_underlay") = py::none(), unlocked)
      .def(
          "get_vip", [](const Engine& e, const std::string& id) { return take(e.get_vip(id)); },
          py::arg("interface_id"), unlocked)
      .def(
          "delete_vip", [](Engine& e, const std::string& id) { check(e.delete_vip(id)); }, py::arg("interface_id"),
          unlocked)
      .def(
          "create_nat",
          [](Engine& e, const std::string& id, const IpAddress& nat_ip, uint16_t min_port, uint16_t max_port,
             const Preferred& preferred) { return take(e.create_nat(id, nat_ip, min_port, max_port, preferred)); },
          py::arg("interface_id"), py::arg("nat_ip"), py::arg("min_port"), py::arg("max_port"),
          py::arg("preferred_underlay") = py::none(), unlocked)
      .def(
          "get_nat", [](const Engine& e, const std::string& id) { return take(e.get_nat(id)); },
          py::arg("interface_id"), unlocked)
      .def(
          "delete_nat", [](Engine& e, const std::string& id) { check(e.delete_nat(id)); }, py::arg("interface_id"),
          unlocked)
      .def(
          "list_local_nats", [](const Engine& e, const IpAddress& ip) { return take(e.list_local_nats(ip)); },
          py::arg("nat_ip"), unlocked)
      .def(
          "create_neighbor_nat", [](Engine& e, const NeighborNat& nat) { check(e.create_neighbor_nat(nat)); },
          py::arg("nat"), unlocked)
      .def(
          "delete_neighbor_nat",
          [](Engine& e, const IpAddress& nat_ip, uint32_t vni, uint16_t min_port, uint16_t max_port) {
            check(e.delete_neighbor_nat(nat_ip, vni, min_port, max_port));
          },
          py::arg("nat_ip"), py::arg("vni"), py::arg("min_port"), py::arg("max_port"), unlocked)
      .def(
          "list_neighbor_nats", [](const Engine& e, const IpAddress& ip) { return take(e.list_neighbor_nats(ip)); },
          py::arg("nat_ip"), unlocked)
      .def(
          "create_load_balancer",
          [](Engine& e, const std::string& id, uint32_t vni, const IpAddress& ip,
             const std::vector<LoadBalancerPort>& ports,
             const Preferred& preferred) { return take(e.create_load_balancer(id, vni, ip, ports, preferred)); },
          py::arg("lb_id"), py::arg("vni"), py::arg("ip"), py::arg("ports"), py::arg("preferred_underlay") = py::none(),
          unlocked)
      .def(
          "get_load_balancer", [](const Engine& e, const std::string& id) { return take(e.get_load_balancer(id)); },
          py::arg("lb_id"), unlocked)
      .def("list_load_balancers", &Engine::list_load_balancers, unlocked)
      .def(
          "delete_load_balancer", [](Engine& e, const std::string& id) { check(e.delete_load_balancer(id)); },
          py::arg("lb_id"), unlocked)
      .def(
          "create_load_balancer_target",
          [](Engine& e, const std::string& id, const IpAddress& target) {
            check(e.create_load_balancer_target(id, target));
          },
          py::arg("lb_id"), py::arg("target"), unlocked)
      .def(
          "delete_load_balancer_target",
          [](Engine& e, const std::string& id, const IpAddress& target) {
            check(e.delete_load_balancer_target(id, target));
          },
          py::arg("lb_id"), py::arg("target"), unlocked)
      .def(
          "list_load_balancer_targets",
          [](const Engine& e, const std::string& id) { return take(e.list_load_balancer_targets(id)); },
          py::arg("lb_id"), unlocked)
      .def(
          "create_firewall_rule",
          [](Engine& e, const std::string& id, const FirewallRule& rule) { check(e.create_firewall_rule(id, rule)); },
          py::arg("interface_id"), py::arg("rule"), unlocked)
      .def(
          "get_firewall_rule",
          [](const Engine& e, const std::string& id, const std::string& rule) {
            return take(e.get_firewall_rule(id, rule));
          },
          py::arg("interface_id"), py::arg("rule_id"), unlocked)
      .def(
          "delete_firewall_rule",
          [](Engine& e, const std::string& id, const std::string& rule) { check(e.delete_firewall_rule(id, rule)); },
          py::arg("interface_id"), py::arg("rule_id"), unlocked)
      .def(
          "list_firewall_rules", [](const Engine& e, const std::string& id) { return take(e.list_firewall_rules(id)); },
          py::arg("interface_id"), unlocked);
}

}  // namespace ironcore
