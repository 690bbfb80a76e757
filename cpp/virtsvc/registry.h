// The configured virtual services: IPv4 endpoints that VMs can reach, each standing for an IPv6 endpoint outside of the
// overlay. Fixed at start; lookups take no lock.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "ironcore/types.h"
#include "ironcore/virtual_service.h"
#include "virtsvc/slots.h"

namespace ironcore::virtsvc {

struct Service {
  Service(const ServiceConfig& service_config, const Ipv6Address& service_underlay, SlotTimeouts timeouts,
          uint64_t secret)
      : config(service_config), underlay(service_underlay), slots(timeouts, secret) {}

  const ServiceConfig config;
  const Ipv6Address underlay;  // source of requests, destination of replies: <host>:d0ff:4000:<index, little-endian>
  ServiceSlots slots;
};

class Registry {
 public:
  static constexpr size_t kMaxServices = 256;

  // At most kMaxServices; per protocol no virtual endpoint and no server endpoint may repeat. The index of a service is
  // its place in the list, from 0. std::invalid_argument says what is wrong. `host` gives the upper 64 bits of underlay
  // addresses, `secret` keys the slots' indexes.
  Registry(const std::vector<ServiceConfig>& configs, const Ipv6Address& host, SlotTimeouts timeouts, uint64_t secret);

  // Of a request: by its destination. Null: none.
  Service* find_request(uint8_t protocol, const Ipv4Address& destination, uint16_t port) const;
  // Of a reply: by its source. Null: none.
  Service* find_reply(uint8_t protocol, const Ipv6Address& source, uint16_t port) const;

  size_t release_interface(uint16_t vf_port);  // the slots of that VM in all services; returns how many

  const std::vector<std::unique_ptr<Service>>& services() const { return services_; }

 private:
  using RequestKey = uint64_t;
  using ReplyKey = std::pair<Ipv6Address, uint32_t>;

  std::vector<std::unique_ptr<Service>> services_;
  std::vector<std::pair<RequestKey, Service*>> by_request_;  // sorted by key
  std::vector<std::pair<ReplyKey, Service*>> by_reply_;      // sorted by key
};

}  // namespace ironcore::virtsvc
