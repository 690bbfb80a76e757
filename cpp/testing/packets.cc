#include "testing/packets.h"

#include <algorithm>
#include <cstdlib>

namespace ironcore::testing {
namespace {

void put16(Frame& frame, unsigned value) {
  frame.push_back(static_cast<uint8_t>(value >> 8));
  frame.push_back(static_cast<uint8_t>(value));
}

template <typename Bytes>
void put(Frame& frame, const Bytes& bytes) {
  frame.insert(frame.end(), bytes.begin(), bytes.end());
}

unsigned sum_of(const Frame& bytes) {
  unsigned long sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) sum += i % 2 ? bytes[i] : bytes[i] * 256ul;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<unsigned>(sum);
}

bool is_v6(const std::string& text) { return text.find(':') != std::string::npos; }

}  // namespace

Ipv4Address ip4(const std::string& text) {
  const auto address = parse_ipv4(text);
  if (!address) std::abort();
  return *address;
}

Ipv6Address ip6(const std::string& text) {
  const auto address = parse_ipv6(text);
  if (!address) std::abort();
  return *address;
}

IpAddress ip(const std::string& text) { return is_v6(text) ? IpAddress::v6(ip6(text)) : IpAddress::v4(ip4(text)); }

IpPrefix prefix(const std::string& text) {
  const size_t slash = text.find('/');
  return {ip(text.substr(0, slash)), static_cast<uint8_t>(std::stoi(text.substr(slash + 1)))};
}

Frame ethernet(const MacAddress& dst, const MacAddress& src, uint16_t type, const Frame& payload) {
  Frame frame;
  put(frame, dst);
  put(frame, src);
  put16(frame, type);
  put(frame, payload);
  return frame;
}

Frame ipv4(const std::string& src, const std::string& dst, uint8_t proto, const Frame& payload) {
  Frame packet = {0x45, 0};
  put16(packet, static_cast<unsigned>(20 + payload.size()));
  put(packet, Frame{0, 1, 0x40, 0, 64, proto, 0, 0});
  put(packet, ip4(src));
  put(packet, ip4(dst));
  const unsigned checksum = ~sum_of(packet) & 0xffff;
  packet[10] = static_cast<uint8_t>(checksum >> 8);
  packet[11] = static_cast<uint8_t>(checksum);
  put(packet, payload);
  return packet;
}

Frame ipv6(const std::string& src, const std::string& dst, uint8_t proto, const Frame& payload) {
  Frame packet = {0x60, 0, 0, 0};
  put16(packet, static_cast<unsigned>(payload.size()));
  put(packet, Frame{proto, 64});
  put(packet, ip6(src));
  put(packet, ip6(dst));
  put(packet, payload);
  return packet;
}

Frame udp(uint16_t src_port, uint16_t dst_port, size_t payload) {
  Frame segment;
  put16(segment, src_port);
  put16(segment, dst_port);
  put16(segment, static_cast<unsigned>(8 + payload));
  put16(segment, 0);
  segment.resize(8 + payload, 0x5a);
  return segment;
}

Frame tcp(uint16_t src_port, uint16_t dst_port, uint8_t flags) {
  Frame segment;
  put16(segment, src_port);
  put16(segment, dst_port);
  put(segment, Frame{0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x10, 0, 0, 0, 0, 0});
  return segment;
}

Frame icmp_echo(uint8_t type, uint16_t id) {
  Frame message = {type, 0, 0, 0};
  put16(message, id);
  put16(message, 1);
  message.resize(32, 0x5a);
  if (type == 0 || type == 8) {  // ICMPv6 needs the addresses too
    const unsigned checksum = ~sum_of(message) & 0xffff;
    message[2] = static_cast<uint8_t>(checksum >> 8);
    message[3] = static_cast<uint8_t>(checksum);
  }
  return message;
}

Frame icmp_error(uint8_t type, uint8_t code, uint16_t mtu, const Frame& quoted) {
  Frame message = {type, code, 0, 0, 0, 0};
  put16(message, mtu);
  put(message, quoted);
  if (quoted[0] >> 4 == 4) {  // ICMPv6 needs the addresses too
    const unsigned checksum = ~sum_of(message) & 0xffff;
    message[2] = static_cast<uint8_t>(checksum >> 8);
    message[3] = static_cast<uint8_t>(checksum);
  }
  return message;
}

Frame from_vm(const std::string& src, const std::string& dst, uint8_t proto, const Frame& segment) {
  Frame payload = segment;
  if (proto == 6 && payload.size() >= 20) {
    Frame pseudo;
    if (is_v6(src)) {
      put(pseudo, ip6(src));
      put(pseudo, ip6(dst));
    } else {
      put(pseudo, ip4(src));
      put(pseudo, ip4(dst));
    }
    put16(pseudo, proto);
    put16(pseudo, static_cast<unsigned>(payload.size()));
    payload[16] = payload[17] = 0;
    put(pseudo, payload);
    const unsigned checksum = ~sum_of(pseudo) & 0xffff;
    payload[16] = static_cast<uint8_t>(checksum >> 8);
    payload[17] = static_cast<uint8_t>(checksum);
  }
  const MacAddress gateway = {0x02, 0, 0, 0, 0, 1};
  return is_v6(src) ? ethernet(gateway, kVmMac, 0x86dd, ipv6(src, dst, proto, payload))
                    : ethernet(gateway, kVmMac, 0x0800, ipv4(src, dst, proto, payload));
}

Frame udp_from_vm(const std::string& src, const std::string& dst, uint16_t src_port, uint16_t dst_port) {
  return from_vm(src, dst, 17, udp(src_port, dst_port));
}

Frame overlay(const std::string& outer_src, const Ipv6Address& outer_dst, const Frame& vm_frame) {
  const Frame inner = slice(vm_frame, 14);
  const uint8_t next_header = inner[0] >> 4 == 4 ? 4 : 41;
  return ethernet({0x02, 0, 0, 0, 0, 9}, kRouterMac, 0x86dd, ipv6(outer_src, to_string(outer_dst), next_header, inner));
}

Frame arp_request(const MacAddress& src, const std::string& sender, const std::string& target) {
  Frame body = {0, 1, 8, 0, 6, 4, 0, 1};
  put(body, src);
  put(body, ip4(sender));
  put(body, MacAddress{});
  put(body, ip4(target));
  return ethernet({0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, src, 0x0806, body);
}

Frame slice(const Frame& frame, size_t from, size_t length) {
  from = std::min(from, frame.size());
  const size_t end = length > frame.size() - from ? frame.size() : from + length;
  return Frame(frame.begin() + static_cast<std::ptrdiff_t>(from), frame.begin() + static_cast<std::ptrdiff_t>(end));
}

}  // namespace ironcore::testing
