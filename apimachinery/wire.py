"""Composing protobuf wire bytes, so that an object is encoded once and copied into every answer it belongs to.

The field numbers are those that every kind's messages have: ``<Kind>{metadata=1}``, ``<Kind>Event{type=1, object=2}``,
``<Kind>WatchResponse{mark=1, events=2}``, ``<Kind>List{metadata=1, items=2}``, ``ObjectMeta{resource_version=5}``.
A message may be composed of several parts: fields of a submessage that occur in two parts are merged by every parser.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ironcore.meta.v1 import meta_pb2

_FIELD_1: Final = b"\x0a"
_FIELD_2: Final = b"\x12"
_TYPE: Final = b"\x08"
_RESOURCE_VERSION: Final = b"\x28"


def varint(value: int) -> bytes:
    """Base-128 encoding of a value that is not negative."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append((value & 0x7F) | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def with_revision(stored: bytes, revision: int) -> bytes:
    """An encoded object with metadata.resource_version set, whatever it was."""
    version = _RESOURCE_VERSION + varint(revision)
    return stored + _FIELD_1 + varint(len(version)) + version


def watch_event(event_type: meta_pb2.EventType.ValueType, obj: bytes) -> bytes:
    """``events`` entry of a watch response."""
    head = _TYPE + varint(event_type) + _FIELD_2 + varint(len(obj))
    return _FIELD_2 + varint(len(head) + len(obj)) + head + obj


def watch_mark(mark_type: meta_pb2.MarkType.ValueType, revision: int) -> bytes:
    """``mark`` of a watch response."""
    mark = meta_pb2.WatchMark(type=mark_type, resource_version=revision).SerializeToString()
    return _FIELD_1 + varint(len(mark)) + mark


def list_response(metadata: meta_pb2.ListMeta, items: Iterable[bytes]) -> bytes:
    """A list of encoded objects."""
    encoded = metadata.SerializeToString()
    parts = [_FIELD_1, varint(len(encoded)), encoded]
    for item in items:
        parts += (_FIELD_2, varint(len(item)), item)
    return b"".join(parts)
