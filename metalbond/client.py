"""The client library: desired state in, one union of all servers' routes out.

    client = MetalbondClient(["[fd00::1]:4711", "[fd00::2]:4711"], backend=backend, identity="node-7")
    await client.start()
    client.subscribe(100)
    client.announce(100, Destination.parse("10.0.0.5/32"), NextHop.to("fd00:7::5"))

Setters may be called before `start` and while no server answers: each connection is told everything when it comes up.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from metalbond.codec import MAX_IDENTITY
from metalbond.inspect import PeerView, Row
from metalbond.link import LinkConfig, ServerLink
from metalbond.session import MAX_KEEPALIVE, Role, SessionConfig, SessionState
from metalbond.stats import Stats
from metalbond.tls import Tls, TlsFiles
from metalbond.types import Destination, NextHop, Route
from metalbond.union import Union

log = structlog.get_logger(__name__)

DEFAULT_KEEPALIVE = 5
DEFAULT_GRACE = 300.0
DEFAULT_SETTLE = 15.0
DEFAULT_HOLD = 30
DEFAULT_MAX_ROUTES = 4_000_000


class RouteBackend(Protocol):
    """Where routes go. Called from the event loop; must be quick and must not raise."""

    def route_added(self, vni: int, destination: Destination, hop: NextHop) -> None: ...

    def route_removed(self, vni: int, destination: Destination, hop: NextHop) -> None: ...


class MetalbondClient:
    """All methods belong to the event loop that runs `start`. Several servers are equals: everything goes to all.

    keepalive: seconds, 1 to 3600. grace_seconds: how long routes of a lost server stay if it does not come back.
    settle_seconds: how long routes stay that a server has not sent again after it came back; other clients of a
    restarted server need this time to announce theirs. identity: unique name of this client that survives its restart,
    at most 64 bytes; hold_seconds: how long servers keep this client's routes after its session is lost, which needs an
    identity. local_address: source address of connections. extensions: False to speak the original protocol only.
    max_routes: more than these are refused, whatever servers send. tls: files for TLS to all servers; tls_name: what
    the servers' certificates must name, instead of the host that is dialled.
    """

    def __init__(
        self,
        servers: Sequence[str],
        keepalive: int = DEFAULT_KEEPALIVE,
        *,
        backend: RouteBackend,
        local_address: str | None = None,
        grace_seconds: float = DEFAULT_GRACE,
        settle_seconds: float = DEFAULT_SETTLE,
        identity: str = "",
        hold_seconds: int = DEFAULT_HOLD,
        extensions: bool = True,
        max_routes: int = DEFAULT_MAX_ROUTES,
        stats: Stats | None = None,
        tls: TlsFiles | None = None,
        tls_name: str = "",
    ) -> None:
        """Raises ValueError for impossible arguments, with their name; TlsError is one."""
        if not 1 <= keepalive <= MAX_KEEPALIVE:
            raise ValueError(f"keepalive: {keepalive}, must be 1 to {MAX_KEEPALIVE} seconds")
        if len(set(servers)) != len(servers):
            raise ValueError("servers: one address is given twice")
        if local_address is not None:
            ipaddress.ip_address(local_address)
        name = identity.encode()
        if len(name) > MAX_IDENTITY:
            raise ValueError(f"identity: {len(name)} bytes, at most {MAX_IDENTITY}")
        self.stats = stats or Stats()
        self._union = Union()
        self._backend = backend
        self._grace, self._settle = grace_seconds, settle_seconds
        self._max_routes = max_routes
        config = LinkConfig(
            SessionConfig(
                Role.CLIENT, keepalive, hold=hold_seconds if name else 0, identity=name, extensions=extensions
            ),
            local_address,
            tls=Tls(tls, server_side=False) if tls else None,
            tls_name=tls_name,
        )
        self._links = {server: ServerLink(server, config, self, self.stats) for server in servers}
        self._tasks: list[asyncio.Task[None]] = []
        self._sweeps: dict[str, asyncio.TimerHandle] = {}
        self._lost_at: dict[str, float] = {}
        self._progress = asyncio.Event()

    async def start(self) -> None:
        """Returns at once; servers are dialled in the background, for ever."""
        self._tasks = [asyncio.create_task(link.run(), name=f"metalbond {name}") for name, link in self._links.items()]

    async def close(self, *, withdraw: bool = False, timeout: float = 2.0) -> None:  # noqa: ASYNC109 # of a part of the work
        """End all sessions. With `withdraw`, tell the servers first that nothing is announced any more; without it they
        keep the routes for the granted hold time, as they do after a crash. The backend keeps what it has.
        """
        if withdraw:
            routes = self._union.announced()
            for link in self._links.values():
                for route in routes:
                    link.announce(route, False)
            told = [asyncio.create_task(link.told()) for link in self._links.values() if link.up]
            if told:
                _, pending = await asyncio.wait(told, timeout=timeout)
                for task in pending:
                    task.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for timer in self._sweeps.values():
            timer.cancel()
        self._sweeps.clear()
        self._tasks = []

    # Desired state. Each returns whether anything changed.

    def subscribe(self, vni: int) -> bool:
        if fault := Route(vni, Destination(bytes(4), 0), NextHop(bytes(4))).fault():
            raise ValueError(fault)
        if not self._union.subscribe(vni):
            return False
        for link in self._links.values():
            link.subscribe(vni, True)
        self._deliver()
        return True

    def unsubscribe(self, vni: int) -> bool:
        """The backend sees the removal of all routes of the VNI."""
        if not self._union.unsubscribe(vni):
            return False
        for link in self._links.values():
            link.subscribe(vni, False)
        self._deliver()
        return True

    def announce(self, vni: int, destination: Destination, hop: NextHop) -> bool:
        """Raises ValueError for an impossible route."""
        route = Route(vni, destination, hop)
        if fault := route.fault():
            raise ValueError(fault)
        changed = self._announce(route)
        self._deliver()
        return changed

    def withdraw(self, vni: int, destination: Destination, hop: NextHop) -> bool:
        changed = self._withdraw(Route(vni, destination, hop))
        self._deliver()
        return changed

    def set_announcements(self, vni: int, wanted: Iterable[tuple[Destination, NextHop]]) -> bool:
        """Announce exactly these in the VNI. Raises ValueError for an impossible route, and then changes nothing."""
        routes = {Route(vni, destination, hop) for destination, hop in wanted}
        for route in routes:
            if fault := route.fault():
                raise ValueError(f"{route!r}: {fault}")
        current = set(self._union.announced(vni))
        for route in current - routes:
            self._withdraw(route)
        for route in routes - current:
            self._announce(route)
        self._deliver()
        return current != routes

    # Observed state

    def routes(self, vni: int) -> frozenset[tuple[Destination, NextHop]]:
        """What the backend has been given and not been taken."""
        return self._union.visible(vni)

    def synced(self, vni: int) -> bool:
        """All servers that have a session now, and at least one, have sent their whole table of the VNI in it."""
        up = [link for link in self._links.values() if link.up]
        return bool(up) and all(link.synced(vni) for link in up)

    async def wait_connected(self) -> None:
        """Returns when at least one server has a session."""
        while not any(link.up for link in self._links.values()):
            await self._progress.wait()

    async def wait_synced(self, vni: int, timeout: float | None = None) -> bool:  # noqa: ASYNC109 # gives False
        """False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not self.synced(vni):
                    await self._progress.wait()
        except TimeoutError:
            return False
        return True

    def server_states(self) -> dict[str, SessionState]:
        return {server: link.state for server, link in self._links.items()}

    def table_sizes(self) -> dict[str, int]:
        """Routes: "visible" to the backend, "announced" by this client, and "stale" ones of servers that were lost."""
        return {
            "visible": self._union.visible_count(),
            "announced": len(self._union.announced()),
            "stale": sum(self._union.stale(server) for server in self._links),
        }

    # What it shows of itself: metalbond.inspect.Inspectable

    @property
    def role(self) -> str:
        return "client"

    def peers(self) -> list[PeerView]:
        union = self._union
        return [
            replace(link.view(), routes=union.received.count_of(server), stale=union.stale(server))
            for server, link in self._links.items()
        ]

    def vnis(self) -> dict[int, int]:
        return self._union.destination_counts()

    def route_count(self) -> int:
        return self._union.route_count()

    def scan(self, vni: int) -> Iterator[list[Row]]:
        return self._union.scan(vni)

    def hops(self, vni: int, destination: Destination) -> dict[NextHop, tuple[str, ...]]:
        return self._union.hops(vni, destination)

    def record_changes(self, on: bool) -> None:
        self._union.changes.record(on)

    def take_changes(self) -> set[Route]:
        return self._union.changes.take()

    # What links ask and tell

    def subscriptions(self) -> Collection[int]:
        return self._union.subscribed

    def announcements(self, vni: int | None = None) -> Collection[Route]:
        return self._union.announced(vni)

    def link_up(self, server: str) -> None:
        if self._union.stale(server):
            self._sweep_after(server, self._settle)
        self._notify()

    def link_down(self, server: str) -> None:
        # A server that is lost again and again must not keep old routes for ever: those go after twice the grace time.
        now = asyncio.get_running_loop().time()
        if self._union.stale(server) and now - self._lost_at[server] >= self._grace:
            self._union.sweep(server)
        self._lost_at[server] = now
        self._union.lose(server)
        self._sweep_after(server, self._grace)
        self._deliver()
        self._notify()

    def received(self, server: str, updates: list[tuple[bool, Route]], *, original: bool) -> None:
        union = self._union
        for add, route in updates:
            # Servers of the original protocol send own routes back, but not their removal. The price, with them only:
            # what another client announces with the very same hop is missed if this client withdraws it later.
            if original and add and union.announces(route):
                continue
            if add and len(union.received) >= self._max_routes and route not in union.received:
                if not self.stats.updates_refused["max_routes"]:
                    log.error("table is full, more routes are only counted", server=server, max_routes=self._max_routes)
                self.stats.updates_refused["max_routes"] += 1
                continue
            union.receive(server, add, route)
        self._deliver()

    def replayed(self, server: str) -> None:
        self._notify()

    # Inside

    def _announce(self, route: Route) -> bool:
        if not self._union.announce(route):
            return False
        for link in self._links.values():
            link.announce(route, True)
        return True

    def _withdraw(self, route: Route) -> bool:
        if not self._union.withdraw(route):
            return False
        for link in self._links.values():
            link.announce(route, False)
        return True

    def _sweep_after(self, server: str, seconds: float) -> None:
        if timer := self._sweeps.pop(server, None):
            timer.cancel()
        self._sweeps[server] = asyncio.get_running_loop().call_later(seconds, self._sweep, server)

    def _sweep(self, server: str) -> None:
        link = self._links[server]
        if link.up and not all(link.synced(vni) for vni in self._union.subscribed):
            self._sweep_after(server, self._settle)
            return
        del self._sweeps[server]
        if removed := self._union.sweep(server):
            log.warning("stale routes removed", server=server, routes=removed, server_up=link.up)
        self._deliver()

    def _deliver(self) -> None:
        for added, (vni, destination, hop) in self._union.take_changes():
            try:
                if added:
                    self._backend.route_added(vni, destination, hop)
                else:
                    self._backend.route_removed(vni, destination, hop)
            except Exception:
                log.exception("backend failed", vni=vni, destination=str(destination), hop=str(hop), added=added)

    def _notify(self) -> None:
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()
