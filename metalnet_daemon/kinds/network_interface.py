"""Port on one node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from ironcore.metalnet.v1 import network_interface_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks

from .rules import IPV4, family_of, is_host_prefix, is_unspecified, must_be, prefix_length

NetworkInterface = network_interface_pb2.NetworkInterface
NetworkInterfaceSpec = network_interface_pb2.NetworkInterfaceSpec

DEFAULT_PRIORITY = 1000


class NetworkInterfaceHooks(ResourceHooks[NetworkInterface]):
    """Addresses fit their families, parts fit each other and what a packet engine can do."""

    def default(self, obj: NetworkInterface, old: NetworkInterface | None) -> None:
        for rule in obj.spec.firewall_rules:
            if not rule.HasField("priority"):
                rule.priority = DEFAULT_PRIORITY

    def validate(self, obj: NetworkInterface, old: NetworkInterface | None) -> Iterable[FieldViolation]:
        spec = obj.spec
        yield from _addresses(spec)
        yield from _prefixes(spec)
        yield from must_be(IPV4, spec.virtual_ip, "spec.virtual_ip")
        yield from _nat(spec)
        yield from _metering(spec)
        for index, rule in enumerate(spec.firewall_rules):
            yield from _firewall_rule(rule, f"spec.firewall_rules[{index}]")


def _addresses(spec: NetworkInterfaceSpec) -> Iterator[FieldViolation]:
    if len(spec.ip_families) != len(spec.ips):
        yield FieldViolation("spec.ip_families", f"{len(spec.ip_families)} families for {len(spec.ips)} addresses")
    for index, (family, text) in enumerate(zip(spec.ip_families, spec.ips, strict=False)):
        yield from must_be(family, text, f"spec.ips[{index}]")
    families = Counter(found for text in spec.ips if (found := family_of(text)) is not None)
    if any(count > 1 for count in families.values()):
        yield FieldViolation("spec.ips", "at most one address per family")
    if spec.ips and all(is_unspecified(text) for text in spec.ips):
        yield FieldViolation("spec.ips", "at least one address that is not 0.0.0.0 or ::")


def _prefixes(spec: NetworkInterfaceSpec) -> Iterator[FieldViolation]:
    for index, text in enumerate(spec.prefixes):
        if prefix_length(text) == 0:
            yield FieldViolation(f"spec.prefixes[{index}]", f"{text} would take all traffic of the network")
    for index, text in enumerate(spec.load_balancer_targets):
        if not is_host_prefix(text):
            yield FieldViolation(f"spec.load_balancer_targets[{index}]", f"{text} is not a single address")


def _nat(spec: NetworkInterfaceSpec) -> Iterator[FieldViolation]:
    if not spec.HasField("nat"):
        return
    yield from must_be(IPV4, spec.nat.ip, "spec.nat.ip")
    if spec.nat.end_port <= spec.nat.port:
        yield FieldViolation(
            "spec.nat.end_port", f"must be above port {spec.nat.port}: it is the first after the range"
        )


def _metering(spec: NetworkInterfaceSpec) -> Iterator[FieldViolation]:
    rate = spec.metering_rate
    if rate.total_rate and rate.public_rate > rate.total_rate:
        yield FieldViolation("spec.metering_rate.public_rate", f"is above total_rate {rate.total_rate}")


def _firewall_rule(rule: network_interface_pb2.FirewallRule, path: str) -> Iterator[FieldViolation]:
    yield from must_be(rule.ip_family, rule.source_prefix, f"{path}.source_prefix")
    yield from must_be(rule.ip_family, rule.destination_prefix, f"{path}.destination_prefix")
    if not rule.HasField("protocol_match"):
        return
    match = rule.protocol_match
    icmp = match.protocol_type == network_interface_pb2.FIREWALL_PROTOCOL_ICMP
    if match.HasField("icmp") and not icmp:
        yield FieldViolation(f"{path}.protocol_match.icmp", "only for protocol ICMP")
    if match.HasField("port_range"):
        if icmp:
            yield FieldViolation(f"{path}.protocol_match.port_range", "only for protocols TCP and UDP")
        ports = match.port_range
        ranges = (
            ("end_src_port", ports.src_port, ports.end_src_port),
            ("end_dst_port", ports.dst_port, ports.end_dst_port),
        )
        # An end of 0 or -1 stands for "no end", as in manifests of older tools.
        for name, first, last in ranges:
            if last > 0 and last < first:
                yield FieldViolation(f"{path}.protocol_match.port_range.{name}", f"is below the first port {first}")
