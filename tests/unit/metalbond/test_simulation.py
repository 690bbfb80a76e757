"""Servers and clients under loss, partitions and restarts in any order: what clients end with, what they never see."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metalbond.client import MetalbondClient
from metalbond.mesh import MeshConfig
from metalbond.server import MetalbondServer, ServerConfig
from metalbond.types import Destination, HopType, NextHop, Route
from tests.support.metalbond import RecordingBackend, visible_routes
from tests.support.simulation import World

GRACE, SETTLE, HOLD = 120.0, 40.0, 120
"""Longer than the longest outage that a list of events can make."""
VNIS = (1, 2)
CLIENTS, SERVERS = 4, 2
ORIGINAL = CLIENTS - 1
"""This client speaks the original protocol."""
CHANGING = [Destination.parse("10.0.0.0/8"), Destination.parse("::/0")]


@dataclass
class Node:
    """What a client is asked for, whatever becomes of its process, and what its host has."""

    number: int
    servers: list[str]
    own: set[Route] = field(default_factory=set)
    vnis: set[int] = field(default_factory=set)
    backend: RecordingBackend = field(default_factory=RecordingBackend)
    client: MetalbondClient | None = None
    lives: int = 0

    @property
    def host(self) -> str:
        return f"fd00:c::{self.number + 1:x}"

    @property
    def stable(self) -> Route:
        return Route(self.number % 2 + 1, Destination.parse(f"10.200.0.{self.number}"), NextHop.to(self.host))

    def hop(self, kind: HopType) -> NextHop:
        return NextHop.to(self.host if self.number == ORIGINAL else "fd00::1", kind)

    async def start(self) -> None:
        original = self.number == ORIGINAL
        # A restarted process knows nothing, and its host's table starts from what it is told.
        self.backend = RecordingBackend()
        self.client = MetalbondClient(
            self.servers,
            keepalive=2,
            backend=self.backend,
            local_address=self.host,
            grace_seconds=GRACE,
            settle_seconds=SETTLE,
            identity="" if original else f"node-{self.number}",
            hold_seconds=HOLD,
            extensions=not original,
        )
        self.lives += 1
        for route in self.own:
            self.client.announce(*route)
        for vni in self.vnis:
            self.client.subscribe(vni)
        await self.client.start()

    async def crash(self) -> None:
        if self.client is not None:
            client, self.client = self.client, None
            await client.close()


def server_host(number: int) -> str:
    return f"fd00:5::{number + 1}"


class Region:
    def __init__(self, world: World, meshed: bool) -> None:
        self.world = world
        self.addresses = [f"[{server_host(number)}]:4711" for number in range(SERVERS)]
        self.servers: list[MetalbondServer | None] = [None] * SERVERS
        self.meshed = meshed
        self.nodes = [
            Node(number, [self.addresses[number % SERVERS]] if meshed else self.addresses) for number in range(CLIENTS)
        ]
        self.outages: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.disruptions = 0
        self.transitions: Counter[tuple[int, Route]] = Counter()
        self._expected: list[set[Route]] = [set()] * CLIENTS

    async def start_server(self, number: int) -> None:
        others = tuple(address for address in self.addresses if address != self.addresses[number])
        server = MetalbondServer(
            ServerConfig(keepalive=2, identity=f"server-{number}".encode()),
            mesh=MeshConfig(others if self.meshed else (), GRACE, SETTLE),
        )
        await server.start([self.addresses[number]])
        self.servers[number] = server

    async def start(self) -> None:
        for number in range(SERVERS):
            await self.start_server(number)
        for node in self.nodes:
            node.own.add(node.stable)
            node.vnis.update(VNIS)
            await node.start()
        self.note()

    async def stop(self) -> None:
        for node in self.nodes:
            await node.crash()
        for server in self.servers:
            if server is not None:
                await server.close()

    def expected(self, node: Node) -> set[Route]:
        others: set[Route] = set().union(*(other.own for other in self.nodes if other is not node))
        return visible_routes(node.own, node.vnis, others)

    def note(self) -> None:
        """Count how often each route should come or go at each client."""
        for node in self.nodes:
            now = self.expected(node)
            for route in now ^ self._expected[node.number]:
                self.transitions[node.number, route] += 1
            self._expected[node.number] = now

    def begin(self, kind: str, number: int, seconds: float) -> None:
        """An outage, while the story goes on; nothing is broken twice at the same time."""
        if (kind, number) not in self.outages:
            task = asyncio.get_running_loop().create_task(self._outage(kind, number, seconds))
            self.outages[kind, number] = task
            task.add_done_callback(lambda _: self.outages.pop((kind, number)))

    async def _outage(self, kind: str, number: int, seconds: float) -> None:
        if kind == "client":
            await self.nodes[number].crash()
            await asyncio.sleep(seconds)
            await self.nodes[number].start()
        elif kind == "server":
            server, self.servers[number] = self.servers[number], None
            assert server is not None
            self.world.reset(server_host(number))
            await server.close()
            await asyncio.sleep(seconds)
            await self.start_server(number)
        else:
            host = self.nodes[number].host if number < CLIENTS else server_host(number - CLIENTS)
            self.world.unreachable.add(host)
            await asyncio.sleep(seconds)
            self.world.unreachable.discard(host)

    async def perform(self, event: tuple[object, ...]) -> None:
        self.disruptions += event[0] not in ("change", "subscription", "wait")
        match event:
            case ("change", int(number), destination, kind):
                node = self.nodes[number]
                route = Route(1, destination, node.hop(kind))  # type: ignore[arg-type]
                add = route not in node.own
                node.own ^= {route}
                if node.client is not None:
                    (node.client.announce if add else node.client.withdraw)(*route)
                self.note()
            case ("subscription", int(number), int(vni)):
                node = self.nodes[number]
                add = vni not in node.vnis
                node.vnis ^= {vni}
                if node.client is not None:
                    (node.client.subscribe if add else node.client.unsubscribe)(vni)
                self.note()
            case ("reset client", int(number)):
                self.world.reset(self.nodes[number].host)
            case ("reset server", int(number)):
                self.world.reset(server_host(number))
            case ("wait",):
                await asyncio.sleep(1.0)
            case ("reset all",):
                for host in [node.host for node in self.nodes]:
                    self.world.reset(host)
            case (kind, int(number), float(seconds)):
                self.begin(str(kind), number, seconds)
        await asyncio.sleep(self.world.chance.choice((0.0, 0.0, 0.01, 0.5)))

    def check_history(self) -> None:
        # The original protocol knows no hold, so what its clients announce comes and goes with their sessions.
        flapping = {route for route in self.transitions if route[1].hop.address.compressed == self.nodes[ORIGINAL].host}
        for node in self.nodes:
            stable = {other.stable for other in self.nodes if other.number not in (node.number, ORIGINAL)}
            removed = set(node.backend.removals) & stable
            if node.vnis == set(VNIS) and not self.unsubscribed(node):
                assert not removed, f"client {node.number} was told that these had gone: {removed}"
            if node.lives == 1 and node.number != ORIGINAL:
                seen = Counter((node.number, route) for _, route in node.backend.history)
                for key, times in seen.items():
                    if key not in flapping:
                        # A change that is lost with its session comes late, once for each.
                        assert times <= self.transitions[key] + 2 * self.disruptions, (
                            f"{times} callbacks for {key}, {self.transitions[key]} events"
                        )

    def unsubscribed(self, node: Node) -> bool:
        return any(self.transitions[node.number, other.stable] > 1 for other in self.nodes)

    async def converge(self) -> None:
        """Everybody is back after some dials, then stale routes end within the settle time at clients. A server keeps
        what a lost client withdrew in its last moment for the hold time.
        """
        deadline = asyncio.get_running_loop().time() + HOLD + SETTLE + 30.0
        while any(node.backend.routes != self.expected(node) for node in self.nodes):
            if asyncio.get_running_loop().time() > deadline:
                wrong = {
                    node.number: (node.backend.routes - self.expected(node), self.expected(node) - node.backend.routes)
                    for node in self.nodes
                }
                pytest.fail(f"(too much, missing) by client: {wrong}")
            await asyncio.sleep(0.5)


outage = st.sampled_from([0.0, 0.3, 3.0, 8.0])
clients = st.integers(0, CLIENTS - 1)
changes = st.tuples(st.just("change"), clients, st.sampled_from(CHANGING), st.sampled_from(HopType))
events = st.one_of(
    changes,
    changes,
    changes,
    st.tuples(st.just("wait")),
    st.tuples(st.just("subscription"), clients, st.sampled_from(VNIS)),
    st.tuples(st.just("reset client"), clients),
    st.tuples(st.just("reset all")),
    st.tuples(st.just("reset server"), st.integers(0, SERVERS - 1)),
    st.tuples(st.just("partition"), st.integers(0, CLIENTS + SERVERS - 1), outage),
    st.tuples(st.just("server"), st.integers(0, SERVERS - 1), outage),
    st.tuples(st.just("client"), clients, outage),
)


async def live(region: Region, story: Sequence[tuple[object, ...]]) -> None:
    await region.start()
    await region.converge()
    for event in story:
        await region.perform(event)
    await asyncio.gather(*region.outages.values())
    await region.converge()
    region.check_history()
    await region.stop()


@pytest.mark.parametrize("meshed", [False, True], ids=["two servers per client", "two meshed servers"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), story=st.lists(events, max_size=40))
def test_every_client_ends_with_the_union_of_live_announcements(
    meshed: bool, seed: int, story: list[tuple[object, ...]]
) -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    try:
        world = World(seed)
        world.run(lambda: live(Region(world, meshed), story))
    finally:
        structlog.reset_defaults()


def test_the_same_seed_is_the_same_run() -> None:
    def run() -> list[tuple[bool, Route]]:
        world = World(7)
        region = Region(world, False)
        world.run(lambda: live(region, [("server", 0, 3.0), ("reset client", 1), ("client", 2, 0.3)]))
        return region.nodes[0].backend.history

    first = run()
    assert first and first == run()
