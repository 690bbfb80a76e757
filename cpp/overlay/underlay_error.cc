#include "overlay/underlay_error.h"

#include <algorithm>

#include "net/checksum.h"
#include "net/headers.h"

namespace ironcore::overlay {
namespace {

constexpr size_t kIcmpHeader = 8, kTransport = 8;
constexpr uint32_t kMinimumMtu = 1280;
constexpr uint8_t kPacketTooBig = 2;

bool checksum_right(const uint8_t* ip, size_t message) {
  const uint32_t pseudo =
      uint32_t{net::checksum_sum(ip + 8, 32)} + net::swap16(static_cast<uint16_t>(message)) + net::swap16(net::kIcmp6);
  return net::checksum_sum(ip + net::kIpv6Len, message, pseudo) == 0xffff;
}

}  // namespace

std::optional<TooBigNotice> read_too_big(std::span<const uint8_t> frame, uint64_t host_prefix) {
  constexpr size_t kQuoted = net::kEthLen + net::kIpv6Len + kIcmpHeader;
  constexpr size_t kInner = kQuoted + net::kOverlayLen;
  if (frame.size() <= kInner || net::load<uint16_t>(frame.data() + 12) != net::kEtherIpv6) return {};
  const uint8_t* ip = frame.data() + net::kEthLen;
  const size_t message = net::swap16(net::load<uint16_t>(ip + 4));
  const size_t end = net::kEthLen + net::kIpv6Len + message;
  if (ip[0] >> 4 != 6 || ip[6] != net::kIcmp6 || net::load<uint64_t>(ip + 24) != host_prefix || end > frame.size() ||
      end <= kInner)
    return {};
  const uint8_t* icmp = ip + net::kIpv6Len;
  const uint32_t path_mtu = net::swap32(net::load<uint32_t>(icmp + 4));
  if (icmp[0] != kPacketTooBig || path_mtu < kMinimumMtu || !checksum_right(ip, message)) return {};

  const uint8_t* outer = icmp + kIcmpHeader;
  const uint8_t next_header = outer[6];
  if (outer[0] >> 4 != 6 || net::load<uint64_t>(outer + 8) != host_prefix ||
      (next_header != net::kIpip && next_header != net::kIpv6InIp))
    return {};
  const bool is_v6 = next_header == net::kIpv6InIp;
  const size_t quoted = std::min(end - kInner, size_t{net::swap16(net::load<uint16_t>(outer + 4))});
  if (outer[net::kOverlayLen] >> 4 != (is_v6 ? 6 : 4) ||
      quoted < (is_v6 ? net::kIpv6Len : net::kIpv4MinLen) + kTransport)
    return {};
  const auto fits = path_mtu - static_cast<uint32_t>(net::kOverlayLen);
  return TooBigNotice{net::load<uint64_t>(outer + 16), net::load<Ipv6Address>(outer + 24), kInner, quoted,
                      is_v6 ? std::max(fits, kMinimumMtu) : fits};
}

}  // namespace ironcore::overlay
