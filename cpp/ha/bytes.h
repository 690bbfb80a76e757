// Bytes of sync frames. Plain numbers are little-endian, as the reference's hosts write them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace ironcore::ha {

using Frame = std::vector<uint8_t>;
using Bytes = std::span<const uint8_t>;

class Writer {
 public:
  explicit Writer(Frame& out) : out_(out) {}

  template <typename T>
  void number(T value) {
    for (size_t i = 0; i < sizeof value; ++i) out_.push_back(static_cast<uint8_t>(uint64_t{value} >> (8 * i)));
  }
  void big16(uint16_t value) {
    out_.push_back(static_cast<uint8_t>(value >> 8));
    out_.push_back(static_cast<uint8_t>(value));
  }
  void bytes(Bytes data) {
    const size_t at = out_.size();
    out_.resize(at + data.size());
    if (!data.empty()) std::memcpy(out_.data() + at, data.data(), data.size());
  }
  void reversed(Bytes data) {
    for (auto byte = data.rbegin(); byte != data.rend(); ++byte) out_.push_back(*byte);
  }
  void zeros(size_t count) { out_.resize(out_.size() + count); }

 private:
  Frame& out_;
};

// Reading beyond the end gives zeros and makes ok() false for good.
class Reader {
 public:
  explicit Reader(Bytes data) : data_(data) {}

  template <typename T>
  T number() {
    const Bytes from = take(sizeof(T));
    uint64_t value = 0;
    for (size_t i = 0; i < from.size(); ++i) value |= uint64_t{from[i]} << (8 * i);
    return static_cast<T>(value);
  }
  uint16_t big16() {
    const Bytes from = take(2);
    return from.empty() ? uint16_t{0} : static_cast<uint16_t>(from[0] << 8 | from[1]);
  }
  template <typename Array>
  Array bytes(size_t count) {
    Array array{};
    const Bytes from = take(count);
    for (size_t i = 0; i < from.size(); ++i) array[i] = from[i];
    return array;
  }
  template <typename Array>
  Array reversed(size_t count) {
    Array array{};
    const Bytes from = take(count);
    for (size_t i = 0; i < from.size(); ++i) array[i] = from[from.size() - 1 - i];
    return array;
  }
  Bytes take(size_t count) {
    if (count > data_.size()) {
      ok_ = false;
      data_ = {};
      return {};
    }
    const Bytes taken = data_.first(count);
    data_ = data_.subspan(count);
    return taken;
  }
  bool ok() const { return ok_; }
  bool empty() const { return data_.empty(); }

 private:
  Bytes data_;
  bool ok_ = true;
};

}  // namespace ironcore::ha
