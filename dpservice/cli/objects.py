"""The client's objects: `{kind, metadata, spec, status}` as printed and read in JSON and YAML, from and to messages."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from ironcore.dpdk.v1 import dpdk_pb2 as pb

Object = dict[str, Any]
Values = Mapping[str, Any]

DIRECTIONS = {pb.INGRESS: "Ingress", pb.EGRESS: "Egress"}
ACTIONS = {pb.DROP: "Drop", pb.ACCEPT: "Accept"}


def make(kind: str, metadata: Values, spec: Values, status: pb.Status | None = None) -> Object:
    """An object without its empty fields."""
    shown = status if status is not None else pb.Status(message="Success")
    return {
        "kind": kind,
        "metadata": prune(metadata),
        "spec": prune(spec),
        "status": {"code": shown.code, "message": shown.message},
    }


def make_list(kind: str, items: Iterable[Object]) -> Object:
    """A list object."""
    return {
        "kind": f"{kind}List",
        "metadata": {},
        "items": list(items),
        "status": {"code": 0, "message": "Success"},
    }


def prune(values: Values) -> Object:
    """Without None, empty texts, lists and mappings, at any depth."""
    pruned = {key: prune(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    return {key: value for key, value in pruned.items() if value not in (None, "", [], {})}


def ip_message(text: str) -> pb.IpAddress:
    """Canonical text with its family. Raises ValueError."""
    address = ipaddress.ip_address(text)
    return pb.IpAddress(ipver=pb.IPV6 if address.version == 6 else pb.IPV4, address=str(address).encode())


def prefix_message(text: str) -> pb.Prefix:
    """`address/length`; host bits are kept. Raises ValueError."""
    if "/" not in text:
        raise ValueError(f"'{text}' has no prefix length")
    interface = ipaddress.ip_interface(text)
    return pb.Prefix(ip=ip_message(str(interface.ip)), length=interface.network.prefixlen)


def prefix_text(prefix: pb.Prefix) -> str:
    """`address/length`."""
    return f"{prefix.ip.address.decode()}/{prefix.length}"


def interface(message: pb.Interface) -> Object:
    """An interface as the service reports it."""
    metering = message.meteringParams
    return make(
        "Interface",
        {"id": message.id.decode()},
        {
            "vni": message.vni,
            "device": message.pci_name,
            "primary_ipv4": message.primary_ipv4.decode(),
            "primary_ipv6": message.primary_ipv6.decode(),
            "underlay_route": message.underlay_route.decode(),
            "metering": {"total_rate": metering.total_rate, "public_rate": metering.public_rate},
            "hostname": message.hostname,
        },
    )


def prefix(kind: str, interface_id: str, vni: int | None, message: pb.Prefix) -> Object:
    """An alias prefix or a load balancer prefix, with the VNI of its interface."""
    return make(
        kind,
        {"interface_id": interface_id, "vni": vni},
        {"prefix": prefix_text(message), "underlay_route": message.underlay_route.decode()},
    )


def route(vni: int, message: pb.Route) -> Object:
    """A route; the service does not tell the VNI, so it is the one asked for."""
    return make(
        "Route",
        {"vni": vni},
        {
            "prefix": prefix_text(message.prefix),
            "next_hop": {"vni": message.nexthop_vni, "address": message.nexthop_address.address.decode()},
        },
    )


def load_balancer(message: pb.Loadbalancer | pb.GetLoadBalancerResponse, name: str) -> Object:
    """A load balancer; both messages have the same fields under different names."""
    listed = isinstance(message, pb.Loadbalancer)
    address = message.ip if isinstance(message, pb.Loadbalancer) else message.loadbalanced_ip
    ports = message.ports if isinstance(message, pb.Loadbalancer) else message.loadbalanced_ports
    return make(
        "LoadBalancer",
        {"id": message.id.decode() if isinstance(message, pb.Loadbalancer) and listed else name},
        {
            "vni": message.vni,
            "loadbalanced_ip": address.address.decode(),
            "loadbalanced_ports": [{"protocol": port.protocol, "port": port.port} for port in ports],
            "underlay_route": message.underlay_route.decode(),
        },
    )


def nat_entry(message: pb.NatEntry) -> Object:
    """A NAT of this host, or of a neighbour: only the latter has an underlay route."""
    return make(
        "Nat",
        {},
        {
            "vni": message.vni,
            "nat_ip": message.nat_ip.address.decode(),
            "actual_nat_ip": message.actual_nat_ip.address.decode(),
            "min_port": message.min_port,
            "max_port": message.max_port,
            "underlay_route": message.underlay_route.decode(),
        },
    )


def firewall_rule(interface_id: str, message: pb.FirewallRule) -> Object:
    """A firewall rule."""
    return make(
        "FirewallRule",
        {"interface_id": interface_id},
        {
            "id": message.id.decode(),
            "direction": DIRECTIONS.get(message.direction, ""),
            "action": ACTIONS.get(message.action, ""),
            "priority": message.priority,
            "source_prefix": prefix_text(message.source_prefix),
            "destination_prefix": prefix_text(message.destination_prefix),
            "protocol_filter": _filter(message.protocol_filter),
        },
    )


def _filter(message: pb.ProtocolFilter) -> Object:
    which = message.WhichOneof("filter")
    if which is None:
        return {}
    inner = getattr(message, which)
    values = {field.name: getattr(inner, field.name) for field in inner.DESCRIPTOR.fields}
    return {"Filter": {which.title(): values}}
