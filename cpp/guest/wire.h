// Bounds-checked access to packet bytes, in network byte order, and the Internet checksum (RFC 1071).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "guest.h"

namespace ironcore::guest {

using Bytes = std::span<const uint8_t>;

inline constexpr size_t kEthLength = 14;
inline constexpr size_t kIpv4Length = 20;
inline constexpr size_t kIpv6Length = 40;
inline constexpr size_t kUdpLength = 8;
inline constexpr uint16_t kEtherIpv4 = 0x0800;
inline constexpr uint16_t kEtherArp = 0x0806;
inline constexpr uint16_t kEtherIpv6 = 0x86dd;
inline constexpr uint8_t kProtoIcmp = 1;
inline constexpr uint8_t kProtoUdp = 17;
inline constexpr uint8_t kProtoIcmp6 = 58;
inline constexpr uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44, kAuthentication = 51, kDestinationOptions = 60;
inline constexpr uint8_t kNoNextHeader = 59;
inline constexpr Mac kBroadcastMac = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
inline constexpr Mac kAllNodesMac = {0x33, 0x33, 0, 0, 0, 1};
inline constexpr Ipv6 kAllNodesIpv6 = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
inline constexpr Ipv6 kUnspecifiedIpv6 = {};

// Callers have checked that the bytes exist.
inline uint16_t load16(Bytes b, size_t at) { return static_cast<uint16_t>(b[at] << 8 | b[at + 1]); }
inline uint32_t load32(Bytes b, size_t at) { return uint32_t{load16(b, at)} << 16 | load16(b, at + 2); }

template <size_t N>
std::array<uint8_t, N> load(Bytes b, size_t at) {
  std::array<uint8_t, N> value;
  std::copy_n(b.begin() + static_cast<ptrdiff_t>(at), N, value.begin());
  return value;
}

// Appends to a buffer; once something does not fit, ok() is false and nothing more is written.
class Writer {
 public:
  explicit Writer(std::span<uint8_t> out) : out_(out) {}

  Writer& u8(uint8_t v) { return bytes(Bytes(&v, 1)); }
  Writer& u16(uint16_t v) { return u8(static_cast<uint8_t>(v >> 8)).u8(static_cast<uint8_t>(v)); }
  Writer& u32(uint32_t v) { return u16(static_cast<uint16_t>(v >> 16)).u16(static_cast<uint16_t>(v)); }
  Writer& bytes(Bytes b) {
    if (!ok_ || b.size() > out_.size() - length_) {
      ok_ = false;
      return *this;
    }
    std::copy(b.begin(), b.end(), out_.begin() + static_cast<ptrdiff_t>(length_));
    length_ += b.size();
    return *this;
  }
  Writer& text(std::string_view s) { return bytes(Bytes(reinterpret_cast<const uint8_t*>(s.data()), s.size())); }
  Writer& zeros(size_t count) {
    for (; count > 0 && ok_; --count) u8(0);
    return *this;
  }

  bool ok() const { return ok_; }
  size_t length() const { return length_; }
  size_t room() const { return ok_ ? out_.size() - length_ : 0; }
  std::span<uint8_t> written() { return out_.first(length_); }
  void set16(size_t at, uint16_t v) {
    if (at + 2 > length_) return;
    out_[at] = static_cast<uint8_t>(v >> 8);
    out_[at + 1] = static_cast<uint8_t>(v);
  }

 private:
  std::span<uint8_t> out_;
  size_t length_ = 0;
  bool ok_ = true;
};

// Partial sum of 16-bit words; odd lengths are padded with a zero byte, so only the last piece may be odd.
inline uint32_t sum16(Bytes b, uint32_t sum = 0) {
  size_t i = 0;
  for (; i + 1 < b.size(); i += 2) sum += load16(b, i);
  if (i < b.size()) sum += uint32_t{b[i]} << 8;
  return sum;
}

inline uint16_t finish(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

// Checksum of an upper-layer packet under the IPv6 pseudo header (RFC 8200 section 8.1), or the IPv4 one.
inline uint16_t checksum6(Bytes src, Bytes dst, uint8_t proto, Bytes payload) {
  return finish(sum16(payload, sum16(src, sum16(dst)) + static_cast<uint32_t>(payload.size()) + proto));
}
inline uint16_t checksum4(uint32_t src, uint32_t dst, uint8_t proto, Bytes payload) {
  const uint32_t addresses = (src >> 16) + (src & 0xffff) + (dst >> 16) + (dst & 0xffff);
  return finish(sum16(payload, addresses + static_cast<uint32_t>(payload.size()) + proto));
}
// UDP sends a computed zero as all ones; zero on the wire means "none".
inline uint16_t udp_checksum(uint16_t computed) { return computed == 0 ? 0xffff : computed; }

inline bool is_group(const Mac& mac) { return (mac[0] & 1) != 0; }

inline Writer& ethernet(Writer& w, const Mac& dst, const Mac& src, uint16_t type) {
  return w.bytes(dst).bytes(src).u16(type);
}

// Writes the IPv6 header; the payload length is filled in by finish_ipv6.
inline Writer& ipv6_header(Writer& w, uint8_t proto, uint8_t hop_limit, const Ipv6& src, const Ipv6& dst) {
  return w.u32(0x60000000).u16(0).u8(proto).u8(hop_limit).bytes(src).bytes(dst);
}

// Sets the payload length and the checksum at `checksum_offset` of the upper layer for a frame that starts with
// Ethernet and IPv6 headers.
inline void finish_ipv6(Writer& w, size_t checksum_offset) {
  if (!w.ok()) return;
  const size_t start = kEthLength + kIpv6Length;
  w.set16(kEthLength + 4, static_cast<uint16_t>(w.length() - start));
  Bytes frame = w.written();
  const uint8_t proto = frame[kEthLength + 6];
  uint16_t sum =
      checksum6(frame.subspan(kEthLength + 8, 16), frame.subspan(kEthLength + 24, 16), proto, frame.subspan(start));
  w.set16(start + checksum_offset, proto == kProtoUdp ? udp_checksum(sum) : sum);
}

inline GuestReply dropped(GuestDrop why) { return {Verdict::kDrop, why, 0, {}}; }
inline GuestReply consumed() { return {Verdict::kConsumed, GuestDrop::kNone, 0, {}}; }
inline GuestReply reply(const Writer& w) {
  if (!w.ok()) return dropped(GuestDrop::kNoRoom);
  return {Verdict::kReply, GuestDrop::kNone, w.length(), {}};
}

}  // namespace ironcore::guest
