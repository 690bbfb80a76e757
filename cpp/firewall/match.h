// A rule and a packet in the same terms: a point in four dimensions, and a box of such points.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>

#include "ironcore/services.h"
#include "net/headers.h"

namespace ironcore {

struct FirewallPacket {
  bool is_v6 = false;
  std::array<uint8_t, 16> src{}, dst{};  // network order, IPv4 in the first 4
  uint8_t proto = 0;                     // transport, after extension headers
  // False: a fragment after the first, whose ports, type and code are unknown. Rules that name them do not match it; a
  // range of all ports names none.
  bool has_ports = false;
  uint16_t src_port = 0, dst_port = 0;   // TCP, UDP; host order
  uint8_t icmp_type = 0, icmp_code = 0;  // ICMP, ICMPv6
};

namespace firewall {

using Address = unsigned __int128;  // IPv4 in the low 32 bits

// What only rules of the same kind can match, apart from kAny, which looks at addresses alone.
enum class Kind : uint8_t { kTcp, kUdp, kIcmp, kAny };
inline constexpr unsigned kGroups = 16;  // direction x family x kind

inline constexpr unsigned group_of(TrafficDirection direction, bool is_v6, Kind kind) {
  return static_cast<unsigned>(direction) * 8 + is_v6 * 4u + static_cast<unsigned>(kind);
}

inline constexpr bool is_v6(unsigned group) { return group & 4; }

inline constexpr uint32_t kUnknown = 65536;  // in the place of a port, type or code; no range but "any" reaches it
inline constexpr uint32_t kNoSlot = std::numeric_limits<uint32_t>::max();

// `low` and `high` are ports, or ICMP type and code.
struct Point {
  Address src, dst;
  uint32_t low, high;
};

// Bounds are inclusive.
struct Box {
  Point from, to;

  bool contains(const Point& p) const {
    return from.src <= p.src && p.src <= to.src && from.dst <= p.dst && p.dst <= to.dst && from.low <= p.low &&
           p.low <= to.low && from.high <= p.high && p.high <= to.high;
  }
};

struct Match {
  Box box;
  uint64_t order;  // the lowest that matches decides; unique
  uint32_t slot;
  uint8_t group;
};

inline bool by_order(const Match& a, const Match& b) { return a.order < b.order; }

// Rules by priority, DROP before ACCEPT, then as created. `created` < 2^47.
inline constexpr uint64_t order_of(const FirewallRule& rule, uint64_t created) {
  return uint64_t{rule.priority} << 48 | uint64_t{rule.action == FirewallAction::kAccept} << 47 | created;
}
inline constexpr FirewallAction action_of(uint64_t order) {
  return order >> 47 & 1 ? FirewallAction::kAccept : FirewallAction::kDrop;
}

// Prefix lengths, port ranges and ICMP values in range. Mixed families are valid.
bool is_valid(const FirewallRule& rule);

// IPv4 and IPv6 addresses in network order.
inline Address load_address(bool is_v6, const std::array<uint8_t, 16>& bytes) {
  if (!is_v6) return net::swap32(net::load<uint32_t>(bytes.data()));
  return Address{__builtin_bswap64(net::load<uint64_t>(bytes.data()))} << 64 |
         __builtin_bswap64(net::load<uint64_t>(bytes.data() + 8));
}

// None if nothing can match the rule: mixed families, or not valid.
std::optional<Match> to_match(const FirewallRule& rule, uint64_t created, uint32_t slot);

}  // namespace firewall
}  // namespace ironcore
