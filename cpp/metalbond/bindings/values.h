// Routes of C++ and of metalbond/types.py, each to the other.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <string_view>

#include "metalbond/filter.h"
#include "metalbond/wire.h"

namespace metalbond {

// Borrowed classes of metalbond.types; they live as long as the interpreter.
struct Classes {
  PyTypeObject* destination;
  PyTypeObject* hop;
  PyTypeObject* route;
};
const Classes& classes();

// Raises TypeError for anything but the named tuples, ValueError for values that no frame can hold.
Route to_route(pybind11::handle route);
// The same, and ValueError for a length that the address does not have: no table holds such a route.
std::string to_key(pybind11::handle route);
// From (bytes, length). Raises ValueError.
Network to_network(pybind11::handle network);
Address to_address(pybind11::handle bytes);
// The front part of a key, for looking up a destination.
std::string to_destination_key(uint32_t vni, pybind11::handle destination);

pybind11::object from_destination(const Route& route);
pybind11::object from_hop(const Route& route);
pybind11::object from_route(const Route& route);
inline pybind11::object from_key(std::string_view key) { return from_route(decode_key(key)); }

inline std::string_view view(const pybind11::bytes& bytes) {
  return {PyBytes_AS_STRING(bytes.ptr()), size_t(PyBytes_GET_SIZE(bytes.ptr()))};
}

}  // namespace metalbond
