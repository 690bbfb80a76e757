#include "metalbond/bindings/values.h"

#include <algorithm>
#include <unordered_map>

namespace py = pybind11;

namespace metalbond {
namespace {

// Next hops are few and routes are many: equal ones share an object.
constexpr size_t kSharedHops = 4096;

py::object make_tuple(PyTypeObject* type, std::initializer_list<py::object> fields) {
  // A named tuple's own constructor is Python code and takes three times as long.
  py::tuple values(fields.size());
  size_t at = 0;
  for (const py::object& field : fields) values[at++] = field;
  py::tuple arguments = py::make_tuple(values);
  py::object made = py::reinterpret_steal<py::object>(PyTuple_Type.tp_new(type, arguments.ptr(), nullptr));
  if (!made) throw py::error_already_set();
  return made;
}

py::bytes bytes_of(const Address& address) {
  return {reinterpret_cast<const char*>(address.bytes.data()), address.size};
}

py::tuple fields(py::handle value, PyTypeObject* type) {
  if (!PyObject_TypeCheck(value.ptr(), type))
    throw py::type_error(std::string("must be a ") + type->tp_name + ", not " + Py_TYPE(value.ptr())->tp_name);
  return py::reinterpret_borrow<py::tuple>(value);
}

template <typename T>
T number(py::handle value, const char* name) {
  const long long wide = PyLong_AsLongLong(value.ptr());
  if (wide == -1 && PyErr_Occurred()) throw py::error_already_set();
  if (wide < static_cast<long long>(std::numeric_limits<T>::min()) ||
      wide > static_cast<long long>(std::numeric_limits<T>::max()))
    throw py::value_error(std::string(name) + ": " + std::to_string(wide) + " is out of range");
  return static_cast<T>(wide);
}

Address address(py::handle value, const char* name) {
  if (!PyBytes_Check(value.ptr())) throw py::type_error(std::string(name) + ": must be bytes");
  const std::string_view bytes = view(py::reinterpret_borrow<py::bytes>(value));
  if (bytes.size() != 4 && bytes.size() != 16)
    throw py::value_error(std::string(name) + ": " + std::to_string(bytes.size()) + " bytes, must be 4 or 16");
  Address result;
  std::ranges::copy(bytes, reinterpret_cast<char*>(result.bytes.data()));
  result.size = static_cast<uint8_t>(bytes.size());
  return result;
}

void set_destination(Route& route, py::handle destination) {
  const py::tuple parts = fields(destination, classes().destination);
  route.prefix = address(parts[0], "destination.prefix");
  route.length = number<uint8_t>(parts[1], "destination.prefix_length");
}

}  // namespace

const Classes& classes() {
  static const Classes found = [] {
    const py::module_ types = py::module_::import("metalbond.types");
    const auto type = [&](const char* name) {
      return reinterpret_cast<PyTypeObject*>(py::object(types.attr(name)).release().ptr());
    };
    return Classes{type("Destination"), type("NextHop"), type("Route")};
  }();
  return found;
}

Route to_route(py::handle value) {
  const py::tuple parts = fields(value, classes().route);
  Route route;
  route.vni = number<uint32_t>(parts[0], "vni");
  set_destination(route, parts[1]);
  const py::tuple hop = fields(parts[2], classes().hop);
  route.target = address(hop[0], "next_hop.target_address");
  route.target_vni = number<uint32_t>(hop[1], "next_hop.target_vni");
  route.type = number<int32_t>(hop[2], "next_hop.type");
  route.nat_from = number<uint16_t>(hop[3], "next_hop.nat_port_range");
  route.nat_to = number<uint16_t>(hop[4], "next_hop.nat_port_range");
  return route;
}

std::string to_key(py::handle value) {
  const Route route = to_route(value);
  if (route.length > 8 * route.prefix.size)
    throw py::value_error("destination.prefix_length: more than the address has");
  return encode_key(route);
}

Address to_address(py::handle bytes) { return address(bytes, "address"); }

Network to_network(py::handle network) {
  const auto parts = py::reinterpret_borrow<py::tuple>(network);
  const Network result{address(parts[0], "network.address"), number<uint8_t>(parts[1], "network.length")};
  if (result.length > 8 * result.address.size) throw py::value_error("network.length: more than the address has");
  return result;
}

std::string to_destination_key(uint32_t vni, py::handle destination) {
  Route route;
  route.vni = vni;
  route.target.size = 4;
  set_destination(route, destination);
  std::string key = encode_key(route);
  key.resize(destination_bytes(key));
  return key;
}

py::object from_destination(const Route& route) {
  return make_tuple(classes().destination, {bytes_of(route.prefix), py::int_(route.length)});
}

py::object from_hop(const Route& route) {
  static auto* shared = new std::unordered_map<std::string, py::object>;
  std::string key(reinterpret_cast<const char*>(route.target.bytes.data()), route.target.size);
  for (const uint32_t part :
       {route.target_vni, static_cast<uint32_t>(route.type), uint32_t{route.nat_from} << 16 | route.nat_to})
    key.append(reinterpret_cast<const char*>(&part), sizeof part);
  if (shared->size() >= kSharedHops) shared->clear();
  py::object& hop = (*shared)[key];
  if (!hop)
    hop = make_tuple(classes().hop, {bytes_of(route.target), py::int_(route.target_vni), py::int_(route.type),
                                     py::int_(route.nat_from), py::int_(route.nat_to)});
  return hop;
}

py::object from_route(const Route& route) {
  return make_tuple(classes().route, {py::int_(route.vni), from_destination(route), from_hop(route)});
}

}  // namespace metalbond
