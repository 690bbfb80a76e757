// dpservice._engine: the engine's facade for Python.
#include <pybind11/native_enum.h>

#include <utility>

#include "bindings/casters.h"
#include "bindings/counters.h"
#include "ironcore/engine.h"

namespace py = pybind11;

namespace ironcore {
namespace {

// A control call refused by the engine.
struct StatusError {
  Status status;
};

void check(Status status) {
  if (status != Status::OK) throw StatusError{status};
}

template <typename T>
T take(Result<T> result) {
  check(result.status);
  return std::move(result.value);
}

py::object& status_error_type() {
  static auto* type = new py::object;  // lives as long as the interpreter
  return *type;
}

void bind_errors(py::module_& m) {
  py::register_exception<EngineError>(m, "EngineError", PyExc_RuntimeError);
  status_error_type() = py::reinterpret_steal<py::object>(
      PyErr_NewExceptionWithDoc("dpservice._engine.StatusError",
                                "The engine refused a call: `code` and `name` of its status.", nullptr, nullptr));
  if (!status_error_type()) throw py::error_already_set();
  m.attr("StatusError") = status_error_type();
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const StatusError& error) {
      const std::string name(status_name(error.status));
      py::object value = status_error_type()(name);
      value.attr("code") = static_cast<uint32_t>(error.status);
      value.attr("name") = name;
      PyErr_SetObject(status_error_type().ptr(), value.ptr());
    }
  });
}

void bind_values(py::module_& m) {
  py::native_enum<NicType>(m, "NicType", "enum.Enum")
      .value("MELLANOX", NicType::kMellanox)
      .value("TAP", NicType::kTap)
      .value("BLUEFIELD2", NicType::kBluefield2)
      .finalize();
  py::native_enum<PollMode>(m, "PollMode", "enum.Enum")
      .value("ADAPTIVE", PollMode::kAdaptive)
      .value("BUSY", PollMode::kBusy)
      .finalize();
  py::native_enum<VniType>(m, "VniType", "enum.IntEnum")
      .value("IPV4", VniType::kIpv4)
      .value("IPV6", VniType::kIpv6)
      .value("BOTH", VniType::kBoth)
      .finalize();

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
      .def_readwrite("flow_table_size", &EngineOptions::flow_table_size)
      .def_readwrite("flow_timeout", &EngineOptions::flow_timeout)
      .def_readwrite("underlay_type_byte", &EngineOptions::underlay_type_byte)
      .def_readwrite("underlay_static", &EngineOptions::underlay_static)
      .def_readwrite("follow_uplink_neighbour", &EngineOptions::follow_uplink_neighbour)
      .def_readwrite("version", &EngineOptions::version);

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

void bind_engine(py::module_& m) {
  using Preferred = std::optional<Ipv6Address>;
  const py::call_guard<py::gil_scoped_release> unlocked;

  py::class_<Engine>(m, "Engine")
      .def(py::init<EngineOptions>(), py::arg("options"), unlocked)
      .def("start", &Engine::start, unlocked)
      .def("stop", &Engine::stop, unlocked)
      .def(
          "initialize", [](Engine& e) { return take(e.initialize()); }, unlocked)
      .def("check_initialized", &Engine::check_initialized, unlocked)
      .def(
          "version", [](const Engine& e) { return e.version(); }, unlocked)
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
          "delete_route", [](Engine& e, uint32_t vni, const IpPrefix& prefix) { check(e.delete_route(vni, prefix)); },
          py::arg("vni"), py::arg("prefix"), unlocked)
      .def(
          "list_routes", [](const Engine& e, uint32_t vni) { return take(e.list_routes(vni)); }, py::arg("vni"),
          unlocked)
      .def(
          "check_vni_in_use",
          [](const Engine& e, uint32_t vni, VniType type) { return take(e.check_vni_in_use(vni, type)); },
          py::arg("vni"), py::arg("vni_type"), unlocked)
      .def(
          "reset_vni", [](Engine& e, uint32_t vni, VniType type) { check(e.reset_vni(vni, type)); }, py::arg("vni"),
          py::arg("vni_type"), unlocked)
      .def("preferred_underlay_allowed", &Engine::preferred_underlay_allowed, py::arg("address"), unlocked)
      .def("set_uplink_neighbour", &Engine::set_uplink_neighbour, py::arg("pf_index"), py::arg("mac"), unlocked)
      .def("announce", &Engine::announce, unlocked)
      .def("counters", &Engine::counters, unlocked);
}

}  // namespace
}  // namespace ironcore

PYBIND11_MODULE(_engine, m) {
  m.doc() = "The packet engine's control facade.";
  ironcore::bind_errors(m);
  ironcore::bind_values(m);
  ironcore::bind_counters(m);
  ironcore::bind_engine(m);
}
