// Virtual services, packet capture, packet trace.
#include <pybind11/native_enum.h>

#include <stdexcept>

#include "bindings/bindings.h"
#include "bindings/casters.h"

namespace py = pybind11;

namespace ironcore {
namespace {

void bind_virtual_services(py::module_& m, EngineClass& engine) {
  using virtsvc::ServiceConfig;
  py::class_<ServiceConfig>(m, "VirtualService")
      .def_readonly("protocol", &ServiceConfig::protocol)
      .def_readonly("virtual_address", &ServiceConfig::virtual_address)
      .def_readonly("virtual_port", &ServiceConfig::virtual_port)
      .def_readonly("server_address", &ServiceConfig::server_address)
      .def_readonly("server_port", &ServiceConfig::server_port);
  py::class_<VirtualServiceInfo>(m, "VirtualServiceInfo")
      .def_readonly("config", &VirtualServiceInfo::config)
      .def_readonly("underlay", &VirtualServiceInfo::underlay)
      .def_readonly("used_ports", &VirtualServiceInfo::used_ports)
      .def_readonly("ports", &VirtualServiceInfo::ports);
  m.def("parse_virtual_service", &virtsvc::parse_service, py::arg("protocol"), py::arg("text"),
        "Reads IPv4,port,IPv6,port of protocol 6 or 17; ValueError says what is wrong.");
  engine.def("virtual_services", &Engine::virtual_services, py::call_guard<py::gil_scoped_release>());
}

void bind_capture(py::module_& m, EngineClass& engine) {
  const py::call_guard<py::gil_scoped_release> unlocked;
  py::class_<CaptureInterface>(m, "CaptureInterface")
      .def(py::init([](bool is_uplink, uint32_t pf_index, std::string interface_id) {
             return CaptureInterface{is_uplink, pf_index, std::move(interface_id)};
           }),
           py::arg("is_uplink") = false, py::arg("pf_index") = 0, py::arg("interface_id") = "")
      .def_readonly("is_uplink", &CaptureInterface::is_uplink)
      .def_readonly("pf_index", &CaptureInterface::pf_index)
      .def_readonly("interface_id", &CaptureInterface::interface_id);
  py::class_<CaptureConfig>(m, "CaptureConfig")
      .def(py::init([](const Ipv6Address& sink, uint16_t source, uint16_t destination,
                       std::vector<CaptureInterface> interfaces) {
             return CaptureConfig{sink, source, destination, std::move(interfaces)};
           }),
           py::arg("sink"), py::arg("udp_src_port"), py::arg("udp_dst_port"), py::arg("interfaces"))
      .def_readonly("sink", &CaptureConfig::sink)
      .def_readonly("udp_src_port", &CaptureConfig::udp_src_port)
      .def_readonly("udp_dst_port", &CaptureConfig::udp_dst_port)
      .def_readonly("interfaces", &CaptureConfig::interfaces);
  py::class_<CaptureInfo>(m, "CaptureInfo")
      .def_readonly("active", &CaptureInfo::active)
      .def_readonly("config", &CaptureInfo::config)
      .def_readonly("copied", &CaptureInfo::copied)
      .def_readonly("truncated", &CaptureInfo::truncated)
      .def_readonly("dropped", &CaptureInfo::dropped);
  engine
      .def(
          "capture_start", [](Engine& e, const CaptureConfig& config) { check(e.capture_start(config)); },
          py::arg("config"), unlocked)
      .def(
          "capture_stop", [](Engine& e) { return take(e.capture_stop()); }, unlocked)
      .def("capture_status", &Engine::capture_status, unlocked);
}

void bind_trace(py::module_& m, EngineClass& engine) {
  const py::call_guard<py::gil_scoped_release> unlocked;
  py::native_enum<TraceEvent>(m, "TraceEvent", "enum.Enum")
      .value("RX", TraceEvent::kRx)
      .value("TX", TraceEvent::kTx)
      .value("DROP", TraceEvent::kDrop)
      .value("NODE", TraceEvent::kNode)
      .finalize();
  py::class_<TraceOptions>(m, "TraceOptions")
      .def(py::init<>())
      .def_readwrite("drops", &TraceOptions::drops)
      .def_readwrite("nodes", &TraceOptions::nodes)
      .def_readwrite("node_pattern", &TraceOptions::node_pattern)
      .def_readwrite("filter", &TraceOptions::filter)
      .def_readwrite("snap_length", &TraceOptions::snap_length)
      .def_readwrite("ring_size", &TraceOptions::ring_size);
  py::class_<TraceRecord>(m, "TraceRecord")
      .def_readonly("timestamp_ns", &TraceRecord::timestamp_ns)
      .def_readonly("packet_id", &TraceRecord::packet_id)
      .def_readonly("event", &TraceRecord::event)
      .def_readonly("node", &TraceRecord::node)
      .def_readonly("next_node", &TraceRecord::next_node)
      .def_readonly("port", &TraceRecord::port)
      .def_property_readonly("drop_reason",
                             [](const TraceRecord& record) -> std::optional<std::string_view> {
                               if (!record.drop) return std::nullopt;
                               return drop_reason_name(*record.drop);
                             })
      .def_readonly("length", &TraceRecord::length)
      .def_property_readonly("data", [](const TraceRecord& record) { return py::bytes(record.bytes); });
  py::class_<TraceInfo>(m, "TraceInfo")
      .def_readonly("active", &TraceInfo::active)
      .def_readonly("recorded", &TraceInfo::recorded)
      .def_readonly("lost", &TraceInfo::lost);
  engine
      .def(
          "trace_start",
          [](Engine& e, const TraceOptions& options) {
            std::string error;
            const Status status = e.trace_start(options, &error);
            if (status == Status::BAD_REQUEST) throw std::invalid_argument(error);  // ValueError
            check(status);
          },
          py::arg("options"), unlocked)
      .def("trace_read", &Engine::trace_read, py::arg("limit"), unlocked)
      .def(
          "trace_stop", [](Engine& e) { check(e.trace_stop()); }, unlocked)
      .def("trace_status", &Engine::trace_status, unlocked);
}

}  // namespace

void bind_observation(py::module_& m, EngineClass& engine) {
  bind_virtual_services(m, engine);
  bind_capture(m, engine);
  bind_trace(m, engine);
}

}  // namespace ironcore
