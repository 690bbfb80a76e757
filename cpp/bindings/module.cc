// dpservice._engine: the engine's facade for Python.
#include "bindings/bindings.h"
#include "bindings/casters.h"

namespace py = pybind11;

namespace ironcore {
namespace {

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

void bind_engine(py::module_& m) {
  const py::call_guard<py::gil_scoped_release> unlocked;
  EngineClass engine(m, "Engine");
  engine.def(py::init<EngineOptions>(), py::arg("options"), unlocked)
      .def("start", &Engine::start, unlocked)
      .def("stop", &Engine::stop, unlocked)
      .def(
          "initialize", [](Engine& e) { return take(e.initialize()); }, unlocked)
      .def("check_initialized", &Engine::check_initialized, unlocked)
      .def(
          "version", [](const Engine& e) { return e.version(); }, unlocked)
      .def("preferred_underlay_allowed", &Engine::preferred_underlay_allowed, py::arg("address"), unlocked)
      .def("set_uplink_neighbour", &Engine::set_uplink_neighbour, py::arg("pf_index"), py::arg("mac"), unlocked)
      .def("announce", &Engine::announce, unlocked)
      .def("counters", &Engine::counters, unlocked);
  bind_interface_calls(engine);
  bind_service_calls(engine);
  bind_inspection(m, engine);
  bind_ha(m, engine);
}

}  // namespace
}  // namespace ironcore

PYBIND11_MODULE(_engine, m) {
  m.doc() = "The packet engine's control facade.";
  ironcore::bind_errors(m);
  ironcore::bind_options(m);
  ironcore::bind_interfaces(m);
  ironcore::bind_services(m);
  ironcore::bind_counters(m);
  ironcore::bind_environment(m);
  ironcore::bind_engine(m);
}
