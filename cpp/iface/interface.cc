#include "iface/interface.h"

#include <cstring>

namespace ironcore {
namespace {

bool covers(const IpPrefix& prefix, const uint8_t* address) {
  const size_t bytes = prefix.length / 8;
  if (std::memcmp(prefix.address.bytes.data(), address, bytes) != 0) return false;
  const unsigned rest = prefix.length % 8;
  return rest == 0 || (prefix.address.bytes[bytes] ^ address[bytes]) >> (8 - rest) == 0;
}

}  // namespace

std::optional<uint64_t> InterfaceView::source_underlay(const FlowKey& key) const {
  uint8_t ipv4_source[4];
  net::store(ipv4_source, key.src4);
  const uint8_t* source = key.is_v6() ? key.src6 : ipv4_source;
  const bool primary = key.is_v6() ? has_ipv6() && std::memcmp(source, ipv6.data(), 16) == 0
                                   : has_ipv4() && std::memcmp(source, ipv4.data(), 4) == 0;
  if (primary) return underlay_low;
  for (const AllowedSource& allowed : prefixes)
    if (allowed.prefix.address.is_v6 == key.is_v6() && covers(allowed.prefix, source)) return allowed.underlay_low;
  return std::nullopt;
}

}  // namespace ironcore
