"""Every rule of the networking and ipam kinds beyond field options: one manifest that breaks it, one that keeps it."""

from __future__ import annotations

from typing import Any

import pytest
from ironcore.ipam.v1 import prefix_allocation_pb2, prefix_pb2
from ironcore.meta.v1 import types_pb2
from ironcore.networking.v1 import load_balancer_pb2, nat_gateway_pb2, network_interface_pb2, network_policy_pb2

from tests.support.kinds import admit, patched

NETWORK = """
apiVersion: networking.ironcore.dev/v1alpha1
kind: Network
metadata: {name: blue, namespace: team-a}
spec:
  peerings:
  - name: green
    networkRef: {name: green, namespace: team-b}
    prefixes: [{name: web, prefix: 10.20.0.0/24}, {name: db, prefixRef: {name: db-pool}}]
  - name: red
    networkRef: {name: red}
    prefixes: [{name: mail, prefix: 10.20.1.0/24}]
  incomingPeerings:
  - {namespace: team-b, name: green, uid: 11111111-0000-4000-8000-000000000001}
"""
NIC = """
apiVersion: networking.ironcore.dev/v1alpha1
kind: NetworkInterface
metadata: {name: vm1-eth0, namespace: team-a}
spec:
  networkRef: {name: blue}
  ipFamilies: [IPv4, IPv6]
  ips:
  - value: 10.20.0.10
  - ephemeral: {prefixTemplate: {metadata: {labels: {a: b}}, spec: {parentRef: {name: blue-v6}}}}
  prefixes:
  - ephemeral: {prefixTemplate: {spec: {ipFamily: IPv4, prefixLength: 28, parentRef: {name: blue-v4}}}}
  - value: 10.30.0.0/24
  virtualIP:
    ephemeral: {virtualIPTemplate: {spec: {type: Public, ipFamily: IPv4, reclaimPolicy: Retain}}}
"""
VIP = """
apiVersion: networking.ironcore.dev/v1alpha1
kind: VirtualIP
metadata: {name: front}
spec: {type: Public, ipFamily: IPv4}
"""
LB = """
apiVersion: networking.ironcore.dev/v1alpha1
kind: LoadBalancer
metadata: {name: inner}
spec:
  type: Internal
  ipFamilies: [IPv4]
  ips: [{value: 10.20.0.200}]
  networkRef: {name: blue}
  networkInterfaceSelector: {matchLabels: {role: db}}
  ports: [{protocol: TCP, port: 443}, {protocol: UDP, port: 443, endPort: 500}]
"""
NAT = """
apiVersion: networking.ironcore.dev/v1alpha1
kind: NATGateway
metadata: {name: out}
spec: {type: Public, ipFamily: IPv4, networkRef: {name: blue}, portsPerNetworkInterface: 1024}
"""
POLICY = """
apiVersion: networking.ironcore.dev/v1alpha1
kind: NetworkPolicy
metadata: {name: db-in}
spec:
  networkRef: {name: blue}
  networkInterfaceSelector: {matchLabels: {role: db}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - objectSelector: {kind: NetworkInterface, matchLabels: {role: web}}
    - ipBlock: {cidr: 10.30.0.0/16, except: [10.30.9.0/24]}
    ports: [{protocol: TCP, port: 5432, endPort: 5432}, {}]
"""
PREFIX = """
apiVersion: ipam.ironcore.dev/v1alpha1
kind: Prefix
metadata: {name: blue-v4}
spec: {prefix: 10.20.0.0/16}
"""
CHILD = """
apiVersion: ipam.ironcore.dev/v1alpha1
kind: Prefix
metadata: {name: db-pool}
spec: {ipFamily: IPv4, prefixLength: 24, parentSelector: {matchLabels: {pool: blue}}}
"""
ALLOCATION = """
apiVersion: ipam.ironcore.dev/v1alpha1
kind: PrefixAllocation
metadata: {name: db-pool-x1}
spec: {ipFamily: IPv4, prefixLength: 24, prefixSelector: {matchLabels: {pool: blue}}}
"""
ALL = {
    "network": NETWORK,
    "nic": NIC,
    "vip": VIP,
    "lb": LB,
    "nat": NAT,
    "policy": POLICY,
    "prefix": PREFIX,
    "child": CHILD,
    "allocation": ALLOCATION,
}


