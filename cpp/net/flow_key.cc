#include "net/flow_key.h"

#include <rte_jhash.h>

#include <array>
#include <utility>

namespace ironcore {
namespace {

constexpr uint32_t kReferenceSeed = 0xfee1900d;

uint16_t reversed_icmp(uint8_t proto, uint16_t type_code) {
  const auto type = static_cast<uint8_t>(type_code & 0xff);
  if (proto == net::kIcmp && (type == 8 || type == 0)) return type == 8 ? 0 : 8;
  if (proto == net::kIcmp6 && (type == 128 || type == 129)) return static_cast<uint16_t>(type ^ 1);
  return type_code;
}

}  // namespace

FlowKey reversed(const FlowKey& key) {
  FlowKey reply = key;
  if (key.is_v6()) {
    std::memcpy(reply.src6, key.dst6, 16);
    std::memcpy(reply.dst6, key.src6, 16);
  } else {
    std::swap(reply.src4, reply.dst4);
  }
  if (key.proto == net::kIcmp || key.proto == net::kIcmp6) {
    reply.src_port = reversed_icmp(key.proto, key.src_port);
  } else {
    std::swap(reply.src_port, reply.dst_port);
  }
  return reply;
}

IpAddress source_of(const FlowKey& key) {
  IpAddress address;
  address.is_v6 = key.is_v6();
  key.is_v6() ? net::store(address.bytes.data(), net::load<std::array<uint8_t, 16>>(key.src6))
              : net::store(address.bytes.data(), key.src4);
  return address;
}

IpAddress destination_of(const FlowKey& key) {
  IpAddress address;
  address.is_v6 = key.is_v6();
  key.is_v6() ? net::store(address.bytes.data(), net::load<std::array<uint8_t, 16>>(key.dst6))
              : net::store(address.bytes.data(), key.dst4);
  return address;
}

void set_source(FlowKey& key, const IpAddress& address) {
  if (key.is_v6()) {
    std::memcpy(key.src6, address.bytes.data(), 16);
  } else {
    key.src4 = net::load<uint32_t>(address.bytes.data());
  }
}

void set_destination(FlowKey& key, const IpAddress& address) {
  if (key.is_v6()) {
    std::memcpy(key.dst6, address.bytes.data(), 16);
  } else {
    key.dst4 = net::load<uint32_t>(address.bytes.data());
  }
}

uint32_t reference_flow_hash(const FlowKey& key, uint32_t vni, uint8_t translation_class) {
  struct __attribute__((packed)) {
    uint8_t dst[16];
    uint8_t dst_is_v6;
    uint8_t proto;
    uint16_t dst_port;
    uint8_t src[16];
    uint8_t src_is_v6;
    uint8_t translation_class;
    uint16_t src_port;
    uint32_t vni;
  } layout{};
  static_assert(sizeof layout == 44);
  if (key.is_v6()) {
    std::memcpy(layout.dst, key.dst6, 16);
    std::memcpy(layout.src, key.src6, 16);
  } else {
    net::store(layout.dst, net::swap32(key.dst4));
    net::store(layout.src, net::swap32(key.src4));
  }
  layout.dst_is_v6 = layout.src_is_v6 = key.is_v6();
  layout.proto = key.proto;
  layout.translation_class = translation_class;
  layout.dst_port = net::swap16(key.dst_port);
  const bool icmp = key.proto == net::kIcmp || key.proto == net::kIcmp6;
  layout.src_port = icmp ? key.src_port & 0xff : net::swap16(key.src_port);
  layout.vni = vni;
  return rte_jhash(&layout, sizeof layout, kReferenceSeed);
}

}  // namespace ironcore
