"""Bytes of rtnetlink(7) for our kind of route. Packed by hand: the library knows no encapsulation in IPv6, and needs
0.8 ms for a route with two next hops.

The same as `ip route replace P table T proto 254 nexthop encap ip6 dst U1 src :: dev TUN nexthop ...`. For an IPv6
destination each next hop has the gateway GATEWAY and the flag onlink: the kernel takes no IPv6 multipath route without
gateways, and a tunnel has no use for them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from metalbond.kernel.plan import PROTOCOL, Hops, Installed, Key
from metalbond.types import Destination

RTM_NEWROUTE, RTM_DELROUTE = 24, 25
AF_INET, AF_INET6 = 2, 10
VERSIONS = {AF_INET: 4, AF_INET6: 6}
PROBE_TABLE = 253
"""The kernel's "default" table, in which nothing is ever made."""
GATEWAY = bytes.fromhex("fe80" + 27 * "0" + "1")

_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH = 1, 4, 5, 6, 9
_RTA_TABLE, _RTA_ENCAP_TYPE, _RTA_ENCAP = 15, 21, 22
_IP6_ID, _IP6_DST, _IP6_SRC, _IP6_HOPLIMIT = 1, 2, 3, 4
_IFLA_IFNAME = 3
_NLMSGERR_ATTR_MSG = 1
_ENCAP_IP6 = 4
_ONLINK = 4
_UNICAST = 1
_UNIVERSE, _NOWHERE = 0, 255
_TYPE_MASK = 0x3FFF
_RTMSG = struct.Struct("=BBBBBBBBI")
_NEXTHOP = struct.Struct("=HBBi")
_ATTRIBUTE = struct.Struct("=HH")


def encode_route(key: Key, hops: Hops, device: int) -> bytes:
    """Payload of RTM_NEWROUTE, or of RTM_DELROUTE if there are no hops."""
    destination = key.destination
    family = AF_INET if destination.version == 4 else AF_INET6
    # What is removed may have been made by others with any scope and of any type.
    scope, kind = (_UNIVERSE, _UNICAST) if hops else (_NOWHERE, 0)
    header = _RTMSG.pack(family, destination.length, 0, 0, 0, PROTOCOL, scope, kind, 0)
    attributes = _attribute(_RTA_DST, destination.prefix) + _attribute(_RTA_TABLE, struct.pack("=I", key.table))
    if key.metric:
        attributes += _attribute(_RTA_PRIORITY, struct.pack("=I", key.metric))
    if hops:
        gateway = family == AF_INET6
        attributes += _attribute(_RTA_MULTIPATH, b"".join(_nexthop(hop, device, gateway=gateway) for hop in hops))
    return header + attributes


def encode_filter(family: int, table: int) -> bytes:
    """Payload of RTM_GETROUTE: our routes in one table."""
    header = _RTMSG.pack(family, 0, 0, 0, 0, PROTOCOL, 0, 0, 0)
    return header + _attribute(_RTA_TABLE, struct.pack("=I", table))


def encapsulation(hop: bytes) -> bytes:
    """Attributes of a next hop that make it a tunnel to this address."""
    tunnel = (
        _attribute(_IP6_ID, bytes(8))
        + _attribute(_IP6_DST, hop)
        + _attribute(_IP6_SRC, bytes(16))
        + _attribute(_IP6_HOPLIMIT, bytes(1))
    )
    return _attribute(_RTA_ENCAP_TYPE, struct.pack("=H", _ENCAP_IP6)) + _attribute(_RTA_ENCAP, tunnel)


def decode_route(data: bytes, device: int) -> tuple[Key, Installed] | None:
    """From the payload of RTM_NEWROUTE; None if it is not under our protocol number, or only cached by the kernel."""
    family, length, _, _, table, protocol, _, kind, flags = _RTMSG.unpack_from(data)
    if protocol != PROTOCOL or family not in VERSIONS or flags & 0x200:
        return None
    attributes = dict(_attributes(data, _RTMSG.size))
    table = _number(attributes.get(_RTA_TABLE), table)
    prefix = attributes.get(_RTA_DST, bytes(4 if family == AF_INET else 16))
    key = Key(table, Destination(prefix, length), _number(attributes.get(_RTA_PRIORITY), 0))
    if _RTA_MULTIPATH in attributes:
        nexthops = list(_nexthops(attributes[_RTA_MULTIPATH]))
    else:
        nexthops = [(_number(attributes.get(_RTA_OIF), 0), flags & 0xFF, attributes)]
    hops = tuple(_hop(family, device, *nexthop) for nexthop in nexthops)
    known = tuple(sorted(hop for hop in hops if hop))
    return key, Installed(known, len(known) == len(hops) and kind == _UNICAST)


def route_of_event(data: bytes) -> tuple[int, int]:
    """(table, protocol) from the payload of RTM_NEWROUTE and RTM_DELROUTE."""
    _, _, _, _, table, protocol, _, _, _ = _RTMSG.unpack_from(data)
    for kind, value in _attributes(data, _RTMSG.size):
        if kind == _RTA_TABLE:
            table = _number(value, 0)
    return table, protocol


def link_names(data: bytes, offset: int) -> list[bytes]:
    """Name of a link from the attributes of its message, in a list because it may lack."""
    return [value.rstrip(b"\0") for kind, value in _attributes(data, offset) if kind == _IFLA_IFNAME]


def message_of_error(data: bytes, offset: int) -> str:
    """The kernel's explanation among the attributes of an answer, or an empty string."""
    texts = [value for kind, value in _attributes(data, offset) if kind == _NLMSGERR_ATTR_MSG]
    return texts[0].rstrip(b"\0").decode(errors="backslashreplace") if texts else ""


def _hop(family: int, device: int, index: int, flags: int, attributes: dict[int, bytes]) -> bytes:
    """Target of a next hop that is exactly as we make it, else nothing."""
    if index != device or _number(attributes.get(_RTA_ENCAP_TYPE), 0) != _ENCAP_IP6:
        return b""
    gateway = attributes.get(_RTA_GATEWAY)
    if gateway != (GATEWAY if family == AF_INET6 else None) or (gateway is not None and not flags & _ONLINK):
        return b""
    tunnel = dict(_attributes(attributes.get(_RTA_ENCAP, b""), 0))
    target = tunnel.pop(_IP6_DST, b"")
    return b"" if any(map(any, tunnel.values())) else target


def _nexthop(hop: bytes, device: int, *, gateway: bool) -> bytes:
    attributes = encapsulation(hop)
    if gateway:
        attributes += _attribute(_RTA_GATEWAY, GATEWAY)
    return _NEXTHOP.pack(_NEXTHOP.size + len(attributes), _ONLINK if gateway else 0, 0, device) + attributes


def _nexthops(data: bytes) -> Iterator[tuple[int, int, dict[int, bytes]]]:
    """(interface, flags, attributes) of each."""
    offset = 0
    while offset + _NEXTHOP.size <= len(data):
        size, flags, _, index = _NEXTHOP.unpack_from(data, offset)
        yield index, flags, dict(_attributes(data[: offset + size], offset + _NEXTHOP.size))
        offset += max(_NEXTHOP.size, (size + 3) & ~3)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    while offset + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        yield kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + size]
        offset += max(_ATTRIBUTE.size, (size + 3) & ~3)


def _number(value: bytes | None, default: int) -> int:
    return int.from_bytes(value, "little") if value else default