@pytest.mark.parametrize("name", ALL)
def test_the_unchanged_manifest_is_fine(name: str) -> None:
    _, violations = admit(patched(ALL[name], {}))
    assert violations == []


TEMPLATE = "spec.ips[1].ephemeral.prefixTemplate"
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("network", {"spec.peerings[0].networkRef": {"name": "blue", "namespace": "team-b"}}),
    ("network", {"spec.peerings[0].prefixes": []}),
    ("network", {"spec.incomingPeerings[0].namespace": "team-c", "metadata.name": "green"}),
    ("nic", {"spec.ipFamilies": [], "spec.ips[1]": {"value": "fd00::1"}}),
    ("nic", {f"{TEMPLATE}.spec.prefixLength": 128}),
    ("nic", {f"{TEMPLATE}.spec.prefix": "fd00::7/128"}),
    ("nic", {"spec.virtualIP": {"virtualIPRef": {"name": "front"}}}),
    ("lb", {"spec.type": "Public", "spec.ips": None}),
    ("lb", {"spec.ports": []}),
    ("lb", {"spec.ports[0]": {"port": 442}}),
    ("lb", {"spec.networkInterfaceSelector": None}),
    ("nat", {"spec.portsPerNetworkInterface": 64}),
    ("nat", {"spec.portsPerNetworkInterface": None}),
    ("policy", {"spec.ingress[0].from[0]": {}}),
    ("policy", {"spec.policyTypes": None}),
    ("policy", {"spec.ingress[0].from[0].objectSelector.kind": "VirtualIP"}),
    ("prefix", {"spec.ipFamily": "IPv4"}),
    ("prefix", {"spec.prefix": "10.20.0.5/16"}),
    ("child", {"spec.parentSelector": None, "spec.parentRef": {"name": "blue-v4"}}),
    ("child", {"spec.prefix": "10.20.7.0/24"}),
    ("allocation", {"spec.prefixLength": None, "spec.prefix": "10.20.7.0/24"}),
    ("allocation", {"spec.prefixSelector": None, "spec.prefixRef": {"name": "blue-v4"}}),
]

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("network", {"spec.peerings[0].networkRef": {"name": "blue"}}, "spec.peerings[0].network_ref"),
    ("network", {"spec.peerings[0].networkRef": {"name": "red"}}, "spec.peerings[1].network_ref"),
    ("network", {"spec.peerings[1].name": "green"}, "spec.peerings[1].name"),
    ("network", {"spec.peerings[1].prefixes[0].name": "web"}, "spec.peerings[1].prefixes[0].name"),
    (
        "network",
        {"spec.peerings[1].prefixes[0]": {"name": "x", "prefixRef": {"name": "db-pool"}}},
        "spec.peerings[1].prefixes[0].prefix_ref",
    ),
    (
        "network",
        {"spec.peerings[1].prefixes[0].prefixRef": {"name": "two"}},
        "spec.peerings[1].prefixes[0].prefix_ref",
    ),
    ("network", {"spec.peerings[0].prefixes[0].prefix": "10.20.0.0/33"}, "spec.peerings[0].prefixes[0].prefix"),
    (
        "network",
        {"spec.incomingPeerings[0].namespace": "team-a", "metadata.name": "green"},
        "spec.incoming_peerings[0]",
    ),
    (
        "network",
        {"spec.incomingPeerings[1]": {"namespace": "team-b", "name": "green"}},
        "spec.incoming_peerings[1]",
    ),
    ("nic", {"spec.networkRef": None}, "spec.network_ref"),
    ("nic", {"spec.networkRef": {}}, "spec.network_ref.name"),
    ("nic", {"spec.ipFamilies": ["IPv4"], "spec.ips[1]": {"value": "fd00::1"}}, "spec.ips"),
    ("nic", {"spec.ipFamilies": ["IPv4", "IPv4"]}, "spec.ip_families[1]"),
    ("nic", {"spec.ipFamilies": ["IPv6", "IPv4"]}, "spec.ips[0].value"),
    ("nic", {"spec.ips": [{}, {"value": "fd00::1"}]}, "spec.ips[0]"),
    ("nic", {"spec.ips[0].ephemeral": {"prefixTemplate": {"spec": {}}}}, "spec.ips[0].ephemeral"),
    ("nic", {"spec.ips[0].value": "fe80::1%eth0"}, "spec.ips[0].value"),
    ("nic", {f"{TEMPLATE}.spec.ipFamily": "IPv4"}, "spec.ips[1].ephemeral.prefix_template.spec.ip_family"),
    ("nic", {f"{TEMPLATE}.spec.prefixLength": 64}, "spec.ips[1].ephemeral.prefix_template.spec.prefix_length"),
    ("nic", {f"{TEMPLATE}.spec.prefix": "fd00::/64"}, "spec.ips[1].ephemeral.prefix_template.spec.prefix"),
    ("nic", {f"{TEMPLATE}.metadata.name": "x"}, "spec.ips[1].ephemeral.prefix_template.metadata.name"),
    ("nic", {f"{TEMPLATE}.metadata.labels": {"a": "b c"}}, "spec.ips[1].ephemeral.prefix_template.metadata.labels[a]"),
    (
        "nic",
        {"metadata.name": "n" * 62 + "." + "x" * 62 + "." + "y" * 62 + "." + "z" * 62},
        "spec.ips[1].ephemeral.prefix_template",
    ),
    ("nic", {"metadata.name": "a.b"}, "spec.virtual_ip.ephemeral.virtual_ip_template"),
    ("nic", {"spec.virtualIP.virtualIPRef": {"name": "front"}}, "spec.virtual_ip.ephemeral"),
    (
        "nic",
        {"spec.prefixes[0].ephemeral.prefixTemplate.spec.prefixLength": 33},
        "spec.prefixes[0].ephemeral.prefix_template.spec.prefix_length",
    ),
    ("vip", {"spec.ipFamily": None}, "spec.ip_family"),
    ("vip", {"spec.type": None}, "spec.type"),
    ("vip", {"metadata.name": "a.b"}, "metadata.name"),
    ("lb", {"spec.ips": None}, "spec.ips"),
    ("lb", {"spec.ips[0].value": "fd00::1"}, "spec.ips[0].value"),
    ("lb", {"spec.ports[0].port": None}, "spec.ports[0].port"),
    ("lb", {"spec.ports[0].port": 65536}, "spec.ports[0].port"),
    ("lb", {"spec.ports[1].endPort": 442}, "spec.ports[1].end_port"),
    ("lb", {"spec.ports[0]": {"protocol": "UDP", "port": 500}}, "spec.ports[1]"),
    ("lb", {"spec.ports[2]": {"port": 1, "endPort": 65535}}, "spec.ports[2]"),
    (
        "lb",
        {"spec.networkInterfaceSelector.matchExpressions": [{"key": "a", "operator": "In"}]},
        "spec.network_interface_selector.match_expressions[0].values",
    ),
    ("nat", {"spec.portsPerNetworkInterface": 1000}, "spec.ports_per_network_interface"),
    ("nat", {"spec.portsPerNetworkInterface": 65536}, "spec.ports_per_network_interface"),
    ("nat", {"spec.portsPerNetworkInterface": -2}, "spec.ports_per_network_interface"),
    ("policy", {"spec.ingress": None, "spec.policyTypes": None}, "spec.policy_types"),
    ("policy", {"spec.policyTypes": ["Ingress", "Ingress"]}, "spec.policy_types[1]"),
    ("policy", {"spec.ingress[0].ports[0].port": None}, "spec.ingress[0].ports[0].end_port"),
    ("policy", {"spec.ingress[0].ports[0].endPort": 80}, "spec.ingress[0].ports[0].end_port"),
    (
        "policy",
        {"spec.ingress[0].from[1].ipBlock.except[0]": "10.31.0.0/24"},
        "spec.ingress[0].from_peers[1].ip_block.excluded[0]",
    ),
    (
        "policy",
        {"spec.ingress[0].from[1].ipBlock.except[0]": "10.0.0.0/8"},
        "spec.ingress[0].from_peers[1].ip_block.excluded[0]",
    ),
    (
        "policy",
        {"spec.ingress[0].from[1].objectSelector": {"kind": "LoadBalancer"}},
        "spec.ingress[0].from_peers[1].ip_block",
    ),
    (
        "policy",
        {"spec.ingress[0].from[0].objectSelector.kind": None},
        "spec.ingress[0].from_peers[0].object_selector.kind",
    ),
    (
        "policy",
        {"spec.egress": [{"to": [{"ipBlock": {"cidr": "::/0", "except": ["10.0.0.0/8"]}}]}]},
        "spec.egress[0].to_peers[0].ip_block.excluded[0]",
    ),
    ("prefix", {"spec.prefix": None, "spec.ipFamily": "IPv4"}, "spec.prefix"),
    ("prefix", {"spec.ipFamily": "IPv4", "spec.prefixLength": 16}, "spec.prefix_length"),
    ("prefix", {"spec.ipFamily": "IPv6"}, "spec.prefix"),
    ("child", {"spec.prefixLength": 33}, "spec.prefix_length"),
    ("child", {"spec.prefixLength": None}, "spec"),
    ("child", {"spec.prefix": "10.20.0.0/25"}, "spec.prefix_length"),
    ("child", {"spec.ipFamily": None}, "spec.ip_family"),
    ("allocation", {"spec.prefix": "10.20.7.0/24"}, "spec.prefix_length"),
    ("allocation", {"spec.prefixLength": None}, "spec"),
    ("allocation", {"spec.prefixSelector": None}, "spec"),
]


