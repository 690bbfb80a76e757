"""A gRPC watcher keeps a true account of 10 000 changes while etcd is killed, restarted and compacted."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_pb2

from apimachinery.client import Client, KindClient
from apimachinery.informer import Informer
from apimachinery.store import Store, WatchItem
from tests.support.api import api_server
from tests.support.etcd import EtcdCluster, etcd_cluster, etcd_store
from tests.support.faults import Fault, FaultInjector
from tests.support.watch_history import (
    Bookmark,
    Observation,
    Reset,
    Seen,
    Snapshot,
    Write,
    everybody_confirmed,
    state_at,
    violations,
)

CHANGES = 10_000
WRITERS = 16
OBJECTS_PER_WRITER = 8
PATIENCE = 90.0

Network = network_pb2.Network


class GatedStore(Store):
    """A store whose watches can be made to stall, as if the server had no time for them."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.client)
        self.gate = asyncio.Event()
        self.gate.set()

    async def watch(self, prefix: str, *, after_revision: int) -> AsyncGenerator[WatchItem]:
        async with contextlib.aclosing(super().watch(prefix, after_revision=after_revision)) as items:
            async for item in items:
                await self.gate.wait()
                yield item


@dataclass
class Watcher:
    """Records one watch stream in the words of the checker."""

    injector: FaultInjector
    observed: list[Observation] = field(default_factory=list)
    revision: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    _snapshot: dict[str, tuple[int, bytes]] | None = field(default_factory=dict)

    async def run(self, networks: KindClient[Network]) -> None:
        async with contextlib.aclosing(networks.watch()) as stream:
            async for response in stream:
                assert isinstance(response, network_pb2.NetworkWatchResponse)
                self.take(response)

    def take(self, response: network_pb2.NetworkWatchResponse) -> None:
        for event in response.events:
            meta = event.object.metadata
            value = meta.labels["v"].encode()
            if self._snapshot is not None:
                assert event.type == meta_pb2.EVENT_TYPE_ADDED
                self._snapshot[meta.name] = (meta.resource_version, value)
                continue
            deleted = event.type == meta_pb2.EVENT_TYPE_DELETED
            self.observed.append(Seen(meta.resource_version, meta.name, None if deleted else value))
        if response.HasField("mark"):
            self._take_mark(response.mark)
        self.injector.reached(self.revision)
        self.moved.set()

    def _take_mark(self, mark: meta_pb2.WatchMark) -> None:
        if mark.type == meta_pb2.MARK_TYPE_RESET:
            self.observed.append(Reset())
            self._snapshot = {}
            return
        if mark.type == meta_pb2.MARK_TYPE_SYNCED:
            assert self._snapshot is not None
            self.observed.append(Snapshot(mark.resource_version, self._snapshot))
            self._snapshot = None
        else:
            self.observed.append(Bookmark(mark.resource_version))
        self.revision = mark.resource_version

    async def reached(self, revision: int) -> None:
        while self.revision < revision:
            self.moved.clear()
            await self.moved.wait()


async def write(networks: KindClient[Network], number: int, count: int, log: list[Write]) -> None:
    """Changes objects of its own, each from the version it wrote last: a write that happened twice would fail."""
    rng = random.Random(number)
    objects: dict[str, Network] = {}
    for step in range(count):
        name = f"w{number}-{rng.randrange(OBJECTS_PER_WRITER)}"
        obj = Network(metadata={"name": name, "labels": {"v": f"{number}.{step}"}}, spec={})
        value: bytes | None = obj.metadata.labels["v"].encode()
        old = objects.pop(name, None)
        if old is None:
            objects[name] = done = await networks.create(obj)
        elif rng.random() < 0.2:
            done, value = await networks.delete("", name, resource_version=old.metadata.resource_version), None
        else:
            obj.metadata.resource_version = old.metadata.resource_version
            objects[name] = done = await networks.update(obj)
        log.append(Write(done.metadata.resource_version, name, value))


@dataclass(frozen=True)
class World:
    """What faults may touch."""

    cluster: EtcdCluster
    store: GatedStore
    watcher: Watcher
    log: list[Write]


