// Firewall rules. A change decides the running flows of the interface's network again.
#include "control/impl.h"

namespace ironcore {

Status Engine::Impl::create_firewall_rule(std::string_view id, const FirewallRule& rule) {
  Call call(*this);
  Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  const Status status = interface->rules.add(rule);
  if (status != Status::OK) return status == Status::LIMIT_REACHED ? Status::OUT_OF_MEMORY : status;
  if (!interface->rule_hits) interface->rule_hits = std::make_shared<RuleHits>();
  interface->rule_hits->begin(*interface->rules.find(rule.id));
  interface->classifier = interface->rules.compile();
  publish(*interface);
  events_.add(EventType::kFirewallRuleCreated, id, interface->vni->number, rule.id);
  return Status::OK;
}

Status Engine::Impl::delete_firewall_rule(std::string_view id, std::string_view rule_id) {
  Call call(*this);
  Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  if (const Status status = interface->rules.remove(rule_id); status != Status::OK) return status;
  interface->classifier = interface->rules.size() ? interface->rules.compile() : nullptr;
  publish(*interface);
  events_.add(EventType::kFirewallRuleDeleted, id, interface->vni->number, std::string(rule_id));
  return Status::OK;
}

Result<FirewallRuleInfo> Engine::Impl::get_firewall_rule(std::string_view id, std::string_view rule_id) const {
  Call call(*this);
  const Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  const auto slot = interface->rules.find(rule_id);
  if (!slot) return Status::NOT_FOUND;
  return FirewallRuleInfo{interface->rules.rule(*slot), interface->rule_hits->get(*slot)};
}

Result<std::vector<FirewallRuleInfo>> Engine::Impl::list_firewall_rules(std::string_view id) const {
  Call call(*this);
  const Interface* interface = find(id);
  if (!interface) return Status::NO_VM;
  std::vector<FirewallRuleInfo> rules;
  for (const uint32_t slot : interface->rules.in_creation_order())
    rules.push_back({interface->rules.rule(slot), interface->rule_hits->get(slot)});
  return rules;
}

}  // namespace ironcore
