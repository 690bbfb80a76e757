#include "translate/family.h"

#include <cstring>

#include "net/checksum.h"

namespace ironcore::translate {
namespace {

constexpr uint8_t kEndOfOptions = 0, kNoOperation = 1, kLooseRoute = 131, kStrictRoute = 137;

bool has_unexpired_source_route(const uint8_t* options, size_t length) {
  for (size_t at = 0; at < length;) {
    const uint8_t type = options[at];
    if (type == kEndOfOptions) return false;
    if (type == kNoOperation) {
      ++at;
      continue;
    }
    if (at + 2 > length || options[at + 1] < 2 || at + options[at + 1] > length) return false;
    if (type == kLooseRoute || type == kStrictRoute) return options[at + 1] >= 3 && options[at + 2] <= options[at + 1];
    at += options[at + 1];
  }
  return false;
}

uint16_t pseudo_sum(const uint8_t* ends6, size_t length) {
  return net::checksum_sum(ends6, kEndsLength6,
                           uint32_t{net::swap16(static_cast<uint16_t>(length))} + net::swap16(net::kIcmp6));
}

void change_echo(uint8_t* l4, uint8_t type, uint16_t change) {
  const auto before = net::load<uint16_t>(l4);
  l4[0] = type;
  l4[1] = 0;
  change = plus(change, delta(before, net::load<uint16_t>(l4)));
  net::store(l4 + 2, adjusted(net::load<uint16_t>(l4 + 2), change));
}

}  // namespace

Outcome read_v4(const uint8_t* ip, size_t l4, Header& header) {
  if (l4 > net::kIpv4MinLen && has_unexpired_source_route(ip + net::kIpv4MinLen, l4 - net::kIpv4MinLen))
    return Outcome::kNotTranslatable;
  const auto fields = net::load<net::Ipv4>(ip);
  const size_t total = net::swap16(fields.total_length);
  if (total < l4) return Outcome::kTruncated;
  header.traffic_class = fields.tos;
  header.hop_limit = fields.ttl;
  header.proto = fields.proto;
  header.fragment = net::swap16(fields.fragment) & (kMoreFragments | kFragmentOffset);
  header.id = header.is_fragment() ? fields.id : uint16_t{0};
  header.payload = total - l4;
  return Outcome::kOk;
}

Outcome read_v6(const uint8_t* ip, size_t l4, Header& header) {
  const auto first = net::swap32(net::load<uint32_t>(ip));
  const size_t total = net::kIpv6Len + net::swap16(net::load<uint16_t>(ip + 4));
  if (total < l4) return Outcome::kTruncated;
  header = {.traffic_class = static_cast<uint8_t>(first >> 20), .hop_limit = ip[7], .proto = ip[6]};
  size_t at = net::kIpv6Len;
  while (at < l4) {
    if (at + 8 > l4) return Outcome::kNotTranslatable;
    const uint8_t kind = header.proto;
    header.proto = ip[at];
    switch (kind) {
      case net::kRouting:
        if (ip[at + 3] != 0) return Outcome::kNotTranslatable;  // segments left
        [[fallthrough]];
      case net::kHopByHop:
      case net::kDestOptions:
        at += (size_t{ip[at + 1]} + 1) * 8;
        break;
      case net::kFragment: {
        const uint16_t field = net::swap16(net::load<uint16_t>(ip + at + 2));
        header.fragment = static_cast<uint16_t>(field >> 3 | (field & 1 ? kMoreFragments : 0));
        header.id = net::load<uint16_t>(ip + at + 6);  // the low half
        at += kFragmentHeader;
        break;
      }
      default:
        return Outcome::kNotTranslatable;
    }
  }
  if (at != l4) return Outcome::kNotTranslatable;
  header.payload = total - l4;
  return Outcome::kOk;
}

void write_v6(uint8_t* at, const Header& header, const uint8_t* source, const uint8_t* destination) {
  const bool fragment = header.is_fragment();
  net::store(at, net::swap32(6u << 28 | uint32_t{header.traffic_class} << 20));
  net::store(at + 4, net::swap16(static_cast<uint16_t>(header.payload + (fragment ? kFragmentHeader : 0))));
  at[6] = fragment ? uint8_t{net::kFragment} : header.proto;
  at[7] = header.hop_limit;
  std::memcpy(at + 8, source, 16);
  std::memcpy(at + 24, destination, 16);
  if (!fragment) return;
  at += net::kIpv6Len;
  at[0] = header.proto;
  at[1] = 0;
  net::store(at + 2,
             net::swap16(static_cast<uint16_t>(header.fragment << 3 | (header.fragment & kMoreFragments ? 1 : 0))));
  net::store<uint16_t>(at + 4, 0);
  net::store(at + 6, header.id);
}

void write_v4(uint8_t* at, const Header& header, const uint8_t* source, const uint8_t* destination) {
  // Words in registers: fields that are stored one by one cannot be loaded again as words without waiting for them.
  const uint32_t total = net::swap16(static_cast<uint16_t>(net::kIpv4MinLen + header.payload));
  const uint32_t first = 0x45u | uint32_t{header.traffic_class} << 8 | total << 16;
  const uint32_t second = header.id | uint32_t{net::swap16(header.fragment)} << 16;
  const uint32_t third = header.hop_limit | uint32_t{header.proto} << 8;
  const auto from = net::load<uint32_t>(source), to = net::load<uint32_t>(destination);
  uint64_t sum = uint64_t{first} + second + third + from + to;
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
  const auto checksum = static_cast<uint16_t>(~fold(static_cast<uint32_t>(sum)));
  net::store(at, first);
  net::store(at + 4, second);
  net::store(at + 8, third | uint32_t{checksum} << 16);
  net::store(at + 12, from);
  net::store(at + 16, to);
}

void echo_to_v6(uint8_t* l4, const uint8_t* ends6, size_t length, uint16_t port_delta) {
  const uint8_t type = l4[0] == kEchoRequest4 ? kEchoRequest6 : kEchoReply6;
  change_echo(l4, type, plus(port_delta, pseudo_sum(ends6, length)));
}

void echo_to_v4(uint8_t* l4, const uint8_t* ends6, size_t length, uint16_t port_delta) {
  const uint8_t type = l4[0] == kEchoRequest6 ? kEchoRequest4 : kEchoReply4;
  change_echo(l4, type, plus(port_delta, static_cast<uint16_t>(~pseudo_sum(ends6, length))));
}

void settle_zero(uint8_t* l4, size_t length) {
  if (net::load<uint16_t>(l4 + 2) == 0 && net::checksum_sum(l4, length) == 0) net::store<uint16_t>(l4 + 2, 0xffff);
}

}  // namespace ironcore::translate
