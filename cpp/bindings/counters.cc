// Counters as Python sees them: read-only values, drops by name.
#include <string>
#include <unordered_map>

#include "bindings/bindings.h"
#include "bindings/casters.h"
#include "ironcore/engine.h"

namespace py = pybind11;

namespace ironcore {
namespace {

py::dict drops_by_name(const DropCounters& drops) {
  py::dict named;
  for (size_t i = 0; i < drops.size(); ++i) {
    const std::string_view name = drop_reason_name(static_cast<DropReason>(i));
    named[py::str(name.data(), name.size())] = drops[i];
  }
  return named;
}

}  // namespace

void bind_counters(py::module_& m) {
  py::class_<PortCounters>(m, "PortCounters")
      .def_readonly("device_name", &PortCounters::device_name)
      .def_readonly("netdev_name", &PortCounters::netdev_name)
      .def_readonly("is_uplink", &PortCounters::is_uplink)
      .def_readonly("link_up", &PortCounters::link_up)
      .def_readonly("neighbour_known", &PortCounters::neighbour_known)
      .def_readonly("interface_id", &PortCounters::interface_id)
      .def_readonly("rx_packets", &PortCounters::rx_packets)
      .def_readonly("rx_bytes", &PortCounters::rx_bytes)
      .def_readonly("tx_packets", &PortCounters::tx_packets)
      .def_readonly("tx_bytes", &PortCounters::tx_bytes)
      .def_property_readonly("drops", [](const PortCounters& c) { return drops_by_name(c.drops); });

  py::class_<WorkerCounters>(m, "WorkerCounters")
      .def_readonly("lcore", &WorkerCounters::lcore)
      .def_readonly("packets", &WorkerCounters::packets)
      .def_readonly("slow_path", &WorkerCounters::slow_path)
      .def_readonly("polls", &WorkerCounters::polls)
      .def_readonly("busy_cycles", &WorkerCounters::busy_cycles)
      .def_readonly("sleeps", &WorkerCounters::sleeps)
      .def_readonly("flows_created", &WorkerCounters::flows_created)
      .def_readonly("flows_redecided", &WorkerCounters::flows_redecided)
      .def_readonly("flows_expired", &WorkerCounters::flows_expired)
      .def_readonly("flows_evicted", &WorkerCounters::flows_evicted)
      .def_readonly("flow_table_full", &WorkerCounters::flow_table_full)
      .def_readonly("firewall_would_drop", &WorkerCounters::firewall_would_drop);

  py::class_<TableLevel>(m, "TableLevel")
      .def_readonly("name", &TableLevel::name)
      .def_readonly("used", &TableLevel::used)
      .def_readonly("capacity", &TableLevel::capacity);

  py::class_<EngineCounters>(m, "EngineCounters")
      .def_readonly("ports", &EngineCounters::ports)
      .def_readonly("workers", &EngineCounters::workers)
      .def_readonly("tables", &EngineCounters::tables)
      .def_property_readonly("drops", [](const EngineCounters& c) { return drops_by_name(c.drops); })
      .def_readonly("tsc_hz", &EngineCounters::tsc_hz);

  m.def(
      "drop_reasons",
      [] {
        std::vector<std::pair<std::string_view, std::string_view>> all;
        for (size_t i = 0; i < kDropReasonCount; ++i) {
          const auto reason = static_cast<DropReason>(i);
          all.emplace_back(drop_reason_name(reason), drop_reason_description(reason));
        }
        return all;
      },
      "All drop reasons as (name, description).");
}

}  // namespace ironcore
