"""Does harm at chosen moments: when a watcher has come to a revision, by watching or by a snapshot.

Knows nothing of who judges the result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """``action`` starts once the watcher has come to revision ``after`` and earlier faults are done."""

    after: int
    name: str
    action: Callable[[], Awaitable[None]]


class FaultInjector:
    """Give it faults, start :meth:`run` in the test's task group, and let the watcher call :meth:`reached`."""

    def __init__(self) -> None:
        self._revision = 0
        self._moved = asyncio.Event()
        # (name, seconds it took), in order.
        self.done: list[tuple[str, float]] = []

    def reached(self, revision: int) -> None:
        """The watcher has come to this revision."""
        self._revision = revision
        self._moved.set()

    async def run(self, faults: Sequence[Fault]) -> None:
        """Returns when all faults have happened, one after the other."""
        for fault in sorted(faults, key=lambda fault: fault.after):
            while self._revision < fault.after:
                self._moved.clear()
                await self._moved.wait()
            started = time.monotonic()
            await fault.action()
            self.done.append((fault.name, time.monotonic() - started))
