#include "translate/icmp_error.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "net/checksum.h"
#include "translate/embedded.h"
#include "translate/family.h"

namespace ironcore::translate {
namespace {

constexpr size_t kMaxLength = 1280;  // of a translated error: RFC 4443 section 2.4
constexpr size_t kMinQuoted = 128;   // RFC 4884: if an extension follows

constexpr uint8_t kUnreachable4 = 3, kTimeExceeded4 = 11, kParameterProblem4 = 12, kFragmentationNeeded4 = 4;
constexpr uint8_t kUnreachable6 = 1, kTooBig6 = 2, kTimeExceeded6 = 3, kParameterProblem6 = 4;

// Type, code and the 4 bytes that depend on them, without the length of RFC 4884.
struct Message {
  uint8_t type = 0, code = 0;
  std::array<uint8_t, 4> rest{};
};

constexpr uint8_t kNone = 0xff;

// RFC 7915 figures 3 and 6: what a pointer into one header points to in the other.
constexpr std::array<uint8_t, 20> kPointer6 = {0,     1,     4, 4, kNone, kNone, kNone, kNone, 7,  6,
                                               kNone, kNone, 8, 8, 8,     8,     24,    24,    24, 24};
constexpr std::array<uint8_t, 40> kPointer4 = {0,  1,  kNone, kNone, 2,  2,  9,  8,  12, 12, 12, 12, 12, 12,
                                               12, 12, 12,    12,    12, 12, 12, 12, 12, 12, 16, 16, 16, 16,
                                               16, 16, 16,    16,    16, 16, 16, 16, 16, 16, 16, 16};

// RFC 1191 section 7.1, as far as they are valid in IPv6.
constexpr std::array<uint16_t, 7> kPlateaus = {65535, 32000, 17914, 8166, 4352, 2002, 1492};
constexpr uint32_t kMinimumMtu6 = 1280, kMinimumMtu4 = 68, kHeaderDifference = net::kIpv6Len - net::kIpv4MinLen;

uint32_t mtu_to_v6(uint16_t mtu, uint16_t quoted_total) {
  uint32_t path = mtu;
  if (path == 0) {
    const auto plateau = std::find_if(kPlateaus.begin(), kPlateaus.end(),
                                      [quoted_total](uint16_t value) { return value < quoted_total; });
    path = plateau == kPlateaus.end() ? 0 : *plateau;
  }
  return std::max(kMinimumMtu6, path + kHeaderDifference);
}

uint16_t mtu_to_v4(uint32_t mtu) {
  const uint32_t path = std::max(mtu, kMinimumMtu4 + kHeaderDifference) - kHeaderDifference;
  return static_cast<uint16_t>(std::min<uint32_t>(path, UINT16_MAX));
}

template <size_t kLength>
uint8_t pointer(const std::array<uint8_t, kLength>& table, uint32_t value) {
  return value < kLength ? table[value] : kNone;
}

bool message_to_v6(const uint8_t* icmp, uint16_t quoted_total, Message& out) {
  const uint8_t code = icmp[1];
  switch (icmp[0]) {
    case kUnreachable4:
      out.type = kUnreachable6;
      switch (code) {
        case 0:   // network,
        case 1:   // host unreachable
        case 5:   // source route failed
        case 6:   // network,
        case 7:   // host unknown
        case 8:   // source host isolated
        case 11:  // network,
        case 12:  // host unreachable for this TOS
          out.code = 0;
          return true;
        case 2:  // protocol unreachable: unrecognized next header
          out = {kParameterProblem6, 1, {0, 0, 0, 6}};
          return true;
        case 3:
          out.code = 4;
          return true;
        case kFragmentationNeeded4:
          out.type = kTooBig6;
          net::store(out.rest.data(), net::swap32(mtu_to_v6(net::swap16(net::load<uint16_t>(icmp + 6)), quoted_total)));
          return true;
        case 9:   // network,
        case 10:  // host prohibited
        case 13:  // communication prohibited
        case 15:  // precedence cutoff
          out.code = 1;
          return true;
        default:
          return false;
      }
    case kTimeExceeded4:
      out.type = kTimeExceeded6;
      out.code = code;
      return true;
    case kParameterProblem4:
      out.type = kParameterProblem6;
      out.rest[3] = pointer(kPointer6, icmp[4]);
      return (code == 0 || code == 2) && out.rest[3] != kNone;
    default:
      return false;
  }
}

bool message_to_v4(const uint8_t* icmp, Message& out) {
  constexpr std::array<uint8_t, 5> kCodes = {1, 10, 1, 1, 3};  // no route, prohibited, scope, address, port
  const uint8_t code = icmp[1];
  const auto rest = net::swap32(net::load<uint32_t>(icmp + 4));
  switch (icmp[0]) {
    case kUnreachable6:
      out.type = kUnreachable4;
      out.code = code < kCodes.size() ? kCodes[code] : kNone;
      return out.code != kNone;
    case kTooBig6:
      out.type = kUnreachable4;
      out.code = kFragmentationNeeded4;
      net::store(out.rest.data() + 2, net::swap16(mtu_to_v4(rest)));
      return true;
    case kTimeExceeded6:
      out.type = kTimeExceeded4;
      out.code = code;
      return true;
    case kParameterProblem6:
      if (code == 1) {  // unrecognized next header: protocol unreachable
        out.type = kUnreachable4;
        out.code = 2;
        return true;
      }
      out.type = kParameterProblem4;
      out.rest[0] = pointer(kPointer4, rest);
      return code == 0 && out.rest[0] != kNone;
    default:
      return false;
  }
}

// The change to a checksum of the quoted transport, if that much of it is quoted.
void adjust_quoted(uint8_t* l4, size_t quoted, uint8_t proto, uint16_t change) {
  const size_t at = proto == net::kTcp ? 16 : proto == net::kUdp ? 6 : 2;
  if (quoted >= at + 2) adjust_transport(l4 + at, proto == net::kUdp, change);
}

bool valid(const PacketView& packet, const Embedded& embedded, bool is_v6) {
  const uint8_t* message = packet.ip + packet.l4;
  const size_t length = packet.length - packet.l4;
  uint32_t pseudo = 0;
  if (is_v6)
    pseudo = uint32_t{net::checksum_sum(packet.ip + 8, kEndsLength6)} + net::swap16(static_cast<uint16_t>(length)) +
             net::swap16(net::kIcmp6);
  if (net::checksum_sum(message, length, pseudo) != 0xffff) return false;
  return is_v6 || net::checksum_sum(message + embedded.ip, size_t{embedded.l4} - embedded.ip) == 0xffff;
}

// Puts `address` into the header at `ip`; returns what that adds to a checksum that covers it.
uint16_t replace_address(uint8_t* ip, bool is_v6, bool destination, const std::array<uint8_t, 16>& address) {
  const size_t length = is_v6 ? 16 : 4;
  uint8_t* at = ip + (is_v6 ? 8 : 12) + (destination ? length : 0);
  const uint16_t change = delta(net::checksum_sum(at, length), net::checksum_sum(address.data(), length));
  std::memcpy(at, address.data(), length);
  if (!is_v6) net::store(ip + 10, adjusted(net::load<uint16_t>(ip + 10), change));
  return change;
}

// The VM's port in the quoted packet; returns as above.
uint16_t replace_port(uint8_t* l4, bool icmp, bool destination, uint16_t port) {
  uint8_t* at = l4 + (icmp ? 4 : destination ? 2 : 0);
  const uint16_t change = delta(net::load<uint16_t>(at), port);
  net::store(at, port);
  return change;
}

void translate_same_family(const Rewrite& rewrite, PacketView& packet, const Embedded& embedded) {
  const bool towards_vm = rewrite.kind == RewriteKind::kDestination;
  const bool icmp = embedded.proto == packet.proto;
  uint8_t* message = packet.ip + packet.l4;
  uint8_t* l4 = message + embedded.l4;
  replace_address(packet.ip, rewrite.is_v6, towards_vm, rewrite.address);
  uint16_t change = replace_address(message + embedded.ip, rewrite.is_v6, !towards_vm, rewrite.address);
  if (icmp && !rewrite.is_v6) change = 0;
  if (rewrite.has_port) change = plus(change, replace_port(l4, icmp, !towards_vm, rewrite.port));
  if (embedded.has_ports) adjust_quoted(l4, size_t{embedded.end} - embedded.l4, embedded.proto, change);
  net::write_l4_checksum(packet.ip, rewrite.is_v6, packet.proto, message, packet.length - packet.l4);
}

// Both addresses of a header in the other family, from those in `ip`. `vm_is_source` in the result.
std::array<uint8_t, kEndsLength6> ends_v6(const uint8_t* ip, bool vm_is_source, const Rewrite& rewrite) {
  std::array<uint8_t, kEndsLength6> ends;
  uint8_t* other = ends.data() + (vm_is_source ? 16 : 0);
  std::memcpy(ends.data() + (vm_is_source ? 0 : 16), rewrite.address.data(), 16);
  std::memcpy(other, kNat64Prefix.data(), 12);
  std::memcpy(other + 12, ip + (vm_is_source ? 16 : 12), 4);
  return ends;
}

std::array<uint8_t, kEndsLength4> ends_v4(const uint8_t* ip, bool vm_is_source, const Rewrite& rewrite) {
  std::array<uint8_t, kEndsLength4> ends;
  std::memcpy(ends.data() + (vm_is_source ? 0 : 4), rewrite.address.data(), 4);
  std::memcpy(ends.data() + (vm_is_source ? 4 : 0), ip + (vm_is_source ? 36 : 20), 4);
  return ends;
}

// Writes the header for `ip` in the other family; returns the change to a checksum that covers the addresses.
uint16_t write_other(uint8_t* at, const Header& header, const uint8_t* ip, bool vm_is_source, const Rewrite& rewrite) {
  if (rewrite.is_v6) {
    const auto ends = ends_v4(ip, vm_is_source, rewrite);
    write_v4(at, header, ends.data(), ends.data() + 4);
    return delta(net::checksum_sum(ip + 8, kEndsLength6), net::checksum_sum(ends.data(), ends.size()));
  }
  const auto ends = ends_v6(ip, vm_is_source, rewrite);
  write_v6(at, header, ends.data(), ends.data() + 16);
  return delta(net::checksum_sum(ip + 12, kEndsLength4), net::checksum_sum(ends.data(), ends.size()));
}

bool in_prefix(const uint8_t* address) { return std::equal(address, address + 12, kNat64Prefix.begin()); }

Outcome translate_nat64(const Rewrite& rewrite, PacketView& packet, const Embedded& embedded) {
  const bool was_v6 = rewrite.is_v6;
  uint8_t* message = packet.ip + packet.l4;
  const uint8_t* quoted_ip = message + embedded.ip;
  Header outer, inner;
  Outcome outcome = was_v6 ? read_v6(packet.ip, packet.l4, outer) : read_v4(packet.ip, packet.l4, outer);
  if (outcome != Outcome::kOk) return outcome;
  const size_t inner_l4 = size_t{embedded.l4} - embedded.ip;
  outcome = was_v6 ? read_v6(quoted_ip, inner_l4, inner) : read_v4(quoted_ip, inner_l4, inner);
  if (outcome != Outcome::kOk) return outcome;
  const bool icmp = inner.proto == packet.proto;
  Message head;
  if ((inner.is_first() && !embedded.has_ports) || (icmp && inner.is_fragment()) ||
      inner.payload > UINT16_MAX - net::kIpv6Len || (was_v6 && !in_prefix(packet.ip + 24)) ||
      !(was_v6 ? message_to_v4(message, head)
               : message_to_v6(message, static_cast<uint16_t>(inner.payload + inner_l4), head)))
    return Outcome::kNotTranslatable;

  // Lengths. An extension begins behind the quoted packet, which is padded to a multiple of a unit.
  const size_t outer_length = was_v6 ? net::kIpv4MinLen : net::kIpv6Len;
  const size_t inner_length = was_v6 ? net::kIpv4MinLen : length_v6(inner);
  const size_t room = kMaxLength - outer_length - kIcmpHeader;
  const size_t unit = was_v6 ? 4 : 8;
  const std::span<const uint8_t> all(message, packet.length - packet.l4);
  const size_t quoted = std::min<size_t>(embedded.end - embedded.l4, room - inner_length);
  size_t padded = inner_length + quoted;
  std::span<const uint8_t> extension;
  if (const size_t old = quoted_length(all, was_v6); old >= kMinQuoted && kIcmpHeader + old < all.size()) {
    const auto tail = all.subspan(kIcmpHeader + old);
    const size_t aligned = std::max(kMinQuoted, (padded + unit - 1) / unit * unit);
    if (aligned + tail.size() <= room && aligned / unit <= UINT8_MAX) {
      extension = tail;
      padded = aligned;
      head.rest[was_v6 ? 1 : 0] = static_cast<uint8_t>(aligned / unit);
    }
  }
  const size_t length = outer_length + kIcmpHeader + padded + extension.size();
  if (length > packet.length + packet.headroom) return Outcome::kNoHeadroom;

  std::array<uint8_t, kMaxLength> out;
  std::fill_n(out.data(), length, uint8_t{0});
  const uint8_t new_proto = was_v6 ? net::kIcmp : net::kIcmp6;
  const bool towards_vm = !was_v6;
  outer.proto = new_proto;
  outer.payload = length - outer_length;
  write_other(out.data(), outer, packet.ip, !towards_vm, rewrite);
  uint8_t* new_message = out.data() + outer_length;
  new_message[0] = head.type;
  new_message[1] = head.code;
  std::copy(head.rest.begin(), head.rest.end(), new_message + 4);
  uint8_t* new_ip = new_message + kIcmpHeader;
  uint8_t* l4 = new_ip + inner_length;
  std::copy_n(message + embedded.l4, quoted, l4);
  std::copy(extension.begin(), extension.end(), new_ip + padded);
  if (icmp) inner.proto = new_proto;
  uint16_t change = write_other(new_ip, inner, quoted_ip, towards_vm, rewrite);
  if (embedded.has_ports) {
    const uint16_t port_change = rewrite.has_port ? replace_port(l4, icmp, !towards_vm, rewrite.port) : uint16_t{0};
    if (!icmp) {
      adjust_quoted(l4, quoted, inner.proto, plus(change, port_change));
    } else if (was_v6) {
      echo_to_v4(l4, quoted_ip + 8, inner.payload, port_change);
    } else {
      echo_to_v6(l4, new_ip + 8, inner.payload, port_change);
    }
  }
  net::write_l4_checksum(out.data(), !was_v6, new_proto, new_message, length - outer_length);

  packet.ip = packet.ip + packet.length - length;
  packet.headroom = packet.headroom + packet.length - length;
  packet.length = length;
  packet.l4 = outer_length;
  packet.proto = new_proto;
  std::copy_n(out.data(), length, packet.ip);
  return Outcome::kOk;
}

}  // namespace

Outcome translate_icmp_error(const Rewrite& rewrite, PacketView& packet) {
  if (rewrite.kind == RewriteKind::kNone) return Outcome::kOk;
  if (packet.length < packet.l4) return Outcome::kTruncated;
  const uint8_t icmp = rewrite.is_v6 ? net::kIcmp6 : net::kIcmp;
  if (packet.is_fragment || packet.proto != icmp) return Outcome::kNotTranslatable;
  const auto embedded = parse_embedded({packet.ip + packet.l4, packet.length - packet.l4}, rewrite.is_v6);
  if (!embedded || (rewrite.has_port && !embedded->has_ports)) return Outcome::kNotTranslatable;
  // An error goes to where the packet came from. Otherwise a VM could send it along a flow to somebody else.
  const size_t address = rewrite.is_v6 ? 16 : 4;
  if (!std::equal(embedded->source.bytes.begin(), embedded->source.bytes.begin() + address,
                  packet.ip + (rewrite.is_v6 ? 24 : 16)))
    return Outcome::kNotTranslatable;
  if (!valid(packet, *embedded, rewrite.is_v6)) return Outcome::kBadChecksum;
  switch (rewrite.kind) {
    case RewriteKind::kSource:
    case RewriteKind::kDestination:
      translate_same_family(rewrite, packet, *embedded);
      return Outcome::kOk;
    default:
      return translate_nat64(rewrite, packet, *embedded);
  }
}

}  // namespace ironcore::translate
