#include "firewall/classifier.h"

#include <algorithm>

#include "firewall/table.h"
#include "net/headers.h"

namespace ironcore {
namespace {

using firewall::Kind;

// Kind of the rules that name the packet's protocol. kAny: no rule can; none: no rule matches it at all.
std::optional<Kind> kind_of(const FirewallPacket& packet) {
  switch (packet.proto) {
    case net::kTcp:
      return Kind::kTcp;
    case net::kUdp:
      return Kind::kUdp;
    case net::kIcmp:
      return packet.is_v6 ? Kind::kAny : Kind::kIcmp;
    case net::kIcmp6:
      return packet.is_v6 ? Kind::kIcmp : Kind::kAny;
    default:
      return std::nullopt;
  }
}

firewall::Point point_of(const FirewallPacket& packet, Kind kind) {
  firewall::Point point{.src = firewall::load_address(packet.is_v6, packet.src),
                        .dst = firewall::load_address(packet.is_v6, packet.dst),
                        .low = firewall::kUnknown,
                        .high = firewall::kUnknown};
  if (packet.has_ports) {
    const bool icmp = kind == Kind::kIcmp;
    point.low = icmp ? packet.icmp_type : packet.src_port;
    point.high = icmp ? packet.icmp_code : packet.dst_port;
  }
  return point;
}

void find(const firewall::LiveTable& table, const firewall::Point& point, firewall::Best& best) {
  if (table.table) table.table->find(point, table.live ? table.live->data() : nullptr, best);
}

}  // namespace

std::unique_ptr<const Classifier> Classifier::compile(std::span<const FirewallRule> rules) {
  auto classifier = std::make_unique<Classifier>();
  std::vector<firewall::Match> matches;
  matches.reserve(rules.size());
  for (uint32_t i = 0; i < rules.size(); ++i) {
    ++classifier->rules_[static_cast<unsigned>(rules[i].direction)];
    if (const auto match = firewall::to_match(rules[i], i, i)) matches.push_back(*match);
  }
  if (matches.size() <= kTail) {
    std::sort(matches.begin(), matches.end(), firewall::by_order);
    classifier->tail_ = std::move(matches);
    return classifier;
  }
  for (unsigned group = 0; group < firewall::kGroups; ++group) {
    std::vector<firewall::Match> members;
    std::copy_if(matches.begin(), matches.end(), std::back_inserter(members),
                 [group](const firewall::Match& match) { return match.group == group; });
    classifier->groups_[group].old = firewall::make_table(std::move(members));
  }
  return classifier;
}

FirewallVerdict Classifier::evaluate(TrafficDirection direction, const FirewallPacket& packet) const {
  if (!has_rules(direction)) return {FirewallAction::kAccept, -1};
  const std::optional<Kind> kind = kind_of(packet);
  if (!kind) return {FirewallAction::kDrop, -1};
  const firewall::Point point = point_of(packet, *kind);
  const unsigned any = firewall::group_of(direction, packet.is_v6, Kind::kAny);
  const unsigned own = firewall::group_of(direction, packet.is_v6, *kind);

  firewall::Best best;
  for (const firewall::Match& rule : tail_) {
    if ((rule.group == own || rule.group == any) && rule.box.contains(point)) {
      best = {rule.order, rule.slot};
      break;
    }
  }
  find(groups_[any].young, point, best);
  find(groups_[any].old, point, best);
  if (own != any) {
    find(groups_[own].young, point, best);
    find(groups_[own].old, point, best);
  }
  if (best.slot == firewall::kNoSlot) return {FirewallAction::kDrop, -1};
  return {firewall::action_of(best.order), static_cast<int32_t>(best.slot)};
}

size_t Classifier::memory() const {
  size_t bytes = sizeof *this + tail_.capacity() * sizeof tail_[0];
  for (const firewall::Group& group : groups_) {
    for (const firewall::LiveTable* table : {&group.old, &group.young}) {
      if (table->table) bytes += table->table->memory();
      if (table->live) bytes += table->live->capacity() * sizeof(uint64_t);
    }
  }
  return bytes;
}

}  // namespace ironcore
