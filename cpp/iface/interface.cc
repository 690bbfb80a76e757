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

constexpr uint8_t kClassNat = 3, kClassLbPrefix = 5;

}  // namespace

bool InterfaceView::sends_from_primary(const FlowKey& key) const {
  if (key.is_v6()) return has_ipv6() && std::memcmp(key.src6, ipv6.data(), 16) == 0;
  return has_ipv4() && key.src4 == net::load<uint32_t>(ipv4.data());
}

std::optional<uint64_t> InterfaceView::source_underlay(const FlowKey& key) const {
  if (sends_from_primary(key)) return underlay_low;
  const IpAddress source = source_of(key);
  for (const AllowedSource& allowed : prefixes)
    if (allowed.prefix.address.is_v6 == key.is_v6() && covers(allowed.prefix, source.bytes.data()))
      return allowed.underlay_low;
  return std::nullopt;
}

uint8_t InterfaceView::hash_class(const FlowKey& key) const {
  if (key.is_v6()) return nat4 && is_nat64(key.dst6) ? kClassNat : 0;
  if (nat4 && sends_from_primary(key)) return kClassNat;
  const IpAddress source = source_of(key);
  for (const AllowedSource& allowed : prefixes)
    if (allowed.is_lb && allowed.prefix.length == 32 && allowed.prefix.address == source) return kClassLbPrefix;
  return 0;
}

}  // namespace ironcore
