"""Wire format, table and distribution: cpp/metalbond. Each number of a peer or source is used once."""

from collections.abc import Iterable
from typing import Literal, overload

from metalbond.types import Destination, NextHop, Route

Refusals = list[tuple[str, int, str]]
"""Reason, how many, and the first one in words."""

def split(stream: bytes, merge: bool, /) -> tuple[list[tuple[int, bytes]], int, str, int]:
    """Frames as (type, payload), bytes used, "version", "type" or "length" if that is wrong, and its value."""

def encode_update(add: bool, route: Route, origin: bytes = b"") -> bytes: ...
@overload
def decode_frames(frames: bytes, mesh: Literal[False], /) -> tuple[list[tuple[bool, Route]], Refusals, str | None]:
    """Of whole UPDATE frames; the last value says why the rest is not readable."""

@overload
def decode_frames(
    frames: bytes, mesh: Literal[True], /
) -> tuple[list[tuple[bool, Route, bytes]], Refusals, str | None]: ...
def inside(networks: Iterable[tuple[bytes, int]], address: bytes, length: int, /) -> bool:
    """Whether a prefix lies in one of the networks, which are (address, length)."""

class Filter:
    """Which routes a peer may announce. Without arguments: none."""

    @overload
    def __init__(self) -> None: ...
    @overload
    def __init__(
        self,
        vnis: Iterable[tuple[int, int]],
        prefixes: Iterable[tuple[bytes, int]] | None,
        next_hops: Iterable[tuple[bytes, int]] | None,
        max_routes: int | None,
        /,
    ) -> None:
        """Spans of VNIs, networks of destinations and of next hops; None does not restrict."""

    def refusal(self, route: Route, /) -> str:
        """Stable name of why the route may not be announced, or an empty string."""

class RouteOutbox:
    """What one connection has been told and must still be told, coalesced: the last wish wins."""

    def want(self, route: Route, present: bool, /) -> bool:
        """True if the other side must be told something because of it."""

    def mark(self) -> None:
        """Queue a mark: it leaves behind everything that waits now."""

    def __len__(self) -> int:
        """Entries that wait."""

    @property
    def marks(self) -> int: ...
    def take(self, limit: int, /) -> list[bytes | None]:
        """At most `limit` frames, None for a mark. Between marks removals go first."""

    def forget(self, vni: int, /) -> None:
        """The other side has dropped everything of the VNI by itself."""

    def sent(self) -> list[Route]: ...

class Distributor:
    """Table, subscriptions and outboxes of a server: see cpp/metalbond/distributor.h."""

    def __init__(self, name: bytes = b"") -> None: ...
    def connect(self, peer: int, identity: bytes = b"", *, original: bool = False) -> None: ...
    def mirror(self, peer: int, /) -> None: ...
    def adopt(self, source: int, origin: bytes, /) -> None: ...
    def disconnect(self, peer: int, /) -> None: ...
    def release(self, source: int, limit: int = ...) -> int: ...
    def subscribe(self, peer: int, vni: int, /) -> bool: ...
    def unsubscribe(self, peer: int, vni: int, /) -> bool: ...
    def update(self, source: int, add: bool, route: Route, /) -> bool: ...
    def receive(
        self, source: int, frames: bytes, max_of_source: int, max_of_all: int, rule: Filter | None, /
    ) -> tuple[int, Refusals, str | None]:
        """Execute whole UPDATE frames: their number, refusals, and why the rest is not readable."""

    def take(self, peer: int, limit: int, separate: bool, /) -> tuple[list[bytes], int, bool]:
        """About `limit` bytes to write, in one piece or by frame; how many updates these are; whether more wait."""

    def mark(self, peer: int, /) -> None: ...
    def marks(self, peer: int, /) -> int: ...
    def waiting(self, peer: int, /) -> int: ...
    def take_touched(self) -> list[int]: ...
    def connections(self, identity: bytes, /) -> int: ...
    def subscriptions(self) -> int: ...
    def record_changes(self, on: bool, /) -> None: ...
    @property
    def recording(self) -> bool: ...
    def take_changes(self) -> set[Route]: ...
    def __len__(self) -> int:
        """Routes, however many sources announce each."""

    def __contains__(self, route: Route, /) -> bool: ...
    def sources(self, route: Route, /) -> tuple[int, ...]: ...
    def announces(self, source: int, route: Route, /) -> bool: ...
    def count_of(self, source: int, /) -> int: ...
    def of_source(self, source: int, /) -> list[Route]: ...
    def hops(self, vni: int, destination: Destination, /) -> dict[NextHop, tuple[int, ...]]: ...
    def scan(self, vni: int, slot: int, limit: int, /) -> tuple[list[tuple[Route, tuple[int, ...]]], int | None]:
        """Routes of at most `limit` slots, and the next slot, None after the last. A route keeps its slot."""

    def routes(self, vni: int, /) -> list[tuple[Route, tuple[int, ...]]]: ...
    def destination_counts(self) -> dict[int, int]: ...
