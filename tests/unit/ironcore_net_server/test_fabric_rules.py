"""Every rule of the apinet kinds beyond field options: one manifest that breaks it, one that keeps it."""

from __future__ import annotations

from typing import Any

import pytest
from ironcore.apinet.v1 import instance_pb2, ip_pb2, network_interface_pb2
from ironcore.meta.v1 import types_pb2

from apimachinery.errors import FailedPrecondition
from ironcore_net_server.apinet.instance import bind_to
from ironcore_net_server.apinet.network_ids import parse_network_id
from ironcore_net_server.apinet.network_interface import add_nat_claim, drop_nat_claim, replace_public_ips
from tests.support.kinds import admit, patched

HEAD = "apiVersion: core.apinet.ironcore.dev/v1alpha1\n"
UID = "11111111-0000-4000-8000-000000000001"
OTHER = "11111111-0000-4000-8000-000000000002"
NETWORK = (
    HEAD
    + """
kind: Network
metadata: {name: n}
spec:
  id: "250"
  peerings:
  - {name: a, id: "300", prefixes: [{name: x, prefix: 10.0.0.0/8}]}
  - {name: b, id: "16777215"}
"""
)
NETWORK_ID = (
    HEAD
    + f"""
kind: NetworkID
metadata: {{name: "250"}}
spec: {{claimRef: {{group: core.apinet.ironcore.dev, resource: networks, namespace: d, name: n, uid: {UID}}}}}
"""
)
NIC = (
    HEAD
    + f"""
kind: NetworkInterface
metadata: {{name: nic}}
spec:
  nodeRef: {{name: p1.host1}}
  networkRef: {{name: n}}
  ips: [10.0.0.1, "fd00::1"]
  prefixes: [10.1.0.1/24]
  hostname: vm1
  natGateways: [{{ipFamily: IPv6, claimRef: {{name: gw, uid: {UID}}}}}]
  publicIPs: [{{name: v4, ip: 203.0.113.7}}]
"""
)
IP = HEAD + "kind: IP\nmetadata: {name: front}\nspec: {type: Public, ip: 203.0.113.7}\n"
IP_ADDRESS = (
    HEAD
    + f"""
kind: IPAddress
metadata: {{name: "fd00::7"}}
spec: {{ip: "fd00::7", claimRef: {{resource: ips, namespace: d, name: front, uid: {UID}}}}}
"""
)
LB = (
    HEAD
    + """
kind: LoadBalancer
metadata: {name: lb}
spec:
  type: Public
  networkRef: {name: n}
  ips: [{name: ipv4, ipFamily: IPv4}, {name: ipv6, ip: "2001:db8::1"}]
  ports: [{protocol: TCP, port: 80}, {port: 81, endPort: 90}]
  selector: {matchLabels: {app: lb}}
  template:
    metadata: {labels: {app: lb}}
    spec:
      type: LoadBalancer
      loadBalancerType: Public
      networkRef: {name: n}
      affinity:
        instanceAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: topology.core.apinet.ironcore.dev/zone, labelSelector: {matchLabels: {app: lb}}}
"""
)
INSTANCE = (
    HEAD
    + """
kind: Instance
metadata: {name: i}
spec:
  type: LoadBalancer
  loadBalancerType: Internal
  networkRef: {name: n}
  ips: [10.0.0.9]
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
        - matchExpressions: [{key: zone, operator: In, values: [a]}]
          matchFields: [{key: metadata.name, operator: In, values: [p1.host1]}]
  topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {}}
"""
)
DAEMON_SET = (
    HEAD
    + """
kind: DaemonSet
metadata: {name: lb-1}
spec:
  nodeSelector: {matchLabels: {app: lb}}
  template:
    metadata: {labels: {app: lb, more: "1"}}
    spec: {type: LoadBalancer, loadBalancerType: Public, networkRef: {name: n}}
"""
)
NAT = (
    HEAD
    + """
kind: NATGateway
metadata: {name: gw}
spec:
  ipFamily: IPv4
  networkRef: {name: n}
  ips: [{name: a, ip: 203.0.113.1}, {name: 203.0.113.2}]
  portsPerNetworkInterface: 64
"""
)
AUTOSCALER = (
    HEAD
    + """
kind: NATGatewayAutoscaler
metadata: {name: gw}
spec: {natGatewayRef: {name: gw}, minPublicIPs: 1, maxPublicIPs: 10}
"""
)
NAT_TABLE = (
    HEAD
    + f"""
kind: NATTable
metadata: {{name: gw}}
ips:
- ip: 203.0.113.1
  sections:
  - {{ip: 10.0.0.1, port: 1024, endPort: 1087, targetRef: {{uid: {UID}, name: nic, nodeRef: {{name: p1.host1}}}}}}
  - {{ip: 10.0.0.2, port: 1088, endPort: 1151}}
- {{ip: 203.0.113.2}}
"""
)
POLICY = (
    HEAD
    + """
kind: NetworkPolicy
metadata: {name: p}
spec:
  networkRef: {name: n}
  networkInterfaceSelector: {}
  priority: 0
  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 80, endPort: 90}]}]
  egress: [{to: [{objectSelector: {kind: LoadBalancer, matchLabels: {a: b}}}]}]
  policyTypes: [Ingress, Egress]
"""
)
RULE = (
    HEAD
    + f"""
kind: NetworkPolicyRule
metadata: {{name: p}}
networkRef: {{name: n, uid: {UID}}}
targets: [{{ip: 10.0.0.1, targetRef: {{name: nic, uid: {UID}}}}}]
priority: 1000
ingressRule:
- ipBlock: [{{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
  ips: [{{ipFamily: IPv4, prefix: 10.0.0.7/32}}]
  networkPolicyPorts: [{{protocol: TCP, port: 80}}]
egressRule: [{{}}]
"""
)
ROUTING = (
    HEAD
    + f"""
kind: LoadBalancerRouting
metadata: {{name: lb}}
destinations: [{{ip: 10.0.0.1, targetRef: {{uid: {UID}, name: nic, nodeRef: {{name: p1.host1}}}}}}, {{ip: "fd00::1"}}]
"""
)
NODE = HEAD + "kind: Node\nmetadata: {name: p1.host1}\n"
ALL = {
    "network": NETWORK,
    "network_id": NETWORK_ID,
    "nic": NIC,
    "ip": IP,
    "ip_address": IP_ADDRESS,
    "lb": LB,
    "instance": INSTANCE,
    "daemon_set": DAEMON_SET,
    "nat": NAT,
    "autoscaler": AUTOSCALER,
    "nat_table": NAT_TABLE,
    "policy": POLICY,
    "rule": RULE,
    "routing": ROUTING,
    "node": NODE,
}
NODE_TERM = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"
NODE_TERM_PATH = "spec.affinity.node_affinity.required.node_selector_terms[0]"
CLAIM = {"resource": "networkinterfaces", "name": "nic", "uid": UID}


