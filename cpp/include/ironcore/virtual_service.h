// Virtual services: IPv4 endpoints for VMs that stand for IPv6 endpoints outside of the overlay. Fixed at start.
#pragma once

#include <cstdint>
#include <string_view>

#include "ironcore/types.h"

namespace ironcore {

namespace virtsvc {

// Ports are in host byte order.
struct ServiceConfig {
  uint8_t protocol = 0;           // TCP or UDP
  Ipv4Address virtual_address{};  // as VMs see it
  uint16_t virtual_port = 0;
  Ipv6Address server_address{};
  uint16_t server_port = 0;

  bool operator==(const ServiceConfig&) const = default;
};

// Reads `IPv4,port,IPv6,port` without spaces; ports 1..65535. std::invalid_argument says which part is wrong.
ServiceConfig parse_service(uint8_t protocol, std::string_view text);

}  // namespace virtsvc

struct VirtualServiceInfo {
  virtsvc::ServiceConfig config;
  Ipv6Address underlay{};   // source of requests, destination of answers
  uint32_t used_ports = 0;  // that stand for a client, idle ones included
  uint32_t ports = 0;       // that there are
};

}  // namespace ironcore
