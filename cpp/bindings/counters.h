#pragma once

#include <pybind11/pybind11.h>

namespace ironcore {
void bind_counters(pybind11::module_& m);
}
