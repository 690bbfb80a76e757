#include "translate/embedded.h"

#include <algorithm>
#include <cstring>

#include "net/headers.h"
#include "translate/family.h"

namespace ironcore::translate {
namespace {

constexpr unsigned kMaxExtensionHeaders = 8;

// Ports of the transport at `l4`; false if too little of it is quoted or it is an ICMP error itself.
bool read_transport(const uint8_t* message, Embedded& embedded, bool is_v6) {
  const uint8_t* at = message + embedded.l4;
  const bool icmp = embedded.proto == (is_v6 ? net::kIcmp6 : net::kIcmp);
  if (!icmp && embedded.proto != net::kTcp && embedded.proto != net::kUdp) return true;
  if (embedded.end < embedded.l4 + 8) return false;
  embedded.source_port = net::load<uint16_t>(at);
  if (icmp) {
    if (quotes_packet(is_v6, at[0])) return false;
    embedded.has_ports = is_echo(is_v6, at[0]);
    if (embedded.has_ports) embedded.destination_port = net::load<uint16_t>(at + 4);
    return true;
  }
  embedded.has_ports = true;
  embedded.destination_port = net::load<uint16_t>(at + 2);
  return true;
}

// Both take `embedded` with `ip` and `end`, the latter as if all the rest were the quoted packet.
bool read_embedded_v4(const uint8_t* message, Embedded& embedded) {
  if (embedded.end < embedded.ip + net::kIpv4MinLen) return false;
  const auto ip = net::load<net::Ipv4>(message + embedded.ip);
  const size_t header = size_t{ip.version_ihl & 0xfu} * 4;
  const size_t total = net::swap16(ip.total_length);
  if (ip.version_ihl >> 4 != 4 || header < net::kIpv4MinLen || total < header) return false;
  embedded.end = static_cast<uint16_t>(std::min<size_t>(embedded.end, embedded.ip + total));
  embedded.l4 = static_cast<uint16_t>(embedded.ip + header);
  if (embedded.l4 > embedded.end) return false;
  embedded.proto = ip.proto;
  std::memcpy(embedded.source.bytes.data(), &ip.src, 4);
  std::memcpy(embedded.destination.bytes.data(), &ip.dst, 4);
  const uint16_t fragment = net::swap16(ip.fragment);
  embedded.fragment = (fragment & (kMoreFragments | kFragmentOffset)) != 0;
  return (fragment & kFragmentOffset) != 0 || read_transport(message, embedded, false);
}

bool read_embedded_v6(const uint8_t* message, Embedded& embedded) {
  if (embedded.end < embedded.ip + net::kIpv6Len) return false;
  const uint8_t* ip = message + embedded.ip;
  if (ip[0] >> 4 != 6) return false;
  const size_t total = net::kIpv6Len + net::swap16(net::load<uint16_t>(ip + 4));
  embedded.end = static_cast<uint16_t>(std::min<size_t>(embedded.end, embedded.ip + total));
  embedded.source = IpAddress::v6(net::load<Ipv6Address>(ip + 8));
  embedded.destination = IpAddress::v6(net::load<Ipv6Address>(ip + 24));

  uint8_t next = ip[6];
  size_t at = embedded.ip + net::kIpv6Len;
  for (unsigned i = 0; i <= kMaxExtensionHeaders; ++i) {
    size_t length = 0;
    const bool is_extension = next == net::kHopByHop || next == net::kRouting || next == net::kDestOptions ||
                              next == net::kAuth || next == net::kFragment;
    if (!is_extension) {
      embedded.proto = next;
      embedded.l4 = static_cast<uint16_t>(at);
      return read_transport(message, embedded, true);
    }
    if (at + 8 > embedded.end) return false;
    const uint8_t* header = message + at;
    if (next == net::kFragment) {
      const uint16_t fragment = net::swap16(net::load<uint16_t>(header + 2));
      embedded.fragment = true;
      length = kFragmentHeader;
      if (fragment & 0xfff8) {
        embedded.proto = header[0];
        embedded.l4 = static_cast<uint16_t>(at + length);
        return true;
      }
    } else {
      length = next == net::kAuth ? (size_t{header[1]} + 2) * 4 : (size_t{header[1]} + 1) * 8;
    }
    if (at + length > embedded.end) return false;
    next = header[0];
    at += length;
  }
  return false;
}

}  // namespace

bool is_icmp_error(bool is_v6, uint8_t type) {
  return is_v6 ? type >= 1 && type <= 4 : type == 3 || type == 11 || type == 12;
}

size_t quoted_length(std::span<const uint8_t> message, bool is_v6) {
  if (is_v6) return message[0] == 1 || message[0] == 3 ? size_t{message[4]} * 8 : 0;
  return size_t{message[5]} * 4;
}

std::optional<Embedded> parse_embedded(std::span<const uint8_t> message, bool is_v6) {
  if (message.size() < kIcmpHeader || message.size() > UINT16_MAX || !is_icmp_error(is_v6, message[0])) return {};
  Embedded embedded;
  embedded.ip = kIcmpHeader;
  embedded.end = static_cast<uint16_t>(message.size());
  if (const size_t quoted = quoted_length(message, is_v6); quoted != 0)
    embedded.end = static_cast<uint16_t>(std::min(message.size(), kIcmpHeader + quoted));
  if (!(is_v6 ? read_embedded_v6(message.data(), embedded) : read_embedded_v4(message.data(), embedded))) return {};
  return embedded;
}

}  // namespace ironcore::translate
