"""What a client knows: one table over several servers. Each route counts its servers; the backend sees 0↔1 changes.

A lost server's routes stay as *stale* until it has had the time to send them again, then those that did not come are
swept. While stale they count like others, with one exception: when a live server withdraws a route, stale copies do not
keep it, because fresh news is worth more than an old one.

Own announcements matter in two ways. A route that this client announces itself is not delivered, except load-balancer
targets: a balancer and its target may be on one host. And a STANDARD route is not delivered while this client announces
the same destination as STANDARD, so that two gateways never send their default routes through each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from metalbond.inspect import SELF, Recorder, Row
from metalbond.rib import RouteTable
from metalbond.types import Destination, HopType, NextHop, Route

SCAN_DESTINATIONS = 256
"""Destinations in one slice of a scan."""


class Change(NamedTuple):
    added: bool
    route: Route


class Union:
    """Pure: every method returns or queues values, `take_changes` gives the changes for the backend in order."""

    def __init__(self) -> None:
        self.received: RouteTable[str] = RouteTable()
        self._own: RouteTable[str] = RouteTable()
        self._subscribed: set[int] = set()
        self._visible: dict[int, set[Route]] = {}
        self._stale: dict[str, set[Route]] = {}
        self._changes: list[Change] = []
        self.changes = Recorder()

    # Desired state

    def subscribe(self, vni: int) -> bool:
        """False if subscribed already."""
        if vni in self._subscribed:
            return False
        self._subscribed.add(vni)
        for route in self.announced(vni):
            self._refresh(route)
        return True

    def unsubscribe(self, vni: int) -> bool:
        """Forgets what was received in the VNI; False if not subscribed."""
        if vni not in self._subscribed:
            return False
        self._subscribed.discard(vni)
        for route, servers in list(self.received.routes(vni)):
            for server in servers:
                self._drop(server, route)
            self._refresh(route)
        for route in self.announced(vni):
            self._refresh(route)
        return True

    def announce(self, route: Route) -> bool:
        """False if announced already."""
        if not self._own.add(SELF, route):
            return False
        self._refresh_with_siblings(route)
        return True

    def withdraw(self, route: Route) -> bool:
        """False if not announced."""
        if not self._own.remove(SELF, route):
            return False
        self._refresh_with_siblings(route)
        return True

    @property
    def subscribed(self) -> frozenset[int]:
        return frozenset(self._subscribed)

    def announces(self, route: Route) -> bool:
        return self._own.announces(SELF, route)

    def announced(self, vni: int | None = None) -> list[Route]:
        """Own announcements, of one VNI or of all."""
        vnis = self._own.vnis() if vni is None else [vni]
        return [route for v in vnis for route, _ in self._own.routes(v)]

    # Everything known, own announcements included

    def hops(self, vni: int, destination: Destination) -> dict[NextHop, tuple[str, ...]]:
        """Next hops with the servers that announce them; own announcements have the source SELF."""
        hops = dict(self.received.hops(vni, destination))
        for hop in self._own.hops(vni, destination):
            hops[hop] = (SELF, *hops.get(hop, ()))
        return hops

    def scan(self, vni: int) -> Iterator[list[Row]]:
        """See metalbond.inspect."""
        destinations = list(dict.fromkeys([*self.received.destinations(vni), *self._own.destinations(vni)]))
        for start in range(0, len(destinations), SCAN_DESTINATIONS):
            yield [
                (Route(vni, destination, hop), sources)
                for destination in destinations[start : start + SCAN_DESTINATIONS]
                for hop, sources in self.hops(vni, destination).items()
            ]

    def destination_counts(self) -> dict[int, int]:
        """By VNI."""
        counts = self.received.destination_counts()
        for vni in self._own.vnis():
            only_own = sum(not self.received.hops(vni, destination) for destination in self._own.destinations(vni))
            counts[vni] = counts.get(vni, 0) + only_own
        return counts

    def route_count(self) -> int:
        own = self._own.of_source(SELF)
        return len(self.received) + len(own) - sum(route in self.received for route in own)

    # What servers say

    def receive(self, server: str, add: bool, route: Route) -> None:
        if not add:
            self._withdrawn(server, route)
        elif route.vni in self._subscribed:
            if stale := self._stale.get(server):
                stale.discard(route)
            if self.received.add(server, route):
                self._refresh(route)

    def lose(self, server: str) -> None:
        """The session is gone: everything learned from this server is stale."""
        self._stale.setdefault(server, set()).update(self.received.of_source(server))

    def sweep(self, server: str) -> int:
        """Remove what is still stale; the number of routes."""
        stale = self._stale.pop(server, set())
        for route in stale:
            self.received.remove(server, route)
            self._refresh(route)
        return len(stale)

    def stale(self, server: str) -> int:
        return len(self._stale.get(server, ()))

    # What the backend sees

    def visible(self, vni: int) -> frozenset[tuple[Destination, NextHop]]:
        return frozenset((route.destination, route.hop) for route in self._visible.get(vni, ()))

    def visible_count(self) -> int:
        return sum(map(len, self._visible.values()))

    def take_changes(self) -> list[Change]:
        changes, self._changes = self._changes, []
        return changes

    def _withdrawn(self, server: str, route: Route) -> None:
        if not self._drop(server, route):
            return
        others = self.received.sources(route)
        if all(route in self._stale.get(other, ()) for other in others):
            for other in others:
                self._drop(other, route)
        self._refresh(route)

    def _drop(self, server: str, route: Route) -> bool:
        if stale := self._stale.get(server):
            stale.discard(route)
        return self.received.remove(server, route)

    def _refresh_with_siblings(self, route: Route) -> None:
        self._refresh(route)
        if route.hop.type == HopType.STANDARD:
            for hop in list(self.received.hops(route.vni, route.destination)):
                self._refresh(Route(route.vni, route.destination, hop))

    def _refresh(self, route: Route) -> None:
        if self.changes.routes is not None:
            self.changes.routes.add(route)
        now = self._is_visible(route)
        if now == (route in self._visible.get(route.vni, ())):
            return
        visible = self._visible.setdefault(route.vni, set())
        if now:
            visible.add(route)
        else:
            visible.discard(route)
            if not visible:
                del self._visible[route.vni]
        self._changes.append(Change(now, route))

    def _is_visible(self, route: Route) -> bool:
        vni, destination, hop = route
        if vni not in self._subscribed:
            return False
        own = self._own.hops(vni, destination)
        if hop in own:
            return hop.type == HopType.LOADBALANCER_TARGET
        if not self.received.sources(route):
            return False
        return not own or hop.type != HopType.STANDARD or all(other.type != HopType.STANDARD for other in own)
