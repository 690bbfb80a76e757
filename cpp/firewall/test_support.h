// Rules, packets and the definition of a verdict for tests and the benchmark.
#pragma once

#include <algorithm>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "firewall/classifier.h"

namespace ironcore::firewall::testing {

inline constexpr uint8_t kIcmp = 1, kTcp = 6, kUdp = 17, kIcmp6 = 58;

inline IpPrefix prefix4(uint32_t address, uint8_t length) {
  return {IpAddress::v4({static_cast<uint8_t>(address >> 24), static_cast<uint8_t>(address >> 16),
                         static_cast<uint8_t>(address >> 8), static_cast<uint8_t>(address)}),
          length};
}
inline IpPrefix prefix6(uint64_t high, uint64_t low, uint8_t length) {
  Ipv6Address bytes;
  for (unsigned i = 0; i < 8; ++i) {
    bytes[i] = static_cast<uint8_t>(high >> (56 - 8 * i));
    bytes[8 + i] = static_cast<uint8_t>(low >> (56 - 8 * i));
  }
  return {IpAddress::v6(bytes), length};
}

inline FirewallPacket packet(const IpAddress& src, const IpAddress& dst, uint8_t proto, uint16_t src_port = 0,
                             uint16_t dst_port = 0) {
  FirewallPacket p{.is_v6 = src.is_v6, .src = src.bytes, .dst = dst.bytes, .proto = proto, .has_ports = true};
  if (proto == kIcmp || proto == kIcmp6) {
    p.icmp_type = static_cast<uint8_t>(src_port);
    p.icmp_code = static_cast<uint8_t>(dst_port);
  } else {
    p.src_port = src_port;
    p.dst_port = dst_port;
  }
  return p;
}

inline FirewallRule make_rule(std::string id, const IpPrefix& source = prefix4(0, 0),
                              const IpPrefix& destination = prefix4(0, 0), const ProtocolFilter& filter = {}) {
  return {.id = std::move(id), .source = source, .destination = destination, .filter = filter};
}

// The meaning of rules, straight from their definition and with nothing of the classifier: bit by bit, rule by rule.
inline bool naive_covers(const IpPrefix& prefix, bool is_v6, const std::array<uint8_t, 16>& address) {
  if (prefix.address.is_v6 != is_v6) return false;
  for (unsigned bit = 0; bit < prefix.length; ++bit) {
    const unsigned mask = 0x80u >> bit % 8;
    if ((prefix.address.bytes[bit / 8] & mask) != (address[bit / 8] & mask)) return false;
  }
  return true;
}
inline bool naive_covers(const PortRange& range, bool known, uint16_t port) {
  if (range.lower == -1) return true;
  if (!known) return range.lower == 0 && (range.upper == -1 || range.upper == 65535);
  return port >= range.lower && (range.upper == -1 || port <= range.upper);
}
inline bool naive_matches(const FirewallRule& rule, const FirewallPacket& p) {
  if (!naive_covers(rule.source, p.is_v6, p.src) || !naive_covers(rule.destination, p.is_v6, p.dst)) return false;
  if (const auto* f = std::get_if<TcpFilter>(&rule.filter))
    return p.proto == kTcp && naive_covers(f->source, p.has_ports, p.src_port) &&
           naive_covers(f->destination, p.has_ports, p.dst_port);
  if (const auto* f = std::get_if<UdpFilter>(&rule.filter))
    return p.proto == kUdp && naive_covers(f->source, p.has_ports, p.src_port) &&
           naive_covers(f->destination, p.has_ports, p.dst_port);
  if (const auto* f = std::get_if<IcmpFilter>(&rule.filter))
    return p.proto == (p.is_v6 ? kIcmp6 : kIcmp) && (f->type == -1 || (p.has_ports && f->type == p.icmp_type)) &&
           (f->code == -1 || (p.has_ports && f->code == p.icmp_code));
  return p.proto == kTcp || p.proto == kUdp || p.proto == kIcmp || p.proto == kIcmp6;
}

// `rules` as created; a verdict's rule is the index.
inline FirewallVerdict naive_verdict(std::span<const FirewallRule> rules, TrafficDirection direction,
                                     const FirewallPacket& p) {
  FirewallVerdict verdict{FirewallAction::kAccept, -1};
  for (size_t i = 0; i < rules.size(); ++i) {
    const FirewallRule& rule = rules[i];
    if (rule.direction != direction) continue;
    if (verdict.rule == -1) verdict.action = FirewallAction::kDrop;
    if (!naive_matches(rule, p)) continue;
    const FirewallRule* best = verdict.rule == -1 ? nullptr : &rules[static_cast<size_t>(verdict.rule)];
    if (!best || rule.priority < best->priority || (rule.priority == best->priority && rule.action < best->action)) {
      verdict = {rule.action, static_cast<int32_t>(i)};
    }
  }
  return verdict;
}

// Random rules and packets that meet: addresses differ in few bits, ports are few or at the ends of their range.
class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}

  uint64_t below(uint64_t bound) { return engine_() % bound; }

  FirewallRule rule(std::string id) {
    FirewallRule rule = make_rule(std::move(id));
    rule.direction = static_cast<TrafficDirection>(below(2));
    rule.action = static_cast<FirewallAction>(below(2));
    rule.priority = static_cast<uint16_t>(below(4) ? below(8) : below(65536));
    const bool is_v6 = below(2);
    rule.source = prefix(is_v6);
    rule.destination = prefix(below(16) ? is_v6 : !is_v6);
    switch (below(4)) {
      case 1:
        rule.filter = TcpFilter{range(), range()};
        break;
      case 2:
        rule.filter = UdpFilter{range(), range()};
        break;
      case 3:
        rule.filter = IcmpFilter{icmp(), icmp()};
        break;
    }
    return rule;
  }

  FirewallPacket packet() {
    FirewallPacket p{.is_v6 = below(2) == 1};
    p.src = address(p.is_v6).bytes;
    p.dst = address(p.is_v6).bytes;
    constexpr uint8_t kProtos[] = {kTcp, kUdp, kIcmp, kIcmp6, kTcp, kUdp, 50, 132};
    p.proto = kProtos[below(std::size(kProtos))];
    p.has_ports = below(8) > 0;
    p.src_port = port();
    p.dst_port = port();
    p.icmp_type = static_cast<uint8_t>(below(4) ? below(3) : 255);
    p.icmp_code = static_cast<uint8_t>(below(4) ? below(3) : 255);
    return p;
  }

  // At or beside a bound of the rule in each dimension, so that off-by-one errors show.
  FirewallPacket packet_at_edge_of(const FirewallRule& rule) {
    FirewallPacket p = packet();
    p.is_v6 = rule.source.address.is_v6;
    p.src = edge(rule.source);
    p.dst = edge(rule.destination);
    if (const auto* f = std::get_if<TcpFilter>(&rule.filter)) {
      p.proto = kTcp;
      p.src_port = edge(f->source);
      p.dst_port = edge(f->destination);
    } else if (const auto* f = std::get_if<UdpFilter>(&rule.filter)) {
      p.proto = kUdp;
      p.src_port = edge(f->source);
      p.dst_port = edge(f->destination);
    } else if (const auto* f = std::get_if<IcmpFilter>(&rule.filter)) {
      p.proto = p.is_v6 ? kIcmp6 : kIcmp;
      if (f->type != -1) p.icmp_type = static_cast<uint8_t>(f->type);
      if (f->code != -1) p.icmp_code = static_cast<uint8_t>(f->code);
    }
    return p;
  }

 private:
  IpAddress address(bool is_v6) {
    IpAddress a{.is_v6 = is_v6};
    const unsigned size = is_v6 ? 16 : 4;
    if (below(8) == 0) std::fill_n(a.bytes.begin(), size, below(2) ? 0xff : 0);
    for (unsigned flips = 0; flips < 3; ++flips) a.bytes[below(size)] ^= static_cast<uint8_t>(1u << below(8));
    return a;
  }
  IpPrefix prefix(bool is_v6) {
    const uint64_t most = is_v6 ? 128 : 32;
    const uint64_t length = below(4) ? below(most + 1) : below(2) * most;
    return {address(is_v6), static_cast<uint8_t>(length)};
  }
  uint16_t port() {
    constexpr uint16_t kPorts[] = {0, 1, 2, 22, 80, 443, 65534, 65535};
    return below(2) ? kPorts[below(std::size(kPorts))] : static_cast<uint16_t>(below(65536));
  }
  PortRange range() {
    if (below(3) == 0) return {-1, static_cast<int32_t>(below(2)) - 1};
    PortRange range{port(), port()};
    if (below(4) == 0) range.upper = -1;
    if (below(8) == 0) range = {0, 65535};
    if (range.upper != -1 && range.upper < range.lower) std::swap(range.lower, range.upper);
    return range;
  }
  int32_t icmp() { return static_cast<int32_t>(below(4)) - 1; }

  uint16_t edge(const PortRange& range) {
    const int32_t bound = below(2) || range.upper == -1 ? range.lower : range.upper;
    return static_cast<uint16_t>(bound + static_cast<int32_t>(below(3)) - 1);
  }
  std::array<uint8_t, 16> edge(const IpPrefix& prefix) {
    std::array<uint8_t, 16> a = prefix.address.bytes;
    const unsigned width = prefix.address.is_v6 ? 128 : 32;
    const uint8_t fill = below(2) ? 0xff : 0;
    for (unsigned bit = prefix.length; bit < width; ++bit) {
      const auto mask = static_cast<uint8_t>(0x80u >> bit % 8);
      a[bit / 8] = static_cast<uint8_t>((a[bit / 8] & ~mask) | (fill & mask));
    }
    // Every other time the neighbour outside (or inside) of the bound.
    const unsigned last = width / 8 - 1;
    if (below(2)) {
      const bool up = fill == 0xff;
      for (unsigned i = last + 1; i-- > 0;) {
        a[i] = static_cast<uint8_t>(up ? a[i] + 1 : a[i] - 1);
        if (a[i] != (up ? 0 : 0xff)) break;
      }
    }
    return a;
  }

  std::mt19937_64 engine_;
};

}  // namespace ironcore::firewall::testing
