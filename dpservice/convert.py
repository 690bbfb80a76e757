"""Between wire values and engine values: strict parsing with the service's own error texts, and canonical output."""

from __future__ import annotations

import re
import socket

from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import _engine

MAX_ID = 63
MAX_BOOT_FILENAME = 31
MAX_PREFIX_LENGTH = 255
MAX_PORT = 0xFFFF
ANY_IPV4 = bytes(4)
ANY_IPV6 = bytes(16)

_INTERFACE_ID = re.compile(rb"[A-Za-z0-9_-]*")


class InvalidArgument(Exception):  # noqa: N818 - named after the gRPC status it becomes
    """A malformed argument; the text is part of the wire contract."""


def invalid(field: str) -> InvalidArgument:
    """The error for a field that cannot be used."""
    return InvalidArgument(f"Invalid {field}")


def interface_id(value: bytes) -> bytes:
    """An identifier as it refers to an interface. Raises InvalidArgument."""
    return text(value, "interface_id")


def new_interface_id(value: bytes) -> None:
    """Checks the characters of a new identifier, not its length. Raises InvalidArgument."""
    if not _INTERFACE_ID.fullmatch(value):
        raise invalid("interface_id")


def text(value: bytes, field: str, *, minimum: int = 1, maximum: int = MAX_ID) -> bytes:
    """A text of `minimum` to `maximum` bytes, which ends before a zero byte if there is one. Raises InvalidArgument."""
    value = value.partition(b"\0")[0]
    if not minimum <= len(value) <= maximum:
        raise invalid(field)
    return value


def port(value: int, field: str) -> int:
    """A port number. Raises InvalidArgument."""
    if value > MAX_PORT:
        raise invalid(field)
    return value


def _pton(family: int, value: bytes) -> bytes | None:
    try:
        return socket.inet_pton(family, value.decode("ascii"))
    except (OSError, ValueError):
        return None


def ipv4(value: bytes, field: str) -> bytes:
    """Packed address of a dotted quad. Raises InvalidArgument."""
    packed = _pton(socket.AF_INET, value)
    if packed is None:
        raise invalid(field)
    return packed


def ipv6(value: bytes, field: str) -> bytes:
    """Packed address of an IPv6 text. Raises InvalidArgument."""
    packed = _pton(socket.AF_INET6, value)
    if packed is None:
        raise invalid(field)
    return packed


def address(value: pb.IpAddress, field: str) -> bytes:
    """4 or 16 bytes; the text must be of the family that the message names. Raises InvalidArgument."""
    if value.ipver == pb.IPV4:
        return ipv4(value.address, field)
    if value.ipver == pb.IPV6:
        return ipv6(value.address, field)
    raise invalid(field)


def prefix(value: pb.Prefix) -> _engine.Prefix:
    """An alias or load balancer prefix; whether the length fits the family is the engine's business."""
    packed = address(value.ip, "prefix.ip")
    if value.length > MAX_PREFIX_LENGTH:
        raise invalid("prefix.length")
    return packed, value.length


def route_prefix(value: pb.Route) -> _engine.Prefix:
    """A route's destination; other than with `prefix`, the length is checked first."""
    if value.prefix.length > MAX_PREFIX_LENGTH:
        raise invalid("route.prefix.length")
    return address(value.prefix.ip, "route.prefix.ip"), value.prefix.length


def preferred_underlay(value: bytes, engine: _engine.Engine) -> bytes | None:
    """The underlay address to use; None: let the engine generate one. Raises InvalidArgument."""
    field = "preferred_underlay_route"
    if not value:
        return None
    packed = ipv6(value, field)
    if packed == ANY_IPV6:
        return None
    if not engine.preferred_underlay_allowed(packed):
        raise invalid(field)
    return packed


def pxe(config: pb.PxeConfig, own_ipv4: bytes, own_ipv6: bytes) -> _engine.PxeOptions | None:
    """Network boot data, if a server is given: of a family that the interface has. Raises InvalidArgument."""
    if not config.next_server:
        return None
    server_text = config.next_server.encode()
    server = None
    if own_ipv6 != ANY_IPV6:
        server = _pton(socket.AF_INET6, server_text)
    if server is None and own_ipv4 != ANY_IPV4:
        server = _pton(socket.AF_INET, server_text)
    if server is None:
        raise invalid("pxe_config.next_server")
    filename = text(config.boot_filename.encode(), "pxe_config.boot_filename", maximum=MAX_BOOT_FILENAME)
    return _engine.PxeOptions(server, filename.decode())


def address_text(packed: bytes) -> bytes:
    """Canonical text of 4 or 16 bytes."""
    family = socket.AF_INET if len(packed) == len(ANY_IPV4) else socket.AF_INET6
    return socket.inet_ntop(family, packed).encode()


def address_message(packed: bytes) -> pb.IpAddress:
    """Message of 4 or 16 bytes."""
    version = pb.IPV4 if len(packed) == len(ANY_IPV4) else pb.IPV6
    return pb.IpAddress(ipver=version, address=address_text(packed))


def interface_message(info: _engine.InterfaceInfo) -> pb.Interface:
    """An interface as the service reports it."""
    return pb.Interface(
        id=info.id.encode(),
        vni=info.vni,
        primary_ipv4=address_text(info.ipv4),
        primary_ipv6=address_text(info.ipv6),
        underlay_route=address_text(info.underlay),
        pci_name=info.device_name,
        meteringParams=pb.MeteringParams(total_rate=info.total_meter_rate, public_rate=info.public_meter_rate),
        hostname=info.hostname,
    )


def prefix_message(info: _engine.PrefixInfo) -> pb.Prefix:
    """An alias or load balancer prefix with its underlay address."""
    packed, length = info.prefix
    return pb.Prefix(ip=address_message(packed), length=length, underlay_route=address_text(info.underlay))


def route_message(info: _engine.RouteInfo) -> pb.Route:
    """A route; its own VNI and a weight are not part of the message."""
    packed, length = info.prefix
    return pb.Route(
        prefix=pb.Prefix(ip=address_message(packed), length=length),
        nexthop_vni=info.nexthop_vni,
        nexthop_address=address_message(info.nexthop),
    )
