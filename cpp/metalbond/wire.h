// Frames and updates of the metalbond protocol: bytes to values and back. Input is strangers' bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace metalbond {

inline constexpr size_t kHeaderBytes = 4;
inline constexpr size_t kMaxPayload = 1188;
inline constexpr uint8_t kVersion = 1;
inline constexpr uint8_t kKeepalive = 2;
inline constexpr uint8_t kUpdate = 5;
inline constexpr int32_t kNat = 1;
inline constexpr size_t kMaxOrigin = 128;

struct Address {
  std::array<uint8_t, 16> bytes{};
  uint8_t size = 0;  // 4 or 16
};

struct Route {
  uint32_t vni = 0;
  Address prefix;
  uint8_t length = 0;
  Address target;
  uint32_t target_vni = 0;
  int32_t type = 0;
  uint16_t nat_from = 0;
  uint16_t nat_to = 0;
};

// What became of a payload.
enum class Verdict : uint8_t {
  kGood,
  kBroken,   // the stream cannot be trusted any more
  kInvalid,  // well formed, but it means nothing
};

struct Update {
  Verdict verdict = Verdict::kGood;
  std::string fault;  // for people, unless good
  bool add = true;
  Route route;
  std::string_view origin;  // into the payload; empty unless a server of the mesh sent it
};

// As a protobuf parser reads it: unknown fields are skipped, the last of repeated ones counts. Groups are refused.
Update decode_update(std::string_view payload);

// The part of an update's payload behind its action: the identity of a route, and what is sent. Canonical.
std::string encode_key(const Route& route);
// Of a key that `encode_key` has made.
Route decode_key(std::string_view key);
// The length of a key's part that names VNI and destination.
size_t destination_bytes(std::string_view key);

// Appends one frame.
void append_update(std::string& out, bool add, std::string_view key, std::string_view origin = {});
void append_keepalive(std::string& out);

// One frame that a stream begins with.
struct FrameHead {
  enum class Kind : uint8_t { kFrame, kIncomplete, kBadVersion, kUnknownType, kTooLong } kind;
  uint8_t type = 0;
  size_t size = 0;        // header included
  uint32_t offender = 0;  // version, type or length that is wrong
};
FrameHead read_frame(std::string_view stream);

}  // namespace metalbond
