"""Translation between the planner's values and the messages of the engine's control contract. Pure."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv6Address,
    ip_address,
)

from ironcore.dpdk.v1 import dpdk_pb2

from metalnet_daemon.plan.types import (
    ActualInterface,
    CreateInterface,
    Interface,
    NextHop,
    Prefix,
    PrefixKey,
    PrefixKind,
    RouteKey,
)

# "No address of this family", as the engine spells it.
_NO_IPV4, _NO_IPV6 = IPv4Address(0), IPv6Address(0)


def underlay_bytes(address: IPv6Address | None) -> bytes:
    """Preferred underlay address of a request; empty lets the engine choose."""
    return b"" if address is None else str(address).encode()


def underlay_address(text: bytes) -> IPv6Address:
    """Underlay address of an answer. Raises ValueError."""
    return IPv6Address(text.decode("ascii"))


def create_interface_request(operation: CreateInterface) -> dpdk_pb2.CreateInterfaceRequest:
    wanted = operation.interface
    return dpdk_pb2.CreateInterfaceRequest(
        interface_type=dpdk_pb2.VIRTUAL,
        interface_id=wanted.id.encode(),
        vni=wanted.vni,
        ipv4_config=dpdk_pb2.IpConfig(primary_address=str(wanted.ipv4 or _NO_IPV4).encode()),
        ipv6_config=dpdk_pb2.IpConfig(primary_address=str(wanted.ipv6 or _NO_IPV6).encode()),
        device_name=wanted.device,
        metering_parameters=dpdk_pb2.MeteringParams(total_rate=wanted.total_rate, public_rate=wanted.public_rate),
        preferred_underlay_route=underlay_bytes(operation.underlay),
        hostname=wanted.hostname,
    )


def actual_interface(message: dpdk_pb2.Interface) -> ActualInterface:
    """An interface as listed. Raises ValueError if it has an address that is none."""
    ipv4 = IPv4Address(message.primary_ipv4.decode("ascii"))
    ipv6 = IPv6Address(message.primary_ipv6.decode("ascii"))
    rates = message.meteringParams
    return ActualInterface(
        Interface(
            id=message.id.decode(),
            vni=message.vni,
            device=message.pci_name,
            ipv4=ipv4 if ipv4 != _NO_IPV4 else None,
            ipv6=ipv6 if ipv6 != _NO_IPV6 else None,
            hostname=message.hostname,
            total_rate=rates.total_rate,
            public_rate=rates.public_rate,
        ),
        underlay=underlay_address(message.underlay_route),
        # Engines without a rate limiter accept rates and report zero.
        rates_known=bool(rates.total_rate or rates.public_rate),
    )


def prefix_message(prefix: Prefix) -> dpdk_pb2.Prefix:
    address, _, length = str(prefix).partition("/")
    version = dpdk_pb2.IPV4 if prefix.version == 4 else dpdk_pb2.IPV6
    return dpdk_pb2.Prefix(ip=dpdk_pb2.IpAddress(ipver=version, address=address.encode()), length=int(length))


def actual_prefix(kind: PrefixKind, interface_id: str, message: dpdk_pb2.Prefix) -> tuple[PrefixKey, IPv6Address]:
    """A prefix record as listed, with its underlay address. Raises ValueError."""
    return PrefixKey(kind, interface_id, _prefix(message)), underlay_address(message.underlay_route)


def route_message(key: RouteKey, hop: NextHop | None) -> dpdk_pb2.Route:
    """A route of a request; a deletion needs no hop."""
    route = dpdk_pb2.Route(prefix=prefix_message(key.prefix))
    if hop is not None:
        route.nexthop_vni = hop.vni
        route.nexthop_address.ipver = dpdk_pb2.IPV6
        route.nexthop_address.address = str(hop.address).encode()
    return route


def actual_route(vni: int, message: dpdk_pb2.Route) -> tuple[RouteKey, NextHop]:
    """A route as listed. Raises ValueError."""
    prefix = _prefix(message.prefix).masked
    address = ip_address(message.nexthop_address.address.decode("ascii"))
    if not isinstance(address, IPv6Address):
        raise ValueError(f"next hop {address} of {prefix} is not an IPv6 address")
    return RouteKey(vni, prefix), NextHop(message.nexthop_vni, address)


def _prefix(message: dpdk_pb2.Prefix) -> Prefix:
    return Prefix.parse(f"{message.ip.address.decode('ascii')}/{message.length}")
