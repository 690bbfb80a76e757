"""Frames and payloads of the protocol: bytes to values and back.

`encode_*` trust their arguments (`Route.fault` checks a route). `split` and `decode_*` take strangers' bytes and raise
`ProtocolError` where the stream cannot be trusted any more and the session must end, `InvalidRouteError` where one
well-formed update means nothing. The latter is skipped and counted instead, in the spirit of RFC 7606: it may have come
through an honest server from a third party, and ending the session would let that party cut this one off.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from google.protobuf.message import DecodeError
from ironcore.metalbond.v1 import metalbond_pb2 as pb

from metalbond import _core
from metalbond.types import Route

VERSION = 1
HEADER_BYTES = 4
MAX_PAYLOAD = 1188
"""So that a frame fits one segment of the IPv6 minimum MTU (RFC 8200: 1280 bytes)."""
MAX_IDENTITY = 64


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


_TYPES = {int(t): t for t in MessageType}


def split(stream: bytes) -> tuple[list[Frame], int]:
    """Frames that `stream` begins with, and how many bytes they take; the rest is the beginning of a later frame.

    Raises BadVersionError, UnknownTypeError, PayloadTooLongError as soon as the offending byte is there.
    """
    return _split(stream, False)


def split_runs(stream: bytes) -> tuple[list[Frame], int]:
    """As `split`, but UPDATEs that follow each other are one entry, whose bytes are whole frames."""
    return _split(stream, True)


def _split(stream: bytes, merge: bool) -> tuple[list[Frame], int]:
    frames, used, wrong, value = _core.split(stream, merge)
    if wrong == "version":
        raise BadVersionError(f"version {value}, must be {VERSION}")
    if wrong == "length":
        raise PayloadTooLongError(f"payload of {value} bytes, at most {MAX_PAYLOAD}")
    if wrong == "type":
        raise UnknownTypeError(f"message type {value}")
    return [(_TYPES[number], payload) for number, payload in frames], used


def frame(kind: MessageType, payload: bytes) -> bytes:
    """One frame. Raises PayloadTooLongError."""
    if len(payload) > MAX_PAYLOAD:
        raise PayloadTooLongError(f"payload of {len(payload)} bytes, at most {MAX_PAYLOAD}")
    return bytes((VERSION, len(payload) >> 8, len(payload) & 0xFF, kind)) + payload


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


def encode_update(add: bool, route: Route, origin: bytes = b"") -> bytes:
    """One frame; the origin is for servers of a mesh. Raises ValueError for numbers that do not fit their fields."""
    return _core.encode_update(add, route, origin)


def decode_update(payload: bytes) -> tuple[bool, Route]:
    """(True for ADD, route). Raises BadPayloadError, InvalidRouteError.

    Port numbers of a hop that is not NAT are dropped: they are never sent on, so they cannot be part of its identity.
    """
    updates, refusals, broken = _core.decode_frames(frame(MessageType.UPDATE, payload), False)
    if broken is not None:
        raise BadPayloadError(broken)
    if refusals:
        raise InvalidRouteError(refusals[0][2])
    add, route = updates[0]
    return add, route


def _parse(message: pb.Hello | pb.Subscription, payload: bytes) -> None:
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise BadPayloadError(f"not a {message.DESCRIPTOR.name}: {error}") from None
