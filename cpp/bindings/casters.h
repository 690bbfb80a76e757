// How the engine's address values look in Python: bytes, and (bytes, length) for a prefix.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "ironcore/types.h"

namespace pybind11::detail {

inline bool bytes_view(handle source, std::string_view& view) {
  char* data = nullptr;
  Py_ssize_t size = 0;
  if (!PyBytes_Check(source.ptr()) || PyBytes_AsStringAndSize(source.ptr(), &data, &size) != 0) return false;
  view = {data, static_cast<size_t>(size)};
  return true;
}

template <size_t N>
struct type_caster<std::array<uint8_t, N>> {
  using Value = std::array<uint8_t, N>;
  PYBIND11_TYPE_CASTER(Value, const_name("bytes"));

  bool load(handle source, bool) {
    std::string_view view;
    if (!bytes_view(source, view) || view.size() != N) return false;
    std::copy(view.begin(), view.end(), value.begin());
    return true;
  }
  static handle cast(const Value& value, return_value_policy, handle) {
    return bytes(reinterpret_cast<const char*>(value.data()), N).release();
  }
};

template <>
struct type_caster<ironcore::IpAddress> {
  PYBIND11_TYPE_CASTER(ironcore::IpAddress, const_name("bytes"));

  bool load(handle source, bool) {
    std::string_view view;
    if (!bytes_view(source, view) || (view.size() != 4 && view.size() != 16)) return false;
    value = {};
    value.is_v6 = view.size() == 16;
    std::copy(view.begin(), view.end(), value.bytes.begin());
    return true;
  }
  static handle cast(const ironcore::IpAddress& value, return_value_policy, handle) {
    return bytes(reinterpret_cast<const char*>(value.bytes.data()), value.is_v6 ? 16 : 4).release();
  }
};

template <>
struct type_caster<ironcore::IpPrefix> {
  PYBIND11_TYPE_CASTER(ironcore::IpPrefix, const_name("tuple[bytes, int]"));

  bool load(handle source, bool convert) {
    using Pair = std::pair<ironcore::IpAddress, uint8_t>;
    make_caster<Pair> pair;
    if (!pair.load(source, convert)) return false;
    auto [address, length] = cast_op<Pair>(pair);
    value = {address, length};
    return true;
  }
  static handle cast(const ironcore::IpPrefix& value, return_value_policy policy, handle parent) {
    return make_caster<std::pair<ironcore::IpAddress, uint8_t>>::cast(std::pair(value.address, value.length), policy,
                                                                      parent);
  }
};

}  // namespace pybind11::detail
