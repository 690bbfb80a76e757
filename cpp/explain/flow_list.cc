#include "explain/flow_list.h"

#include <algorithm>

namespace ironcore {
namespace {

constexpr uint64_t kSlotsPerPage = 1 << 17;  // a megabyte of buckets
constexpr size_t kLooksPerPage = 16384;      // descriptions made and compared with the filter

bool has_address(const FlowDirectionInfo& direction, const IpAddress& address) {
  return direction.match.source == address || direction.match.destination == address ||
         (direction.program.translation != Translation::kNone && direction.program.new_address == address);
}

bool has_port(const FlowDirectionInfo& direction, uint16_t port) {
  const PacketFields& match = direction.match;
  if (match.later_fragment) return false;
  const bool icmp = match.protocol == net::kIcmp || match.protocol == net::kIcmp6;
  if (icmp ? match.icmp_id == port : match.source_port == port || match.destination_port == port) return true;
  return direction.program.new_port == port;
}

// What can be told without a description, to make few of them. A reply stands for itself only if it is alone.
bool is_worth_describing(const FlowContext& context, const FlowFilter& filter, const FlowEntry& entry) {
  if (entry.is_reply.load(std::memory_order_relaxed) && context.flows.get(entry.peer())) return false;
  if (filter.vni && entry.owner.vni != *filter.vni) return false;
  if (filter.translated_only && entry.rewrite.kind == translate::RewriteKind::kNone) return false;
  return !filter.interface_id || context.names.owner(entry.owner) == *filter.interface_id;
}

}  // namespace

bool matches(const FlowFilter& filter, const FlowInfo& flow) {
  const auto in_either = [&](const auto& has) { return has(flow.original) || (flow.reply && has(*flow.reply)); };
  if (filter.interface_id && flow.interface_id != *filter.interface_id) return false;
  if (filter.vni && flow.vni != *filter.vni) return false;
  if (filter.address && !in_either([&](const auto& direction) { return has_address(direction, *filter.address); }))
    return false;
  if (filter.port && !in_either([&](const auto& direction) { return has_port(direction, *filter.port); })) return false;
  if (filter.protocol && flow.original.match.protocol != *filter.protocol) return false;
  if (filter.tcp_state && flow.tcp_state != *filter.tcp_state) return false;
  return !filter.translated_only || flow.original.program.translation != Translation::kNone;
}

FlowPage list_flows(const FlowContext& context, const FlowFilter& filter, uint64_t from, size_t limit) {
  FlowPage page;
  const uint64_t slots = context.flows.slots(), end = from + std::min(kSlotsPerPage, slots - std::min(from, slots));
  size_t looks = kLooksPerPage;
  uint64_t slot = from;
  for (; slot < end && page.flows.size() < limit && looks > 0; ++slot) {
    const FlowEntry* entry = context.flows.in_slot(slot);
    if (!entry) continue;
    --looks;
    if (!is_worth_describing(context, filter, *entry)) continue;
    FlowInfo flow = describe(context, *entry);
    if (matches(filter, flow)) page.flows.push_back(std::move(flow));
  }
  page.next = slot < slots ? slot : 0;
  return page;
}

}  // namespace ironcore
