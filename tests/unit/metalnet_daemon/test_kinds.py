"""Validation of the metalnet kinds: each rule with an example that keeps it and one that breaks it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.text_format import Parse
from ironcore.metalnet.v1 import load_balancer_pb2, network_interface_pb2, network_pb2, node_pb2

from apimachinery.errors import FieldViolation
from apimachinery.liveness import HEARTBEAT
from apimachinery.resource import GroupContext
from metalnet_daemon.groups import metalnet
from metalnet_daemon.kinds.load_balancer import LoadBalancerHooks
from metalnet_daemon.kinds.network import NetworkHooks
from metalnet_daemon.kinds.network_interface import NetworkInterfaceHooks

NIC = 'ip_families: IP_FAMILY_IPV4 ip_families: IP_FAMILY_IPV6 ips: "10.0.0.1" ips: "fd00::1"'
RULE = "firewall_rules {{ ip_family: IP_FAMILY_IPV4 {} }}"  # the other fields have no rule of their own


def nic_violations(text: str) -> list[FieldViolation]:
    obj = network_interface_pb2.NetworkInterface(spec=Parse(text, network_interface_pb2.NetworkInterfaceSpec()))
    return list(NetworkInterfaceHooks().validate(obj, None))


def network_violations(text: str) -> list[FieldViolation]:
    obj = network_pb2.Network(spec=Parse(text, network_pb2.NetworkSpec()))
    return list(NetworkHooks().validate(obj, None))


def balancer_violations(text: str) -> list[FieldViolation]:
    obj = load_balancer_pb2.LoadBalancer(spec=Parse(text, load_balancer_pb2.LoadBalancerSpec()))
    return list(LoadBalancerHooks().validate(obj, None))


GOOD = [
    (nic_violations, NIC),
    (nic_violations, 'ip_families: IP_FAMILY_IPV4 ip_families: IP_FAMILY_IPV6 ips: "0.0.0.0" ips: "fd00::1"'),
    (nic_violations, NIC + ' virtual_ip: "192.0.2.1" nat { ip: "192.0.2.2" port: 1024 end_port: 2048 }'),
    (nic_violations, NIC + ' prefixes: "10.1.0.0/16" load_balancer_targets: "192.0.2.1/32"'),
    (nic_violations, NIC + " metering_rate { total_rate: 10 public_rate: 10 }"),
    (nic_violations, NIC + " metering_rate { public_rate: 10 }"),
    (nic_violations, NIC + RULE.format('source_prefix: "10.0.0.0/8"')),
    (nic_violations, NIC + RULE.format("protocol_match { protocol_type: FIREWALL_PROTOCOL_ICMP icmp {} }")),
    (
        nic_violations,
        NIC + RULE.format("protocol_match { protocol_type: FIREWALL_PROTOCOL_TCP port_range { dst_port: 80 } }"),
    ),
    (network_violations, 'id: 100 peered_ids: 200 peered_prefixes { id: 200 prefixes: "10.0.0.0/8" }'),
    (
        balancer_violations,
        'ip: "192.0.2.1" ip_family: IP_FAMILY_IPV4 ports { protocol: PROTOCOL_TCP port: 80 } '
        "ports { protocol: PROTOCOL_UDP port: 80 end_port: 90 }",
    ),
]
BAD = [
    (nic_violations, 'ip_families: IP_FAMILY_IPV4 ip_families: IP_FAMILY_IPV6 ips: "10.0.0.1"', "spec.ip_families"),
    (nic_violations, 'ip_families: IP_FAMILY_IPV6 ips: "10.0.0.1"', "spec.ips[0]"),
    (
        nic_violations,
        'ip_families: IP_FAMILY_IPV4 ip_families: IP_FAMILY_IPV4 ips: "10.0.0.1" ips: "10.0.0.2"',
        "spec.ips",
    ),
    (nic_violations, 'ip_families: IP_FAMILY_IPV4 ips: "0.0.0.0"', "spec.ips"),
    (nic_violations, NIC + ' prefixes: "0.0.0.0/0"', "spec.prefixes[0]"),
    (nic_violations, NIC + ' load_balancer_targets: "192.0.2.0/24"', "spec.load_balancer_targets[0]"),
    (nic_violations, NIC + ' virtual_ip: "fd00::2"', "spec.virtual_ip"),
    (nic_violations, NIC + ' nat { ip: "fd00::2" end_port: 1 }', "spec.nat.ip"),
    (nic_violations, NIC + ' nat { ip: "192.0.2.1" port: 2048 end_port: 2048 }', "spec.nat.end_port"),
    (nic_violations, NIC + " metering_rate { total_rate: 10 public_rate: 11 }", "spec.metering_rate.public_rate"),
    (nic_violations, NIC + RULE.format('source_prefix: "fd00::/8"'), "spec.firewall_rules[0].source_prefix"),
    (nic_violations, NIC + RULE.format('destination_prefix: "::/0"'), "spec.firewall_rules[0].destination_prefix"),
    (
        nic_violations,
        NIC + RULE.format("protocol_match { protocol_type: FIREWALL_PROTOCOL_TCP icmp {} }"),
        "spec.firewall_rules[0].protocol_match.icmp",
    ),
    (
        nic_violations,
        NIC + RULE.format("protocol_match { protocol_type: FIREWALL_PROTOCOL_ICMP port_range {} }"),
        "spec.firewall_rules[0].protocol_match.port_range",
    ),
    (
        nic_violations,
        NIC
        + RULE.format(
            "protocol_match { protocol_type: FIREWALL_PROTOCOL_UDP port_range { dst_port: 80 end_dst_port: 79 } }"
        ),
        "spec.firewall_rules[0].protocol_match.port_range.end_dst_port",
    ),
    (network_violations, "id: 100 peered_ids: 100", "spec.peered_ids[0]"),
    (network_violations, "id: 100 peered_prefixes { id: 200 }", "spec.peered_prefixes[0].id"),
    (balancer_violations, 'ip: "fd00::1" ip_family: IP_FAMILY_IPV4', "spec.ip"),
    (
        balancer_violations,
        "ports { protocol: PROTOCOL_TCP port: 80 end_port: 90 } ports { protocol: PROTOCOL_TCP port: 85 }",
        "spec.ports[1]",
    ),
    (balancer_violations, "ports { protocol: PROTOCOL_TCP port: 80 end_port: 70 }", "spec.ports[0].end_port"),
]

Check = Callable[[str], list[FieldViolation]]


@pytest.mark.parametrize(("check", "text"), GOOD)
def test_good_objects_pass(check: Check, text: str) -> None:
    assert check(text) == []


@pytest.mark.parametrize(("check", "text", "field"), BAD)
def test_bad_objects_name_the_field(check: Check, text: str, field: str) -> None:
    assert [violation.field for violation in check(text)] == [field]


def test_a_rule_without_priority_gets_the_default_and_zero_is_kept() -> None:
    spec = Parse(NIC + RULE.format("") + RULE.format("priority: 0"), network_interface_pb2.NetworkInterfaceSpec())
    obj = network_interface_pb2.NetworkInterface(spec=spec)
    NetworkInterfaceHooks().default(obj, None)
    assert [rule.priority for rule in obj.spec.firewall_rules] == [1000, 0]


def test_the_group_serves_all_kinds_and_heartbeats() -> None:
    group = metalnet(GroupContext(store=None))  # type: ignore[arg-type] # the group needs no store by itself
    assert [kind.info.kind for kind in group.kinds] == ["Network", "NetworkInterface", "LoadBalancer", "Node"]
    assert HEARTBEAT in group.kinds[3].hooks.extra_methods(None)  # type: ignore[arg-type] # not called
    assert group.kinds[3].message_class is node_pb2.Node
