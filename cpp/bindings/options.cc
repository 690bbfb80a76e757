// Start options.
#include <pybind11/native_enum.h>

#include "bindings/bindings.h"
#include "bindings/casters.h"

namespace py = pybind11;

namespace ironcore {

void bind_options(py::module_& m) {
  py::native_enum<NicType>(m, "NicType", "enum.Enum")
      .value("MELLANOX", NicType::kMellanox)
      .value("TAP", NicType::kTap)
      .value("BLUEFIELD2", NicType::kBluefield2)
      .finalize();
  py::native_enum<PollMode>(m, "PollMode", "enum.Enum")
      .value("ADAPTIVE", PollMode::kAdaptive)
      .value("BUSY", PollMode::kBusy)
      .finalize();
  py::native_enum<FirewallMode>(m, "FirewallMode", "enum.Enum")
      .value("ENFORCE", FirewallMode::kEnforce)
      .value("OBSERVE", FirewallMode::kObserve)
      .value("OFF", FirewallMode::kOff)
      .finalize();

  py::class_<FlowTimeouts>(m, "FlowTimeouts")
      .def(py::init<>())
      .def_readwrite("tcp_established", &FlowTimeouts::tcp_established)
      .def_readwrite("tcp_transitory", &FlowTimeouts::tcp_transitory)
      .def_readwrite("tcp_forwarded", &FlowTimeouts::tcp_forwarded)
      .def_readwrite("udp", &FlowTimeouts::udp)
      .def_readwrite("icmp", &FlowTimeouts::icmp)
      .def_readwrite("other", &FlowTimeouts::other);

  py::class_<EngineOptions>(m, "EngineOptions")
      .def(py::init<>())
      .def_readwrite("eal_args", &EngineOptions::eal_args)
      .def_readwrite("pf0", &EngineOptions::pf0)
      .def_readwrite("pf1", &EngineOptions::pf1)
      .def_readwrite("vf_pattern", &EngineOptions::vf_pattern)
      .def_readwrite("underlay", &EngineOptions::underlay)
      .def_readwrite("nic_type", &EngineOptions::nic_type)
      .def_readwrite("poll_mode", &EngineOptions::poll_mode)
      .def_readwrite("dhcp_mtu", &EngineOptions::dhcp_mtu)
      .def_readwrite("dhcp_dns", &EngineOptions::dhcp_dns)
      .def_readwrite("dhcpv6_dns", &EngineOptions::dhcpv6_dns)
      .def_readwrite("enable_ipv6_overlay", &EngineOptions::enable_ipv6_overlay)
      .def_readwrite("wcmp", &EngineOptions::wcmp)
      .def_readwrite("flow_label_entropy", &EngineOptions::flow_label_entropy)
      .def_readwrite("multipath", &EngineOptions::multipath)
      .def_readwrite("firewall", &EngineOptions::firewall)
      .def_readwrite("antispoof", &EngineOptions::antispoof)
      .def_readwrite("ipv6_public", &EngineOptions::ipv6_public)
      .def_readwrite("flow_table_size", &EngineOptions::flow_table_size)
      .def_readwrite("flow_quota", &EngineOptions::flow_quota)
      .def_readwrite("flow_timeouts", &EngineOptions::flow_timeouts)
      .def_readwrite("max_vnis", &EngineOptions::max_vnis)
      .def_readwrite("max_routes_per_vni", &EngineOptions::max_routes_per_vni)
      .def_readwrite("max_underlay_addresses", &EngineOptions::max_underlay_addresses)
      .def_readwrite("max_nat_flows", &EngineOptions::max_nat_flows)
      .def_readwrite("max_public_addresses", &EngineOptions::max_public_addresses)
      .def_readwrite("max_neighbor_nats", &EngineOptions::max_neighbor_nats)
      .def_readwrite("max_load_balancers", &EngineOptions::max_load_balancers)
      .def_readwrite("max_load_balancer_targets", &EngineOptions::max_load_balancer_targets)
      .def_readwrite("maglev_size", &EngineOptions::maglev_size)
      .def_readwrite("meter_software_devices", &EngineOptions::meter_software_devices)
      .def_readwrite("underlay_type_byte", &EngineOptions::underlay_type_byte)
      .def_readwrite("underlay_static", &EngineOptions::underlay_static)
      .def_readwrite("follow_uplink_neighbour", &EngineOptions::follow_uplink_neighbour)
      .def_readwrite("version", &EngineOptions::version);
}

}  // namespace ironcore
