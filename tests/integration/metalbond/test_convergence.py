"""Random changes on several clients while servers restart: in the end every backend has what the rules say."""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from metalbond.client import MetalbondClient
from metalbond.server import MetalbondServer
from metalbond.types import Destination, HopType, NextHop, Route
from tests.support.metalbond import RecordingBackend, eventually, running_client, visible_routes

VNIS = range(3)
DESTINATIONS = [Destination.parse("10.0.0.0/8"), Destination.parse("::/0")]
TYPES = [HopType.STANDARD, HopType.NAT, HopType.LOADBALANCER_TARGET]


class Node:
    """A client and what it was asked for."""

    def __init__(self, targets: list[str], client: MetalbondClient, backend: RecordingBackend) -> None:
        self.targets = targets
        self.client = client
        self.backend = backend
        self.vnis: set[int] = set()
        self.own: set[Route] = set()

    def change(self, generator: random.Random) -> None:
        vni = generator.choice(VNIS)
        hop = NextHop.to(generator.choice(self.targets), generator.choice(TYPES))
        route = Route(vni, generator.choice(DESTINATIONS), hop)
        match generator.randrange(6):
            case 0:
                assert self.client.subscribe(vni) == (vni not in self.vnis)
                self.vnis.add(vni)
            case 1:
                assert self.client.unsubscribe(vni) == (vni in self.vnis)
                self.vnis.discard(vni)
            case 2 | 3:
                assert self.client.announce(*route) == (route not in self.own)
                self.own.add(route)
            case _:
                assert self.client.withdraw(*route) == (route in self.own)
                self.own.discard(route)

    def expected(self, others: list["Node"]) -> set[Route]:
        return visible_routes(self.own, self.vnis, set().union(*(node.own for node in others)))


@pytest.mark.parametrize("seed", range(6))
async def test_everything_converges(seed: int) -> None:
    generator = random.Random(seed)
    async with AsyncExitStack() as stack:
        servers: list[MetalbondServer] = []
        addresses: list[str] = []
        for _ in range(2):
            servers.append(MetalbondServer())
            await servers[-1].start(["[::1]:0"])
            addresses += servers[-1].addresses
        nodes = []
        for number in range(4):
            # The last two speak the original protocol, in which a client cannot tell the echo of its own route from the
            # same one of somebody else; they have hops of their own. One has a name, so that its routes are held.
            extended = number < 2
            targets = ["fd00::1", "fd00::2", "fd00::3"] if extended else [f"fd00::{number}0", f"fd00::{number}1"]
            options = {"extensions": extended, "identity": "node" if number == 0 else "", "hold_seconds": 1}
            nodes.append(Node(targets, *await stack.enter_async_context(running_client(addresses, **options))))
        for _ in range(12):
            for _ in range(30):
                generator.choice(nodes).change(generator)
                if generator.random() < 0.3:
                    await asyncio.sleep(generator.choice([0, 0.001, 0.01]))
            if generator.random() < 0.3:
                victim = generator.randrange(2)
                await servers[victim].close()
                servers[victim] = MetalbondServer()
                await servers[victim].start([addresses[victim]])
        for node in nodes:
            others = [other for other in nodes if other is not node]
            try:
                await eventually(lambda: node.backend.routes == node.expected(others), 30)  # noqa: B023
            except TimeoutError:
                have, want = node.backend.routes, node.expected(others)
                pytest.fail(f"node {nodes.index(node)}: missing {want - have}, too much {have - want}")
        for server in servers:
            await server.close()
