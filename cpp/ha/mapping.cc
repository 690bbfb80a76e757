#include "ha/mapping.h"

#include <algorithm>

#include "flow/connections.h"

namespace ironcore::ha {

NatMapping mapping_of(const Identity& id, const NatBinding& nat) {
  return nat_mapping(id.key, id.vni, nat.address, nat.port);
}

Identity identity_of(const NatMapping& mapping, uint16_t port, uint16_t icmp_type) {
  Identity id;
  id.vni = mapping.source.vni;
  id.port = port;
  id.key.side = Side::kVm;
  id.key.family = mapping.source.address.is_v6 ? 6 : 4;
  id.key.proto = mapping.destination.protocol;
  id.key.src_port = is_icmp(id.key) ? icmp_type : net::swap16(mapping.source.port);
  id.key.dst_port = net::swap16(mapping.destination.port);
  set_source(id.key, mapping.source.address);
  IpAddress destination = mapping.destination.address;
  if (id.key.is_v6() && !destination.is_v6) {
    const auto& v4 = mapping.destination.address.bytes;
    destination.is_v6 = true;
    std::copy(kNat64Prefix.begin(), kNat64Prefix.end(), destination.bytes.begin());
    std::copy_n(v4.begin(), 4, destination.bytes.begin() + 12);
  }
  set_destination(id.key, destination);
  return id;
}

}  // namespace ironcore::ha