@pytest.mark.parametrize("name", ALL)
def test_the_unchanged_manifest_is_fine(name: str) -> None:
    _, violations = admit(patched(ALL[name], {}))
    assert violations == []


GOOD: list[tuple[str, dict[str, Any]]] = [
    ("network", {"spec.id": None}),
    ("network", {"spec": None}),
    ("network", {"spec.id": "200"}),
    ("network_id", {"metadata.name": "16777215"}),
    ("nic", {"spec.publicIPs": [{"name": "a", "ipFamily": "IPv4"}]}),
    ("nic", {"spec.publicIPs": [{"name": "203.0.113.7", "ip": "203.0.113.7"}]}),
    ("nic", {"spec.natGateways": None, "spec.publicIPs[1]": {"name": "v6", "ip": "2001:db8::7"}}),
    ("nic", {"spec.ips": []}),
    ("ip", {"spec.ip": None, "spec.ipFamily": "IPv6"}),
    ("ip", {"spec.claimRef": CLAIM}),
    ("ip_address", {"spec.ip": None}),
    ("lb", {"spec.type": "Internal", "spec.ports": []}),
    ("lb", {"spec.template.spec": None}),
    ("instance", {"spec.affinity": None, "spec.nodeRef": {"name": "p1.host1"}}),
    ("nat", {"spec.ips": []}),
    ("autoscaler", {"spec.minPublicIPs": 5, "spec.maxPublicIPs": None}),
    ("autoscaler", {"spec.minPublicIPs": None, "spec.maxPublicIPs": 0}),
    ("nat_table", {"ips[0].sections": []}),
    ("policy", {"spec.ingress": None, "spec.egress": None, "spec.policyTypes": ["Ingress"]}),
    ("policy", {"spec.priority": None}),
    ("rule", {"targets": []}),
]
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("network", {"spec.id": "199"}, "spec.id"),
    ("network", {"spec.id": "301"}, "spec.id"),
    ("network", {"spec.id": "0250"}, "spec.id"),
    ("network", {"spec.id": "+250"}, "spec.id"),
    ("network", {"spec.peerings[0].id": "007"}, "spec.peerings[0].id"),
    ("network", {"spec.peerings[0].id": "16777216"}, "spec.peerings[0].id"),
    ("network", {"spec.peerings[0].id": "250"}, "spec.peerings[0].id"),
    ("network", {"spec.peerings[1].id": "300"}, "spec.peerings[1].id"),
    ("network", {"spec.peerings[1].name": "a"}, "spec.peerings[1].name"),
    ("network_id", {"metadata.name": "0"}, "metadata.name"),
    ("network_id", {"metadata.name": "x"}, "metadata.name"),
    ("network_id", {"spec.claimRef": None}, "spec.claim_ref"),
    ("nic", {"spec.nodeRef": None}, "spec.node_ref"),
    ("nic", {"spec.networkRef": None}, "spec.network_ref"),
    ("nic", {"spec.ips[1]": "10.0.0.2"}, "spec.ips[1]"),
    ("nic", {"spec.ips[1]": "10.0.0.1"}, "spec.ips[1]"),
    ("nic", {"spec.ips[0]": "10.0.0.256"}, "spec.ips[0]"),
    ("nic", {"spec.hostname": "VM_1"}, "spec.hostname"),
    ("nic", {"spec.natGateways[0].ipFamily": "IPv4"}, "spec.nat_gateways[0].ip_family"),
    ("nic", {"spec.natGateways[1]": {"ipFamily": "IPv6", "claimRef": {"name": "x"}}}, "spec.nat_gateways[1].ip_family"),
    ("nic", {"spec.publicIPs[0].ipFamily": "IPv6", "spec.natGateways": None}, "spec.public_ips[0].ip"),
    ("nic", {"spec.publicIPs[0].ip": None}, "spec.public_ips[0].ip_family"),
    ("nic", {"spec.publicIPs[1]": {"name": "w4", "ip": "203.0.113.8"}}, "spec.public_ips[1].ip_family"),
    ("nic", {"spec.publicIPs[1]": {"name": "v4", "ipFamily": "IPv6"}}, "spec.public_ips[1].name"),
    ("nic", {"spec.publicIPs[0].name": "not/a name"}, "spec.public_ips[0].name"),
    ("ip", {"spec.type": None}, "spec.type"),
    ("ip", {"spec.ip": None}, "spec.ip_family"),
    ("ip", {"spec.ipFamily": "IPv6"}, "spec.ip"),
    ("ip", {"spec.claimRef": {"resource": "networkinterfaces", "name": "nic"}}, "spec.claim_ref.uid"),
    ("ip_address", {"spec.ip": "fd00::8"}, "spec.ip"),
    ("ip_address", {"metadata.name": "fd00::0007", "spec.ip": "fd00::7"}, "metadata.name"),
    ("ip_address", {"metadata.name": "web"}, "metadata.name"),
    ("lb", {"spec.selector": None}, "spec.selector"),
    ("lb", {"spec.selector.matchLabels": {"app": "other"}}, "spec.selector"),
    ("lb", {"spec.ips[0].ipFamily": None}, "spec.ips[0].ip_family"),
    ("lb", {"spec.ips[1].ipFamily": "IPv4"}, "spec.ips[1].ip"),
    ("lb", {"spec.ips[2]": {"name": "again", "ip": "2001:db8::1"}}, "spec.ips[2].ip"),
    ("lb", {"spec.ports[1].port": 80}, "spec.ports[1]"),
    ("lb", {"spec.template.metadata.name": "x"}, "spec.template.metadata.name"),
    ("lb", {"spec.template.spec.nodeRef": {"name": "x"}}, "spec.template.spec.node_ref"),
    ("lb", {"spec.template.spec.loadBalancerType": None}, "spec.template.spec.load_balancer_type"),
    ("instance", {"spec.loadBalancerType": None}, "spec.load_balancer_type"),
    ("instance", {"spec.topologySpreadConstraints[0].maxSkew": None}, "spec.topology_spread_constraints[0].max_skew"),
    ("instance", {f"{NODE_TERM}.matchFields[0].key": "spec.x"}, f"{NODE_TERM_PATH}.match_fields[0].key"),
    ("instance", {f"{NODE_TERM}.matchFields[0].values": []}, f"{NODE_TERM_PATH}.match_fields[0].values"),
    ("instance", {f"{NODE_TERM}.matchExpressions[0].values": []}, f"{NODE_TERM_PATH}.match_expressions[0].values"),
    ("daemon_set", {"spec.nodeSelector.matchLabels": {"app": "x"}}, "spec.selector"),
    ("daemon_set", {"spec.template.spec.networkRef": None}, "spec.template.spec.network_ref"),
    ("nat", {"spec.portsPerNetworkInterface": None}, "spec.ports_per_network_interface"),
    ("nat", {"spec.portsPerNetworkInterface": 65}, "spec.ports_per_network_interface"),
    ("nat", {"spec.portsPerNetworkInterface": 1}, "spec.ports_per_network_interface"),
    ("nat", {"spec.ips[0].ip": "2001:db8::1"}, "spec.ips[0].ip"),
    ("nat", {"spec.ips[1].ip": "203.0.113.1"}, "spec.ips[1].ip"),
    ("autoscaler", {"spec.minPublicIPs": 11}, "spec.min_public_ips"),
    ("autoscaler", {"spec.minPublicIPs": -1}, "spec.min_public_ips"),
    ("nat_table", {"ips[0].sections[1].port": 1087}, "ips[0].sections[1]"),
    ("nat_table", {"ips[0].sections[1].endPort": 1087}, "ips[0].sections[1].end_port"),
    ("nat_table", {"ips[1].ip": "203.0.113.1"}, "ips[1].ip"),
    ("policy", {"spec.priority": -1}, "spec.priority"),
    ("policy", {"spec.policyTypes": None}, "spec.policy_types"),
    ("policy", {"spec.ingress[0].ports[0].endPort": 79}, "spec.ingress[0].ports[0].end_port"),
    ("rule", {"ingressRule[0].ipBlock[0].except[0]": "11.0.0.0/16"}, "ingress_rules[0].ip_block[0].excluded[0]"),
    ("rule", {"ingressRule[0].ips[0].ipFamily": "IPv6"}, "ingress_rules[0].ips[0].prefix"),
    ("rule", {"ingressRule[0].networkPolicyPorts[0].endPort": 79}, "ingress_rules[0].network_policy_ports[0].end_port"),
    ("routing", {"destinations[0].ip": "10.0.0"}, "destinations[0].ip"),
    ("node", {"metadata.namespace": "x"}, "metadata.namespace"),
]


