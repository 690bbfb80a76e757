// Relays what routers of the fabric say about our packets to the VMs that sent them.
#include "overlay/underlay_error.h"

#include "flow/policy.h"
#include "overlay/too_big.h"
#include "trace/session.h"
#include "translate/icmp_error.h"
#include "worker/burst.h"
#include "worker/frame.h"

namespace ironcore {
namespace {

constexpr uint16_t kDontFragment = net::swap16(0x4000);

// A packet that NAT64 made has no DF bit, but its VM does not know of fragmentation on the way either: it is told as if
// the bit were set.
void set_dont_fragment(uint8_t* ip) {
  const auto before = net::load<uint16_t>(ip + 6);
  const auto after = static_cast<uint16_t>(before | kDontFragment);
  net::store(ip + 6, after);
  net::store(ip + 10, translate::adjusted(net::load<uint16_t>(ip + 10), translate::delta(before, after)));
}

}  // namespace

// The direction towards the VM of the flow whose packet was too big; `key` is that of an answer, without scope. Empty
// content: the VM sends under its own address, nothing is to be translated.
std::optional<FlowContent> Worker::flow_towards_sender(const overlay::TooBigNotice& notice, const InterfaceView& from,
                                                       FlowKey key) const {
  const auto went_out = [&](const FlowEntry* entry) {
    return entry && entry->key.side == Side::kVm && entry->key.scope == from.instance &&
           entry->program.action == Action::kEncap && entry->program.outer_src_low == notice.sender &&
           entry->program.outer_dst == notice.receiver;
  };
  FlowKey sent = reversed(key);
  sent.scope = from.instance;
  sent.side = Side::kVm;
  if (const FlowEntry* entry = flows_.find(sent, flows_.hash(sent));
      went_out(entry) && !(entry->program.features & kRewrite))
    return FlowContent{};
  for (const auto* source : {&from.vip(key.is_v6()), &from.nat(key.is_v6())}) {
    if (!*source || (*source)->address != destination_of(key)) continue;
    key.scope = (*source)->underlay_low;
    const FlowEntry* back = flows_.find(key, flows_.hash(key));
    if (back && went_out(flows_.get(back->peer()))) return content_of(*back);
  }
  return {};
}

// The frame is done with. An error about no flow of ours, or one too many, is dropped by name.
void Worker::take_underlay_error(Port& port, rte_mbuf* frame) {
  auto* start = rte_pktmbuf_mtod(frame, uint8_t*);
  const auto notice = overlay::read_too_big({start, frame->data_len}, tables_.host_prefix);
  const UnderlayObject* object = notice ? tables_.underlay.lookup(notice->sender) : nullptr;
  const InterfaceView* from =
      object && object->type == UnderlayType::kInterface ? interface_in(tables_, object->port, object->vni) : nullptr;
  rte_mbuf* error = from && icmp_budget_ > 0 ? rte_pktmbuf_alloc(shared_.ports.pool()) : nullptr;
  if (!error || !write_relayed(*notice, *from, start, error)) {
    rte_pktmbuf_free(error);
    drop(port, frame, DropReason::underlay_error);
    return;
  }
  --icmp_budget_;
  if (trace_) trace_->follow(*frame, *error);
  FlowProgram program{};
  program.action = Action::kDeliver;
  program.out_port = from->port;
  deliver(port, program, error, rte_pktmbuf_mtod(error, uint8_t*) + net::kEthLen);
  rte_pktmbuf_free(frame);
}

// The error that the VM gets, as if its gateway had found the packet too big; false: it gets none.
bool Worker::write_relayed(const overlay::TooBigNotice& notice, const InterfaceView& from, uint8_t* start,
                           rte_mbuf* error) const {
  uint8_t* inner = start + notice.inner;
  const bool is_v6 = inner[0] >> 4 == 6;
  const bool by_nat64 = !is_v6 && from.has_ipv6() && from.nat4 &&
                        std::memcmp(inner + 12, from.nat4->address.bytes.data(), 4) == 0 &&
                        !(net::load<uint16_t>(inner + 6) & kDontFragment);
  if (by_nat64) set_dont_fragment(inner);
  auto* out = rte_pktmbuf_mtod(error, uint8_t*);
  const size_t length = overlay::write_too_big({start, notice.inner + notice.quoted}, notice.inner, notice.quoted,
                                               notice.mtu, {}, {out, rte_pktmbuf_tailroom(error)});
  if (length == 0) return false;
  FlowKey key{};
  key.side = Side::kUplink;
  ParsedPacket packet;
  const DropReason reason =
      is_v6 ? parse_ipv6(out, net::kEthLen, length, key, packet) : parse_ipv4(out, net::kEthLen, length, key, packet);
  if (reason != kNoDrop || packet.kind != PacketKind::kIcmpError) return false;
  const auto flow = flow_towards_sender(notice, from, key);
  if (!flow || (by_nat64 && flow->rewrite.kind != translate::RewriteKind::kFourToSix)) return false;
  translate::PacketView view{out + net::kEthLen,
                             packet.ip_length,
                             static_cast<size_t>(out + net::kEthLen - static_cast<uint8_t*>(error->buf_addr)),
                             static_cast<size_t>(packet.l4 - packet.l3),
                             packet.proto,
                             false};
  if ((flow->program.features & kRewrite) &&
      translate::translate_icmp_error(flow->rewrite, view) != translate::Outcome::kOk)
    return false;
  set_extent(error, view.ip - net::kEthLen, net::kEthLen + view.length);
  return true;
}

}  // namespace ironcore
