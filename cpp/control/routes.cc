// Routes, VNIs and the process state.
#include "control/impl.h"

namespace ironcore {
namespace {

void route_changed(Generations& generations, const Vni& vni, const IpPrefix& prefix) {
  const IpPrefix masked = RouteTable::masked(prefix);
  if (masked.address.is_v6) {
    generations.route_changed6(vni.slot, masked.address.bytes.data(), masked.length);
  } else {
    generations.route_changed4(vni.slot, net::swap32(net::load<uint32_t>(masked.address.bytes.data())), masked.length);
  }
}

}  // namespace

Result<std::string> Engine::Impl::initialize() {
  Call call(*this);
  public_addresses_.purge_neighbors();
  for (const auto& [number, vni] : vnis_.all()) reset_routes(*vni);
  if (!initialized_) short_announcements_left_ = 5;
  initialized_ = true;
  return uuid_;
}

std::optional<std::string> Engine::Impl::check_initialized() const {
  Call call(*this);
  return initialized_ ? std::optional(uuid_) : std::nullopt;
}

// Interfaces and their prefixes stay reachable: only what create_route() brought goes.
void Engine::Impl::reset_routes(Vni& vni) {
  vni.routes.remove_external();
  events_.add(EventType::kVniReset, "", vni.number, "routes to other hosts removed");
  generations_.vni_changed(vni.slot);
}

Status Engine::Impl::create_route(uint32_t vni_number, const IpPrefix& prefix, uint32_t nexthop_vni,
                                  const IpAddress& nexthop) {
  Call call(*this);
  if (!nexthop.is_v6) return Status::BAD_IPVER;
  Vni* vni = vnis_.find(vni_number);
  if (!vni) return Status::NO_VNI;
  Status status = vni->routes.add(prefix, Route::to_host({nexthop_vni, nexthop.bytes}));
  if (status == Status::ROUTE_EXISTS && options_.multipath)
    status = vni->routes.add_nexthop(prefix, {nexthop_vni, nexthop.bytes});
  if (status == Status::OK) {
    route_changed(generations_, *vni, prefix);
    events_.add(EventType::kRouteCreated, to_string(prefix), vni_number, "next hop " + to_string(nexthop));
  }
  return status;
}

Status Engine::Impl::delete_route(uint32_t vni_number, const IpPrefix& prefix,
                                  const std::optional<Ipv6Address>& nexthop) {
  Call call(*this);
  Vni* vni = vnis_.find(vni_number);
  if (!vni) return Status::NO_VNI;
  const Route* route = vni->routes.find(prefix);
  if (!route) return Status::ROUTE_NOT_FOUND;
  if (route->local) return Status::ROUTE_BAD_PORT;
  const Status status = nexthop ? vni->routes.remove_nexthop(prefix, *nexthop) : vni->routes.remove(prefix);
  if (status == Status::OK) {
    route_changed(generations_, *vni, prefix);
    events_.add(EventType::kRouteDeleted, to_string(prefix), vni_number,
                nexthop ? "next hop " + to_string(*nexthop) : "all next hops");
  }
  return status;
}

Result<std::vector<RouteInfo>> Engine::Impl::list_routes(uint32_t vni_number) const {
  Call call(*this);
  std::vector<RouteInfo> routes;
  if (vni_number == 0) {
    for (const auto& [number, vni] : vnis_.all()) vni->routes.list_external(number, routes);
    return routes;
  }
  const Vni* vni = vnis_.find(vni_number);
  if (!vni) return Status::NO_VNI;
  vni->routes.list_external(vni_number, routes);
  return routes;
}

Result<bool> Engine::Impl::check_vni_in_use(uint32_t vni, VniType type) const {
  Call call(*this);
  if (type == VniType::kBoth) return Status::WRONG_TYPE;
  return vnis_.find(vni) != nullptr;
}

Status Engine::Impl::reset_vni(uint32_t vni_number, VniType type) {
  Call call(*this);
  if (type != VniType::kBoth) return Status::WRONG_TYPE;
  if (Vni* vni = vnis_.find(vni_number)) reset_routes(*vni);
  return Status::OK;
}

}  // namespace ironcore
