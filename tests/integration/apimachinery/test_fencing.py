"""A leader that does not know that it was replaced cannot write through the API any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_pb2

from apimachinery.client import Client, KindClient
from apimachinery.controller import Controller, Result, run_controllers
from apimachinery.errors import ApiError, FailedPrecondition
from apimachinery.etcd.election import Election
from apimachinery.fencing import ELECTIONS
from apimachinery.informer import Key
from apimachinery.store import Txn
from tests.support.api import api_server
from tests.support.etcd import etcd_cluster, etcd_store

Network = network_pb2.Network
TIMEOUT = 20.0


def network(name: str) -> Network:
    return Network(metadata=meta_pb2.ObjectMeta(name=name))


async def attempts(networks: KindClient[Network], name: str) -> list[ApiError]:
    """Every kind of write; the errors of those that failed."""
    writes = [
        lambda: networks.create(network(name)),
        lambda: networks.apply(Network(metadata=meta_pb2.ObjectMeta(name="old", labels={"by": name})), "test"),
        lambda: networks.add_finalizer("", "old", f"test.dev/{name}"),
        lambda: networks.delete("", "old"),
    ]
    errors: list[ApiError] = []
    for write in writes:
        try:
            await write()
        except ApiError as error:
            errors.append(error)
    return errors


@dataclass
class Deaf:
    """A leader that never hears of its end, as if it were paused in the wrong moment."""

    key: str
    revision: int
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class DeafElection:
    """An election whose winner is deaf."""

    def __init__(self, election: Election) -> None:
        self._election = election

    @contextlib.asynccontextmanager
    async def leadership(self) -> AsyncIterator[Deaf]:
        async with self._election.leadership() as leadership:
            yield Deaf(leadership.key, leadership.revision)


async def test_a_replaced_leader_is_refused() -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_store(etcd) as store,
        api_server(store, Network) as (_, plain),
        Client(str(plain.target), fenced=True) as fenced,
    ):
        networks = fenced.kind(Network)
        await plain.kind(Network).create(network("old"))
        replaced = asyncio.Event()
        leads: asyncio.Queue[str] = asyncio.Queue()
        told: asyncio.Queue[list[ApiError]] = asyncio.Queue()

        async def reconcile(key: Key) -> Result | None:
            await networks.create(network("during"))
            leads.put_nowait(key.name)
            await replaced.wait()
            told.put_nowait(await attempts(networks, "after"))
            return None

        controller = Controller("test", reconcile)
        controller.enqueue(Key("", "a"))
        election = DeafElection(Election(store, "test", "first"))
        task = asyncio.create_task(run_controllers([controller], leader=election))
        try:
            async with asyncio.timeout(TIMEOUT):
                await leads.get()
                # Another process takes the key; the first one goes on before it hears of it.
                await store.commit(Txn().delete(ELECTIONS + "test"))
                await store.commit(Txn().put(ELECTIONS + "test", b'{"identity": "second"}'))
                replaced.set()
                errors = await told.get()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert {type(error) for error in errors} == {FailedPrecondition}
        assert {error.reason for error in errors} == {"LEADERSHIP_LOST"}
        assert len(errors) == 4
        # Outside of a term nothing is fenced.
        assert await attempts(networks, "free") == []
        names = {obj.metadata.name for obj in await networks.list()}
        assert names == {"during", "free", "old"}


async def test_a_fence_that_is_no_election_is_refused() -> None:
    async with etcd_cluster() as etcd, etcd_store(etcd) as store, api_server(store, Network) as (_, client):
        call = client._connection.channel.unary_unary(f"/{client.kind(Network).info.service_name}/Get")
        request = meta_pb2.GetRequest(name="a").SerializeToString()
        with pytest.raises(Exception, match="request metadata is not valid"):
            await call(request, metadata=(("ironcore-fence", "/networking/networks/default/a@1"),))
