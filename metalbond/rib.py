"""Routing information base: which sources announce which routes. A source is a peer (server) or a server (client)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar

from metalbond.types import Destination, NextHop, Route

S = TypeVar("S", bound=Hashable)


class RouteTable(Generic[S]):
    """VNI → destination → next hop → announcing sources. Levels without content do not exist; queries create none."""

    def __init__(self) -> None:
        self._vnis: dict[int, dict[Destination, dict[NextHop, tuple[S, ...]]]] = {}
        self._of_source: dict[S, set[Route]] = {}
        self._size = 0

    def __len__(self) -> int:
        """Number of routes, however many sources announce each."""
        return self._size

    def __contains__(self, route: Route) -> bool:
        return bool(self.sources(route))

    def add(self, source: S, route: Route) -> bool:
        """False if the source announced it already."""
        mine = self._of_source.setdefault(source, set())
        if route in mine:
            return False
        mine.add(route)
        vni, destination, hop = route
        destinations = self._vnis.get(vni)
        if destinations is None:
            destinations = self._vnis[vni] = {}
        hops = destinations.get(destination)
        if hops is None:
            hops = destinations[destination] = {}
        sources = hops.get(hop, ())
        self._size += not sources
        hops[hop] = (*sources, source)
        return True

    def remove(self, source: S, route: Route) -> bool:
        """False if the source does not announce it."""
        mine = self._of_source.get(source)
        if mine is None or route not in mine:
            return False
        mine.remove(route)
        if not mine:
            del self._of_source[source]
        vni, destination, hop = route
        destinations = self._vnis[vni]
        hops = destinations[destination]
        rest = tuple(s for s in hops[hop] if s != source)
        if rest:
            hops[hop] = rest
            return True
        self._size -= 1
        del hops[hop]
        if not hops:
            del destinations[destination]
            if not destinations:
                del self._vnis[vni]
        return True

    def sources(self, route: Route) -> tuple[S, ...]:
        """In the order of their announcements; empty if nobody announces it."""
        return self.hops(route.vni, route.destination).get(route.hop, ())

    def hops(self, vni: int, destination: Destination) -> Mapping[NextHop, tuple[S, ...]]:
        return self._vnis.get(vni, {}).get(destination, {})

    def vnis(self) -> list[int]:
        return list(self._vnis)

    def destinations(self, vni: int) -> list[Destination]:
        """A copy."""
        return list(self._vnis.get(vni, ()))

    def destination_counts(self) -> dict[int, int]:
        """By VNI."""
        return {vni: len(destinations) for vni, destinations in self._vnis.items()}

    def routes(self, vni: int) -> Iterator[tuple[Route, tuple[S, ...]]]:
        """Not stable against changes while it is consumed."""
        for destination, hops in self._vnis.get(vni, {}).items():
            for hop, sources in hops.items():
                yield Route(vni, destination, hop), sources

    def of_source(self, source: S) -> frozenset[Route]:
        return frozenset(self._of_source.get(source, ()))

    def announces(self, source: S, route: Route) -> bool:
        return route in self._of_source.get(source, ())

    def count_of(self, source: S) -> int:
        return len(self._of_source.get(source, ()))
