"""Frames and payloads of the protocol: bytes to values and back.

`encode_*` trust their arguments (`Route.fault` checks a route). `split` and `decode_*` take strangers' bytes and raise
`ProtocolError` where the stream cannot be trusted any more and the session must end, `InvalidRouteError` where one
well-formed update means nothing. The latter is skipped and counted instead, in the spirit of RFC 7606: it may have come
through an honest server from a third party, and ending the session would let that party cut this one off.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from google.protobuf.message import DecodeError
from ironcore.metalbond.v1 import metalbond_pb2 as pb

from metalbond.types import MAX_PORT, Destination, HopType, NextHop, Route

VERSION = 1
HEADER_BYTES = 4
MAX_PAYLOAD = 1188
"""So that a frame fits one segment of the IPv6 minimum MTU (RFC 8200: 1280 bytes)."""
MAX_IDENTITY = 64
MAX_ORIGIN = 128


class MessageType(IntEnum):
    HELLO = 1
    KEEPALIVE = 2
    SUBSCRIBE = 3
    UNSUBSCRIBE = 4
    UPDATE = 5


Frame = tuple[MessageType, bytes]
"""Message type and payload."""


class ProtocolError(Exception):
    """The peer broke the protocol; its session ends. `reason` is a short stable name for metrics."""

    reason = "protocol"


class BadVersionError(ProtocolError):
    reason = "bad_version"


class UnknownTypeError(ProtocolError):
    reason = "unknown_type"


class PayloadTooLongError(ProtocolError):
    reason = "payload_too_long"


class BadPayloadError(ProtocolError):
    reason = "bad_payload"


class InvalidRouteError(ValueError):
    """A well-formed update whose content is impossible."""


@dataclass(frozen=True, slots=True)
class Hello:
    keepalive: int
    """Seconds, at least 1."""
    is_server: bool = False
    revision: int = 0
    """0 is the original protocol, 1 the extended one (see the contract's comments)."""
    hold: int = 0
    """Seconds for which routes survive the session: asked for by a client, granted by a server."""
    identity: bytes = b""


class Reflected(NamedTuple):
    """A route between servers of a mesh: what one client of the sending server announces."""

    route: Route
    origin: bytes
    """Name of that client."""


_TYPES = {int(t): t for t in MessageType}
# Comparing with members of enums in Python code costs more than parsing an update.
_ADD, _REMOVE = pb.ADD, pb.REMOVE
_IPV4, _IPV6 = pb.IPV4, pb.IPV6
_NAT = int(HopType.NAT)
_ADDRESS_BYTES = (4, 16)


def split(stream: bytes) -> tuple[list[Frame], int]:
    """Frames that `stream` begins with, and how many bytes they take; the rest is the beginning of a later frame.

    Raises BadVersionError, UnknownTypeError, PayloadTooLongError as soon as the offending byte is there.
    """
    frames: list[Frame] = []
    at, end = 0, len(stream)
    while at < end:
        if stream[at] != VERSION:
            raise BadVersionError(f"version {stream[at]}, must be {VERSION}")
        body = at + HEADER_BYTES
        if body > end:
            break
        length = stream[at + 1] << 8 | stream[at + 2]
        if length > MAX_PAYLOAD:
            raise PayloadTooLongError(f"payload of {length} bytes, at most {MAX_PAYLOAD}")
        kind = _TYPES.get(stream[at + 3])
        if kind is None:
            raise UnknownTypeError(f"message type {stream[at + 3]}")
        if body + length > end:
            break
        at = body + length
        frames.append((kind, stream[body:at]))
    return frames, at


def frame(kind: MessageType, payload: bytes) -> bytes:
    """One frame. Raises PayloadTooLongError."""
    if len(payload) > MAX_PAYLOAD:
        raise PayloadTooLongError(f"payload of {len(payload)} bytes, at most {MAX_PAYLOAD}")
    return bytes((VERSION, len(payload) >> 8, len(payload) & 0xFF, kind)) + payload


_UPDATE_HEADERS = [frame(MessageType.UPDATE, bytes(n))[:HEADER_BYTES] for n in range(256)]
"""By payload length; the longest update that can exist has fewer than 100 bytes, and an origin of 131."""

KEEPALIVE = frame(MessageType.KEEPALIVE, b"")


def encode_hello(hello: Hello) -> bytes:
    payload = pb.Hello(
        keepalive_interval=hello.keepalive,
        is_server=hello.is_server,
        revision=hello.revision,
        hold_seconds=hello.hold,
        identity=hello.identity,
    )
    return frame(MessageType.HELLO, payload.SerializeToString())


def decode_hello(payload: bytes) -> Hello:
    """Raises BadPayloadError."""
    message = pb.Hello()
    _parse(message, payload)
    if message.keepalive_interval < 1:
        raise BadPayloadError("hello.keepalive_interval: 0, must be at least 1")
    if len(message.identity) > MAX_IDENTITY:
        raise BadPayloadError(f"hello.identity: {len(message.identity)} bytes, at most {MAX_IDENTITY}")
    return Hello(
        message.keepalive_interval, message.is_server, message.revision, message.hold_seconds, message.identity
    )


def encode_subscription(vni: int, subscribe: bool) -> bytes:
    kind = MessageType.SUBSCRIBE if subscribe else MessageType.UNSUBSCRIBE
    return frame(kind, pb.Subscription(vni=vni).SerializeToString())


def decode_subscription(payload: bytes) -> int:
    """The VNI. Raises BadPayloadError."""
    message = pb.Subscription()
    _parse(message, payload)
    return message.vni


@lru_cache(maxsize=16384)
def encode_update(add: bool, route: Route) -> bytes:
    """One frame. Cached, because a server sends the same one to every subscriber."""
    payload = _update(add, route).SerializeToString()
    return _UPDATE_HEADERS[len(payload)] + payload


@lru_cache(maxsize=16384)
def encode_reflected(add: bool, reflected: Reflected) -> bytes:
    """One frame for a server of the mesh."""
    message = _update(add, reflected.route)
    message.origin = reflected.origin
    payload = message.SerializeToString()
    return _UPDATE_HEADERS[len(payload)] + payload


def _update(add: bool, route: Route) -> pb.Update:
    vni, (prefix, length), (target, target_vni, hop_type, low, high) = route
    message = pb.Update(action=_ADD if add else _REMOVE, vni=vni)
    destination, hop = message.destination, message.next_hop
    destination.prefix = prefix
    destination.prefix_length = length
    hop.target_address = target
    if len(prefix) != 4:
        destination.ip_version = _IPV6
    if target_vni:
        hop.target_vni = target_vni
    if hop_type:
        hop.type = hop_type  # type: ignore[assignment]  # an open enum: unknown numbers are passed on
    if hop_type == _NAT:
        hop.nat_port_range_from = low
        hop.nat_port_range_to = high
    return message


def decode_update(payload: bytes) -> tuple[bool, Route]:
    """(True for ADD, route). Raises BadPayloadError, InvalidRouteError.

    Port numbers of a hop that is not NAT are dropped: they are never sent on, so they cannot be part of its identity.
    """
    message = pb.Update()
    _parse(message, payload)
    return _checked(message)


def decode_reflected(payload: bytes) -> tuple[bool, Reflected]:
    """(True for ADD, route and origin). Raises BadPayloadError, InvalidRouteError."""
    message = pb.Update()
    _parse(message, payload)
    add, route = _checked(message)
    if not 1 <= len(message.origin) <= MAX_ORIGIN:
        raise BadPayloadError(f"update.origin: {len(message.origin)} bytes, must be 1 to {MAX_ORIGIN}")
    return add, Reflected(route, message.origin)


def _checked(message: pb.Update) -> tuple[bool, Route]:
    to, via, action = message.destination, message.next_hop, message.action
    prefix, length, target, hop_type = to.prefix, to.prefix_length, via.target_address, via.type
    size = len(prefix)
    if size not in _ADDRESS_BYTES or len(target) not in _ADDRESS_BYTES:
        # An absent destination or next hop ends here too.
        raise BadPayloadError(f"update: addresses of {size} and {len(target)} bytes, both must be there with 4 or 16")
    if action not in (_ADD, _REMOVE):
        raise InvalidRouteError(f"action: {action}, must be 0 or 1")
    if to.ip_version != (_IPV4 if size == 4 else _IPV6):
        raise InvalidRouteError(f"destination.ip_version: {to.ip_version} with a prefix of {size} bytes")
    if length > 8 * size:
        raise InvalidRouteError(f"destination.prefix_length: {length} with a prefix of {size} bytes")
    low = high = 0
    if hop_type == _NAT:
        low, high = via.nat_port_range_from, via.nat_port_range_to
        if low > MAX_PORT or high > MAX_PORT:
            raise InvalidRouteError(f"next_hop.nat_port_range: {low} to {high}, must be 0 to {MAX_PORT}")
    hop = NextHop(target, via.target_vni, hop_type, low, high)
    return action == _ADD, Route(message.vni, Destination(prefix, length), hop)


def _parse(message: pb.Hello | pb.Subscription | pb.Update, payload: bytes) -> None:
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise BadPayloadError(f"not a {message.DESCRIPTOR.name}: {error}") from None
