// Looking into the engine: explanations, flows, events, limits and states of interfaces.
#include <rte_mbuf.h>

#include "control/impl.h"
#include "explain/explain.h"
#include "explain/flow_list.h"

namespace ironcore {

// Lets the caller look at entries of the flow table: while this lives, none is filled anew. One at a time, as they
// share a reader's number. Not to be held for long: memory of removed flows is not reused meanwhile.
class Engine::Impl::FlowReader {
 public:
  explicit FlowReader(Impl& impl) : impl_(impl), lock_(impl.flow_reader_mutex_) {
    impl_.rcu_.enter(impl_.worker_count_);
  }
  ~FlowReader() { impl_.rcu_.leave(impl_.worker_count_); }
  FlowReader(const FlowReader&) = delete;
  FlowReader& operator=(const FlowReader&) = delete;

  FlowContext context(const PortNames& names) const {
    return {impl_.flows_,
            impl_.flow_limits_,
            impl_.generations_,
            names,
            impl_.shared_.tables.host_prefix,
            impl_.clock_.tick_of(impl_.clock_.now())};
  }

 private:
  Impl& impl_;
  std::lock_guard<std::mutex> lock_;
};

PortNames Engine::Impl::port_names() const {
  std::map<uint16_t, PortNames::Owner> owners;
  for (const auto& [id, interface] : interfaces_) owners[interface.port->id] = {interface.instance, id};
  return {ports_, std::move(owners)};
}

Result<Explanation> Engine::Impl::explain_packet(const PacketSource& source, const std::vector<uint8_t>& frame) {
  Call call(*this);
  Port* port = nullptr;
  if (source.interface_id.empty()) {
    port = ports_.uplink(source.uplink);
  } else if (const Interface* interface = find(source.interface_id)) {
    port = interface->port;
  }
  if (!port) return Status::NOT_FOUND;
  const size_t room = rte_pktmbuf_data_room_size(ports_.pool()) - RTE_PKTMBUF_HEADROOM;
  if (frame.empty() || frame.size() > room) return Status::BAD_REQUEST;
  const PortNames names = port_names();
  const FlowReader reader(*this);
  return explain(shared_, reader.context(names), *port, frame);
}

Result<FlowPage> Engine::Impl::list_flows(const FlowFilter& filter, uint64_t from, size_t limit) {
  if (limit == 0 || limit > kMaxFlowsPerPage || from >= flows_.slots()) return Status::BAD_REQUEST;
  const auto names = [&]() -> std::optional<PortNames> {
    Call call(*this);
    if (filter.interface_id && !find(*filter.interface_id)) return std::nullopt;
    return port_names();
  }();
  if (!names) return Status::NOT_FOUND;
  const FlowReader reader(*this);  // control calls go on
  return ironcore::list_flows(reader.context(*names), filter, from, limit);
}

Status Engine::Impl::set_flow_limits(std::string_view id, const FlowTimeouts& timeouts, uint32_t quota) {
  Call call(*this);
  const Interface* interface = find(id);
  if (!interface) return Status::NOT_FOUND;
  if (!valid(timeouts)) return Status::BAD_REQUEST;
  flow_limits_.set(interface->port->id, timeouts, quota);
  events_.add(EventType::kFlowLimitsChanged, id, interface->vni->number, "quota " + std::to_string(quota));
  return Status::OK;
}

InterfaceState Engine::Impl::state_of(const Interface& interface) const {
  InterfaceState state;
  const uint16_t port = interface.port->id;
  state.info = describe(interface);
  for (const bool is_nat : {false, true})
    for (const auto& record : is_nat ? interface.nat : interface.vip)
      if (record)
        state.public_addresses.push_back(
            {is_nat, record->address, record->min_port, record->max_port, record->underlay});
  for (const bool is_lb : {false, true})
    for (const auto& [object, address] :
         underlay_.objects(is_lb ? UnderlayType::kLbPrefix : UnderlayType::kPrefix, port))
      (is_lb ? state.lb_prefixes : state.prefixes).push_back({object.prefix, address});
  for (const bool is_v6 : {false, true})
    if (const auto inside = inside_address(interface, is_v6))
      state.nat_ports += nat_ports_.flows_of(interface.vni->number, *inside);
  state.firewall_rules = interface.rules.size();
  state.limits = {flow_limits_.timeouts(port), flow_limits_.quota(port)};
  state.flows = flow_limits_.connections(port);
  return state;
}

Result<InterfaceState> Engine::Impl::get_interface_state(std::string_view id) const {
  Call call(*this);
  const Interface* interface = find(id);
  if (!interface) return Status::NOT_FOUND;
  return state_of(*interface);
}

std::vector<InterfaceState> Engine::Impl::list_interface_states() const {
  Call call(*this);
  std::vector<InterfaceState> states;
  for (const auto& [id, interface] : interfaces_) states.push_back(state_of(interface));
  return states;
}

void Engine::Impl::note_table_levels() {
  for (const TableLevel& level : table_levels()) {
    TableState& state = table_states_[level.name];
    const TableState next = next_table_state(state, level.used, level.capacity);
    if (next == state) continue;
    const EventType type = next == TableState::kFull         ? EventType::kTableFull
                           : next == TableState::kNearlyFull ? EventType::kTableNearlyFull
                                                             : EventType::kTableRelieved;
    // From full to nearly full is no news.
    if (state != TableState::kFull || next == TableState::kFree)
      events_.add(type, level.name, 0, std::to_string(level.used) + " of " + std::to_string(level.capacity));
    state = next;
  }
}

Result<Explanation> Engine::explain_packet(const PacketSource& source, const std::vector<uint8_t>& frame) {
  return impl_->explain_packet(source, frame);
}
Result<FlowPage> Engine::list_flows(const FlowFilter& filter, uint64_t from, size_t limit) {
  return impl_->list_flows(filter, from, limit);
}
Result<InterfaceState> Engine::get_interface_state(std::string_view id) const { return impl_->get_interface_state(id); }
std::vector<InterfaceState> Engine::list_interface_states() const { return impl_->list_interface_states(); }
Status Engine::set_flow_limits(std::string_view id, const FlowTimeouts& timeouts, uint32_t quota) {
  return impl_->set_flow_limits(id, timeouts, quota);
}
EventBatch Engine::read_events(uint64_t from, size_t limit) const { return impl_->events().read(from, limit); }
uint64_t Engine::next_event() const { return impl_->events().next_sequence(); }
bool Engine::wait_event(uint64_t sequence, uint32_t milliseconds) const {
  return impl_->events().wait(sequence, std::chrono::milliseconds(milliseconds));
}
void Engine::interrupt_event_waits() { impl_->events().interrupt(); }

}  // namespace ironcore
