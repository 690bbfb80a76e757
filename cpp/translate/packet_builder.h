// Builds packets from a description, with checksum code of its own: what a translation must give is the packet built
// from the translated description.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "translate/rewrite.h"

namespace ironcore::translate::testing {

using Bytes = std::vector<uint8_t>;

struct Description {
  IpAddress source{}, destination{};
  uint8_t proto = net::kUdp;
  uint8_t traffic_class = 0, hop_limit = 64;
  uint16_t source_port = 0, destination_port = 0;  // TCP and UDP
  Bytes body{};  // behind ports; ICMP: the whole message, its checksum is filled in; later fragment: all
  bool no_checksum = false;
  uint16_t id = 0, offset = 0, hidden = 0;  // of fragments; offset in units of 8 bytes; bytes in the other fragments
  bool more = false, dont_fragment = false, fragment_header = false;
  Bytes options{};     // IPv4
  Bytes extensions{};  // IPv6, in front of a fragment header; the first byte of each is its own type
};

inline void put16(Bytes& out, size_t value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}

inline void append(Bytes& out, const uint8_t* bytes, size_t length) { out.insert(out.end(), bytes, bytes + length); }

// Straight from RFC 1071: big-endian words, a carry at a time.
inline uint16_t plain_checksum(const Bytes& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    sum += i % 2 ? bytes[i] : uint32_t{bytes[i]} << 8;
    if (sum > 0xffff) sum -= 0xffff;
  }
  return static_cast<uint16_t>(~sum);
}