@pytest.mark.parametrize(("name", "changes"), GOOD)
def test_accepted(name: str, changes: dict[str, Any]) -> None:
    _, violations = admit(patched(ALL[name], changes))
    assert violations == []


@pytest.mark.parametrize(("name", "changes", "path"), BAD)
def test_refused_with_the_path_of_the_field(name: str, changes: dict[str, Any], path: str) -> None:
    _, violations = admit(patched(ALL[name], changes))
    assert path in [violation.field for violation in violations]


IMMUTABLE: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("network", {"spec.providerID": "a"}, {"spec.providerID": "b"}, "spec.provider_id"),
    ("nic", {}, {"spec.networkRef.name": "red"}, "spec.network_ref"),
    ("nic", {}, {"spec.attributes": {"a": "b"}}, "spec.attributes"),
    ("vip", {}, {"spec.ipFamily": "IPv6"}, "spec.ip_family"),
    ("lb", {}, {"spec.networkRef.name": "red"}, "spec.network_ref"),
    ("nat", {}, {"spec.networkRef.name": "red"}, "spec.network_ref"),
    ("policy", {}, {"spec.networkRef.name": "red"}, "spec.network_ref"),
    ("prefix", {}, {"spec.prefix": "10.21.0.0/16"}, "spec.prefix"),
    ("prefix", {}, {"spec.parentRef": {"name": "other"}}, "spec.parent_ref"),
    ("child", {}, {"spec.parentSelector": {"matchLabels": {"pool": "red"}}}, "spec.parent_selector"),
    ("allocation", {}, {"spec.prefixLength": 25}, "spec.prefix_length"),
]
MUTABLE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("network", {}, {"spec.providerID": "a"}),
    ("nic", {}, {"spec.ips[0].value": "10.20.0.11", "spec.providerID": "p", "spec.virtualIP": None}),
    ("lb", {}, {"spec.ports": [], "spec.type": "Public"}),
    ("child", {}, {"spec.parentRef": {"name": "blue-v4"}, "spec.prefix": "10.20.7.0/24"}),
]


