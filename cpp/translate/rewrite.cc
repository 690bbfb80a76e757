#include "translate/rewrite.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "net/checksum.h"
#include "translate/family.h"

namespace ironcore::translate {
namespace {

constexpr uint8_t kUdpLite = 136, kDccp = 33;  // their checksums cover a pseudo header and lie where UDP's does

constexpr uint16_t kPrefixSum = [] {
  uint32_t sum = 0;
  for (size_t i = 0; i < kNat64Prefix.size(); i += 2) sum += kNat64Prefix[i] | uint32_t{kNat64Prefix[i + 1]} << 8;
  return static_cast<uint16_t>((sum & 0xffff) + (sum >> 16));
}();

template <size_t kLength>
uint16_t sum_of(const std::array<uint8_t, kLength>& bytes) {
  return net::checksum_sum(bytes.data(), kLength);
}

Rewrite compile(RewriteKind kind, bool is_v6, const std::array<uint8_t, 16>& address, uint16_t address_delta,
                std::optional<PortChange> port) {
  Rewrite rewrite;
  rewrite.kind = kind;
  rewrite.is_v6 = is_v6;
  rewrite.address = address;
  rewrite.ip_delta = rewrite.l4_delta = address_delta;
  if (port) {
    rewrite.has_port = true;
    rewrite.port = port->after;
    rewrite.port_delta = delta(port->before, port->after);
    rewrite.l4_delta = plus(address_delta, rewrite.port_delta);
  }
  return rewrite;
}

Rewrite same_family(RewriteKind kind, const IpAddress& before, const IpAddress& after, std::optional<PortChange> port) {
  assert(before.is_v6 == after.is_v6);
  return compile(kind, before.is_v6, after.bytes, delta(sum_of(before.bytes), sum_of(after.bytes)), port);
}

bool is_icmp(uint8_t proto) { return proto == net::kIcmp || proto == net::kIcmp6; }

uint8_t icmp_of(bool is_v6) { return is_v6 ? net::kIcmp6 : net::kIcmp; }

// Where in the packet the fields of its transport are, from `l4`.
struct Fields {
  size_t needed = 0;  // bytes that must be there
  size_t checksum = 0, port = 0;
  bool has_port = false, has_checksum = false;
  bool pseudo_header = true;
};

Fields fields_of(uint8_t proto, bool is_v6, bool destination) {
  const size_t port = destination ? 2 : 0;
  switch (proto) {
    case net::kTcp:
      return {.needed = 20, .checksum = 16, .port = port, .has_port = true, .has_checksum = true};
    case net::kUdp:
      return {.needed = 8, .checksum = 6, .port = port, .has_port = true, .has_checksum = true};
    case kUdpLite:
    case kDccp:
      return {.needed = 8, .checksum = 6, .has_checksum = true};
    default:
      if (proto != icmp_of(is_v6)) return {};
      return {.needed = 8, .checksum = 2, .port = 4, .has_checksum = true, .pseudo_header = is_v6};
  }
}

Outcome apply_same_family(const Rewrite& rewrite, PacketView& packet) {
  if (packet.length < packet.l4) return Outcome::kTruncated;
  uint8_t* ip = packet.ip;
  uint8_t* l4 = ip + packet.l4;
  const size_t left = packet.length - packet.l4;
  Header header;
  if (rewrite.is_v6 && packet.l4 != net::kIpv6Len) {
    if (const Outcome outcome = read_v6(ip, packet.l4, header); outcome != Outcome::kOk) return outcome;
  } else if (!rewrite.is_v6) {
    header.fragment = net::swap16(net::load<uint16_t>(ip + 6)) & (kMoreFragments | kFragmentOffset);
  }

  const bool destination = rewrite.kind == RewriteKind::kDestination;
  const bool icmp = packet.proto == icmp_of(rewrite.is_v6);
  Fields fields;
  if (header.is_first()) {
    fields = fields_of(packet.proto, rewrite.is_v6, destination);
    if (left < fields.needed) return Outcome::kTruncated;
    if (icmp) {
      if (quotes_packet(rewrite.is_v6, l4[0])) return Outcome::kNotTranslatable;
      fields.has_port = is_echo(rewrite.is_v6, l4[0]);
    }
    if (rewrite.has_port && !fields.has_port) return Outcome::kNotTranslatable;
  }

  if (rewrite.is_v6) {
    std::memcpy(ip + (destination ? 24 : 8), rewrite.address.data(), 16);
  } else {
    std::memcpy(ip + (destination ? 16 : 12), rewrite.address.data(), 4);
    net::store(ip + 10, adjusted(net::load<uint16_t>(ip + 10), rewrite.ip_delta));
  }
  if (rewrite.has_port && fields.has_port) net::store(l4 + fields.port, rewrite.port);
  if (!fields.has_checksum) return Outcome::kOk;
  if (fields.pseudo_header) {
    adjust_transport(l4 + fields.checksum, packet.proto == net::kUdp, rewrite.l4_delta);
  } else if (rewrite.has_port) {
    adjust_transport(l4 + fields.checksum, false, rewrite.port_delta);
    if (!header.is_fragment()) settle_zero(l4, left);
  }
  return Outcome::kOk;
}

// Whether the transport of a packet can change its family.
Outcome check_transport(const PacketView& packet, const Header& header, bool is_v6) {
  const Fields fields = fields_of(header.proto, is_v6, false);
  const uint8_t* l4 = packet.ip + packet.l4;
  if (header.proto == icmp_of(is_v6)) {
    if (header.is_fragment()) return Outcome::kNotTranslatable;  // RFC 7915 section 1.2
    if (packet.length - packet.l4 < fields.needed) return Outcome::kTruncated;
    return is_echo(is_v6, l4[0]) ? Outcome::kOk : Outcome::kNotTranslatable;
  }
  if (!fields.has_port) return Outcome::kNotTranslatable;
  if (header.is_first() && packet.length - packet.l4 < fields.needed) return Outcome::kTruncated;
  return Outcome::kOk;
}

// What becomes of the transport header of a first or only fragment.
struct Transport {
  uint32_t ports = 0;  // TCP, UDP: both, as they stand in the packet
  uint16_t l4_delta = 0;
  bool has_id = false;  // echo
  uint16_t id = 0, id_delta = 0;
};

Transport transport_of(const Rewrite& rewrite, const PacketView& packet) {
  auto ports = net::load<uint32_t>(packet.ip + packet.l4);
  if (rewrite.has_port)
    ports = rewrite.kind == RewriteKind::kFourToSix ? (ports & 0xffff) | uint32_t{rewrite.port} << 16
                                                    : (ports & 0xffff0000) | rewrite.port;
  return {.ports = ports,
          .l4_delta = rewrite.l4_delta,
          .has_id = rewrite.has_port,
          .id = rewrite.port,
          .id_delta = rewrite.port_delta};
}

// Of a virtual service. `before` and `after` are the sums of the addresses.
Transport transport_of(const PacketView& packet, uint16_t before, uint16_t after, uint16_t source_port,
                       uint16_t destination_port) {
  const auto old_sum = net::checksum_sum(packet.ip + packet.l4, 4, before);
  const uint16_t new_sum = plus(plus(after, source_port), destination_port);
  return {.ports = source_port | uint32_t{destination_port} << 16, .l4_delta = delta(old_sum, new_sum)};
}

void move_start(PacketView& packet, size_t new_l4, const Header& header) {
  packet.ip = packet.ip + packet.l4 - new_l4;
  packet.headroom = packet.headroom + packet.l4 - new_l4;
  packet.length = packet.length - packet.l4 + new_l4;
  packet.l4 = new_l4;
  packet.proto = header.proto;
  packet.is_fragment = header.is_fragment();
}

// `ends` are both IPv6 addresses; the packet has passed check_transport().
Outcome to_v6(PacketView& packet, Header& header, const uint8_t* ends, const Transport& transport) {
  const size_t new_l4 = length_v6(header);
  if (new_l4 > packet.l4 + packet.headroom) return Outcome::kNoHeadroom;
  uint8_t* l4 = packet.ip + packet.l4;
  const bool udp = header.proto == net::kUdp;
  const bool without = udp && header.is_first() && net::load<uint16_t>(l4 + 6) == 0;
  const size_t udp_length = without ? net::swap16(net::load<uint16_t>(l4 + 4)) : 0;
  if (without && (header.is_fragment() || udp_length < 8 || udp_length > packet.length - packet.l4))
    return Outcome::kNotTranslatable;
  if (header.proto == net::kIcmp) {
    header.proto = net::kIcmp6;
    if (transport.has_id) net::store(l4 + 4, transport.id);
    echo_to_v6(l4, ends, header.payload, transport.id_delta);
  } else if (header.is_first()) {
    net::store(l4, transport.ports);
    adjust_transport(l4 + (udp ? 6 : 16), udp, transport.l4_delta);
  }
  move_start(packet, new_l4, header);
  write_v6(packet.ip, header, ends, ends + 16);
  if (without) net::write_l4_checksum(packet.ip, true, net::kUdp, l4, udp_length);
  return Outcome::kOk;
}

// `ends` are both IPv4 addresses; the packet has passed check_transport().
Outcome to_v4(PacketView& packet, Header& header, const uint8_t* ends, const Transport& transport) {
  if (header.payload > UINT16_MAX - net::kIpv4MinLen) return Outcome::kNotTranslatable;
  uint8_t* l4 = packet.ip + packet.l4;
  if (header.proto == net::kIcmp6) {
    header.proto = net::kIcmp;
    if (transport.has_id) net::store(l4 + 4, transport.id);
    echo_to_v4(l4, packet.ip + 8, header.payload, transport.id_delta);
    settle_zero(l4, packet.length - packet.l4);
  } else if (header.is_first()) {
    const bool udp = header.proto == net::kUdp;
    net::store(l4, transport.ports);
    adjust_transport(l4 + (udp ? 6 : 16), udp, transport.l4_delta);
  }
  move_start(packet, net::kIpv4MinLen, header);
  write_v4(packet.ip, header, ends, ends + 4);
  return Outcome::kOk;
}

Outcome read(bool is_v6, const PacketView& packet, Header& header) {
  if (packet.length < packet.l4) return Outcome::kTruncated;
  const Outcome outcome = is_v6 ? read_v6(packet.ip, packet.l4, header) : read_v4(packet.ip, packet.l4, header);
  return outcome == Outcome::kOk ? check_transport(packet, header, is_v6) : outcome;
}

Outcome apply_nat64(const Rewrite& rewrite, PacketView& packet) {
  Header header;
  if (const Outcome outcome = read(rewrite.is_v6, packet, header); outcome != Outcome::kOk) return outcome;
  const Transport transport = header.is_first() ? transport_of(rewrite, packet) : Transport{};
  if (rewrite.is_v6) {
    uint8_t ends[kEndsLength4];
    std::memcpy(ends, rewrite.address.data(), 4);
    std::memcpy(ends + 4, packet.ip + 36, 4);
    return to_v4(packet, header, ends, transport);
  }
  uint8_t ends[kEndsLength6];
  std::memcpy(ends, kNat64Prefix.data(), 12);
  std::memcpy(ends + 12, packet.ip + 12, 4);
  std::memcpy(ends + 16, rewrite.address.data(), 16);
  return to_v6(packet, header, ends, transport);
}

// Source and destination, side by side as in a header.
template <size_t kLength>
std::array<uint8_t, 2 * kLength> side_by_side(const std::array<uint8_t, kLength>& source,
                                              const std::array<uint8_t, kLength>& destination) {
  std::array<uint8_t, 2 * kLength> ends;
  std::copy(source.begin(), source.end(), ends.begin());
  std::copy(destination.begin(), destination.end(), ends.begin() + kLength);
  return ends;
}

}  // namespace

Rewrite rewrite_source(const IpAddress& before, const IpAddress& after, std::optional<PortChange> port) {
  return same_family(RewriteKind::kSource, before, after, port);
}

Rewrite rewrite_destination(const IpAddress& before, const IpAddress& after, std::optional<PortChange> port) {
  return same_family(RewriteKind::kDestination, before, after, port);
}

// The IPv4 address of the other end counts in both families, so that it cancels.
Rewrite six_to_four(const Ipv6Address& vm, const Ipv4Address& nat, std::optional<PortChange> port) {
  return compile(RewriteKind::kSixToFour, true, IpAddress::v4(nat).bytes,
                 delta(fold(uint32_t{sum_of(vm)} + kPrefixSum), sum_of(nat)), port);
}

Rewrite four_to_six(const Ipv4Address& nat, const Ipv6Address& vm, std::optional<PortChange> port) {
  return compile(RewriteKind::kFourToSix, false, vm, delta(sum_of(nat), fold(uint32_t{sum_of(vm)} + kPrefixSum)), port);
}

Outcome apply_slow(const Rewrite& rewrite, PacketView& packet) {
  switch (rewrite.kind) {
    case RewriteKind::kNone:
      return Outcome::kOk;
    case RewriteKind::kSource:
    case RewriteKind::kDestination:
      return apply_same_family(rewrite, packet);
    case RewriteKind::kSixToFour:
    case RewriteKind::kFourToSix:
      return apply_nat64(rewrite, packet);
  }
  return Outcome::kNotTranslatable;
}

Outcome swap_to_v6(PacketView& packet, const EndsV6& to) {
  if (is_icmp(packet.proto)) return Outcome::kNotTranslatable;
  Header header;
  if (const Outcome outcome = read(false, packet, header); outcome != Outcome::kOk) return outcome;
  header.traffic_class = to.traffic_class;
  const auto ends = side_by_side(to.source, to.destination);
  const Transport transport = header.is_first() ? transport_of(packet, net::checksum_sum(packet.ip + 12, kEndsLength4),
                                                               sum_of(ends), to.source_port, to.destination_port)
                                                : Transport{};
  return to_v6(packet, header, ends.data(), transport);
}

Outcome swap_to_v4(PacketView& packet, const EndsV4& to) {
  if (is_icmp(packet.proto)) return Outcome::kNotTranslatable;
  Header header;
  if (const Outcome outcome = read(true, packet, header); outcome != Outcome::kOk) return outcome;
  header.traffic_class = to.tos;
  if (!header.is_fragment()) header.id = to.id;
  const auto ends = side_by_side(to.source, to.destination);
  const Transport transport = header.is_first() ? transport_of(packet, net::checksum_sum(packet.ip + 8, kEndsLength6),
                                                               sum_of(ends), to.source_port, to.destination_port)
                                                : Transport{};
  return to_v4(packet, header, ends.data(), transport);
}

}  // namespace ironcore::translate
