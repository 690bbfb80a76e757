"""What this server learns from other servers: it dials them and asks for what their own clients announce.

Each server of a mesh dials all others, so trust is in one's own configuration: a server is believed because it is
dialled. A client of another server is a source of its own in the table, with the name that it has there; so it is
recognized when it is also connected here, and its routes never come back to it.

Two generations: the sources of a lost session stay until the grace time ends, or until the next session has sent
everything and clients have had the settle time to find their server again. What came again is then announced by a
source of the new generation, so the end of the old one changes nothing for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from metalbond import _core
from metalbond._core import Distributor
from metalbond.client import DEFAULT_GRACE, DEFAULT_SETTLE
from metalbond.inspect import PeerView
from metalbond.link import LinkConfig, ServerLink
from metalbond.stats import Stats
from metalbond.types import Route

log = structlog.get_logger(__name__)

Reflected = tuple[bool, Route, bytes]
"""True for ADD, route, name of the client that announces it."""
ALL = 0
"""VNI of the one subscription between servers; it means nothing."""


@dataclass(frozen=True, slots=True)
class MeshConfig:
    servers: tuple[str, ...] = ()
    """ "host:port" of the others."""
    grace: float = DEFAULT_GRACE
    """Seconds for which routes of a lost server stay."""
    settle: float = DEFAULT_SETTLE
    """Seconds for which routes stay that a server has not sent again after it came back."""


class Host(Protocol):
    """The server that has the mesh."""

    stats: Stats
    distributor: Distributor

    def next_number(self) -> int: ...

    def room(self, route: Route) -> bool:
        """Whether the table may grow by this route."""

    def wake_touched(self) -> None: ...

    def retire(self, sources: Mapping[int, str]) -> None:
        """Withdraw what these sources, by their names, have announced, and forget them."""


@dataclass(slots=True)
class _Generations:
    now: dict[bytes, int] = field(default_factory=dict)
    """Sources of the session by the names of the clients."""
    old: dict[bytes, int] = field(default_factory=dict)
    lost_at: float = 0.0
    """Since when `old` are not confirmed."""
    timer: asyncio.TimerHandle | None = None


class _MeshLink(ServerLink):
    """A link whose updates tell the client that they come from."""

    def __init__(
        self,
        server: str,
        config: LinkConfig,
        mesh: Mesh,
        stats: Stats,
        take: Callable[[str, list[Reflected]], None],
    ) -> None:
        super().__init__(server, config, mesh, stats)
        self._take = take

    def _hand_on(self, frames: bytes, *, original: bool) -> None:
        updates, refusals, broken = _core.decode_frames(frames, True)
        self._take(self.server, updates)
        self._account(len(updates), refusals, broken)


class Mesh:
    """All methods belong to the event loop that runs `start`."""

    def __init__(self, config: MeshConfig, link: LinkConfig, host: Host) -> None:
        self._config = config
        self._host = host
        self._links = {server: _MeshLink(server, link, self, host.stats, self._reflected) for server in config.servers}
        self._sources = {server: _Generations() for server in config.servers}
        self._names: dict[int, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._full = False

    def start(self) -> None:
        self._tasks = [asyncio.create_task(link.run(), name=f"mesh {name}") for name, link in self._links.items()]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for generations in self._sources.values():
            if generations.timer is not None:
                generations.timer.cancel()
        self._tasks = []

    def views(self) -> list[PeerView]:
        count_of = self._host.distributor.count_of
        views = []
        for server, link in self._links.items():
            now, stale = (
                sum(map(count_of, sources.values()))
                for sources in (self._sources[server].now, self._sources[server].old)
            )
            views.append(replace(link.view(), subscriptions=(), routes=now + stale, stale=stale, mesh=True))
        return views

    def name(self, source: int) -> str | None:
        """Server behind a source of the table, None if it is none of the mesh."""
        return self._names.get(source)

    # What links ask and tell

    def subscriptions(self) -> Collection[int]:
        return (ALL,)

    def announcements(self, vni: int | None = None) -> Collection[Route]:
        return ()

    def link_up(self, server: str) -> None:
        """Routes tell more."""

    def link_down(self, server: str) -> None:
        generations, now = self._sources[server], asyncio.get_running_loop().time()
        # A server that is lost again and again must not keep old routes for ever: those go after twice the grace time.
        if generations.old and now - generations.lost_at >= self._config.grace:
            self._release(generations)
        if generations.old:
            self._merge(generations)
        else:
            generations.old, generations.now, generations.lost_at = generations.now, {}, now
        self._release_after(server, self._config.grace)
        self._host.wake_touched()

    def received(self, server: str, updates: Sequence[tuple[bool, Route]], *, original: bool) -> None:
        """Only other links get updates without an origin."""

    def replayed(self, server: str) -> None:
        self._release_after(server, self._config.settle)

    # Inside

    def _reflected(self, server: str, updates: list[Reflected]) -> None:
        distributor, sources = self._host.distributor, self._sources[server].now
        for add, route, origin in updates:
            source = sources.get(origin)
            if not add:
                if source is not None and distributor.update(source, False, route):
                    self._forget_if_empty(sources, origin, source)
            elif self._host.room(route):
                if source is None:
                    source = sources[origin] = self._adopt(server, origin)
                distributor.update(source, True, route)
            else:
                self._refuse(server)
        self._host.wake_touched()

    def _adopt(self, server: str, origin: bytes) -> int:
        source = self._host.next_number()
        self._host.distributor.adopt(source, origin)
        self._names[source] = server
        return source

    def _forget_if_empty(self, sources: dict[bytes, int], origin: bytes, source: int) -> None:
        """Clients without a name come with a new one each time."""
        if not self._host.distributor.count_of(source):
            del sources[origin]
            self._drop(source)

    def _refuse(self, server: str) -> None:
        self._host.stats.updates_refused["max_routes"] += 1
        if not self._full:
            self._full = True
            log.error("table is full, more routes of the mesh are only counted", server=server)

    def _merge(self, generations: _Generations) -> None:
        """The lost session had not replaced the generation before it."""
        distributor = self._host.distributor
        for origin, source in generations.now.items():
            before = generations.old.setdefault(origin, source)
            if before != source:
                for route in distributor.of_source(source):
                    distributor.update(before, True, route)
                self._drop(source)
        generations.now = {}

    def _release_after(self, server: str, seconds: float) -> None:
        generations = self._sources[server]
        if generations.timer is not None:
            generations.timer.cancel()
        generations.timer = asyncio.get_running_loop().call_later(seconds, self._on_timer, server)

    def _on_timer(self, server: str) -> None:
        generations, link = self._sources[server], self._links[server]
        if link.up and not link.synced(ALL):
            self._release_after(server, self._config.settle)
            return
        generations.timer = None
        routes = self._release(generations)
        if routes and not link.up:
            log.warning("routes of a lost server removed", server=server, routes=routes)

    def _release(self, generations: _Generations) -> int:
        sources = generations.old.values()
        routes = sum(map(self._host.distributor.count_of, sources))
        self._host.retire({source: self._names.pop(source) for source in sources})
        generations.old = {}
        return routes

    def _drop(self, source: int) -> None:
        self._host.retire({source: self._names.pop(source)})
