// What identifies a flow: where a packet entered, and its 5-tuple.
#pragma once

#include <emmintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ironcore/types.h"
#include "net/headers.h"

namespace ironcore {

enum class Side : uint8_t { kVm = 0, kUplink = 1 };

// 48 bytes. All of an IPv4 key is in the first 32, so that it hashes and compares at less cost; the rest is zero then.
// ICMP and ICMPv6 put type and code into `src_port` and the identifier into `dst_port`. Transports without ports leave
// both zero. Fragments but the first have no ports; there the two hold the datagram's identification and `fragment` is
// set.
struct alignas(16) FlowKey {
  uint64_t scope;  // VM: instance number of its interface; uplink: low 64 bits of the outer destination
  uint16_t src_port, dst_port;
  uint8_t proto;
  uint8_t family;  // 4 or 6
  Side side;
  bool fragment;
  union {
    struct {
      uint32_t src4, dst4;
      uint8_t unused[24];
    };
    struct {
      uint8_t src6[16], dst6[16];
    };
  };

  bool is_v6() const { return family == 6; }
};
static_assert(sizeof(FlowKey) == 48 && offsetof(FlowKey, dst4) == 20 && offsetof(FlowKey, dst6) == 32);

inline bool same_flow(const FlowKey& a, const FlowKey& b) {
  const auto* x = reinterpret_cast<const __m128i*>(&a);
  const auto* y = reinterpret_cast<const __m128i*>(&b);
  __m128i equal = _mm_cmpeq_epi8(_mm_load_si128(x), _mm_load_si128(y));
  equal = _mm_and_si128(equal, _mm_cmpeq_epi8(_mm_load_si128(x + 1), _mm_load_si128(y + 1)));
  if (a.is_v6()) equal = _mm_and_si128(equal, _mm_cmpeq_epi8(_mm_load_si128(x + 2), _mm_load_si128(y + 2)));
  return _mm_movemask_epi8(equal) == 0xffff;
}

// Keyed by secrets drawn at start: a guest that picks its ports cannot aim at one bucket (a CRC, being linear, would
// let it, whatever the seed).
class FlowHash {
 public:
  explicit FlowHash(const uint64_t (&secret)[4]) { std::memcpy(secret_, secret, sizeof secret_); }

  uint64_t operator()(const FlowKey& key) const {
    const auto* word = reinterpret_cast<const uint8_t*>(&key);
    auto at = [word](unsigned i) { return net::load<uint64_t>(word + 8 * i); };
    uint64_t hash = multiply(at(0) ^ secret_[0], at(1) ^ secret_[1]);
    hash = multiply(hash ^ at(2), secret_[2]);
    if (key.is_v6()) {
      hash = multiply(hash ^ at(3), at(4) ^ secret_[1]);
      hash = multiply(hash ^ at(5), secret_[3]);
    }
    return hash;
  }

 private:
  static uint64_t multiply(uint64_t a, uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  uint64_t secret_[4];
};

// The key of the opposite direction but for its scope and side, which depend on where the reply will come from.
FlowKey reversed(const FlowKey& key);

// 32-bit hash of the reference implementation over its own key layout (lookup3, seed 0xfee1900d); `vni` in host order.
// `translation_class` is 0, 3 or 5. Chooses uplinks, next hops and targets, so that both implementations spread alike.
uint32_t reference_flow_hash(const FlowKey& key, uint32_t vni, uint8_t translation_class = 0);

IpAddress source_of(const FlowKey& key);
IpAddress destination_of(const FlowKey& key);
void set_source(FlowKey& key, const IpAddress& address);       // of the key's family
void set_destination(FlowKey& key, const IpAddress& address);  // of the key's family

// 64:ff9b::/96, the well-known prefix of NAT64 (RFC 6052).
inline constexpr std::array<uint8_t, 12> kNat64Prefix = {0, 0x64, 0xff, 0x9b};
inline bool is_nat64(const uint8_t* address) { return std::memcmp(address, kNat64Prefix.data(), 12) == 0; }

inline bool is_icmp(const FlowKey& key) { return key.proto == net::kIcmp || key.proto == net::kIcmp6; }
inline uint8_t icmp_type(const FlowKey& key) { return static_cast<uint8_t>(key.src_port & 0xff); }
inline uint8_t icmp_code(const FlowKey& key) { return static_cast<uint8_t>(key.src_port >> 8); }
inline bool is_echo_request(const FlowKey& key) {
  return (key.proto == net::kIcmp && icmp_type(key) == 8) || (key.proto == net::kIcmp6 && icmp_type(key) == 128);
}
inline bool is_echo(const FlowKey& key) {
  const uint8_t type = icmp_type(key);
  return (key.proto == net::kIcmp && (type == 8 || type == 0)) ||
         (key.proto == net::kIcmp6 && (type == 128 || type == 129));
}

}  // namespace ironcore
