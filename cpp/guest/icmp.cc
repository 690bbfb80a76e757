// Echo replies (RFC 792, RFC 4443) from the gateway addresses, so that an operator inside a VM can tell "my gateway is
// there" from "the network behind it is broken".
#include "services.h"

namespace ironcore::guest {
namespace {
constexpr size_t kEchoHeader = 8;
constexpr uint8_t kHopLimit = 64;
}  // namespace

GuestReply answer_echo4(const GuestConfig& config, const Request& request, std::span<uint8_t> out) {
  const Bytes echo = request.payload;
  if (!config.has_ipv4) return {};
  if (echo.size() < kEchoHeader || echo[1] != 0 || finish(sum16(echo)) != 0) return dropped(GuestDrop::kIcmpMalformed);
  Writer w(out);
  ethernet(w, request.eth_src, config.port_mac, kEtherIpv4);
  w.u8(0x45).u8(request.ip[1]).u16(static_cast<uint16_t>(kIpv4Length + echo.size()));
  w.u16(load16(request.ip, 4)).u16(0).u8(kHopLimit).u8(kProtoIcmp).u16(0).u32(kGatewayIpv4).u32(load32(request.ip, 12));
  w.u16(0).u16(0).bytes(echo.subspan(4));
  if (!w.ok()) return dropped(GuestDrop::kNoRoom);
  w.set16(kEthLength + 10, finish(sum16(w.written().subspan(kEthLength, kIpv4Length))));
  w.set16(kEthLength + kIpv4Length + 2, finish(sum16(w.written().subspan(kEthLength + kIpv4Length))));
  return reply(w);
}

GuestReply answer_echo6(const GuestConfig& config, const Request& request, std::span<uint8_t> out) {
  const Bytes echo = request.payload, src = request.ip.subspan(8, 16);
  if (!config.has_ipv6) return {};
  if (echo.size() < kEchoHeader || echo[1] != 0 || src[0] == 0xff ||
      checksum6(src, request.ip.subspan(24, 16), kProtoIcmp6, echo) != 0)
    return dropped(GuestDrop::kIcmpMalformed);
  Writer w(out);
  ethernet(w, request.eth_src, config.port_mac, kEtherIpv6);
  ipv6_header(w, kProtoIcmp6, kHopLimit, kGatewayIpv6, load<16>(request.ip, 8));
  w.u8(129).u8(0).u16(0).bytes(echo.subspan(4));
  finish_ipv6(w, 2);
  return reply(w);
}

}  // namespace ironcore::guest
