// Interfaces, their prefixes, routes and VNIs.
#include <pybind11/native_enum.h>

#include "bindings/bindings.h"
#include "bindings/casters.h"

namespace py = pybind11;

namespace ironcore {

void bind_interfaces(py::module_& m) {
  py::native_enum<VniType>(m, "VniType", "enum.IntEnum")
      .value("IPV4", VniType::kIpv4)
      .value("IPV6", VniType::kIpv6)
      .value("BOTH", VniType::kBoth)
      .finalize();

  py::class_<PxeOptions>(m, "PxeOptions")
      .def(py::init([](const IpAddress& next_server, std::string boot_filename) {
             return PxeOptions{next_server, std::move(boot_filename)};
           }),
           py::arg("next_server"), py::arg("boot_filename"));

  py::class_<CreateInterfaceRequest>(m, "CreateInterfaceRequest")
      .def(py::init<>())
      .def_readwrite("id", &CreateInterfaceRequest::id)
      .def_readwrite("device_name", &CreateInterfaceRequest::device_name)
      .def_readwrite("vni", &CreateInterfaceRequest::vni)
      .def_readwrite("ipv4", &CreateInterfaceRequest::ipv4)
      .def_readwrite("ipv6", &CreateInterfaceRequest::ipv6)
      .def_readwrite("preferred_underlay", &CreateInterfaceRequest::preferred_underlay)
      .def_readwrite("pxe", &CreateInterfaceRequest::pxe)
      .def_readwrite("hostname", &CreateInterfaceRequest::hostname)
      .def_readwrite("total_meter_rate", &CreateInterfaceRequest::total_meter_rate)
      .def_readwrite("public_meter_rate", &CreateInterfaceRequest::public_meter_rate);

  py::class_<CreateInterfaceReply>(m, "CreateInterfaceReply")
      .def_readonly("underlay", &CreateInterfaceReply::underlay)
      .def_readonly("netdev_name", &CreateInterfaceReply::netdev_name);

  py::class_<InterfaceInfo>(m, "InterfaceInfo")
      .def_readonly("id", &InterfaceInfo::id)
      .def_readonly("device_name", &InterfaceInfo::device_name)
      .def_readonly("netdev_name", &InterfaceInfo::netdev_name)
      .def_readonly("hostname", &InterfaceInfo::hostname)
      .def_readonly("vni", &InterfaceInfo::vni)
      .def_readonly("ipv4", &InterfaceInfo::ipv4)
      .def_readonly("ipv6", &InterfaceInfo::ipv6)
      .def_readonly("underlay", &InterfaceInfo::underlay)
      .def_readonly("mac", &InterfaceInfo::mac)
      .def_readonly("vm_mac", &InterfaceInfo::vm_mac)
      .def_readonly("vm_mac_learned", &InterfaceInfo::vm_mac_learned)
      .def_readonly("total_meter_rate", &InterfaceInfo::total_meter_rate)
      .def_readonly("public_meter_rate", &InterfaceInfo::public_meter_rate);

  py::class_<PrefixInfo>(m, "PrefixInfo")
      .def_readonly("prefix", &PrefixInfo::prefix)
      .def_readonly("underlay", &PrefixInfo::underlay);

  py::class_<RouteInfo>(m, "RouteInfo")
      .def_readonly("vni", &RouteInfo::vni)
      .def_readonly("prefix", &RouteInfo::prefix)
      .def_readonly("nexthop_vni", &RouteInfo::nexthop_vni)
      .def_readonly("nexthop", &RouteInfo::nexthop);
}

void bind_interface_calls(EngineClass& engine) {
  using Preferred = std::optional<Ipv6Address>;
  const py::call_guard<py::gil_scoped_release> unlocked;

  engine
      .def(
          "create_interface", [](Engine& e, const CreateInterfaceRequest& r) { return take(e.create_interface(r)); },
          py::arg("request"), unlocked)
      .def(
          "get_interface", [](const Engine& e, const std::string& id) { return take(e.get_interface(id)); },
          py::arg("interface_id"), unlocked)
      .def("list_interfaces", &Engine::list_interfaces, unlocked)
      .def(
          "delete_interface", [](Engine& e, const std::string& id) { check(e.delete_interface(id)); },
          py::arg("interface_id"), unlocked)
      .def(
          "create_prefix",
          [](Engine& e, const std::string& id, const IpPrefix& prefix, const Preferred& preferred) {
            return take(e.create_prefix(id, prefix, preferred));
          },
          py::arg("interface_id"), py::arg("prefix"), py::arg("preferred_underlay") = py::none(), unlocked)
      .def(
          "delete_prefix",
          [](Engine& e, const std::string& id, const IpPrefix& prefix) { check(e.delete_prefix(id, prefix)); },
          py::arg("interface_id"), py::arg("prefix"), unlocked)
      .def(
          "list_prefixes", [](const Engine& e, const std::string& id) { return take(e.list_prefixes(id)); },
          py::arg("interface_id"), unlocked)
      .def(
          "create_lb_prefix",
          [](Engine& e, const std::string& id, const IpPrefix& prefix, const Preferred& preferred) {
            return take(e.create_lb_prefix(id, prefix, preferred));
          },
          py::arg("interface_id"), py::arg("prefix"), py::arg("preferred_underlay") = py::none(), unlocked)
      .def(
          "delete_lb_prefix",
          [](Engine& e, const std::string& id, const IpPrefix& prefix) { check(e.delete_lb_prefix(id, prefix)); },
          py::arg("interface_id"), py::arg("prefix"), unlocked)
      .def(
          "list_lb_prefixes", [](const Engine& e, const std::string& id) { return take(e.list_lb_prefixes(id)); },
          py::arg("interface_id"), unlocked)
      .def(
          "create_route",
          [](Engine& e, uint32_t vni, const IpPrefix& prefix, uint32_t nexthop_vni, const IpAddress& nexthop) {
            check(e.create_route(vni, prefix, nexthop_vni, nexthop));
          },
          py::arg("vni"), py::arg("prefix"), py::arg("nexthop_vni"), py::arg("nexthop"), unlocked)
      .def(
          "delete_route",
          [](Engine& e, uint32_t vni, const IpPrefix& prefix, const std::optional<Ipv6Address>& nexthop) {
            check(e.delete_route(vni, prefix, nexthop));
          },
          py::arg("vni"), py::arg("prefix"), py::arg("nexthop") = py::none(), unlocked)
      .def(
          "list_routes", [](const Engine& e, uint32_t vni) { return take(e.list_routes(vni)); }, py::arg("vni"),
          unlocked)
      .def(
          "check_vni_in_use",
          [](const Engine& e, uint32_t vni, VniType type) { return take(e.check_vni_in_use(vni, type)); },
          py::arg("vni"), py::arg("vni_type"), unlocked)
      .def(
          "reset_vni", [](Engine& e, uint32_t vni, VniType type) { check(e.reset_vni(vni, type)); }, py::arg("vni"),
          py::arg("vni_type"), unlocked);
}

}  // namespace ironcore
