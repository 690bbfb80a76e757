// Alias prefixes and load-balancer prefixes. Both belong to the interface's device and outlive the interface.
#include "control/impl.h"

namespace ironcore {
namespace {

UnderlayObject object_of(UnderlayType type, const Port& port, uint32_t vni, const IpPrefix& prefix) {
  return {type, port.id, vni, prefix};
}

}  // namespace

Result<Ipv6Address> Engine::Impl::create_prefix(std::string_view id, const IpPrefix& prefix,
                                                const std::optional<Ipv6Address>& preferred) {
  Call call(*this);
  Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  Vni& vni = *interface->vni;
  if (const Status status = vni.routes.add(prefix, Route::to_port(interface->port->id)); status != Status::OK)
    return status;
  const Ipv6Address address = preferred ? *preferred : addresses_.generate(UnderlayType::kPrefix);
  if (!underlay_.insert(address, object_of(UnderlayType::kPrefix, *interface->port, vni.number, prefix))) {
    vni.routes.remove(prefix);
    return Status::VNF_INSERT;
  }
  publish(*interface);
  events_.add(EventType::kPrefixCreated, id, vni.number,
              to_string(prefix) + ", underlay address " + to_string(address));
  return address;
}

Status Engine::Impl::delete_prefix(std::string_view id, const IpPrefix& prefix) {
  Call call(*this);
  Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  Vni& vni = *interface->vni;
  const Route* route = vni.routes.find(prefix);
  const Status route_status = !route                                                ? Status::ROUTE_NOT_FOUND
                              : !route->local || route->port != interface->port->id ? Status::ROUTE_BAD_PORT
                                                                                    : Status::OK;
  const UnderlayObject object = object_of(UnderlayType::kPrefix, *interface->port, vni.number, prefix);
  // A route without its record is the interface's own address, or the prefix was created with other host bits.
  if (!underlay_.address_of(object)) return route_status == Status::OK ? Status::NOT_FOUND : route_status;
  underlay_.erase(object);
  if (route_status == Status::OK) vni.routes.remove(prefix);
  publish(*interface);
  events_.add(EventType::kPrefixDeleted, id, vni.number, to_string(prefix));
  return route_status;
}

Result<Ipv6Address> Engine::Impl::create_lb_prefix(std::string_view id, const IpPrefix& prefix,
                                                   const std::optional<Ipv6Address>& preferred) {
  Call call(*this);
  Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  const UnderlayObject object = object_of(UnderlayType::kLbPrefix, *interface->port, interface->vni->number, prefix);
  if (underlay_.address_of(object)) return Status::ALREADY_EXISTS;
  const Ipv6Address address = preferred ? *preferred : addresses_.generate(UnderlayType::kLbPrefix);
  if (!underlay_.insert(address, object)) return Status::VNF_INSERT;
  publish(*interface);
  events_.add(EventType::kPrefixCreated, id, interface->vni->number,
              "load balancer " + to_string(prefix) + ", underlay address " + to_string(address));
  return address;
}

Status Engine::Impl::delete_lb_prefix(std::string_view id, const IpPrefix& prefix) {
  Call call(*this);
  Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  if (!underlay_.erase(object_of(UnderlayType::kLbPrefix, *interface->port, interface->vni->number, prefix)))
    return Status::NOT_FOUND;
  publish(*interface);
  events_.add(EventType::kPrefixDeleted, id, interface->vni->number, "load balancer " + to_string(prefix));
  return Status::OK;
}

Result<std::vector<PrefixInfo>> Engine::Impl::list_prefixes(std::string_view id, UnderlayType type) const {
  Call call(*this);
  const Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  std::vector<PrefixInfo> prefixes;
  for (const auto& [object, address] : underlay_.objects(type, interface->port->id))
    prefixes.push_back({object.prefix, address});
  return prefixes;
}

}  // namespace ironcore
