"""Servers with the real groups of the global coordinator on a unix socket, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from apimachinery.client import Client
from apimachinery.endpoints import Endpoint
from apimachinery.resource import GroupContext
from apimachinery.server_app import ApiServer
from apimachinery.store import Store, WatchBatch
from ironcore_net_server import groups

TIMEOUT = 30.0


@contextlib.asynccontextmanager
async def coordinator(store: Store, options: Mapping[str, object]) -> AsyncIterator[Client]:
    """A client of a synced server with the groups networking, ipam and apinet."""
    async with coordinators(store, options, 1) as clients:
        yield clients[0]


@contextlib.asynccontextmanager
async def coordinators(store: Store, options: Mapping[str, object], count: int) -> AsyncIterator[Sequence[Client]]:
    """Clients of as many servers that share one store and nothing else."""
    context = GroupContext(store, options)
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="net-")))
        clients = []
        for number in range(count):
            made = [make(context) for make in (groups.networking, groups.ipam, groups.apinet)]
            server = ApiServer(store, made)
            address = Endpoint(path=str(directory / f"api{number}"))
            await server.start([address])
            stack.push_async_callback(server.stop, 0)
            async with asyncio.timeout(TIMEOUT):
                await server.wait_synced()
            clients.append(await stack.enter_async_context(Client(str(address), timeout=TIMEOUT)))
        yield clients


async def wait_empty(store: Store, prefix: str) -> None:
    """Returns when no key has the prefix."""
    async with asyncio.timeout(TIMEOUT):
        page = await store.list(prefix)
        keys = {item.key for item in page.items}
        async with contextlib.aclosing(store.watch(prefix, after_revision=page.revision)) as items:
            while keys:
                item = await anext(items)
                if isinstance(item, WatchBatch):
                    for change in item.changes:
                        (keys.discard if change.deleted else keys.add)(change.item.key)
