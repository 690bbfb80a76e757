#include "ha/restore.h"

#include "flow/policy.h"
#include "worker/packet_steps.h"

namespace ironcore::ha {
namespace {

// The port that the connection has, if the interface's range still contains it.
class RecordedPort final : public NatPortChoice {
 public:
  RecordedPort(NatPorts& ports, const std::optional<NatBinding>& nat) : ports_(ports), nat_(nat) {}

  std::optional<uint16_t> port_for(const NatSource& source, const NatDestination& destination,
                                   const NatRange& range) override {
    if (!nat_ || nat_->address != range.address || nat_->port < range.min || nat_->port >= range.max)
      return std::nullopt;
    const NatOutcome outcome = ports_.insert_verbatim({source, destination, nat_->address, nat_->port});
    const bool have = outcome == NatOutcome::kCreated || outcome == NatOutcome::kExisting;
    return have ? std::optional(nat_->port) : std::nullopt;
  }

 private:
  NatPorts& ports_;
  const std::optional<NatBinding>& nat_;
};

// What a decision has to know of the one before it.
FlowContent content_before(const Target& target) {
  FlowContent before;
  if (const auto* port = std::get_if<uint16_t>(&target)) {
    before.program.action = Action::kDeliver;
    before.program.out_port = *port;
  } else if (const auto* host = std::get_if<Ipv6Address>(&target)) {
    before.program.action = Action::kEncap;
    before.program.outer_dst = *host;
  }
  return before;
}

void set_tcp(const FlowTable& flows, FlowEntry& entry, TcpTrack tcp) {
  const bool established = tcp.state == TcpState::kEstablished;
  entry.tcp.store(tcp.pack(), std::memory_order_relaxed);
  entry.tcp_established.store(established, std::memory_order_relaxed);
  if (FlowEntry* peer = flows.get(entry.peer())) peer->tcp_established.store(established, std::memory_order_relaxed);
}

}  // namespace

DropReason restore(const RestoreContext& context, const Connection& connection, Tick now) {
  const auto& [id, state] = connection;
  RecordedPort nat_port(context.nat_ports, state.nat);
  const FlowContent before = content_before(state.target);
  const bool has_target = !std::holds_alternative<std::monostate>(state.target);
  const DecisionContext decision_context{context.tables, nat_port, has_target ? &before : nullptr};
  FlowKey key = id.key;
  const InterfaceView* from = id.from_vm() ? interface_in(context.tables, id.port, id.vni) : nullptr;
  if (id.from_vm()) {
    if (!from) return DropReason::interface_gone;
    key.scope = from->instance;
  }
  const Decision decision = decide_flow(decision_context, from, key);
  if (decision.drop != kNoDrop) return decision.drop;
  if (decision.answer_echo) return DropReason::icmp_type_unsupported;
  // What is there belongs to another connection of the peer.
  const Connections::Begun begun =
      context.connections.begin(key, context.flows.hash(key), decision, now, [](const FlowEntry&) { return false; });
  if (!begun.entry)
    return begun.refusal == Connections::Refusal::kQuota ? DropReason::flow_quota : DropReason::flow_table_full;
  if (begun.created) set_tcp(context.flows, *begun.entry, state.tcp);
  return kNoDrop;
}

}  // namespace ironcore::ha
