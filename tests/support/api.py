"""API servers on a unix socket for tests, with the kinds and hooks that a test needs."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2

from apimachinery.client import Client
from apimachinery.endpoints import Endpoint
from apimachinery.resource import ApiGroup, ResourceHooks, ResourceKind
from apimachinery.server_app import ApiServer
from apimachinery.store import Store
from apimachinery.watch_cache import CacheLimits
from apimachinery.watch_stream import WatchTiming

TIMEOUT = 30.0
# Bookmarks come fast, so that a test sees them.
TIMING = WatchTiming(bookmark=0.2)


@contextlib.asynccontextmanager
async def api_server(
    store: Store,
    *kinds: type[Message],
    hooks: Mapping[type[Message], ResourceHooks[Any]] | None = None,
    limits: CacheLimits | None = None,
    timing: WatchTiming = TIMING,
) -> AsyncIterator[tuple[ApiServer, Client]]:
    """A synced server for these kinds, and a client of it."""
    group = ApiGroup("test", [ResourceKind(kind, (hooks or {}).get(kind, ResourceHooks())) for kind in kinds])
    server = ApiServer(store, [group], limits=limits, timing=timing)
    with tempfile.TemporaryDirectory(prefix="api-") as directory:
        address = Endpoint(path=str(Path(directory) / "api"))
        await server.start([address])
        try:
            async with asyncio.timeout(TIMEOUT):
                await server.wait_synced()
            async with Client(str(address)) as client:
                yield server, client
        finally:
            await server.stop(grace=0)


async def collect(stream: Any, count: int) -> list[tuple[str, Any]]:
    """The next items of a watch, at least ``count``: ("ADDED", object), ("SYNCED", revision); no BOOKMARKs."""
    found: list[tuple[str, Any]] = []
    async with asyncio.timeout(TIMEOUT):
        async for response in stream:
            found += [
                (meta_pb2.EventType.Name(event.type).removeprefix("EVENT_TYPE_"), event.object)
                for event in response.events
            ]
            if response.HasField("mark") and response.mark.type != meta_pb2.MARK_TYPE_BOOKMARK:
                name = meta_pb2.MarkType.Name(response.mark.type).removeprefix("MARK_TYPE_")
                found.append((name, response.mark.resource_version))
            if len(found) >= count:
                return found
    raise AssertionError(f"the watch ended after {len(found)} of {count} items")


def names(items: Sequence[tuple[str, Any]]) -> list[tuple[str, str]]:
    """(type, object name) of collected items; marks without their revision."""
    return [(kind, "" if isinstance(item, int) else item.metadata.name) for kind, item in items]
