#include "overlay/too_big.h"

#include <algorithm>
#include <cstring>

#include "guest/guest.h"
#include "net/checksum.h"
#include "net/headers.h"

namespace ironcore::overlay {
namespace {

constexpr uint16_t kDontFragment = 0x4000, kOffset = 0x1fff;
constexpr size_t kIcmpHeader = 8;
constexpr size_t kQuoted4 = 20 + 8;    // RFC 792: the IP header and 8 bytes; options count as those
constexpr size_t kMinimumMtu6 = 1280;  // RFC 4443: as much as fits into this
constexpr uint16_t kMinimumMtu4 = 68;

void write_eth(std::span<const uint8_t> frame, const MacAddress& gateway, std::span<uint8_t> out) {
  std::copy_n(frame.data() + 6, 6, out.data());
  std::copy_n(gateway.data(), 6, out.data() + 6);
  std::copy_n(frame.data() + 12, 2, out.data() + 12);
}

size_t write_v4(std::span<const uint8_t> frame, size_t l3, size_t ip_length, uint32_t mtu, const MacAddress& gateway,
                std::span<uint8_t> out) {
  const auto original = net::load<net::Ipv4>(frame.data() + l3);
  const uint16_t fragment = net::swap16(original.fragment);
  const uint8_t first_octet = static_cast<uint8_t>(net::swap32(original.src) >> 24);
  if (!(fragment & kDontFragment) || (fragment & kOffset) || original.proto == net::kIcmp || mtu < kMinimumMtu4 ||
      first_octet == 0 || first_octet == 127 || first_octet >= 224)
    return 0;
  const size_t quoted = std::min(ip_length, kQuoted4);
  const size_t total = net::kIpv4MinLen + kIcmpHeader + quoted;
  if (out.size() < net::kEthLen + total) return 0;
  write_eth(frame, gateway, out);
  net::Ipv4 ip{};
  ip.version_ihl = 0x45;
  ip.tos = 0xc0;  // internetwork control, RFC 1812 section 4.3.2.5
  ip.total_length = net::swap16(static_cast<uint16_t>(total));
  ip.ttl = 64;
  ip.proto = net::kIcmp;
  ip.src = net::swap32(guest::kGatewayIpv4);
  ip.dst = original.src;
  uint8_t* at = out.data() + net::kEthLen;
  net::store(at, ip);
  net::store<uint16_t>(at + 10, static_cast<uint16_t>(~net::checksum_sum(at, net::kIpv4MinLen)));
  uint8_t* icmp = at + net::kIpv4MinLen;
  std::memset(icmp, 0, kIcmpHeader);
  icmp[0] = 3;  // destination unreachable
  icmp[1] = 4;  // fragmentation needed
  net::store<uint16_t>(icmp + 6, net::swap16(static_cast<uint16_t>(std::min(mtu, 0xffffu))));
  std::memcpy(icmp + kIcmpHeader, frame.data() + l3, quoted);
  net::store<uint16_t>(icmp + 2, static_cast<uint16_t>(~net::checksum_sum(icmp, kIcmpHeader + quoted)));
  return net::kEthLen + total;
}

size_t write_v6(std::span<const uint8_t> frame, size_t l3, size_t ip_length, uint32_t mtu, const MacAddress& gateway,
                std::span<uint8_t> out) {
  const uint8_t* original = frame.data() + l3;
  const uint8_t* source = original + 8;
  const bool unspecified = std::all_of(source, source + 16, [](uint8_t byte) { return byte == 0; });
  // Errors of ICMPv6 have types below 128.
  const bool error = original[6] == net::kIcmp6 && ip_length > net::kIpv6Len && original[net::kIpv6Len] < 128;
  if (unspecified || source[0] == 0xff || error) return 0;
  const size_t quoted = std::min(ip_length, kMinimumMtu6 - net::kIpv6Len - kIcmpHeader);
  const size_t payload = kIcmpHeader + quoted;
  if (out.size() < net::kEthLen + net::kIpv6Len + payload) return 0;
  write_eth(frame, gateway, out);
  uint8_t* ip = out.data() + net::kEthLen;
  net::store<uint32_t>(ip, 0x60);
  net::store<uint16_t>(ip + 4, net::swap16(static_cast<uint16_t>(payload)));
  ip[6] = net::kIcmp6;
  ip[7] = 64;
  std::copy_n(guest::kGatewayIpv6.data(), 16, ip + 8);
  std::copy_n(source, 16, ip + 24);
  uint8_t* icmp = ip + net::kIpv6Len;
  icmp[0] = 2;  // packet too big
  icmp[1] = 0;
  net::store<uint32_t>(icmp + 4, net::swap32(mtu));
  std::memcpy(icmp + kIcmpHeader, original, quoted);
  net::write_l4_checksum(ip, true, net::kIcmp6, icmp, payload);
  return net::kEthLen + net::kIpv6Len + payload;
}

}  // namespace

size_t write_too_big(std::span<const uint8_t> frame, size_t l3, size_t ip_length, uint32_t mtu,
                     const MacAddress& gateway, std::span<uint8_t> out) {
  return frame[l3] >> 4 == 4 ? write_v4(frame, l3, ip_length, mtu, gateway, out)
                             : write_v6(frame, l3, ip_length, mtu, gateway, out);
}

}  // namespace ironcore::overlay
