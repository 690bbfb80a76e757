#include "virtsvc/registry.h"

#include <algorithm>
#include <charconv>
#include <stdexcept>
#include <string>

#include "net/headers.h"

namespace ironcore::virtsvc {
namespace {

uint32_t transport_key(uint8_t protocol, uint16_t port) { return uint32_t{protocol} << 16 | port; }

uint64_t request_key(uint8_t protocol, const Ipv4Address& address, uint16_t port) {
  return uint64_t{net::load<uint32_t>(address.data())} << 32 | transport_key(protocol, port);
}

std::pair<Ipv6Address, uint32_t> reply_key(uint8_t protocol, const Ipv6Address& address, uint16_t port) {
  return {address, transport_key(protocol, port)};
}

uint16_t parse_port(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0)
    throw std::invalid_argument("port '" + std::string(text) + "' is not in 1..65535");
  return port;
}

std::string text_of(const ServiceConfig& config) {
  return std::string(config.protocol == net::kTcp ? "tcp " : "udp ") + to_string(config.virtual_address) + "," +
         std::to_string(config.virtual_port) + "," + to_string(config.server_address) + "," +
         std::to_string(config.server_port);
}

void check(const ServiceConfig& config) {
  if (config.protocol != net::kTcp && config.protocol != net::kUdp)
    throw std::invalid_argument("virtual service of a protocol that is neither TCP nor UDP");
  if (config.virtual_port == 0 || config.server_port == 0 || config.virtual_address == Ipv4Address{} ||
      config.server_address == Ipv6Address{})
    throw std::invalid_argument("virtual service " + text_of(config) + " lacks an address or a port");
}

Ipv6Address underlay_of(const Ipv6Address& host, size_t index) {
  Ipv6Address address{};
  std::copy_n(host.begin(), 8, address.begin());
  address[8] = 0xd0;
  address[9] = 0xff;   // virtual service
  address[10] = 0x40;  // not from the counter of generated addresses, so never one of them
  net::store(address.data() + 12, static_cast<uint32_t>(index));
  return address;
}

template <typename Key>
void sort_unique(std::vector<std::pair<Key, Service*>>& index, const char* endpoint) {
  const auto key = [](const auto& entry) -> const Key& { return entry.first; };
  std::ranges::sort(index, {}, key);
  const auto repeated = std::ranges::adjacent_find(index, {}, key);
  if (repeated == index.end()) return;
  throw std::invalid_argument("virtual services " + text_of(repeated[0].second->config) + " and " +
                              text_of(repeated[1].second->config) + " have the same " + endpoint);
}

template <typename Key>
Service* find(const std::vector<std::pair<Key, Service*>>& index, const Key& key) {
  const auto found = std::lower_bound(index.begin(), index.end(), key,
                                      [](const auto& entry, const Key& wanted) { return entry.first < wanted; });
  return found != index.end() && found->first == key ? found->second : nullptr;
}

}  // namespace

ServiceConfig parse_service(uint8_t protocol, std::string_view text) {
  std::array<std::string_view, 4> parts;
  size_t begin = 0;
  for (size_t part = 0; part < parts.size(); ++part) {
    const size_t comma = text.find(',', begin);
    if ((comma == text.npos) != (part == parts.size() - 1))
      throw std::invalid_argument("virtual service '" + std::string(text) + "' is not IPv4,port,IPv6,port");
    parts[part] = text.substr(begin, comma - begin);
    begin = comma + 1;
  }
  const auto virtual_address = parse_ipv4(parts[0]);
  if (!virtual_address) throw std::invalid_argument("'" + std::string(parts[0]) + "' is not an IPv4 address");
  const auto server_address = parse_ipv6(parts[2]);
  if (!server_address) throw std::invalid_argument("'" + std::string(parts[2]) + "' is not an IPv6 address");
  const ServiceConfig config{protocol, *virtual_address, parse_port(parts[1]), *server_address, parse_port(parts[3])};
  check(config);
  return config;
}

Registry::Registry(const std::vector<ServiceConfig>& configs, const Ipv6Address& host, SlotTimeouts timeouts,
                   uint64_t secret) {
  if (configs.size() > kMaxServices)
    throw std::invalid_argument(std::to_string(configs.size()) + " virtual services, at most " +
                                std::to_string(kMaxServices) + " are possible");
  for (const ServiceConfig& config : configs) {
    check(config);
    const auto& service = services_.emplace_back(
        std::make_unique<Service>(config, underlay_of(host, services_.size()), timeouts, secret));
    by_request_.emplace_back(request_key(config.protocol, config.virtual_address, config.virtual_port), service.get());
    by_reply_.emplace_back(reply_key(config.protocol, config.server_address, config.server_port), service.get());
  }
  sort_unique(by_request_, "virtual endpoint");
  sort_unique(by_reply_, "server endpoint");
}

Service* Registry::find_request(uint8_t protocol, const Ipv4Address& destination, uint16_t port) const {
  return find(by_request_, request_key(protocol, destination, port));
}

Service* Registry::find_reply(uint8_t protocol, const Ipv6Address& source, uint16_t port) const {
  return find(by_reply_, reply_key(protocol, source, port));
}

size_t Registry::release_interface(uint16_t vf_port) {
  size_t released = 0;
  for (const auto& service : services_) released += service->slots.release_interface(vf_port);
  return released;
}

}  // namespace ironcore::virtsvc
