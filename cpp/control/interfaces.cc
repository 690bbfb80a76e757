// Interfaces. Creation is a list of steps, each with its way back.
#include <algorithm>

#include "control/impl.h"
#include "control/rollback.h"
#include "core/log.h"

namespace ironcore {
namespace {

constexpr size_t kMaxName = 63, kMaxBootFile = 31;

IpPrefix host_route(const Ipv4Address& address) { return {IpAddress::v4(address), 32}; }
IpPrefix host_route(const Ipv6Address& address) { return {IpAddress::v6(address), 128}; }

bool id_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

}  // namespace

const Engine::Impl::Interface* Engine::Impl::find(std::string_view id) const {
  const auto found = interfaces_.find(id);
  return found == interfaces_.end() ? nullptr : &found->second;
}

Engine::Impl::Interface* Engine::Impl::find(std::string_view id) {
  return const_cast<Interface*>(static_cast<const Impl*>(this)->find(id));
}

// What the caller should have refused already.
Status Engine::Impl::check(const CreateInterfaceRequest& request) const {
  const bool valid = !request.id.empty() && request.id.size() <= kMaxName &&
                     std::all_of(request.id.begin(), request.id.end(), id_character) && !request.device_name.empty() &&
                     request.device_name.size() <= kMaxName && request.hostname.size() <= kMaxName &&
                     (!request.pxe || request.pxe->boot_filename.size() <= kMaxBootFile) &&
                     (request.ipv4 != Ipv4Address{} || request.ipv6 != Ipv6Address{}) &&
                     (!request.preferred_underlay || addresses_.preferred_allowed(*request.preferred_underlay));
  return valid ? Status::OK : Status::BAD_REQUEST;
}

// Rates are limited in software; where clients expect a software device to ignore them, it does and reports none.
bool Engine::Impl::metered(const CreateInterfaceRequest& request) const {
  return (request.total_meter_rate || request.public_meter_rate) &&
         (options_.nic_type != NicType::kTap || options_.meter_software_devices);
}

Status Engine::Impl::check_meter(const CreateInterfaceRequest& request) const {
  if (!metered(request)) return Status::OK;
  const uint64_t total = request.total_meter_rate, public_rate = request.public_meter_rate;
  const bool valid = total <= kMaxMeterRate && public_rate <= kMaxMeterRate && (total == 0 || public_rate <= total);
  return valid ? Status::OK : Status::PORT_METER;
}

void Engine::Impl::publish_meters(const Interface& interface) {
  PortMeters* meters = nullptr;
  if (metered(interface.request)) {
    const auto of_rate = [](uint64_t rate, MeterBurst (*burst)(uint64_t)) {
      return rate ? Meter(rate, burst(rate), rte_get_tsc_hz()) : Meter();
    };
    meters = new PortMeters{of_rate(interface.request.total_meter_rate, total_meter_burst),
                            of_rate(interface.request.public_meter_rate, public_meter_burst)};
  }
  reclaimer_.retire(interface.port->meters.exchange(meters, std::memory_order_acq_rel));
}

Result<CreateInterfaceReply> Engine::Impl::create_interface(const CreateInterfaceRequest& request) {
  Call call(*this);
  if (const Status status = check(request); status != Status::OK) return status;
  Port* port = ports_.by_device_name(request.device_name);
  if (!port) return Status::NOT_FOUND;
  if (port->is_uplink || port->interface.load(std::memory_order_relaxed)) return Status::ALREADY_EXISTS;

  Rollback rollback;
  const Ipv6Address underlay =
      request.preferred_underlay ? *request.preferred_underlay : addresses_.generate(UnderlayType::kInterface);
  const UnderlayObject object{UnderlayType::kInterface, port->id, request.vni, {}};
  if (!underlay_.insert(underlay, object)) return Status::VNF_INSERT;
  rollback.add([this, object] { underlay_.erase(object); });

  if (find(request.id)) return Status::VM_HANDLE;

  Vni* vni = vnis_.acquire(request.vni);
  if (!vni) return Status::VNI_INIT4;
  rollback.add([this, vni] { release_vni(*vni); });

  const Route route = Route::to_port(port->id);
  if (request.ipv4 != Ipv4Address{}) {
    if (const Status status = vni->routes.add(host_route(request.ipv4), route); status != Status::OK) return status;
    rollback.add([vni, added = host_route(request.ipv4)] { vni->routes.remove(added); });
  }
  if (request.ipv6 != Ipv6Address{}) {
    if (const Status status = vni->routes.add(host_route(request.ipv6), route); status != Status::OK) return status;
    rollback.add([vni, added = host_route(request.ipv6)] { vni->routes.remove(added); });
  }
  if (const Status status = check_meter(request); status != Status::OK) return status;
  if (!ports_.start(*port)) return Status::PORT_START;
  port->stop_pending = false;
  rollback.commit();

  // The last MAC seen on this device is the best guess; the VM teaches its own with its first ARP packet.
  port->peer.store(port->peer.load() & ~AtomicMac::kKnown);
  const auto [added, unused] = interfaces_.try_emplace(request.id, request, port, vni, ++last_instance_, underlay);
  flow_limits_.set(port->id, options_.flow_timeouts, options_.flow_quota);
  flow_limits_.set_instance(port->id, last_instance_);
  publish_meters(added->second);
  publish(added->second);
  publish_poll_lists();
  to_announce_.push_back(request.id);
  housekeeping_wake_.notify_all();
  events_.add(EventType::kInterfaceCreated, request.id, request.vni,
              "device " + port->netdev_name + ", underlay address " + to_string(underlay));
  return CreateInterfaceReply{underlay, port->netdev_name};
}

Status Engine::Impl::delete_interface(std::string_view id) {
  Call call(*this);
  const auto found = interfaces_.find(id);
  if (found == interfaces_.end()) return Status::NOT_FOUND;
  Interface& interface = found->second;
  Vni& vni = *interface.vni;
  events_.add(EventType::kInterfaceDeleted, id, vni.number, "device " + interface.port->netdev_name);
  withdraw(*interface.port);
  flow_limits_.set_instance(interface.port->id, 0);
  remove_public_addresses(interface);
  release_virtual_services(*interface.port);
  stop_capturing(interface);
  publish_poll_lists();
  underlay_.erase({UnderlayType::kInterface, interface.port->id, vni.number, {}});
  if (interface.request.ipv4 != Ipv4Address{}) vni.routes.remove(host_route(interface.request.ipv4));
  if (interface.request.ipv6 != Ipv6Address{}) vni.routes.remove(host_route(interface.request.ipv6));
  generations_.vni_changed(vni.slot);
  release_vni(vni);
  stop_when_unused(*interface.port);
  interfaces_.erase(found);
  return Status::OK;
}

Result<InterfaceInfo> Engine::Impl::get_interface(std::string_view id) const {
  Call call(*this);
  const Interface* interface = find(id);
  if (!interface) return Status::NOT_FOUND;
  return describe(*interface);
}

std::vector<InterfaceInfo> Engine::Impl::list_interfaces() const {
  Call call(*this);
  std::vector<std::pair<uint16_t, InterfaceInfo>> by_port;
  for (const auto& [id, interface] : interfaces_) by_port.emplace_back(interface.port->id, describe(interface));
  std::sort(by_port.begin(), by_port.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<InterfaceInfo> list;
  for (auto& [port, info] : by_port) list.push_back(std::move(info));
  return list;
}

InterfaceInfo Engine::Impl::describe(const Interface& interface) const {
  InterfaceInfo info;
  info.id = interface.request.id;
  info.device_name = interface.port->device_name;
  info.netdev_name = interface.port->netdev_name;
  info.hostname = interface.request.hostname;
  info.vni = interface.vni->number;
  info.ipv4 = interface.request.ipv4;
  info.ipv6 = interface.request.ipv6;
  info.underlay = interface.underlay;
  info.mac = AtomicMac::unpack(interface.port->own_mac);
  const uint64_t vm_mac = interface.port->peer.load();
  info.vm_mac = AtomicMac::unpack(vm_mac);
  info.vm_mac_learned = (vm_mac & AtomicMac::kKnown) != 0;
  if (metered(interface.request)) {
    info.total_meter_rate = interface.request.total_meter_rate;
    info.public_meter_rate = interface.request.public_meter_rate;
  }
  return info;
}

void Engine::Impl::publish(const Interface& interface) {
  auto view = std::make_unique<InterfaceView>();
  view->instance = interface.instance;
  view->port = interface.port->id;
  view->vni = interface.vni->number;
  view->network = interface.vni;
  view->ipv4 = interface.request.ipv4;
  view->ipv6 = interface.request.ipv6;
  view->underlay_low = underlay_low(interface.underlay);
  view->hostname = interface.request.hostname;
  view->pxe = interface.request.pxe;
  for (const UnderlayType type : {UnderlayType::kPrefix, UnderlayType::kLbPrefix})
    for (const auto& [object, address] : underlay_.objects(type, interface.port->id))
      if (object.vni == interface.vni->number && RouteTable::valid_length(object.prefix))
        view->prefixes.push_back(
            {RouteTable::masked(object.prefix), underlay_low(address), type == UnderlayType::kLbPrefix});
  const auto source = [](const std::optional<PublicRecord>& record) -> std::optional<PublicSource> {
    if (!record) return std::nullopt;
    return PublicSource{record->address, underlay_low(record->underlay), record->min_port, record->max_port};
  };
  view->vip4 = source(interface.vip[0]);
  view->vip6 = source(interface.vip[1]);
  view->nat4 = source(interface.nat[0]);
  view->nat6 = source(interface.nat[1]);
  view->firewall = interface.classifier;
  view->rule_hits = interface.rule_hits;
  view->total_meter = metered(interface.request) && interface.request.total_meter_rate;
  view->public_meter = metered(interface.request) && interface.request.public_meter_rate;
  reclaimer_.retire(interface.port->interface.exchange(view.release(), std::memory_order_acq_rel));
  generations_.vni_changed(interface.vni->slot);
}

void Engine::Impl::withdraw(Port& port) {
  reclaimer_.retire(port.interface.exchange(nullptr, std::memory_order_acq_rel));
  reclaimer_.retire(port.meters.exchange(nullptr, std::memory_order_acq_rel));
}

// The last user's network takes its public addresses along.
void Engine::Impl::release_vni(Vni& vni) {
  if (vni.references == 1) public_addresses_.purge_vni(vni.number);
  vnis_.release(vni);
}

// Workers may be inside a burst of this device: it stops once all of them have gone on, in a later call or
// housekeeping.
void Engine::Impl::stop_when_unused(Port& port) {
  port.stop_pending = true;
  const uint64_t request = ++port.stop_request;
  reclaimer_.defer([this, &port, request] {
    if (!port.stop_pending || port.stop_request != request) return;  // in use again
    port.stop_pending = false;
    if (!ports_.stop(port)) IRONCORE_LOG(ERR, "port %s does not stop", port.netdev_name.c_str());
  });
  housekeeping_wake_.notify_all();
}

void Engine::Impl::publish_poll_lists() {
  for (auto& worker : workers_) {
    auto list = std::make_unique<PollList>();
    for (Port* uplink : ports_.uplinks()) {
      if (!receives_) break;
      if (uplink->rx_queues > 1) {
        list->sources.push_back({uplink, static_cast<uint16_t>(worker->id())});
      } else if (uplink->pf_index % worker_count_ == worker->id()) {
        list->sources.push_back({uplink, 0});
      }
    }
    for (Port* port : ports_.vm_ports())
      if (receives_ && port->interface.load(std::memory_order_relaxed) && port->id % worker_count_ == worker->id())
        list->sources.push_back({port, 0});
    const PollList* old = worker->poll_list();
    worker->set_poll_list(list.release());
    reclaimer_.retire(old);
  }
}

}  // namespace ironcore
