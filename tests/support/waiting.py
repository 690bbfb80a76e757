"""Waiting for objects of an API to become as a test wants them: by watching, with a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from apimachinery.client import Client
from apimachinery.informer import Informer, key_of

M = TypeVar("M", bound=Message)
SECONDS = 60.0


async def eventually_all(client: Client, kind: type[M], condition: Callable[[Sequence[M]], bool]) -> Sequence[M]:
    """All objects of the kind once the condition holds for them together."""
    changed = asyncio.Event()
    async with Informer(client.kind(kind)) as informer:
        informer.add_handler(lambda _: changed.set())
        try:
            async with asyncio.timeout(SECONDS):
                await informer.wait_synced()
                while not condition(found := informer.list()):
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            raise AssertionError(f"{kind.__name__} objects did not become as wanted: {informer.list()}") from None
    return found


async def eventually(
    client: Client, kind: type[M], namespace: str, name: str, condition: Callable[[M], bool] = lambda _: True
) -> M:
    """The object once it exists and the condition holds."""

    def named(objects: Sequence[M]) -> list[M]:
        return [obj for obj in objects if key_of(obj) == (namespace, name) and condition(obj)]

    return named(await eventually_all(client, kind, lambda objects: bool(named(objects))))[0]


async def gone(client: Client, kind: type[Message], namespace: str, name: str) -> None:
    """Returns when no object has the name."""
    await eventually_all(client, kind, lambda objects: all(key_of(obj) != (namespace, name) for obj in objects))