inline void set16(Bytes& bytes, size_t at, uint16_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

inline Bytes build_transport(const Description& d) {
  if (d.offset != 0) return d.body;
  Bytes l4;
  size_t checksum = 2;
  const bool ports = d.proto == net::kTcp || d.proto == net::kUdp;
  if (ports) {
    put16(l4, d.source_port);
    put16(l4, d.destination_port);
    if (d.proto == net::kUdp) put16(l4, d.body.size() + 8 + d.hidden);
    if (d.proto == net::kUdp) put16(l4, 0);
    checksum = d.proto == net::kUdp ? 6 : 16;
  }
  append(l4, d.body.data(), d.body.size());
  const bool known = ports || d.proto == net::kIcmp || d.proto == net::kIcmp6;
  if (!known || d.no_checksum) return l4;
  if (l4.size() < checksum + 2) return l4;
  set16(l4, checksum, 0);
  Bytes covered;
  if (d.proto != net::kIcmp) {
    const size_t length = d.source.is_v6 ? 16 : 4;
    append(covered, d.source.bytes.data(), length);
    append(covered, d.destination.bytes.data(), length);
    put16(covered, d.proto);
    put16(covered, l4.size() + d.hidden);
  }
  append(covered, l4.data(), l4.size());
  const uint16_t sum = plain_checksum(covered);
  set16(l4, checksum, sum == 0 && d.proto == net::kUdp ? uint16_t{0xffff} : sum);
  return l4;
}

inline size_t header_length(const Description& d) {
  if (!d.source.is_v6) return 20 + d.options.size();
  return 40 + d.extensions.size() + (d.fragment_header ? 8 : 0);
}

inline Bytes build(const Description& d) {
  const Bytes l4 = build_transport(d);
  Bytes out;
  if (!d.source.is_v6) {
    out = {static_cast<uint8_t>(0x45 + d.options.size() / 4), d.traffic_class};
    put16(out, header_length(d) + l4.size());
    put16(out, d.id);
    put16(out, d.offset | (d.more ? 0x2000u : 0u) | (d.dont_fragment ? 0x4000u : 0u));
    out.push_back(d.hop_limit);
    out.push_back(d.proto);
    put16(out, 0);
    append(out, d.source.bytes.data(), 4);
    append(out, d.destination.bytes.data(), 4);
    append(out, d.options.data(), d.options.size());
    set16(out, 10, plain_checksum(out));
  } else {
    out = {static_cast<uint8_t>(0x60 | d.traffic_class >> 4), static_cast<uint8_t>(d.traffic_class << 4), 0, 0};
    put16(out, header_length(d) - 40 + l4.size());
    out.push_back(0);
    out.push_back(d.hop_limit);
    append(out, d.source.bytes.data(), 16);
    append(out, d.destination.bytes.data(), 16);
    append(out, d.extensions.data(), d.extensions.size());
    size_t next = 6;  // where the type of what follows belongs
    for (size_t at = 0; at < d.extensions.size(); at += (size_t{d.extensions[at + 1]} + 1) * 8) {
      out[next] = d.extensions[at];
      next = 40 + at;
    }
    if (d.fragment_header) {
      out[next] = net::kFragment;
      next = out.size();
      out.push_back(0);
      out.push_back(0);
      put16(out, size_t{d.offset} << 3 | (d.more ? 1u : 0u));
      put16(out, 0);
      put16(out, d.id);
    }
    out[next] = d.proto;
  }
  append(out, l4.data(), l4.size());
  return out;
}

// A packet at the end of a heap block of exact size, so that ASan sees any access behind it.
class Buffer {
 public:
  Buffer(const Bytes& packet, const Description& d, size_t headroom = 128) : bytes_(headroom) {
    append(bytes_, packet.data(), packet.size());
    bytes_.shrink_to_fit();
    view = {bytes_.data() + headroom, packet.size(), headroom,
            header_length(d),         d.proto,       d.offset != 0 || d.more || d.fragment_header};
  }
  explicit Buffer(const Description& d, size_t headroom = 128) : Buffer(build(d), d, headroom) {}

  Bytes packet() const { return Bytes(view.ip, view.ip + view.length); }

  // The view fits what the packet is.
  void expect_consistent(const Description& d) const {
    EXPECT_EQ(view.ip - view.headroom, bytes_.data());
    EXPECT_EQ(view.ip + view.length, bytes_.data() + bytes_.size());
    EXPECT_EQ(view.l4, header_length(d));
    EXPECT_EQ(view.proto, d.proto);
    EXPECT_EQ(view.is_fragment, d.offset != 0 || d.more);
  }

  PacketView view;

 private:
  Bytes bytes_;
};

inline IpAddress v4(const char* text) { return IpAddress::v4(*parse_ipv4(text)); }
inline IpAddress v6(const char* text) { return IpAddress::v6(*parse_ipv6(text)); }
inline Ipv4Address v4_of(const IpAddress& a) { return {a.bytes[0], a.bytes[1], a.bytes[2], a.bytes[3]}; }

// What NAT64 makes of an IPv4 address.
inline IpAddress in_prefix(const IpAddress& a) {
  IpAddress mapped = IpAddress::v6(kNat64Prefix);
  std::copy_n(a.bytes.begin(), 4, mapped.bytes.begin() + 12);
  return mapped;
}

inline PortChange ports(uint16_t before, uint16_t after) { return {net::swap16(before), net::swap16(after)}; }

inline Bytes echo(uint8_t type, uint16_t id, const Bytes& payload) {
  Bytes message = {type, 0, 0, 0};
  put16(message, id);
  put16(message, 7);
  append(message, payload.data(), payload.size());
  return message;
}

using Random = std::mt19937_64;

inline Bytes random_bytes(Random& random, size_t length) {
  Bytes bytes(length);
  for (auto& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

inline IpAddress random_address(Random& random, bool is_v6) {
  IpAddress address{is_v6, {}};
  const Bytes bytes = random_bytes(random, is_v6 ? 16 : 4);
  std::copy(bytes.begin(), bytes.end(), address.bytes.begin());
  return address;
}

// 0, 1 and 0xffff are where one's complement arithmetic goes wrong.
inline uint16_t random_port(Random& random) {
  constexpr uint16_t kEdges[] = {0, 1, 0xffff, 0xfffe};
  return random() % 4 == 0 ? kEdges[random() % 4] : static_cast<uint16_t>(random());
}

}  // namespace ironcore::translate::testing
