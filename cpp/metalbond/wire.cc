#include "metalbond/wire.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace metalbond {
namespace {

class Reader {
 public:
  explicit Reader(std::string_view bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

  bool done() const { return at_ == end_; }

  std::optional<uint64_t> varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70 && at_ != end_; shift += 7) {
      const auto byte = static_cast<uint8_t>(*at_++);
      if (shift == 63 && byte > 1) return std::nullopt;
      value |= uint64_t{byte & 0x7fU} << shift;
      if ((byte & 0x80) == 0) return value;
    }
    return std::nullopt;
  }

  std::optional<std::string_view> bytes(uint64_t size) {
    if (size > static_cast<uint64_t>(end_ - at_)) return std::nullopt;
    const std::string_view found(at_, size);
    at_ += size;
    return found;
  }

 private:
  const char* at_;
  const char* end_;
};

struct Field {
  uint32_t number;
  uint32_t type;               // 0: varint, 2: bytes; others are skipped
  uint64_t varint = 0;         // of type 0
  std::string_view data = {};  // of type 2
};

// False if the bytes are no message; calls `take` with each field.
template <typename Take>
bool for_each_field(std::string_view message, Take&& take) {
  Reader reader(message);
  while (!reader.done()) {
    const auto tag = reader.varint();
    if (!tag || *tag > UINT32_MAX || *tag >> 3 == 0) return false;
    Field field{static_cast<uint32_t>(*tag >> 3), static_cast<uint32_t>(*tag & 7)};
    switch (field.type) {
      case 0: {
        const auto value = reader.varint();
        if (!value) return false;
        field.varint = *value;
        break;
      }
      case 1:
        if (!reader.bytes(8)) return false;
        break;
      case 2: {
        const auto size = reader.varint();
        const auto data = size ? reader.bytes(*size) : std::nullopt;
        if (!data) return false;
        field.data = *data;
        break;
      }
      case 5:
        if (!reader.bytes(4)) return false;
        break;
      default:
        return false;
    }
    if (!take(field)) return false;
  }
  return true;
}

struct Parts {
  uint32_t action = 0;
  uint32_t ip_version = 0;
  uint32_t length = 0;
  uint32_t nat_from = 0;
  uint32_t nat_to = 0;
  std::string_view prefix;
  std::string_view target;
  Route route;
  std::string_view origin;
};

bool parse_destination(std::string_view message, Parts& parts) {
  return for_each_field(message, [&](const Field& field) {
    if (field.number == 1 && field.type == 0) parts.ip_version = static_cast<uint32_t>(field.varint);
    if (field.number == 2 && field.type == 2) parts.prefix = field.data;
    if (field.number == 3 && field.type == 0) parts.length = static_cast<uint32_t>(field.varint);
    return true;
  });
}

bool parse_hop(std::string_view message, Parts& parts) {
  return for_each_field(message, [&](const Field& field) {
    const auto number = static_cast<uint32_t>(field.varint);
    if (field.number == 1 && field.type == 2) parts.target = field.data;
    if (field.number == 2 && field.type == 0) parts.route.target_vni = number;
    if (field.number == 3 && field.type == 0) parts.route.type = static_cast<int32_t>(number);
    if (field.number == 4 && field.type == 0) parts.nat_from = number;
    if (field.number == 5 && field.type == 0) parts.nat_to = number;
    return true;
  });
}

bool parse_update(std::string_view message, Parts& parts) {
  return for_each_field(message, [&](const Field& field) {
    if (field.number == 1 && field.type == 0) parts.action = static_cast<uint32_t>(field.varint);
    if (field.number == 2 && field.type == 0) parts.route.vni = static_cast<uint32_t>(field.varint);
    if (field.number == 3 && field.type == 2) return parse_destination(field.data, parts);
    if (field.number == 4 && field.type == 2) return parse_hop(field.data, parts);
    if (field.number == 16 && field.type == 2) parts.origin = field.data;
    return true;
  });
}

bool is_address(std::string_view bytes) { return bytes.size() == 4 || bytes.size() == 16; }

Address address(std::string_view bytes) {
  Address result;
  std::copy_n(bytes.data(), bytes.size(), reinterpret_cast<char*>(result.bytes.data()));
  result.size = static_cast<uint8_t>(bytes.size());
  return result;
}

std::string describe_fault(const Parts& parts) {
  const auto bits = static_cast<uint32_t>(8 * parts.prefix.size());
  if (parts.action > 1) return "action: " + std::to_string(static_cast<int32_t>(parts.action)) + ", must be 0 or 1";
  if (parts.ip_version != (bits == 32 ? 0U : 1U))
    return "destination.ip_version: " + std::to_string(static_cast<int32_t>(parts.ip_version)) + " with a prefix of " +
           std::to_string(bits / 8) + " bytes";
  if (parts.length > bits)
    return "destination.prefix_length: " + std::to_string(parts.length) + " with a prefix of " +
           std::to_string(bits / 8) + " bytes";
  if (parts.route.type == kNat && (parts.nat_from > UINT16_MAX || parts.nat_to > UINT16_MAX))
    return "next_hop.nat_port_range: " + std::to_string(parts.nat_from) + " to " + std::to_string(parts.nat_to) +
           ", must be 0 to 65535";
  return {};
}

