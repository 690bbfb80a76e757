// What each file of the module registers. Order matters: signatures name the types registered before them.
#pragma once

#include <pybind11/pybind11.h>

#include <utility>

#include "ironcore/engine.h"

namespace ironcore {

using EngineClass = pybind11::class_<Engine>;

void bind_options(pybind11::module_& m);
void bind_interfaces(pybind11::module_& m);
void bind_services(pybind11::module_& m);
void bind_counters(pybind11::module_& m);
void bind_environment(pybind11::module_& m);
void bind_interface_calls(EngineClass& engine);
void bind_service_calls(EngineClass& engine);
void bind_inspection(pybind11::module_& m, EngineClass& engine);
void bind_ha(pybind11::module_& m, EngineClass& engine);

// A control call refused by the engine; Python sees the exception of the same name.
struct StatusError {
  Status status;
};

inline void check(Status status) {
  if (status != Status::OK) throw StatusError{status};
}

template <typename T>
T take(Result<T> result) {
  check(result.status);
  return std::move(result.value);
}

}  // namespace ironcore
