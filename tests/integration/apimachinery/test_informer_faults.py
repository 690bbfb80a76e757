"""Informers over servers that are killed: afterwards they equal the store, and no handler saw anything twice."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_pb2

from apimachinery.client import Client, KindClient
from apimachinery.informer import Change, Informer, Key
from tests.support.etcd import etcd_cluster
from tests.support.process import ServerProcess, server_process

Network = network_pb2.Network
TIMEOUT = 60.0


@pytest.fixture
async def servers() -> AsyncIterator[tuple[ServerProcess, ServerProcess]]:
    """Two servers on one etcd."""
    with tempfile.TemporaryDirectory(prefix="informer-") as directory:
        async with etcd_cluster() as etcd:
            flags = ("--groups=networking", "--controllers=")
            path = Path(directory)
            async with (
                server_process(path, "one", etcd.endpoints, *flags) as one,
                server_process(path, "two", etcd.endpoints, *flags) as two,
            ):
                yield one, two


class Ledger:
    """A handler that checks every change against its own copy."""

    def __init__(self) -> None:
        self.objects: dict[Key, Network] = {}
        self.changes = 0

    def __call__(self, change: Change[Network]) -> None:
        self.changes += 1
        assert self.objects.get(change.key) == change.old
        if change.new is None:
            del self.objects[change.key]
        else:
            before = self.objects.get(change.key)
            assert before is None or before.metadata.resource_version < change.new.metadata.resource_version
            self.objects[change.key] = change.new


class Writer:
    """Random creations, changes and deletions of ten objects; `at` waits until so many were done."""

    def __init__(self, networks: KindClient[Network]) -> None:
        self._networks = networks
        self._random = random.Random(7)
        self._live: dict[str, Network] = {}
        self.revision = 0
        self.done = 0
        self._changed = asyncio.Condition()

    async def run(self, count: int) -> None:
        for number in range(count):
            name = f"n{self._random.randrange(10)}"
            obj = self._live.get(name)
            if obj is None:
                meta = meta_pb2.ObjectMeta(name=name, labels={"step": str(number)})
                self._live[name] = await self._networks.create(Network(metadata=meta))
                self.revision = self._live[name].metadata.resource_version
            elif self._random.random() < 0.2:
                gone = await self._networks.delete("", name)
                self.revision = gone.metadata.resource_version
                del self._live[name]
            else:
                obj.metadata.labels["step"] = str(number)
                self._live[name] = await self._networks.update(obj)
                self.revision = self._live[name].metadata.resource_version
            async with self._changed:
                self.done += 1
                self._changed.notify_all()

    async def at(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.done >= count)


async def check(informer: Informer[Network], ledger: Ledger, networks: KindClient[Network], revision: int) -> None:
    async with asyncio.timeout(TIMEOUT):
        await informer.wait_revision(revision)
    stored = {Key(obj.metadata.namespace, obj.metadata.name): obj for obj in await networks.list()}
    assert {Key("default", obj.metadata.name): obj for obj in informer.list()} == stored
    assert ledger.objects == stored
    assert sorted(o.metadata.name for o in informer.by_index("step", "none")) == []
    for key, obj in stored.items():
        assert obj in informer.by_index("step", obj.metadata.labels["step"]), key


async def test_the_server_is_killed_twice_in_the_middle_of_a_watch(
    servers: tuple[ServerProcess, ServerProcess],
) -> None:
    victim, other = servers
    async with Client(victim.target) as watching, Client(other.target) as writing:
        ledger = Ledger()
        informer = Informer(
            watching.kind(Network), indexers={"step": lambda obj: [obj.metadata.labels.get("step", "none")]}
        )
        informer.add_handler(ledger)
        writer = Writer(writing.kind(Network))
        async with informer, asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as group:
            await informer.wait_synced()
            for _ in range(2):
                seen = ledger.changes
                begun = writer.done
                writing_on = group.create_task(writer.run(400))
                await writer.at(begun + 200)
                await informer.wait_revision(writer.revision)
                assert ledger.changes >= seen + 200
                await victim.kill()
                await writing_on
                assert informer.synced
                assert not informer.connected
                await victim.start()
                await check(informer, ledger, writing.kind(Network), writer.revision)
            await writer.run(200)
            await check(informer, ledger, writing.kind(Network), writer.revision)


async def test_a_client_with_two_endpoints_goes_on_with_the_other(
    servers: tuple[ServerProcess, ServerProcess],
) -> None:
    one, two = servers
    async with Client([one.target, two.target]) as watching, Client(two.target) as writing:
        ledger = Ledger()
        informer = Informer(
            watching.kind(Network), indexers={"step": lambda obj: [obj.metadata.labels.get("step", "none")]}
        )
        informer.add_handler(ledger)
        writer = Writer(writing.kind(Network))
        async with informer, asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as group:
            await informer.wait_synced()
            group.create_task(writer.run(300))
            await writer.at(100)
            await one.kill()
            await writer.at(300)
            await check(informer, ledger, writing.kind(Network), writer.revision)
            # A read goes to the endpoint that is left, too.
            assert len(await watching.kind(Network).list()) == len(ledger.objects)
    assert str(watching.target) == two.target
