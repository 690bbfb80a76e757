#include "firewall/match.h"

#include <utility>

namespace ironcore::firewall {
namespace {

constexpr int32_t kMaxPort = 65535;
constexpr int32_t kMaxIcmp = 255;

bool is_valid(const IpPrefix& prefix) { return prefix.length <= (prefix.address.is_v6 ? 128 : 32); }

bool is_valid(const PortRange& range) {
  if (range.lower < -1 || range.lower > kMaxPort || range.upper < -1 || range.upper > kMaxPort) return false;
  return range.lower == -1 || range.upper == -1 || range.lower <= range.upper;
}

struct Span {
  uint32_t from = 0, to = kUnknown;
};

Span span_of(const PortRange& range) {
  const bool all = range.lower <= 0 && (range.lower == -1 || range.upper == -1 || range.upper == kMaxPort);
  if (all) return {};
  return {static_cast<uint32_t>(range.lower), static_cast<uint32_t>(range.upper == -1 ? kMaxPort : range.upper)};
}

Span span_of(int32_t icmp) {
  if (icmp == -1) return {};
  return {static_cast<uint32_t>(icmp), static_cast<uint32_t>(icmp)};
}

// First and last address.
std::pair<Address, Address> bounds(const IpPrefix& prefix) {
  const unsigned host_bits = (prefix.address.is_v6 ? 128 : 32) - prefix.length;
  // Shifting by the width of the type is undefined.
  const Address hosts = host_bits == 128 ? ~Address{0} : (Address{1} << host_bits) - 1;
  const Address address = load_address(prefix.address.is_v6, prefix.address.bytes);
  return {address & ~hosts, address | hosts};
}

}  // namespace

bool is_valid(const FirewallRule& rule) {
  if (!is_valid(rule.source) || !is_valid(rule.destination)) return false;
  if (const auto* tcp = std::get_if<TcpFilter>(&rule.filter))
    return is_valid(tcp->source) && is_valid(tcp->destination);
  if (const auto* udp = std::get_if<UdpFilter>(&rule.filter))
    return is_valid(udp->source) && is_valid(udp->destination);
  if (const auto* icmp = std::get_if<IcmpFilter>(&rule.filter))
    return icmp->type >= -1 && icmp->type <= kMaxIcmp && icmp->code >= -1 && icmp->code <= kMaxIcmp;
  return true;
}

std::optional<Match> to_match(const FirewallRule& rule, uint64_t created, uint32_t slot) {
  const bool is_v6 = rule.source.address.is_v6;
  if (!is_valid(rule) || is_v6 != rule.destination.address.is_v6) return std::nullopt;
  Kind kind = Kind::kAny;
  Span low, high;
  if (const auto* tcp = std::get_if<TcpFilter>(&rule.filter)) {
    kind = Kind::kTcp;
    low = span_of(tcp->source);
    high = span_of(tcp->destination);
  } else if (const auto* udp = std::get_if<UdpFilter>(&rule.filter)) {
    kind = Kind::kUdp;
    low = span_of(udp->source);
    high = span_of(udp->destination);
  } else if (const auto* icmp = std::get_if<IcmpFilter>(&rule.filter)) {
    kind = Kind::kIcmp;
    low = span_of(icmp->type);
    high = span_of(icmp->code);
  }
  const auto [src_from, src_to] = bounds(rule.source);
  const auto [dst_from, dst_to] = bounds(rule.destination);
  return Match{.box = {{src_from, dst_from, low.from, high.from}, {src_to, dst_to, low.to, high.to}},
               .order = order_of(rule, created),
               .slot = slot,
               .group = static_cast<uint8_t>(group_of(rule.direction, is_v6, kind))};
}

}  // namespace ironcore::firewall
