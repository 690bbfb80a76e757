// Virtual IPs, NAT ranges of interfaces, and those of other hosts.
#include <rte_jhash.h>

#include <algorithm>

#include "control/impl.h"
#include "control/rollback.h"

namespace ironcore {
namespace {

bool is_zero(const IpAddress& address) { return address.bytes == std::array<uint8_t, 16>{}; }

// Position in lists of local NATs: that of the reference's hash table (Jenkins' lookup3 over address and VNI, 1024
// buckets), which its clients' tests expect.
uint32_t list_position(const LocalNatInfo& nat) {
  const uint32_t key[2] = {net::swap32(net::load<uint32_t>(nat.inside.bytes.data())), nat.vni};
  return rte_jhash_32b(key, 2, 0xfee1900d) % 1024;
}

std::string port_range(const IpAddress& address, uint16_t min_port, uint16_t max_port) {
  return to_string(address) + " ports " + std::to_string(min_port) + " to " + std::to_string(max_port - 1);
}

template <typename Record>
const Record* first_of(const std::optional<Record> (&records)[2]) {
  return records[0] ? &*records[0] : records[1] ? &*records[1] : nullptr;
}

}  // namespace

std::optional<IpAddress> Engine::Impl::inside_address(const Interface& interface, bool is_v6) {
  const CreateInterfaceRequest& request = interface.request;
  if (is_v6) return request.ipv6 == Ipv6Address{} ? std::nullopt : std::optional(IpAddress::v6(request.ipv6));
  return request.ipv4 == Ipv4Address{} ? std::nullopt : std::optional(IpAddress::v4(request.ipv4));
}

UnderlayObject Engine::Impl::public_object(UnderlayType type, const Interface& interface, const IpAddress& address) {
  return {type, interface.port->id, interface.vni->number, {address, static_cast<uint8_t>(address.is_v6 ? 128 : 32)}};
}

Result<Ipv6Address> Engine::Impl::create_vip(std::string_view id, const IpAddress& vip,
                                             const std::optional<Ipv6Address>& preferred) {
  Call call(*this);
  Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  const auto inside = inside_address(*interface, vip.is_v6);
  if (!family_allowed(vip) || !inside) return Status::BAD_IPVER;
  if (is_zero(vip)) return Status::BAD_REQUEST;
  const Ipv6Address underlay = preferred ? *preferred : addresses_.generate(UnderlayType::kVip);
  const UnderlayObject object = public_object(UnderlayType::kVip, *interface, vip);
  std::optional<PublicRecord>& record = interface->vip[vip.is_v6];
  if (record) return underlay_.taken(underlay) ? Status::VNF_INSERT : Status::SNAT_EXISTS;
  if (!underlay_.insert(underlay, object)) return Status::VNF_INSERT;
  const Status status =
      public_addresses_.add_vip(interface->vni->number, vip, {interface->port->id, *inside, underlay});
  if (status != Status::OK) {
    underlay_.erase(object);
    return status;
  }
  record = PublicRecord{vip, underlay, 0, 0};
  publish(*interface);
  events_.add(EventType::kVipCreated, id, interface->vni->number, to_string(vip));
  return underlay;
}

Result<VipInfo> Engine::Impl::get_vip(std::string_view id) const {
  Call call(*this);
  const Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  const PublicRecord* record = first_of(interface->vip);
  if (!record) return Status::SNAT_NO_DATA;
  return VipInfo{record->address, record->underlay};
}

Status Engine::Impl::delete_vip(std::string_view id) {
  Call call(*this);
  Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  std::optional<PublicRecord>& record = interface->vip[interface->vip[0] ? 0 : 1];
  if (!record) return Status::SNAT_NO_DATA;
  underlay_.erase(public_object(UnderlayType::kVip, *interface, record->address));
  public_addresses_.remove_vip(interface->vni->number, record->address);
  events_.add(EventType::kVipDeleted, id, interface->vni->number, to_string(record->address));
  record.reset();
  publish(*interface);
  return Status::OK;
}

Result<Ipv6Address> Engine::Impl::create_nat(std::string_view id, const IpAddress& nat_ip, uint16_t min_port,
                                             uint16_t max_port, const std::optional<Ipv6Address>& preferred) {
  Call call(*this);
  Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  // Through NAT64 a NAT serves an interface that has IPv6 only.
  const bool usable = inside_address(*interface, nat_ip.is_v6) || !nat_ip.is_v6;
  if (!family_allowed(nat_ip) || !usable) return Status::BAD_IPVER;
  if (is_zero(nat_ip) || min_port >= max_port) return Status::BAD_REQUEST;
  const Ipv6Address underlay = preferred ? *preferred : addresses_.generate(UnderlayType::kNat);
  const UnderlayObject object = public_object(UnderlayType::kNat, *interface, nat_ip);
  std::optional<PublicRecord>& record = interface->nat[nat_ip.is_v6];
  if (record) return underlay_.taken(underlay) ? Status::VNF_INSERT : Status::SNAT_EXISTS;
  if (!underlay_.insert(underlay, object)) return Status::VNF_INSERT;
  const Status status =
      public_addresses_.add_nat(interface->vni->number, nat_ip, {min_port, max_port, interface->port->id, underlay});
  if (status != Status::OK) {
    underlay_.erase(object);
    return status;
  }
  record = PublicRecord{nat_ip, underlay, min_port, max_port};
  nat_ports_.populate_ahead();
  publish(*interface);
  events_.add(EventType::kNatCreated, id, interface->vni->number, port_range(nat_ip, min_port, max_port));
  return underlay;
}

Result<NatInfo> Engine::Impl::get_nat(std::string_view id) const {
  Call call(*this);
  const Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  const PublicRecord* record = first_of(interface->nat);
  if (!record) return Status::SNAT_NO_DATA;
  return NatInfo{record->address, record->min_port, record->max_port, record->underlay};
}

Status Engine::Impl::delete_nat(std::string_view id) {
  Call call(*this);
  Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  std::optional<PublicRecord>& record = interface->nat[interface->nat[0] ? 0 : 1];
  if (!record) return Status::SNAT_NO_DATA;
  underlay_.erase(public_object(UnderlayType::kNat, *interface, record->address));
  public_addresses_.remove_nat(interface->vni->number, record->address, interface->port->id);
  events_.add(EventType::kNatDeleted, id, interface->vni->number,
              port_range(record->address, record->min_port, record->max_port));
  record.reset();
  publish(*interface);
  return Status::OK;
}

// An interface that goes takes its public addresses with it: nobody could name them any more.
void Engine::Impl::remove_public_addresses(Interface& interface) {
  for (auto& vip : interface.vip)
    if (vip) {
      underlay_.erase(public_object(UnderlayType::kVip, interface, vip->address));
      public_addresses_.remove_vip(interface.vni->number, vip->address);
      vip.reset();
    }
  for (auto& nat : interface.nat)
    if (nat) {
      underlay_.erase(public_object(UnderlayType::kNat, interface, nat->address));
      public_addresses_.remove_nat(interface.vni->number, nat->address, interface.port->id);
      nat.reset();
    }
}

Result<std::vector<LocalNatInfo>> Engine::Impl::list_local_nats(const IpAddress& nat_ip) const {
  Call call(*this);
  if (!family_allowed(nat_ip)) return Status::BAD_IPVER;
  std::vector<LocalNatInfo> nats;
  for (const auto& [id, interface] : interfaces_)
    for (const auto& record : interface.nat) {
      if (!record || !(is_zero(nat_ip) || record->address == nat_ip)) continue;
      const auto inside = inside_address(interface, record->address.is_v6);
      LocalNatInfo info;
      info.inside = inside.value_or(IpAddress::v6(interface.request.ipv6));
      info.vni = interface.vni->number;
      info.nat = {record->address, record->min_port, record->max_port, record->underlay};
      info.flows = nat_ports_.flows_of(info.vni, info.inside);
      nats.push_back(info);
    }
  std::stable_sort(nats.begin(), nats.end(),
                   [](const auto& a, const auto& b) { return list_position(a) < list_position(b); });
  return nats;
}

Status Engine::Impl::create_neighbor_nat(const NeighborNat& nat) {
  Call call(*this);
  if (!family_allowed(nat.nat_ip)) return Status::BAD_IPVER;
  const Status status = public_addresses_.add_neighbor(nat);
  if (status == Status::OK)
    events_.add(EventType::kNeighborNatCreated, to_string(nat.underlay), nat.vni,
                port_range(nat.nat_ip, nat.min_port, nat.max_port));
  if (const Vni* vni = vnis_.find(nat.vni); vni && status == Status::OK) generations_.vni_changed(vni->slot);
  return status;
}

Status Engine::Impl::delete_neighbor_nat(const IpAddress& nat_ip, uint32_t vni_number, uint16_t min_port,
                                         uint16_t max_port) {
  Call call(*this);
  if (!family_allowed(nat_ip)) return Status::BAD_IPVER;
  const Status status = public_addresses_.remove_neighbor(nat_ip, vni_number, min_port, max_port);
  if (status == Status::OK)
    events_.add(EventType::kNeighborNatDeleted, "", vni_number, port_range(nat_ip, min_port, max_port));
  if (const Vni* vni = vnis_.find(vni_number); vni && status == Status::OK) generations_.vni_changed(vni->slot);
  return status;
}

Result<std::vector<NeighborNat>> Engine::Impl::list_neighbor_nats(const IpAddress& nat_ip) const {
  Call call(*this);
  if (!family_allowed(nat_ip)) return Status::BAD_IPVER;
  return public_addresses_.neighbors(nat_ip);
}

}  // namespace ironcore
