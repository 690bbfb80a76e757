#include "explain/fields.h"

namespace ironcore {
namespace {

const char* protocol_name(uint8_t protocol) {
  switch (protocol) {
    case net::kTcp:
      return "TCP";
    case net::kUdp:
      return "UDP";
    case net::kIcmp:
      return "ICMP";
    case net::kIcmp6:
      return "ICMPv6";
    default:
      return nullptr;
  }
}

std::string with_port(const IpAddress& address, uint16_t port) {
  const std::string text = to_string(address);
  return (address.is_v6 ? "[" + text + "]" : text) + ":" + std::to_string(port);
}

std::string tcp_state_name(TcpState state) {
  switch (state) {
    case TcpState::kNone:
      return "new";
    case TcpState::kSyn:
      return "syn";
    case TcpState::kSynAck:
      return "syn_ack";
    case TcpState::kEstablished:
      return "established";
    case TcpState::kFinWait:
      return "fin_wait";
    case TcpState::kClosed:
      return "closed";
    case TcpState::kPickUp:
      return "pick_up";
  }
  return "";
}

IpAddress address_of(const translate::Rewrite& rewrite) {
  const bool is_v6 = rewrite.kind == translate::RewriteKind::kSixToFour   ? false
                     : rewrite.kind == translate::RewriteKind::kFourToSix ? true
                                                                          : rewrite.is_v6;
  return {is_v6, rewrite.address};
}

uint32_t seconds_since(Tick now, Tick then) {
  const auto ticks = static_cast<int32_t>(now - then);  // another worker's clock may be ahead
  return ticks > 0 ? static_cast<uint32_t>(ticks) / kTicksPerSecond : 0;
}

FlowDirectionInfo direction_of(const FlowContext& context, const FlowEntry& entry) {
  FlowDirectionInfo direction;
  direction.match = fields_of(entry.key);
  direction.from_vm = entry.key.side == Side::kVm;
  if (!direction.from_vm) direction.underlay = underlay_address(context.host_prefix, entry.key.scope);
  direction.program = describe(entry.program, entry.rewrite, context.names, context.host_prefix);
  direction.packets = entry.packets.get();
  direction.bytes = entry.bytes.get();
  direction.idle_seconds = seconds_since(context.now, entry.last_used.load(std::memory_order_relaxed));
  return direction;
}

bool is_current(const Generations& generations, const FlowEntry& entry) {
  return generations.get(entry.generation_index.load(std::memory_order_relaxed)) ==
         entry.generation.load(std::memory_order_relaxed);
}

}  // namespace

std::string PortNames::device(uint16_t port) const {
  const Port* device = ports_.by_id(port);
  return device ? device->netdev_name : std::string();
}

std::string PortNames::uplink(unsigned index) const {
  const Port* device = ports_.uplink(index);
  return device ? device->netdev_name : std::string();
}

std::string PortNames::interface(uint16_t port) const {
  const auto found = owners_.find(port);
  return found == owners_.end() ? std::string() : found->second.id;
}

std::string PortNames::owner(const FlowOwner& owner) const {
  const auto found = owners_.find(owner.port);
  const bool same = found != owners_.end() && static_cast<uint32_t>(found->second.instance) == owner.instance;
  return same ? found->second.id : std::string();
}

PacketFields fields_of(const FlowKey& key) {
  PacketFields fields;
  fields.source = source_of(key);
  fields.destination = destination_of(key);
  fields.protocol = key.proto;
  fields.later_fragment = key.fragment;
  if (key.fragment) return fields;
  if (is_icmp(key)) {
    fields.icmp_type = icmp_type(key);
    fields.icmp_code = icmp_code(key);
    fields.icmp_id = net::swap16(key.dst_port);
  } else {
    fields.source_port = net::swap16(key.src_port);
    fields.destination_port = net::swap16(key.dst_port);
  }
  return fields;
}

std::string to_string(const PacketFields& fields) {
  const char* name = protocol_name(fields.protocol);
  std::string text = name ? name : "IP protocol " + std::to_string(fields.protocol);
  const bool has_ports = fields.protocol == net::kTcp || fields.protocol == net::kUdp;
  if (has_ports && !fields.later_fragment)
    return text + " " + with_port(fields.source, fields.source_port) + " > " +
           with_port(fields.destination, fields.destination_port);
  if (fields.later_fragment) {
    text += " fragment";
  } else if (fields.protocol == net::kIcmp || fields.protocol == net::kIcmp6) {
    text += " type " + std::to_string(fields.icmp_type) + " code " + std::to_string(fields.icmp_code) + " id " +
            std::to_string(fields.icmp_id);
  }
  return text + " " + to_string(fields.source) + " > " + to_string(fields.destination);
}

Ipv6Address underlay_address(uint64_t host_prefix, uint64_t low) {
  Ipv6Address address;
  net::store(address.data(), host_prefix);
  net::store(address.data() + 8, low);
  return address;
}

FlowProgramInfo describe(const FlowProgram& program, const translate::Rewrite& rewrite, const PortNames& names,
                         uint64_t host_prefix) {
  FlowProgramInfo info;
  switch (program.action) {
    case Action::kDeliver:
      info.action = PacketAction::kDeliver;
      info.device = names.device(program.out_port);
      info.interface_id = names.interface(program.out_port);
      break;
    case Action::kEncap:
    case Action::kLoop:
      info.action = program.action == Action::kEncap ? PacketAction::kEncapsulate : PacketAction::kLoop;
      if (program.action == Action::kEncap && program.uplink != kIngressUplink)
        info.device = names.uplink(program.uplink);
      info.outer_source = underlay_address(host_prefix, program.outer_src_low);
      info.outer_destination = program.outer_dst;
      break;
  }
  info.translation = static_cast<Translation>(rewrite.kind);
  if (rewrite.kind != translate::RewriteKind::kNone) info.new_address = address_of(rewrite);
  if (rewrite.has_port) info.new_port = net::swap16(rewrite.port);
  info.total_rate = program.features & kMeterTotal;
  info.public_rate = program.features & kMeterPublic;
  return info;
}

std::string to_string(const FlowProgramInfo& program) {
  std::string text;
  const std::string port = program.new_port ? " port " + std::to_string(*program.new_port) : "";
  switch (program.translation) {
    case Translation::kNone:
      break;
    case Translation::kSource:
      text = "source becomes " + to_string(program.new_address) + port + ", ";
      break;
    case Translation::kDestination:
      text = "destination becomes " + to_string(program.new_address) + port + ", ";
      break;
    case Translation::kNat64Out:
      text = "IPv4 from " + to_string(program.new_address) + port + ", ";
      break;
    case Translation::kNat64In:
      text = "IPv6 to " + to_string(program.new_address) + port + ", ";
      break;
  }
  if (program.action == PacketAction::kDeliver) {
    const std::string owner = program.interface_id.empty() ? "" : " (interface " + program.interface_id + ")";
    return text + "deliver to device " + program.device + owner;
  }
  const std::string target = to_string(program.outer_destination);
  if (program.action == PacketAction::kLoop) return text + "to " + target + " on this host";
  const std::string uplink = program.device.empty() ? "the uplink it came in on" : "uplink " + program.device;
  return text + "encapsulate to " + target + " by " + uplink;
}

FlowInfo describe(const FlowContext& context, const FlowEntry& original) {
  FlowInfo flow;
  flow.vni = original.owner.vni;
  flow.interface_id = context.names.owner(original.owner);
  flow.original = direction_of(context, original);
  if (const FlowEntry* reply = context.flows.get(original.peer())) flow.reply = direction_of(context, *reply);
  if (original.owner.timeout == TimeoutClass::kTcp)
    flow.tcp_state = tcp_state_name(TcpTrack::unpack(original.tcp.load(std::memory_order_relaxed)).state);
  flow.current = is_current(context.generations, original);
  flow.age_seconds = seconds_since(context.now, original.created);
  flow.expires_in_seconds =
      (remaining_lifetime(context.flows, original, context.now, context.limits) + kTicksPerSecond - 1) /
      kTicksPerSecond;
  if (original.owner.nat) {
    const NatMapping mapping = nat_mapping(original.key, content_of(original));
    flow.nat = NatMappingInfo{mapping.source.address, mapping.nat_address, mapping.destination.address,
                              mapping.source.port,    mapping.nat_port,    mapping.destination.port};
  }
  return flow;
}

}  // namespace ironcore
