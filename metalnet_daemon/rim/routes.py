"""The host's side of route distribution: learned routes as the planner reads them, announcements as it wishes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Set
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Protocol

from metalbond.types import Destination, NextHop
from metalnet_daemon.plan.types import Hop, Prefix, Rib, RouteType

# Destinations repeat on every pass over a large table; parsing one costs microseconds.
_CACHED_DESTINATIONS = 1 << 18
_KNOWN_TYPES = frozenset(kind.value for kind in RouteType)


class RouteClient(Protocol):
    """The client of the route servers, `metalbond.client.MetalbondClient`."""

    def subscribe(self, vni: int) -> bool: ...
    def unsubscribe(self, vni: int) -> bool: ...
    def set_announcements(self, vni: int, wanted: Collection[tuple[Destination, NextHop]]) -> bool: ...
    def routes(self, vni: int) -> frozenset[tuple[Destination, NextHop]]: ...
    def synced(self, vni: int) -> bool: ...
    async def wait_synced(self, vni: int, timeout: float | None = None) -> bool: ...  # noqa: ASYNC109


class RouteSource:
    """What is learned and announced; the backend of the client, which wakes the host on every change.

    settle_seconds: how long after the first complete replay of a VNI its routes count as settled. Other hosts may have
    lost the same servers, and need this time to announce themselves again.
    """

    def __init__(self, wake: Callable[[], None], *, settle_seconds: float) -> None:
        self._wake = wake
        self._settle_seconds = settle_seconds
        self._client: RouteClient | None = None
        self._tables: dict[int, dict[Prefix, frozenset[Hop]]] = {}
        self._dirty: set[int] = set()
        self._subscribed: set[int] = set()
        self._announced: set[int] = set()
        self._waiters: dict[int, asyncio.Task[None]] = {}
        self._settled: set[int] = set()

    def attach(self, client: RouteClient) -> None:
        """Use this client. Without one (no server is configured) nothing is learned and everything is settled."""
        self._client = client

    async def close(self) -> None:
        """Stop waiting for replays."""
        for waiter in self._waiters.values():
            waiter.cancel()
        for waiter in self._waiters.values():
            with contextlib.suppress(asyncio.CancelledError):
                await waiter

    # Called by the client

    def route_added(self, vni: int, destination: Destination, hop: NextHop) -> None:
        """A route became known."""
        self._dirty.add(vni)
        self._wake()

    def route_removed(self, vni: int, destination: Destination, hop: NextHop) -> None:
        """A route is not known any more."""
        self._dirty.add(vni)
        self._wake()

    # Called by the host

    def subscribe(self, vnis: Set[int]) -> None:
        """Learn the routes of exactly these VNIs."""
        if self._client is None:
            return
        for vni in vnis - self._subscribed:
            self._client.subscribe(vni)
            self._waiters[vni] = asyncio.create_task(self._settle(self._client, vni), name=f"routes of VNI {vni}")
        for vni in self._subscribed - vnis:
            self._client.unsubscribe(vni)
            self._waiters.pop(vni).cancel()
            self._settled.discard(vni)
            self._tables.pop(vni, None)
            self._dirty.discard(vni)
        self._subscribed = set(vnis)

    def announce(self, wanted: Rib) -> None:
        """Announce exactly these routes."""
        if self._client is None:
            return
        for vni in self._announced | wanted.keys():
            routes = {
                (_destination(prefix), NextHop(hop.address.packed, 0, hop.type, hop.port_from, hop.port_to))
                for prefix, hops in wanted.get(vni, {}).items()
                for hop in hops
            }
            self._client.set_announcements(vni, routes)
        self._announced = {vni for vni, table in wanted.items() if table}

    def live(self) -> Rib:
        """Everything that is learned in the subscribed VNIs."""
        if self._client is not None:
            for vni in self._dirty:
                self._tables[vni] = _table(self._client.routes(vni))
            self._dirty.clear()
        return {vni: table for vni, table in self._tables.items() if vni in self._subscribed}

    def replayed(self, vnis: Set[int]) -> frozenset[int]:
        """Those of the VNIs whose routes have been replayed by every server that is up."""
        client = self._client
        return frozenset(vnis) if client is None else frozenset(vni for vni in vnis if client.synced(vni))

    def settled(self, vnis: Set[int]) -> frozenset[int]:
        """Those of the VNIs whose other announcers have had the time to come back."""
        return frozenset(vnis) if self._client is None else frozenset(vnis & self._settled)

    async def _settle(self, client: RouteClient, vni: int) -> None:
        await client.wait_synced(vni)
        self._wake()
        await asyncio.sleep(self._settle_seconds)
        # Servers may have been lost meanwhile; what they had is kept by the client for its grace time.
        await client.wait_synced(vni)
        self._settled.add(vni)
        self._wake()


def _table(routes: Collection[tuple[Destination, NextHop]]) -> dict[Prefix, frozenset[Hop]]:
    table: dict[Prefix, set[Hop]] = {}
    for destination, hop in routes:
        if len(hop.target) != 16 or hop.type not in _KNOWN_TYPES:
            continue  # the underlay is IPv6; other types come from newer peers
        table.setdefault(_prefix(destination), set()).add(_hop(hop))
    return {prefix: frozenset(hops) for prefix, hops in table.items()}


@lru_cache(maxsize=_CACHED_DESTINATIONS)
def _prefix(destination: Destination) -> Prefix:
    version = 4 if len(destination.prefix) == 4 else 6
    return Prefix(version, int.from_bytes(destination.prefix, "big"), destination.length).masked


@lru_cache(maxsize=_CACHED_DESTINATIONS)
def _hop(hop: NextHop) -> Hop:
    return Hop(IPv6Address(hop.target), RouteType(hop.type), hop.nat_from, hop.nat_to)


def _destination(prefix: Prefix) -> Destination:
    return Destination(prefix.address.to_bytes(prefix.bits // 8, "big"), prefix.length)
