// libFuzzer entry: the first byte picks a configuration, the rest is the frame.
#include <cstdlib>
#include <vector>

#include "guest/guest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ironcore::guest;
  if (size == 0) return 0;
  constexpr std::array<uint32_t, 2> kDns4 = {0x08080808, 0x01010101};
  constexpr std::array<Ipv6, 2> kDns6 = {};
  GuestConfig config;
  config.port_mac = {2, 0, 0, 0, 0, 0xfe};
  config.ipv4 = 0x0a000001;
  config.has_ipv4 = (data[0] & 1) != 0;
  config.has_ipv6 = (data[0] & 2) != 0;
  config.ipv6_overlay = (data[0] & 4) != 0;
  config.vm_mac_known = (data[0] & 8) != 0;
  config.dns4 = kDns4;
  config.dns6 = kDns6;
  config.hostname = "vm";
  if ((data[0] & 16) != 0)
    config.pxe = PxeConfig{.server4 = 0x0a000002, .server6 = kGatewayIpv6, .boot_filename = "boot"};
  std::vector<uint8_t> out((data[0] & 32) != 0 ? kReplyRoom : 90);
  const GuestReply reply = handle(config, std::span(data + 1, size - 1), out);
  if (reply.length > out.size()) std::abort();
  return 0;
}
