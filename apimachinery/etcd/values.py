"""Values of the key space, and the arithmetic of its keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from etcd3 import etcdrpc

# Every key of ours starts with it, so a store user needs a role for the range of this prefix and nothing else.
ROOT: Final = "/"


@dataclass(frozen=True, slots=True)
class StoredValue:
    """One key at one revision.

    mod_revision:    revision of the transaction that wrote this value.
    create_revision: revision of the transaction that created the key (0 in the record of a deletion).
    lease:           id of the lease that the key dies with; 0 if none.
    """

    key: str
    value: bytes
    mod_revision: int
    create_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing, ordered by key.

    revision: store revision that all pages of the listing show; pass it for the next page.
    more:     keys follow; ask again with ``start_after`` the last key.
    count:    keys of the whole range after ``start_after``, this page included.
    """

    items: Sequence[StoredValue]
    revision: int
    more: bool
    count: int


def from_kv(kv: Any) -> StoredValue:
    """`mvccpb.KeyValue` as a value. Keys that are not UTF-8 are not ours and come with replacement characters."""
    return StoredValue(kv.key.decode(errors="replace"), kv.value, kv.mod_revision, kv.create_revision, kv.lease)


def prefix_end(prefix: str) -> bytes:
    """First key after all keys with the prefix: ``[prefix, prefix_end(prefix))`` is their range. ``b"\\0"``: no end."""
    key = prefix.encode()  # UTF-8 has no byte 0xff, so the last byte can always be raised
    return key[:-1] + bytes([key[-1] + 1]) if key else b"\0"


def after(key: str) -> bytes:
    """The key that directly follows."""
    return key.encode() + b"\0"


def range_of(prefix: str) -> tuple[bytes, bytes]:
    """(key, range_end) of a request over all keys with the prefix; the empty prefix means every key."""
    return prefix.encode() or b"\0", prefix_end(prefix)


def read_request(key: str, **options: Any) -> Any:
    """`RangeRequest` of one key."""
    return etcdrpc.RangeRequest(key=key.encode(), **options)