@pytest.mark.parametrize(("name", "changes"), GOOD)
def test_accepted(name: str, changes: dict[str, Any]) -> None:
    _, violations = admit(patched(ALL[name], changes))
    assert violations == []


@pytest.mark.parametrize(("name", "changes", "path"), BAD)
def test_refused_with_the_path_of_the_field(name: str, changes: dict[str, Any], path: str) -> None:
    _, violations = admit(patched(ALL[name], changes))
    assert path in [violation.field for violation in violations]


CHANGES: list[tuple[str, dict[str, Any], str | None]] = [
    ("network", {"spec.id": "251"}, "spec.id"),
    ("network", {"spec.id": None}, None),
    ("network", {"spec.peerings": []}, None),
    ("nic", {"spec.nodeRef.name": "p1.host2"}, "spec.node_ref"),
    ("nic", {"spec.networkRef.name": "m"}, "spec.network_ref"),
    ("nic", {"spec.ips": ["fd00::1", "10.0.0.1"]}, "spec.ips"),
    ("nic", {"spec.hostname": "vm2"}, "spec.hostname"),
    ("nic", {"spec.prefixes": [], "spec.publicIPs": [], "spec.natGateways": []}, None),
    ("ip", {"spec.ip": "203.0.113.8"}, "spec.ip"),
    ("ip", {"spec.claimRef": CLAIM}, None),
    ("lb", {"spec.type": "Internal"}, "spec.type"),
    ("lb", {"spec.selector.matchLabels": {}}, "spec.selector"),
    ("lb", {"spec.template.spec.networkRef.name": "m"}, None),
    ("instance", {"spec.nodeRef": {"name": "p1.host1"}}, None),
    ("instance", {"spec.networkRef.name": "m"}, "spec.network_ref"),
    ("nat", {"spec.ipFamily": "IPv6", "spec.ips": []}, "spec.ip_family"),
    ("nat", {"spec.portsPerNetworkInterface": 128}, None),
    ("autoscaler", {"spec.natGatewayRef.name": "other"}, "spec.nat_gateway_ref"),
    ("network_id", {"spec.claimRef.uid": OTHER}, "spec.claim_ref"),
]


