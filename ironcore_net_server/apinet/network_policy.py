"""NetworkPolicy and NetworkPolicyRule of the fabric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ironcore.apinet.v1 import network_policy_pb2, network_policy_rule_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks
from ironcore_net_server.policy_rules import check_policy
from ironcore_net_server.rules import check_family, check_ip_block, check_policy_ports


class NetworkPolicyHooks(ResourceHooks[network_policy_pb2.NetworkPolicy]):
    """The rules of the tenant's kind hold here, too."""

    def validate(
        self, obj: network_policy_pb2.NetworkPolicy, old: network_policy_pb2.NetworkPolicy | None
    ) -> Iterable[FieldViolation]:
        return check_policy(obj.spec)


class NetworkPolicyRuleHooks(ResourceHooks[network_policy_rule_pb2.NetworkPolicyRule]):
    """Blocks, addresses and ports are well-formed."""

    def validate(
        self, obj: network_policy_rule_pb2.NetworkPolicyRule, old: network_policy_rule_pb2.NetworkPolicyRule | None
    ) -> Iterable[FieldViolation]:
        yield from _check_rules(obj.ingress_rules, "ingress_rules")
        yield from _check_rules(obj.egress_rules, "egress_rules")


def _check_rules(rules: Sequence[network_policy_rule_pb2.Rule], path: str) -> Iterator[FieldViolation]:
    for index, rule in enumerate(rules):
        at = f"{path}[{index}]"
        for block_index, block in enumerate(rule.ip_block):
            yield from check_ip_block(block, f"{at}.ip_block[{block_index}]")
        for ip_index, ip in enumerate(rule.ips):
            yield from check_family(ip.prefix, ip.ip_family, f"{at}.ips[{ip_index}].prefix")
        yield from check_policy_ports(rule.network_policy_ports, f"{at}.network_policy_ports")
