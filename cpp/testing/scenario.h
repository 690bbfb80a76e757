// A small world for randomized tests: two VNIs, four devices and few addresses, so that whatever random bytes make of
// it collides often. Everything is determined by the bytes and by the calls before.
#pragma once

#include <array>
#include <map>

#include "testing/harness.h"

namespace ironcore::testing {

class Scenario {
 public:
  // Four bytes choose a control call; a test that prints them can repeat it.
  using Choice = std::array<uint8_t, 4>;
  enum Kind : uint8_t {
    kCreateInterface,
    kDeleteInterface,
    kCreateRoute,
    kDeleteRoute,
    kPrefix,
    kLbPrefix,
    kVip,
    kNat,
    kNeighborNat,
    kLoadBalancer,
    kTarget,
    kFirewall,
    kReset,
    kUplink,
    kAnnounce,
    kTime,
    kKinds
  };

  // Firewall mode, spoofing checks, public IPv6, uplinks, next hops and flow labels by the bits of `choice`.
  static EngineOptions options(uint8_t choice);

  // `wide_routes`: only prefixes so short that a change of one decides all flows of its family again.
  explicit Scenario(Harness& net, bool wide_routes = false) : net_(net), wide_routes_(wide_routes) {}

  // Makes the call; bits 7 of byte 3 takes back instead of creating, where there is no kind of its own for that.
  Status change(const Choice& choice);
  // Interfaces on all devices, default routes, a VIP, a NAT and a load balancer: what is worth sending packets to.
  void populate();

  // Any of the underlay addresses that calls have returned, in use or not. The first one if there is none.
  Ipv6Address underlay(uint8_t choice) const;
  // Where packets for this address have to go, if calls have said so.
  std::optional<Ipv6Address> underlay_of(const IpAddress& address) const;

 private:
  Status note(const IpAddress& address, const Result<Ipv6Address>& created);
  Status firewall(const Choice& choice);

  Harness& net_;
  const bool wide_routes_;
  std::vector<Ipv6Address> underlays_;
  std::map<IpAddress, Ipv6Address> underlay_of_;
};

// Addresses that the scenario knows: of VMs and their prefixes, public ones, and others, of one family.
const std::vector<std::string>& scenario_addresses(bool v6);

}  // namespace ironcore::testing
