// libFuzzer entry of the packet parsers. The input is a frame; a bit of its length chooses the family.
#include <cstdlib>

#include "net/parse.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ironcore;
  if (size > 9000) return 0;
  FlowKey key{};
  ParsedPacket packet{};
  const DropReason drop = size % 2 ? parse_ipv4(data, 0, size, key, packet) : parse_ipv6(data, 0, size, key, packet);
  if (drop == kNoDrop && (packet.ip_length > size || packet.l4 > packet.ip_length)) std::abort();
  return 0;
}