async def written(world: World, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(world.log) < min(count, CHANGES):  # noqa: ASYNC110 - the writers know nothing of their observer
            await asyncio.sleep(0.01)


async def confirmed(world: World) -> None:
    """Returns when no write is unanswered that was under way before."""
    async with asyncio.timeout(PATIENCE):
        writers = {f"w{number}-": CHANGES // WRITERS for number in range(WRITERS)}
        await everybody_confirmed(world.log, len(world.log), writers)


def single_member_faults(world: World) -> Sequence[Fault]:
    (member,) = world.cluster.members

    async def restart() -> None:
        await member.kill()
        await member.start()
        await member.ready()

    async def compact_consumed() -> None:
        revision = world.watcher.revision
        await confirmed(world)
        await world.cluster.compact(revision)

    async def fall_behind_and_compact() -> None:
        """The server stops reading, loses its stream, and what it missed is forgotten before it reads on."""
        world.store.gate.clear()
        await written(world, len(world.log) + 1500)
        await restart()
        await confirmed(world)
        await world.cluster.compact(await world.store.current_revision())
        world.store.gate.set()

    return [
        Fault(1000, "compact what the server missed", fall_behind_and_compact),
        Fault(2000, "kill and restart", restart),
        Fault(3000, "compact what is consumed", compact_consumed),
        Fault(4000, "kill and restart again", restart),
        Fault(5000, "compact what is consumed", compact_consumed),
    ]


def leader_faults(world: World) -> Sequence[Fault]:
    async def lose_leader() -> None:
        leader = await world.cluster.leader()
        await leader.kill()
        await written(world, len(world.log) + 300)
        await leader.start()
        await leader.ready()

    async def compact_consumed() -> None:
        revision = world.watcher.revision
        await confirmed(world)
        await world.cluster.compact(revision)

    return [
        Fault(1000, "kill the leader, restart it after 300 changes", lose_leader),
        Fault(3000, "compact what is consumed", compact_consumed),
        Fault(5000, "kill the leader again", lose_leader),
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("members", "faults", "resets"),
    [
        pytest.param(1, single_member_faults, 1, id="one-member-killed-and-compacted"),
        pytest.param(3, leader_faults, 0, id="three-members-losing-their-leader"),
    ],
)
async def test_no_change_is_lost_or_seen_twice(
    members: int, faults: Callable[[World], Sequence[Fault]], resets: int
) -> None:
    log: list[Write] = []
    async with (
        etcd_cluster(members) as cluster,
        etcd_store(cluster, timeout=PATIENCE, attempt_timeout=2.0) as plain,
    ):
        store = GatedStore(plain)
        async with (
            api_server(store, Network) as (_, client),
            Client(str(client.target), timeout=PATIENCE) as patient,
            Informer(client.kind(Network)) as informer,
        ):
            networks = patient.kind(Network)
            injector = FaultInjector()
            watcher = Watcher(injector)
            planned = faults(World(cluster, store, watcher, log))
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(watcher.run(networks))
                harm = group.create_task(injector.run(planned))
                writing = [
                    group.create_task(write(networks, number, CHANGES // WRITERS, log)) for number in range(WRITERS)
                ]
                await asyncio.gather(harm, *writing)
                last = max(change.revision for change in log)
                async with asyncio.timeout(PATIENCE):
                    await watcher.reached(last)
                    await informer.wait_revision(last)
                watching.cancel()
            listed = {obj.metadata.name: obj for obj in await networks.list()}
            assert {obj.metadata.name: obj for obj in informer.list()} == listed

    assert [name for name, _ in injector.done] == [fault.name for fault in planned]
    assert len(log) == CHANGES
    assert violations(log, watcher.observed, max_resets=resets) == []
    assert sum(isinstance(item, Reset) for item in watcher.observed) == resets
    truth = {(change.revision, change.key): change.value for change in log}
    assert state_at(truth, last) == {
        name: (obj.metadata.resource_version, obj.metadata.labels["v"].encode()) for name, obj in listed.items()
    }