@pytest.mark.parametrize(("name", "before", "after", "path"), IMMUTABLE)
def test_cannot_change(name: str, before: dict[str, Any], after: dict[str, Any], path: str) -> None:
    old, violations = admit(patched(ALL[name], before))
    assert violations == []
    _, violations = admit(patched(ALL[name], {**before, **after}), old)
    assert path in [violation.field for violation in violations]


@pytest.mark.parametrize(("name", "before", "after"), MUTABLE)
def test_can_change(name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    old, _ = admit(patched(ALL[name], before))
    _, violations = admit(patched(ALL[name], {**before, **after}), old)
    assert violations == []


def test_families_come_from_addresses_and_templates_are_completed() -> None:
    nic, _ = admit(
        patched(NIC, {"spec.ipFamilies": None, "spec.ips[1].ephemeral.prefixTemplate.spec.ipFamily": "IPv6"})
    )
    assert isinstance(nic, network_interface_pb2.NetworkInterface)
    assert list(nic.spec.ip_families) == [types_pb2.IP_FAMILY_IPV4, types_pb2.IP_FAMILY_IPV6]
    assert nic.spec.ips[1].ephemeral.prefix_template.spec.prefix_length == 128
    nic, _ = admit(patched(NIC, {}))
    assert isinstance(nic, network_interface_pb2.NetworkInterface)
    assert nic.spec.ips[1].ephemeral.prefix_template.spec.ip_family == types_pb2.IP_FAMILY_IPV6


def test_a_public_load_balancer_loses_its_addresses() -> None:
    lb, violations = admit(patched(LB, {"spec.type": "Public"}))
    assert isinstance(lb, load_balancer_pb2.LoadBalancer)
    assert not lb.spec.ips
    assert violations == []


def test_ports_of_a_nat_gateway_have_a_default() -> None:
    nat, _ = admit(patched(NAT, {"spec.portsPerNetworkInterface": None}))
    assert isinstance(nat, nat_gateway_pb2.NATGateway)
    assert nat.spec.ports_per_network_interface == 2048


def test_policy_types_are_completed() -> None:
    policy, _ = admit(patched(POLICY, {"spec.egress": [{}], "spec.networkInterfaceSelector": None}))
    assert isinstance(policy, network_policy_pb2.NetworkPolicy)
    assert list(policy.spec.policy_types) == [types_pb2.POLICY_TYPE_EGRESS, types_pb2.POLICY_TYPE_INGRESS]
    assert policy.spec.HasField("network_interface_selector")


PREFIX_STATUS: list[tuple[dict[str, Any], str | None]] = [
    ({"phase": "Allocated", "used": ["10.20.0.10/32", "10.20.1.0/24"]}, None),
    ({"phase": "Pending"}, None),
    ({"phase": "Pending", "used": ["10.20.0.10/32"]}, "status.used"),
    ({"phase": "Allocated", "used": ["10.21.0.10/32"]}, "status.used[0]"),
    ({"phase": "Allocated", "used": ["10.20.0.10/32", "10.20.0.0/24"]}, "status.used[1]"),
    ({"phase": "Allocated", "used": ["10.20.0.0/24", "10.20.0.10/32"]}, "status.used[1]"),
]


@pytest.mark.parametrize(("status", "path"), PREFIX_STATUS)
def test_status_of_a_prefix(status: dict[str, Any], path: str | None) -> None:
    _, violations = admit(patched(PREFIX, {"status": status}))
    assert [violation.field for violation in violations] == ([path] if path else [])


def test_an_allocated_prefix_stays_allocated() -> None:
    old, _ = admit(patched(PREFIX, {"status": {"phase": "Allocated"}}))
    assert isinstance(old, prefix_pb2.Prefix)
    _, violations = admit(patched(PREFIX, {"status": {"phase": "Pending"}}), old)
    assert [violation.field for violation in violations] == ["status.phase"]


ALLOCATION_STATUS: list[tuple[dict[str, Any], str | None]] = [
    ({"phase": "Allocated", "prefix": "10.20.1.0/24"}, None),
    ({"phase": "Failed"}, None),
    ({"phase": "Pending", "prefix": "10.20.1.0/24"}, "status.prefix"),
    ({"phase": "Allocated"}, "status.prefix"),
    ({"phase": "Allocated", "prefix": "10.20.1.0/25"}, "status.prefix"),
    ({"phase": "Allocated", "prefix": "fd00::/24"}, "status.prefix"),
]


@pytest.mark.parametrize(("status", "path"), ALLOCATION_STATUS)
def test_status_of_an_allocation(status: dict[str, Any], path: str | None) -> None:
    _, violations = admit(patched(ALLOCATION, {"status": status, "spec.prefixRef": {"name": "blue-v4"}}))
    assert [violation.field for violation in violations] == ([path] if path else [])


@pytest.mark.parametrize("final", ["Allocated", "Failed"])
def test_a_decided_allocation_stays_decided(final: str) -> None:
    status = {"phase": final} | ({"prefix": "10.20.1.0/24"} if final == "Allocated" else {})
    ref = {"spec.prefixRef": {"name": "blue-v4"}}
    old, violations = admit(patched(ALLOCATION, {"status": status} | ref))
    assert violations == []
    assert isinstance(old, prefix_allocation_pb2.PrefixAllocation)
    _, violations = admit(patched(ALLOCATION, {"status": {"phase": "Pending"}} | ref), old)
    assert [violation.field for violation in violations] == ["status.phase"]
