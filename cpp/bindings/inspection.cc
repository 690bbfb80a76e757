// Explanations, flows, events, limits and states of interfaces: read-only values.
#include <pybind11/native_enum.h>

#include "bindings/bindings.h"
#include "bindings/casters.h"

namespace py = pybind11;

namespace ironcore {
namespace {

py::bytes frame_bytes(const std::vector<uint8_t>& frame) {
  return {reinterpret_cast<const char*>(frame.data()), frame.size()};
}

void bind_enums(py::module_& m) {
  py::native_enum<PacketAction>(m, "PacketAction", "enum.Enum")
      .value("DELIVER", PacketAction::kDeliver)
      .value("ENCAPSULATE", PacketAction::kEncapsulate)
      .value("LOOP", PacketAction::kLoop)
      .finalize();
  py::native_enum<Translation>(m, "Translation", "enum.Enum")
      .value("NONE", Translation::kNone)
      .value("SOURCE", Translation::kSource)
      .value("DESTINATION", Translation::kDestination)
      .value("NAT64_OUT", Translation::kNat64Out)
      .value("NAT64_IN", Translation::kNat64In)
      .finalize();
  py::native_enum<PacketVerdict>(m, "PacketVerdict", "enum.Enum")
      .value("DROPPED", PacketVerdict::kDropped)
      .value("DELIVERED", PacketVerdict::kDelivered)
      .value("SENT", PacketVerdict::kSent)
      .value("LOOPED", PacketVerdict::kLooped)
      .value("ANSWERED", PacketVerdict::kAnswered)
      .value("CONSUMED", PacketVerdict::kConsumed)
      .finalize();
  py::native_enum<EventType> events(m, "EventType", "enum.Enum");
  for (size_t i = 0; i < kEventTypes; ++i) {
    const auto type = static_cast<EventType>(i);
    events.value(event_type_name(type), type);
  }
  events.finalize();
}

void bind_flows(py::module_& m) {
  py::class_<PacketFields>(m, "PacketFields")
      .def_readonly("source", &PacketFields::source)
      .def_readonly("destination", &PacketFields::destination)
      .def_readonly("protocol", &PacketFields::protocol)
      .def_readonly("source_port", &PacketFields::source_port)
      .def_readonly("destination_port", &PacketFields::destination_port)
      .def_readonly("icmp_type", &PacketFields::icmp_type)
      .def_readonly("icmp_code", &PacketFields::icmp_code)
      .def_readonly("icmp_id", &PacketFields::icmp_id)
      .def_readonly("later_fragment", &PacketFields::later_fragment);
  py::class_<FlowProgramInfo>(m, "FlowProgramInfo")
      .def_readonly("action", &FlowProgramInfo::action)
      .def_readonly("device", &FlowProgramInfo::device)
      .def_readonly("interface_id", &FlowProgramInfo::interface_id)
      .def_readonly("outer_source", &FlowProgramInfo::outer_source)
      .def_readonly("outer_destination", &FlowProgramInfo::outer_destination)
      .def_readonly("translation", &FlowProgramInfo::translation)
      .def_readonly("new_address", &FlowProgramInfo::new_address)
      .def_readonly("new_port", &FlowProgramInfo::new_port)
      .def_readonly("total_rate", &FlowProgramInfo::total_rate)
      .def_readonly("public_rate", &FlowProgramInfo::public_rate);
  py::class_<FlowDirectionInfo>(m, "FlowDirectionInfo")
      .def_readonly("match", &FlowDirectionInfo::match)
      .def_readonly("from_vm", &FlowDirectionInfo::from_vm)
      .def_readonly("underlay", &FlowDirectionInfo::underlay)
      .def_readonly("program", &FlowDirectionInfo::program)
      .def_readonly("packets", &FlowDirectionInfo::packets)
      .def_readonly("byte_count", &FlowDirectionInfo::bytes)
      .def_readonly("idle_seconds", &FlowDirectionInfo::idle_seconds);
  py::class_<NatMappingInfo>(m, "NatMappingInfo")
      .def_readonly("inside", &NatMappingInfo::inside)
      .def_readonly("nat_address", &NatMappingInfo::nat_address)
      .def_readonly("destination", &NatMappingInfo::destination)
      .def_readonly("inside_port", &NatMappingInfo::inside_port)
      .def_readonly("nat_port", &NatMappingInfo::nat_port)
      .def_readonly("destination_port", &NatMappingInfo::destination_port);
  py::class_<FlowInfo>(m, "FlowInfo")
      .def_readonly("vni", &FlowInfo::vni)
      .def_readonly("interface_id", &FlowInfo::interface_id)
      .def_readonly("original", &FlowInfo::original)
      .def_readonly("reply", &FlowInfo::reply)
      .def_readonly("tcp_state", &FlowInfo::tcp_state)
      .def_readonly("current", &FlowInfo::current)
      .def_readonly("age_seconds", &FlowInfo::age_seconds)
      .def_readonly("expires_in_seconds", &FlowInfo::expires_in_seconds)
      .def_readonly("nat", &FlowInfo::nat);
  py::class_<FlowFilter>(m, "FlowFilter")
      .def(py::init<>())
      .def_readwrite("interface_id", &FlowFilter::interface_id)
      .def_readwrite("vni", &FlowFilter::vni)
      .def_readwrite("address", &FlowFilter::address)
      .def_readwrite("port", &FlowFilter::port)
      .def_readwrite("protocol", &FlowFilter::protocol)
      .def_readwrite("tcp_state", &FlowFilter::tcp_state)
      .def_readwrite("translated_only", &FlowFilter::translated_only);
  py::class_<FlowPage>(m, "FlowPage").def_readonly("flows", &FlowPage::flows).def_readonly("next", &FlowPage::next);
}

void bind_explanations(py::module_& m) {
  py::class_<ExplainedStep>(m, "ExplainedStep")
      .def_readonly("stage", &ExplainedStep::stage)
      .def_readonly("outcome", &ExplainedStep::outcome);
  py::class_<ExplainedPart>(m, "ExplainedPart")
      .def_readonly("steps", &ExplainedPart::steps)
      .def_readonly("verdict", &ExplainedPart::verdict)
      .def_property_readonly("drop_reason", [](const ExplainedPart& part) { return drop_reason_name(part.drop); })
      .def_property_readonly("drop_description",
                             [](const ExplainedPart& part) { return drop_reason_description(part.drop); })
      .def_readonly("device", &ExplainedPart::device)
      .def_readonly("interface_id", &ExplainedPart::interface_id)
      .def_readonly("flow", &ExplainedPart::flow)
      .def_readonly("used_flow", &ExplainedPart::used_flow)
      .def_readonly("before", &ExplainedPart::before)
      .def_readonly("after", &ExplainedPart::after)
      .def_property_readonly("output", [](const ExplainedPart& part) { return frame_bytes(part.output); })
      .def_property_readonly("reply", [](const ExplainedPart& part) { return frame_bytes(part.reply); });
}

void bind_events(py::module_& m) {
  py::class_<Event>(m, "Event")
      .def_readonly("sequence", &Event::sequence)
      .def_readonly("time_ns", &Event::time_ns)
      .def_readonly("type", &Event::type)
      .def_property_readonly("subject", [](const Event& event) { return py::bytes(event.subject); })
      .def_readonly("vni", &Event::vni)
      .def_property_readonly("detail", [](const Event& event) { return py::bytes(event.detail); });
  py::class_<EventBatch>(m, "EventBatch")
      .def_readonly("events", &EventBatch::events)
      .def_readonly("lost", &EventBatch::lost)
      .def_readonly("next", &EventBatch::next);
}

void bind_states(py::module_& m) {
  py::class_<FlowLimitsInfo>(m, "FlowLimitsInfo")
      .def_readonly("timeouts", &FlowLimitsInfo::timeouts)
      .def_readonly("quota", &FlowLimitsInfo::quota);
  py::class_<PublicAddressInfo>(m, "PublicAddressInfo")
      .def_readonly("is_nat", &PublicAddressInfo::is_nat)
      .def_readonly("address", &PublicAddressInfo::address)
      .def_readonly("min_port", &PublicAddressInfo::min_port)
      .def_readonly("max_port", &PublicAddressInfo::max_port)
      .def_readonly("underlay", &PublicAddressInfo::underlay);
  py::class_<InterfaceState>(m, "InterfaceState")
      .def_readonly("info", &InterfaceState::info)
      .def_readonly("public_addresses", &InterfaceState::public_addresses)
      .def_readonly("prefixes", &InterfaceState::prefixes)
      .def_readonly("lb_prefixes", &InterfaceState::lb_prefixes)
      .def_readonly("firewall_rules", &InterfaceState::firewall_rules)
      .def_readonly("limits", &InterfaceState::limits)
      .def_readonly("flows", &InterfaceState::flows)
      .def_readonly("nat_ports", &InterfaceState::nat_ports);
}

}  // namespace

void bind_inspection(py::module_& m, EngineClass& engine) {
  bind_enums(m);
  bind_flows(m);
  bind_explanations(m);
  bind_events(m);
  bind_states(m);
  const py::call_guard<py::gil_scoped_release> unlocked;
  engine
      .def(
          "explain_packet",
          [](Engine& e, const std::string& interface_id, unsigned uplink, std::string_view frame) {
            return take(e.explain_packet({interface_id, uplink}, {frame.begin(), frame.end()}));
          },
          py::arg("interface_id"), py::arg("uplink"), py::arg("frame"), unlocked)
      .def(
          "list_flows",
          [](Engine& e, const FlowFilter& filter, uint64_t from, size_t limit) {
            return take(e.list_flows(filter, from, limit));
          },
          py::arg("wanted"), py::arg("start"), py::arg("limit"), unlocked)
      .def(
          "get_interface_state", [](const Engine& e, const std::string& id) { return take(e.get_interface_state(id)); },
          py::arg("interface_id"), unlocked)
      .def("list_interface_states", &Engine::list_interface_states, unlocked)
      .def(
          "set_flow_limits",
          [](Engine& e, const std::string& id, const FlowTimeouts& timeouts, uint32_t quota) {
            check(e.set_flow_limits(id, timeouts, quota));
          },
          py::arg("interface_id"), py::arg("timeouts"), py::arg("quota"), unlocked)
      .def("read_events", &Engine::read_events, py::arg("start"), py::arg("limit"), unlocked)
      .def("next_event", &Engine::next_event, unlocked)
      .def("wait_event", &Engine::wait_event, py::arg("sequence"), py::arg("milliseconds"), unlocked)
      .def("interrupt_event_waits", &Engine::interrupt_event_waits, unlocked);
}

}  // namespace ironcore