Update refused(Verdict verdict, std::string fault) {
  Update update;
  update.verdict = verdict;
  update.fault = std::move(fault);
  return update;
}

void append_varint(std::string& out, uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

// Nothing for zero, as proto3 wants it.
void append_number(std::string& out, uint8_t tag, uint64_t value) {
  if (value == 0) return;
  out.push_back(static_cast<char>(tag));
  append_varint(out, value);
}

void append_bytes(std::string& out, uint8_t tag, std::string_view bytes) {
  out.push_back(static_cast<char>(tag));
  out.push_back(static_cast<char>(bytes.size()));  // all that is written is shorter than 128
  out.append(bytes);
}

std::string_view view(const Address& address) {
  return {reinterpret_cast<const char*>(address.bytes.data()), address.size};
}

}  // namespace

Update decode_update(std::string_view payload) {
  Parts parts;
  if (!parse_update(payload, parts)) return refused(Verdict::kBroken, "not an Update");
  if (!is_address(parts.prefix) || !is_address(parts.target))  // an absent destination or next hop ends here too
    return refused(Verdict::kBroken, "update: addresses of " + std::to_string(parts.prefix.size()) + " and " +
                                         std::to_string(parts.target.size()) +
                                         " bytes, both must be there with 4 or 16");
  if (std::string fault = describe_fault(parts); !fault.empty()) return refused(Verdict::kInvalid, std::move(fault));
  Update update;
  update.add = parts.action == 0;
  update.origin = parts.origin;
  update.route = parts.route;
  update.route.prefix = address(parts.prefix);
  update.route.target = address(parts.target);
  update.route.length = static_cast<uint8_t>(parts.length);
  if (parts.route.type == kNat) {
    // Ports of other hops are never sent on, so they cannot be part of their identity.
    update.route.nat_from = static_cast<uint16_t>(parts.nat_from);
    update.route.nat_to = static_cast<uint16_t>(parts.nat_to);
  }
  return update;
}

std::string encode_key(const Route& route) {
  std::string destination;
  append_number(destination, 0x08, route.prefix.size == 16 ? 1 : 0);
  append_bytes(destination, 0x12, view(route.prefix));
  append_number(destination, 0x18, route.length);
  std::string hop;
  append_bytes(hop, 0x0a, view(route.target));
  append_number(hop, 0x10, route.target_vni);
  append_number(hop, 0x18, static_cast<uint64_t>(static_cast<int64_t>(route.type)));
  if (route.type == kNat) {
    append_number(hop, 0x20, route.nat_from);
    append_number(hop, 0x28, route.nat_to);
  }
  std::string key;
  key.reserve(10 + destination.size() + hop.size());
  append_number(key, 0x10, route.vni);
  append_bytes(key, 0x1a, destination);
  append_bytes(key, 0x22, hop);
  return key;
}

Route decode_key(std::string_view key) { return decode_update(key).route; }

size_t destination_bytes(std::string_view key) {
  size_t at = 0;
  if (key[0] == 0x10) {
    for (at = 1; (key[at] & 0x80) != 0; ++at) {
    }
    ++at;
  }
  return at + 2 + static_cast<uint8_t>(key[at + 1]);
}

void append_update(std::string& out, bool add, std::string_view key, std::string_view origin) {
  // An origin of 128 bytes takes two bytes for its length.
  const size_t tail = origin.empty() ? 0 : 3 + (origin.size() >= 128 ? 1 : 0) + origin.size();
  const size_t size = (add ? 0 : 2) + key.size() + tail;
  const char header[kHeaderBytes] = {kVersion, static_cast<char>(size >> 8), static_cast<char>(size), kUpdate};
  out.append(header, kHeaderBytes);
  if (!add) out.append("\x08\x01", 2);
  out.append(key);
  if (!origin.empty()) {
    out.append("\x82\x01", 2);
    append_varint(out, origin.size());
    out.append(origin);
  }
}

void append_keepalive(std::string& out) {
  const char frame[kHeaderBytes] = {kVersion, 0, 0, kKeepalive};
  out.append(frame, kHeaderBytes);
}

FrameHead read_frame(std::string_view stream) {
  using Kind = FrameHead::Kind;
  const auto byte = [&](size_t at) { return static_cast<uint8_t>(stream[at]); };
  if (stream.empty()) return {Kind::kIncomplete};
  if (byte(0) != kVersion) return {Kind::kBadVersion, 0, 0, byte(0)};
  if (stream.size() < kHeaderBytes) return {Kind::kIncomplete};
  const uint32_t length = static_cast<uint32_t>(byte(1)) << 8 | byte(2);
  if (length > kMaxPayload) return {Kind::kTooLong, 0, 0, length};
  if (byte(3) < 1 || byte(3) > kUpdate) return {Kind::kUnknownType, 0, 0, byte(3)};
  if (stream.size() < kHeaderBytes + length) return {Kind::kIncomplete};
  return {Kind::kFrame, byte(3), kHeaderBytes + length, 0};
}

}  // namespace metalbond
