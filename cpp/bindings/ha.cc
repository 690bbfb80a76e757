// High availability: options, state and counters.
#include <pybind11/native_enum.h>

#include "bindings/bindings.h"
#include "bindings/casters.h"

namespace py = pybind11;

namespace ironcore {

void bind_ha(py::module_& m, EngineClass& engine) {
  const py::call_guard<py::gil_scoped_release> unlocked;
  py::native_enum<HaState>(m, "HaState", "enum.Enum")
      .value("STANDBY", HaState::kStandby)
      .value("ACTIVE", HaState::kActive)
      .value("FAILED", HaState::kFailed)
      .finalize();
  py::class_<HaMessages>(m, "HaMessages")
      .def_readonly("type", &HaMessages::type)
      .def_readonly("sent", &HaMessages::sent)
      .def_readonly("received", &HaMessages::received);
  py::class_<HaCounters>(m, "HaCounters")
      .def_readonly("state", &HaCounters::state)
      .def_readonly("peer", &HaCounters::peer)
      .def_readonly("in_sync", &HaCounters::in_sync)
      .def_readonly("messages", &HaCounters::messages)
      .def_readonly("wrong_role", &HaCounters::wrong_role)
      .def_readonly("unknown", &HaCounters::unknown)
      .def_readonly("malformed", &HaCounters::malformed)
      .def_readonly("gaps", &HaCounters::gaps)
      .def_readonly("resent", &HaCounters::resent)
      .def_readonly("resyncs", &HaCounters::resyncs)
      .def_readonly("lost", &HaCounters::lost)
      .def_readonly("replicated", &HaCounters::replicated)
      .def_readonly("refused", &HaCounters::refused)
      .def_readonly("conflicts", &HaCounters::conflicts)
      .def_readonly("restored", &HaCounters::restored)
      .def_readonly("pending", &HaCounters::pending)
      .def_readonly("abandoned", &HaCounters::abandoned)
      .def_readonly("discarded", &HaCounters::discarded);
  py::reinterpret_borrow<py::class_<EngineCounters>>(m.attr("EngineCounters")).def_readonly("ha", &EngineCounters::ha);
  py::reinterpret_borrow<py::class_<EngineOptions>>(m.attr("EngineOptions"))
      .def_readwrite("active_lockfile", &EngineOptions::active_lockfile)
      .def_readwrite("sync_tap", &EngineOptions::sync_tap);
  engine.def("ha_state", &Engine::ha_state, unlocked).def("resign", &Engine::resign, unlocked);
}

}  // namespace ironcore
