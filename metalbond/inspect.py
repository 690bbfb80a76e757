"""What a running server or client shows of itself: the one interface of the web page, the inspection service, the
kernel's routes and the command line to the protocol side.

Reading is cheap and bounded per call, so that a look at a table of millions of routes stops nothing: `scan` gives
slices, the rest are look-ups. Changes are levels, not edges: while somebody records, `take_changes` names the routes
that may be different since the last call, and `hops` tells how they are now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from metalbond.stats import Stats
from metalbond.types import Destination, NextHop, Route

SELF = "self"
"""Source of a client's own announcements."""
HELD = "HELD"
"""State of a lost peer whose routes are kept."""


@dataclass(frozen=True, slots=True)
class PeerView:
    """One peer of a server, or one server of a client."""

    name: str
    """Remote "host:port" (server), or the server as it was configured (client). Unique; a source of routes."""
    state: str
    """Name of the session's state, or HELD."""
    identity: str = ""
    """What the peer calls itself, or an empty string. Comes from the peer: any text."""
    age: float = 0.0
    """Seconds since the connection was made, 0 without one."""
    interval: int = 0
    """Seconds between keepalives, 0 before they are agreed."""
    revision: int = 0
    """0: speaks the original protocol."""
    hold: int = 0
    """Seconds for which routes stay after a loss, as asked for (server) or granted (client)."""
    subscriptions: tuple[int, ...] = ()
    """VNIs in ascending order."""
    routes: int = 0
    """Routes that it has announced to us."""
    stale: int = 0
    """Routes of these that it has not sent again since it was lost."""
    waiting: int = 0
    """Messages that it must still be told."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Messages of this connection that were ignored, by reason."""
    mesh: bool = False
    """A server of the mesh: one that this server dials (then its name is the configured one), or one that dials it."""
    rule: str = ""
    """Name of the policy's rule, empty without a policy."""
    proven: bool = False
    """Whether the identity is that of a certificate."""
    reason: str = ""
    """Why the connection was refused or ended for a fault of the peer; the last ones are shown, with state CLOSED."""


Row = tuple[Route, tuple[str, ...]]
"""A route and the names of its sources."""


class Recorder:
    """Which routes have changed, while somebody wants to know."""

    __slots__ = ("routes",)

    def __init__(self) -> None:
        self.routes: set[Route] | None = None
        """None: nobody wants to know. Others add to it."""

    def record(self, on: bool) -> None:
        self.routes = set() if on else None

    def take(self) -> set[Route]:
        taken = self.routes
        if taken:
            self.routes = set()
        return taken or set()


class Inspectable(Protocol):
    """A running server or client. All methods belong to its event loop."""

    stats: Stats

    @property
    def role(self) -> str:
        """ "server" or "client"."""

    def peers(self) -> list[PeerView]: ...

    def vnis(self) -> dict[int, int]:
        """VNIs with routes, and the number of their destinations."""

    def route_count(self) -> int:
        """Routes of all VNIs, however many sources announce each."""

    def scan(self, vni: int) -> Iterator[list[Row]]:
        """All routes of the VNI in slices of some hundred, in no particular order. The table may change between slices:
        a route that is there all the time comes exactly once.
        """

    def hops(self, vni: int, destination: Destination) -> Mapping[NextHop, tuple[str, ...]]:
        """Next hops and the names of their sources; empty if nobody announces the destination."""

    def record_changes(self, on: bool) -> None:
        """Begin or end to remember which routes change. Nothing is remembered before the first call."""

    def take_changes(self) -> set[Route]:
        """Routes that may have come, gone or got other sources since the last call."""
