"""A watcher keeps a true account of 10 000 changes while etcd is killed, restarted and compacted under it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from apimachinery.store import Compacted, Store, Txn, WatchBatch
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
KEYS_PER_WRITER = 8
PREFIX = "/test/objects/"
# Longer than the quickest outage by far: a writer that gives up would leave the test with uncertain writes.
PATIENCE = 60.0


@dataclass
class Watcher:
    """Consumes and records. Closing ``gate`` makes it stop reading, as a slow consumer does."""

    injector: FaultInjector
    observed: list[Observation] = field(default_factory=list)
    revision: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.gate.set()

    async def run(self, store: Store) -> None:
        """List, watch, and again after a reset, as every consumer of a store does."""
        while True:
            page = await store.list(PREFIX)
            state = {item.key: (item.mod_revision, item.value) for item in page.items}
            await self._record(page.revision, Snapshot(page.revision, state))
            async with contextlib.aclosing(store.watch(PREFIX, after_revision=page.revision)) as items:
                async for item in items:
                    await self.gate.wait()
                    if isinstance(item, Compacted):
                        self.observed.append(Reset())
                        break
                    if isinstance(item, WatchBatch):
                        seen = [
                            Seen(c.item.mod_revision, c.item.key, None if c.deleted else c.item.value)
                            for c in item.changes
                        ]
                        await self._record(item.revision, *seen)
                    else:
                        await self._record(item.revision, Bookmark(item.revision))

    async def reached(self, revision: int) -> None:
        async with self.moved:
            await self.moved.wait_for(lambda: self.revision >= revision)

    async def _record(self, revision: int, *observations: Observation) -> None:
        self.observed += observations
        self.revision = revision
        self.injector.reached(revision)
        async with self.moved:
            self.moved.notify_all()


async def write(store: Store, number: int, count: int, log: list[Write]) -> None:
    """Changes keys of its own, conditionally: a write that happened twice would fail the next one's condition."""
    rng = random.Random(number)
    revisions: dict[str, int] = {}
    for step in range(count):
        key = f"{PREFIX}{number}/{rng.randrange(KEYS_PER_WRITER)}"
        value: bytes | None = f"{number}.{step} ".encode() + rng.randbytes(200)
        txn = Txn()
        if key in revisions:
            txn.require_revision(key, revisions[key])
            if rng.random() < 0.2:
                value = None
        else:
            txn.require_absent(key)
        if value is None:
            txn.delete(key)
        else:
            txn.put(key, value)
        revision = await store.commit(txn)
        log.append(Write(revision, key, value))
        if value is None:
            del revisions[key]
        else:
            revisions[key] = revision


@dataclass(frozen=True)
class World:
    """What faults may touch."""

    cluster: EtcdCluster
    store: Store
    watcher: Watcher
    log: list[Write]


async def written(world: World, count: int) -> None:
    """Returns when so many changes are confirmed, or all of them: the watcher may be far behind the writers."""
    async with asyncio.timeout(PATIENCE):
        while len(world.log) < min(count, CHANGES):  # noqa: ASYNC110 - the writers know nothing of their observer
            await asyncio.sleep(0.01)


async def confirmed(world: World) -> None:
    """Returns when no write is unanswered that was under way before."""
    async with asyncio.timeout(PATIENCE):
        writers = {f"{PREFIX}{number}/": CHANGES // WRITERS for number in range(WRITERS)}
        await everybody_confirmed(world.log, len(world.log), writers)


async def compact_consumed(world: World) -> None:
    """Forgets what the watcher has seen; unanswered writes are looked for in what came later."""
    revision = world.watcher.revision
    await confirmed(world)
    await world.cluster.compact(revision)


def single_member_faults(world: World) -> Sequence[Fault]:
    (member,) = world.cluster.members

    async def restart() -> None:
        await member.kill()
        await member.start()
        await member.ready()

    async def restart_twice() -> None:
        await restart()
        await restart()

    async def fall_behind_and_compact() -> None:
        """The watcher sleeps, loses its stream, and what it missed is forgotten before it wakes up."""
        world.watcher.gate.clear()
        await written(world, len(world.log) + 1500)
        await member.kill()
        await member.start()
        await member.ready()
        # Writers find out first which of their unanswered writes happened; that needs the history.
        await confirmed(world)
        await world.cluster.compact(await world.store.current_revision())
        world.watcher.gate.set()

    return [
        # First, while the writers still have much to write; it hides changes, which the counts below never see.
        Fault(1000, "compact what the watcher missed", fall_behind_and_compact),
        Fault(2000, "kill and restart", restart),
        Fault(3000, "compact what is consumed", functools.partial(compact_consumed, world)),
        Fault(4000, "kill and restart, twice", restart_twice),
        Fault(5000, "compact what is consumed", functools.partial(compact_consumed, world)),
        Fault(6000, "kill and restart", restart),
    ]


def leader_faults(world: World) -> Sequence[Fault]:
    async def lose_leader() -> None:
        leader = await world.cluster.leader()
        await leader.kill()
        await written(world, len(world.log) + 300)
        await leader.start()
        await leader.ready()

    async def lose_leader_and_compact() -> None:
        leader = await world.cluster.leader()
        await leader.kill()
        await compact_consumed(world)
        await leader.start()
        await leader.ready()

    async def freeze_leader() -> None:
        leader = await world.cluster.leader()
        leader.pause()
        await written(world, len(world.log) + 100)
        leader.resume()
        await leader.ready()

    return [
        Fault(1000, "kill the leader, restart it after 300 changes", lose_leader),
        Fault(3000, "compact what is consumed", functools.partial(compact_consumed, world)),
        Fault(4000, "kill the leader, compact, restart it", lose_leader_and_compact),
        Fault(6000, "freeze the leader for 100 changes", freeze_leader),
        Fault(8000, "kill the leader, restart it after 300 changes", lose_leader),
    ]


@pytest.mark.timeout(240)
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
    async with (
        etcd_cluster(members) as cluster,
        etcd_store(cluster, timeout=PATIENCE, attempt_timeout=2.0) as store,
        etcd_store(cluster, timeout=PATIENCE, attempt_timeout=2.0) as watcher_store,
    ):
        log: list[Write] = []
        injector = FaultInjector()
        watcher = Watcher(injector)
        planned = faults(World(cluster, store, watcher, log))
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watcher.run(watcher_store))
            harm = group.create_task(injector.run(planned))
            writing = [group.create_task(write(store, number, CHANGES // WRITERS, log)) for number in range(WRITERS)]
            await asyncio.gather(harm, *writing)
            async with asyncio.timeout(PATIENCE):
                await watcher.reached(max(write.revision for write in log))
            watching.cancel()
        stored = {item.key: (item.mod_revision, item.value) for item in (await store.list(PREFIX)).items}

    assert [name for name, _ in injector.done] == [fault.name for fault in planned]
    assert len(log) == CHANGES
    assert violations(log, watcher.observed, max_resets=resets) == []
    assert sum(isinstance(observation, Reset) for observation in watcher.observed) == resets
    truth = {(write.revision, write.key): write.value for write in log}
    assert len(truth) == CHANGES, "two commits claim the same revision of the same key"
    assert stored == state_at(truth, max(revision for revision, _ in truth))
