"""Rules of network policies, which the tenant's and the fabric's kind share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ironcore.apinet.v1 import network_policy_pb2 as apinet
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_policy_pb2 as networking

from apimachinery.errors import FieldViolation
from apimachinery.selectors import check_label_selector
from apimachinery.validation import check_labels
from ironcore_net_server.rules import check_ip_block, check_policy_ports, check_selector

PolicySpec = networking.NetworkPolicySpec | apinet.NetworkPolicySpec
IngressRule = networking.NetworkPolicyIngressRule | apinet.NetworkPolicyIngressRule
EgressRule = networking.NetworkPolicyEgressRule | apinet.NetworkPolicyEgressRule
Peer = networking.NetworkPolicyPeer | apinet.NetworkPolicyPeer


def check_policy(spec: PolicySpec) -> Iterator[FieldViolation]:
    """Selector, ports and peers of all rules."""
    yield from check_selector(spec, "network_interface_selector", "spec")
    ingress: Sequence[IngressRule] = spec.ingress
    egress: Sequence[EgressRule] = spec.egress
    for index, into in enumerate(ingress):
        at = f"spec.ingress[{index}]"
        yield from check_policy_ports(into.ports, f"{at}.ports")
        yield from _check_peers(into.from_peers, f"{at}.from_peers")
    for index, out in enumerate(egress):
        at = f"spec.egress[{index}]"
        yield from check_policy_ports(out.ports, f"{at}.ports")
        yield from _check_peers(out.to_peers, f"{at}.to_peers")


def _check_peers(peers: Iterable[Peer], path: str) -> Iterator[FieldViolation]:
    for index, peer in enumerate(peers):
        at = f"{path}[{index}]"
        if peer.HasField("ip_block"):
            yield from check_ip_block(peer.ip_block, f"{at}.ip_block")
        if peer.HasField("object_selector"):
            selector = peer.object_selector
            labels = meta_pb2.LabelSelector(
                match_labels=selector.match_labels, match_expressions=selector.match_expressions
            )
            yield from check_label_selector(labels, f"{at}.object_selector")
            yield from check_labels(selector.match_labels, f"{at}.object_selector.match_labels")