@pytest.mark.parametrize(("name", "changes", "path"), CHANGES)
def test_what_may_change(name: str, changes: dict[str, Any], path: str | None) -> None:
    old, _ = admit(patched(ALL[name], {}))
    _, violations = admit(patched(ALL[name], changes), old)
    if path is None:
        assert violations == []
    else:
        assert path in [violation.field for violation in violations]


def test_a_claim_passes_on_only_over_its_release() -> None:
    old, _ = admit(patched(IP, {"spec.claimRef": CLAIM}))
    _, violations = admit(patched(IP, {"spec.claimRef": CLAIM | {"uid": OTHER}}), old)
    assert [violation.field for violation in violations] == ["spec.claim_ref"]
    _, violations = admit(patched(IP, {}), old)
    assert violations == []


def test_an_entry_that_is_sent_without_its_address_keeps_it() -> None:
    old, _ = admit(patched(NIC, {}))
    new, violations = admit(patched(NIC, {"spec.publicIPs": [{"name": "v4", "ipFamily": "IPv4"}]}), old)
    assert isinstance(new, network_interface_pb2.NetworkInterface)
    assert violations == []
    assert new.spec.public_ips[0].ip == "203.0.113.7"


def test_addresses_are_stored_in_canonical_form() -> None:
    ip, violations = admit(patched(IP, {"spec.ip": "2001:DB8:0::1"}))
    assert isinstance(ip, ip_pb2.IP)
    assert violations == []
    assert ip.spec.ip == "2001:db8::1"
    assert ip.spec.ip_family == types_pb2.IP_FAMILY_IPV6


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("16777215", 16777215), ("200", 200)])
def test_network_ids(text: str, number: int) -> None:
    assert parse_network_id(text) == number


