"""Heartbeats over gRPC, leases in a real etcd, and the condition that follows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from ironcore.apinet.v1 import node_pb2
from ironcore.meta.v1 import meta_pb2

from apimachinery.client import Client
from apimachinery.conditions import FALSE, TRUE, UNKNOWN, find_condition
from apimachinery.controller import ControllerContext, run_controllers
from apimachinery.errors import Conflict, InvalidArgument, NotFound
from apimachinery.store import Store
from ironcore_net_server.controllers import nodes
from tests.support.apinet import coordinator, wait_empty

TIMEOUT = 30.0
Node = node_pb2.Node


@pytest.fixture
async def client(store: Store) -> AsyncIterator[Client]:
    async with coordinator(store, {}) as client:
        yield client


@contextlib.asynccontextmanager
async def liveness(client: Client, store: Store) -> AsyncIterator[None]:
    context = ControllerContext(client, {"groups": ("apinet",)}, "test", store=store)
    synced = asyncio.Event()
    task = asyncio.create_task(run_controllers(nodes(context), on_synced=synced.set))
    try:
        await asyncio.wait_for(synced.wait(), TIMEOUT)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def beat(client: Client, name: str = "p1.h1", ttl: int = 2, identity: str = "test", uid: str = "") -> int:
    request = meta_pb2.HeartbeatRequest(name=name, ttl_seconds=ttl, identity=identity, uid=uid)
    return (await client.kind(Node).invoke("Heartbeat", request, meta_pb2.HeartbeatResponse)).ttl_seconds


async def register(client: Client) -> node_pb2.Node:
    return await client.kind(Node).create(Node(metadata=meta_pb2.ObjectMeta(name="p1.h1")))


async def wait_for(client: Client, status: int, reason: str) -> node_pb2.Node:
    async with asyncio.timeout(TIMEOUT):
        async for response in client.kind(Node).watch():
            for event in response.events:  # type: ignore[attr-defined]
                node: node_pb2.Node = event.object
                condition = find_condition(node.status.conditions, "Ready")
                if condition is not None and (condition.status, condition.reason) == (status, reason):
                    return node
    raise AssertionError("the watch ended")


async def test_a_node_lives_while_it_beats(client: Client, store: Store) -> None:
    await register(client)
    async with liveness(client, store):
        await wait_for(client, UNKNOWN, "HeartbeatPending")
        assert await beat(client) == 2
        alive = await wait_for(client, TRUE, "HeartbeatReceived")
        assert alive.status.heartbeat_identity == "test"
        for _ in range(6):
            await asyncio.sleep(0.5)
            await beat(client)
        still = await client.kind(Node).get("", "p1.h1")
        assert still == alive, "beats must not touch the object"

        lost = await wait_for(client, FALSE, "HeartbeatLost")
        assert lost.metadata.uid == alive.metadata.uid
        await beat(client, identity="reborn")
        assert (await wait_for(client, TRUE, "HeartbeatReceived")).status.heartbeat_identity == "reborn"


async def test_a_loss_while_nobody_looked_is_found(client: Client, store: Store) -> None:
    await register(client)
    async with liveness(client, store):
        await beat(client)
        await wait_for(client, TRUE, "HeartbeatReceived")
    await wait_empty(store, "/leases/")
    async with liveness(client, store):
        await wait_for(client, FALSE, "HeartbeatLost")


async def test_a_new_time_to_live_replaces_the_old_one(client: Client, store: Store) -> None:
    await register(client)
    await beat(client, ttl=60)
    assert await beat(client, ttl=3) == 3
    assert await store.count("/leases/") == 1
    await wait_empty(store, "/leases/")


async def test_refused_beats(client: Client) -> None:
    with pytest.raises(NotFound):
        await beat(client)
    node = await register(client)
    with pytest.raises(Conflict):
        await beat(client, uid="11111111-0000-4000-8000-000000000001")
    await beat(client, uid=node.metadata.uid)
    for ttl in (0, 1, 3601, -5):
        with pytest.raises(InvalidArgument) as refused:
            await beat(client, ttl=ttl)
        assert refused.value.violations[0].field == "ttl_seconds"


async def test_concurrent_beats_leave_one_lease(client: Client, store: Store) -> None:
    await register(client)
    results = await asyncio.gather(*(beat(client, ttl=60) for _ in range(20)), return_exceptions=True)
    assert any(result == 60 for result in results)
    assert all(result == 60 or isinstance(result, Conflict) for result in results)
    assert await store.count("/leases/") == 1
