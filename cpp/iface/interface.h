// An interface as workers see it: an immutable value, replaced as a whole when anything about it changes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "firewall/classifier.h"
#include "iface/rule_hits.h"
#include "ironcore/engine.h"
#include "net/flow_key.h"
#include "vni/vni.h"

namespace ironcore {

// A source range that the VM may send from, and the underlay address that answers to it come to.
struct AllowedSource {
  IpPrefix prefix;  // masked
  uint64_t underlay_low;
  bool is_lb;
};

// A public address of the interface, and the underlay address that answers to it come to.
struct PublicSource {
  IpAddress address;
  uint64_t underlay_low = 0;
  uint16_t min_port = 0, max_port = 0;  // of a NAT address: max_port is not used
};

struct InterfaceView {
  uint64_t instance = 0;  // differs for each interface ever created in this process
  uint16_t port = 0;
  uint32_t vni = 0;
  const Vni* network = nullptr;
  Ipv4Address ipv4{};
  Ipv6Address ipv6{};
  uint64_t underlay_low = 0;
  std::vector<AllowedSource> prefixes;  // alias and load-balancer prefixes
  std::optional<PublicSource> vip4, vip6, nat4, nat6;
  std::shared_ptr<const Classifier> firewall;  // null: no rules
  std::shared_ptr<RuleHits> rule_hits;         // beside `firewall`
  bool total_meter = false, public_meter = false;
  std::string hostname;
  std::optional<PxeOptions> pxe;

  bool has_ipv4() const { return ipv4 != Ipv4Address{}; }
  bool has_ipv6() const { return ipv6 != Ipv6Address{}; }
  const std::optional<PublicSource>& vip(bool is_v6) const { return is_v6 ? vip6 : vip4; }
  const std::optional<PublicSource>& nat(bool is_v6) const { return is_v6 ? nat6 : nat4; }

  // Whether the key's source is the interface's own address, which public addresses stand for.
  bool sends_from_primary(const FlowKey& key) const;

  // The underlay address behind the source of this key, or nothing if the VM must not use that source.
  std::optional<uint64_t> source_underlay(const FlowKey& key) const;

  // Part of the reference's flow hash: 3 for sources with NAT, 5 for load-balanced ones, else 0.
  uint8_t hash_class(const FlowKey& key) const;
};

}  // namespace ironcore