@pytest.mark.parametrize("text", ["", "0", "-1", "+1", "01", "16777216", "1e3", "٣", "1 ", "99999999999"])
def test_no_network_ids(text: str) -> None:
    assert parse_network_id(text) is None


def nat_claim(family: types_pb2.IPFamily.ValueType, uid: str) -> network_interface_pb2.NATGatewayClaim:
    claim = network_interface_pb2.NATGatewayClaim(ip_family=family)
    claim.claim_ref.name = "gw"
    claim.claim_ref.uid = uid
    return claim


def test_nat_claims_are_exclusive_per_family() -> None:
    nic, _ = admit(patched(NIC, {}))
    assert isinstance(nic, network_interface_pb2.NetworkInterface)
    v6 = types_pb2.IP_FAMILY_IPV6
    with pytest.raises(FailedPrecondition, match="public IPv4"):
        add_nat_claim(nic, nat_claim(types_pb2.IP_FAMILY_IPV4, UID))
    with pytest.raises(FailedPrecondition, match="gw serves IPv6"):
        add_nat_claim(nic, nat_claim(v6, OTHER))
    before = nic.SerializeToString(deterministic=True)
    add_nat_claim(nic, nat_claim(v6, UID))
    drop_nat_claim(nic, nat_claim(v6, OTHER))
    assert nic.SerializeToString(deterministic=True) == before
    drop_nat_claim(nic, nat_claim(v6, UID))
    assert not nic.spec.nat_gateways
    add_nat_claim(nic, nat_claim(v6, OTHER))
    assert [claim.claim_ref.uid for claim in nic.spec.nat_gateways] == [OTHER]


def test_a_public_address_ends_the_nat_of_its_family() -> None:
    nic, _ = admit(patched(NIC, {}))
    assert isinstance(nic, network_interface_pb2.NetworkInterface)
    request = network_interface_pb2.SetPublicIPsRequest()
    request.public_ips.add(name="v6", ip="2001:db8::7")
    replace_public_ips(nic, request)
    assert [entry.name for entry in nic.spec.public_ips] == ["v6"]
    assert not nic.spec.nat_gateways


def test_an_instance_is_bound_once() -> None:
    instance, _ = admit(patched(INSTANCE, {}))
    assert isinstance(instance, instance_pb2.Instance)
    bind_to(instance, "p1.host1")
    bind_to(instance, "p1.host1")
    assert instance.spec.node_ref.name == "p1.host1"
    with pytest.raises(FailedPrecondition, match=r"p1\.host1"):
        bind_to(instance, "p1.host2")
