// First packets of flows, and packets of flows whose tables have changed.
#include "overlay/too_big.h"
#include "worker/burst.h"

namespace ironcore {
namespace {

constexpr uint16_t kDhcpServer = net::swap16(67), kDhcp6Server = net::swap16(547);
constexpr uint8_t kRouterSolicitation = 133, kRedirect = 137;

// IP packets that may be for the gateway itself; it decides. Never kept as flows, so each of them comes here.
bool concerns_gateway(const FlowKey& key) {
  if (key.is_v6()) {
    const auto type = static_cast<uint8_t>(key.src_port & 0xff);
    return (key.proto == net::kUdp && key.dst_port == kDhcp6Server) ||
           (key.proto == net::kIcmp6 && type >= kRouterSolicitation && type <= kRedirect) ||
           std::memcmp(key.dst6, guest::kGatewayIpv6.data(), 16) == 0;
  }
  return (key.proto == net::kUdp && key.dst_port == kDhcpServer) || key.dst4 == net::swap32(guest::kGatewayIpv4);
}

DropReason drop_reason_of(guest::GuestDrop drop) {
  using guest::GuestDrop;
  switch (drop) {
    case GuestDrop::kNoRoom:
      return DropReason::guest_no_room;
    case GuestDrop::kEthSource:
      return DropReason::guest_eth_source;
    case GuestDrop::kArpMalformed:
      return DropReason::arp_malformed;
    case GuestDrop::kArpNotGateway:
      return DropReason::arp_not_gateway;
    case GuestDrop::kNdMalformed:
      return DropReason::nd_malformed;
    case GuestDrop::kNdDisabled:
      return DropReason::nd_disabled;
    case GuestDrop::kNdNotGateway:
      return DropReason::nd_not_gateway;
    case GuestDrop::kNdFromGuest:
      return DropReason::nd_from_guest;
    case GuestDrop::kDhcp4Malformed:
      return DropReason::dhcp4_malformed;
    case GuestDrop::kDhcp4NoAddress:
      return DropReason::dhcp4_no_address;
    case GuestDrop::kDhcp4Relayed:
      return DropReason::dhcp4_relayed;
    case GuestDrop::kDhcp4MessageType:
      return DropReason::dhcp4_message_type;
    case GuestDrop::kDhcp6Malformed:
      return DropReason::dhcp6_malformed;
    case GuestDrop::kDhcp6NoAddress:
      return DropReason::dhcp6_no_address;
    case GuestDrop::kDhcp6MessageType:
      return DropReason::dhcp6_message_type;
    case GuestDrop::kIcmpMalformed:
      return DropReason::icmp_malformed;
    case GuestDrop::kNone:
    case GuestDrop::kCount:
      break;
  }
  return DropReason::ethertype_unsupported;
}

}  // namespace

void Worker::decide_and_forward(Port& port, const InterfaceView* from, Burst& burst, unsigned at, FlowEntry* stale) {
  rte_mbuf* frame = burst.frame[at];
  const FlowKey& key = burst.key[at];
  const ParsedPacket& packet = burst.packet[at];
  stats_.slow_path.increment();
  if (from && concerns_gateway(key) && serve_guest(port, *from, frame)) return;
  const Decision decision = from ? decide_from_vm(tables_, *from, key) : decide_from_uplink(tables_, key);
  if (decision.drop != kNoDrop) {
    // Not remembered: a flood of forged packets must not fill the table, and deciding is cheap.
    drop(port, frame, decision.drop);
    return;
  }
  FlowEntry* entry = remember(key, burst.hash[at], decision, stale);
  if (!entry) {
    stats_.flow_table_full.increment();
  } else {
    if (packet.tcp_flags) track_tcp(flows_, *entry, packet.tcp_flags);
    entry->last_used.store(tick_, std::memory_order_relaxed);
    entry->packets.increment();
    entry->bytes.add(frame->pkt_len);
  }
  execute(port, decision.program, frame, packet);
}

FlowEntry* Worker::remember(const FlowKey& key, uint64_t hash, const Decision& decision, FlowEntry* stale) {
  if (stale) {
    stats_.flows_redecided.increment();
    if (stale->program == decision.program &&
        stale->generation_index.load(std::memory_order_relaxed) == decision.generation_index) {
      stale->generation.store(decision.generation, std::memory_order_relaxed);
      return stale;
    }
  }
  FlowEntry* original = nullptr;
  FlowKey reply_key = reversed(key);
  reply_key.scope = decision.reply_scope;
  reply_key.side = decision.reply_side;
  const bool replaces_original = stale && !stale->is_reply.load(std::memory_order_relaxed);
  if (!same_flow(reply_key, key)) original = flows_.find(reply_key, flows_.hash(reply_key));

  const FlowTable::Insertion insertion =
      flows_.insert(pool_, key, hash, decision.program, {decision.generation_index, decision.generation, tick_},
                    stale ? flows_.ref(*stale) : FlowRef{});
  if (!insertion.created) return insertion.entry;
  FlowEntry& entry = *insertion.entry;
  stats_.flows_created.increment();
  ager_.watch(flows_.ref(entry), tick_);
  if (stale) inherit_connection(entry, *stale);
  if (original) {
    if (replaces_original) {
      link_directions(flows_, entry, *original);
    } else {
      link_directions(flows_, *original, entry);
    }
  }
  return &entry;
}

bool Worker::serve_guest(Port& port, const InterfaceView& from, rte_mbuf* frame) {
  rte_mbuf* reply = rte_pktmbuf_alloc(shared_.ports.pool());
  if (!reply) {
    drop(port, frame, DropReason::no_buffer);
    return true;
  }
  auto* out = rte_pktmbuf_mtod(reply, uint8_t*);
  const guest::GuestReply answer =
      guest::handle(guest_config(shared_, port, from), {rte_pktmbuf_mtod(frame, uint8_t*), frame->data_len},
                    {out, rte_pktmbuf_tailroom(reply)});
  if (answer.learned_vm_mac) port.peer.store(AtomicMac::pack(*answer.learned_vm_mac) | AtomicMac::kKnown);
  if (answer.verdict == guest::Verdict::kReply) {
    reply->data_len = static_cast<uint16_t>(answer.length);
    reply->pkt_len = static_cast<uint32_t>(answer.length);
    send(port, reply);
    rte_pktmbuf_free(frame);
    return true;
  }
  rte_pktmbuf_free(reply);
  switch (answer.verdict) {
    case guest::Verdict::kNotForUs:
      return false;
    case guest::Verdict::kDrop:
      drop(port, frame, drop_reason_of(answer.drop));
      return true;
    case guest::Verdict::kConsumed:
    case guest::Verdict::kReply:
      break;
  }
  rte_pktmbuf_free(frame);
  return true;
}

void Worker::too_big(Port& port, rte_mbuf* frame, const ParsedPacket& packet, uint32_t mtu) {
  const InterfaceView* from = port.is_uplink ? nullptr : port.interface.load(std::memory_order_acquire);
  rte_mbuf* reply = from && icmp_budget_ > 0 ? rte_pktmbuf_alloc(shared_.ports.pool()) : nullptr;
  if (reply) {
    const size_t length = overlay::write_too_big({rte_pktmbuf_mtod(frame, const uint8_t*), frame->data_len}, packet.l3,
                                                 packet.ip_length, mtu, AtomicMac::unpack(port.own_mac),
                                                 {rte_pktmbuf_mtod(reply, uint8_t*), rte_pktmbuf_tailroom(reply)});
    if (length > 0) {
      --icmp_budget_;
      reply->data_len = static_cast<uint16_t>(length);
      reply->pkt_len = static_cast<uint32_t>(length);
      send(port, reply);
    } else {
      rte_pktmbuf_free(reply);
    }
  }
  drop(port, frame, DropReason::packet_too_big);
}

}  // namespace ironcore
