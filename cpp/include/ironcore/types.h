// Values of the control interface. Addresses are binary, in network byte order.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ironcore {

using MacAddress = std::array<uint8_t, 6>;
using Ipv4Address = std::array<uint8_t, 4>;
using Ipv6Address = std::array<uint8_t, 16>;

// An address of either family. IPv4 uses the first 4 bytes, the rest is zero.
struct IpAddress {
  bool is_v6 = false;
  std::array<uint8_t, 16> bytes{};

  static IpAddress v4(const Ipv4Address& a) { return {false, {a[0], a[1], a[2], a[3]}}; }
  static IpAddress v6(const Ipv6Address& a) { return {true, a}; }
  auto operator<=>(const IpAddress&) const = default;
};

// A prefix as given: host bits are kept, `length` may exceed what the family allows (the route table refuses it then).
struct IpPrefix {
  IpAddress address;
  uint8_t length = 0;

  auto operator<=>(const IpPrefix&) const = default;
};

// Strict text forms (RFC 4291 and dotted quad as inet_pton(3) reads them); nothing else is accepted.
std::optional<Ipv4Address> parse_ipv4(std::string_view text);
std::optional<Ipv6Address> parse_ipv6(std::string_view text);

std::string to_string(const Ipv4Address& address);
std::string to_string(const Ipv6Address& address);
std::string to_string(const IpAddress& address);
std::string to_string(const MacAddress& mac);
std::string to_string(const IpPrefix& prefix);

}  // namespace ironcore
