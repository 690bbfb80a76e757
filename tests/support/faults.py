"""Does harm at chosen moments: when a watcher has consumed so many changes. Knows nothing of who judges the result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """``action`` starts once the watcher has consumed ``after`` changes and earlier faults are done."""

    after: int
    name: str
    action: Callable[[], Awaitable[None]]


class FaultInjector:
    """Give it faults, start :meth:`run` in the test's task group, and let the watcher call :meth:`consumed`."""

    def __init__(self) -> None:
        self._consumed = 0
        self._moved = asyncio.Event()
        # (name, seconds it took), in order.
        self.done: list[tuple[str, float]] = []

    def consumed(self, total: int) -> None:
        """The watcher has consumed this many changes by now."""
        self._consumed = total
        self._moved.set()

    async def run(self, faults: Sequence[Fault]) -> None:
        """Returns when all faults have happened, one after the other."""
        for fault in sorted(faults, key=lambda fault: fault.after):
            while self._consumed < fault.after:
                self._moved.clear()
                await self._moved.wait()
            started = time.monotonic()
            await fault.action()
            self.done.append((fault.name, time.monotonic() - started))
