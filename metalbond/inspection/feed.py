"""Changes of the table for any number of watchers, in batches. Costs nothing while nobody watches."""

from __future__ import annotations

import asyncio

from metalbond.inspect import Inspectable
from metalbond.types import Route

PERIOD = 0.1
"""Seconds for which changes gather."""
MAX_PENDING = 200_000
"""Changed routes that may wait for one watcher."""
MAX_WATCHERS = 64


class LaggingError(Exception):
    """The watcher does not keep up."""


class TooManyWatchersError(Exception):
    """MAX_WATCHERS is reached."""


class Watch:
    """What one watcher has not looked at yet, coalesced by route."""

    def __init__(self, feed: Feed, vnis: frozenset[int]) -> None:
        self._feed = feed
        self._vnis = vnis
        self._pending: set[Route] = set()
        self._some = asyncio.Event()
        self._lagging = False

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._feed.leave(self)

    def put(self, changed: set[Route]) -> None:
        self._pending |= {route for route in changed if route.vni in self._vnis} if self._vnis else changed
        if len(self._pending) > MAX_PENDING:
            self._lagging = True
            self._pending.clear()
        if self._pending or self._lagging:
            self._some.set()

    def take(self) -> set[Route]:
        """What changed since the last call, up to this moment. Raises LaggingError."""
        self._feed.flush()
        if self._lagging:
            raise LaggingError
        self._some.clear()
        taken, self._pending = self._pending, set()
        return taken

    async def next(self) -> set[Route]:
        """Waits until there is something. Raises LaggingError."""
        await self._some.wait()
        return self.take()


class Feed:
    def __init__(self, instance: Inspectable) -> None:
        self._instance = instance
        self._watches: set[Watch] = set()
        self._task: asyncio.Task[None] | None = None

    def watch(self, vnis: frozenset[int] = frozenset()) -> Watch:
        """Follow these VNIs, or all; use as a context manager. Raises TooManyWatchersError."""
        if len(self._watches) >= MAX_WATCHERS:
            raise TooManyWatchersError
        if not self._watches:
            self._instance.record_changes(True)
            self._task = asyncio.create_task(self._poll())
        watch = Watch(self, vnis)
        self._watches.add(watch)
        return watch

    def leave(self, watch: Watch) -> None:
        self._watches.discard(watch)
        if not self._watches and self._task is not None:
            self._task.cancel()
            self._task = None
            self._instance.record_changes(False)

    def flush(self) -> None:
        if changed := self._instance.take_changes():
            for watch in self._watches:
                watch.put(changed)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            self.flush()
