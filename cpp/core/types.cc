#include "ironcore/types.h"

#include <arpa/inet.h>

#include <cstdio>

namespace ironcore {
namespace {

template <typename Bytes>
std::optional<Bytes> parse(int family, std::string_view text) {
  // inet_pton needs a terminator and would stop at an embedded one.
  if (text.empty() || text.size() >= INET6_ADDRSTRLEN || text.find('\0') != text.npos) return std::nullopt;
  const std::string terminated(text);
  Bytes bytes{};
  if (inet_pton(family, terminated.c_str(), bytes.data()) != 1) return std::nullopt;
  return bytes;
}

template <typename Bytes>
std::string print(int family, const Bytes& bytes) {
  char text[INET6_ADDRSTRLEN];
  return inet_ntop(family, bytes.data(), text, sizeof text) ? text : "";
}

}  // namespace

std::optional<Ipv4Address> parse_ipv4(std::string_view text) { return parse<Ipv4Address>(AF_INET, text); }
std::optional<Ipv6Address> parse_ipv6(std::string_view text) { return parse<Ipv6Address>(AF_INET6, text); }

std::string to_string(const Ipv4Address& address) { return print(AF_INET, address); }
std::string to_string(const Ipv6Address& address) { return print(AF_INET6, address); }
std::string to_string(const IpAddress& address) { return print(address.is_v6 ? AF_INET6 : AF_INET, address.bytes); }

std::string to_string(const MacAddress& mac) {
  char text[18];
  std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
  return text;
}

std::string to_string(const IpPrefix& prefix) {
  return to_string(prefix.address) + "/" + std::to_string(prefix.length);
}

}  // namespace ironcore
