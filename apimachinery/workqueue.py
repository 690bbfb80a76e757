"""Work queue of controllers: every key at most once in line, at most one run of a key at a time.

`KeyQueue` is the pure part: it knows which keys wait, run, or are due later, and takes the time as an argument.
`WorkQueue` is its asyncio rim.
"""

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class ShutdownError(Exception):
    """Raised by `WorkQueue.get` when the queue was shut down: no key will come any more."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delay: `base * 2**(failures - 1)` seconds, never above `cap`, reduced by up to `jitter` of itself."""

    base: float = 0.05
    cap: float = 60.0
    jitter: float = 0.3

    def delay(self, failures: int, fraction: float) -> float:
        """Seconds to wait after `failures` (>= 1) failures in a row; `fraction` in [0, 1) places it in the jitter."""
        # The exponent is bounded before the power: 2.0**1100 is an overflow error.
        full = min(self.cap, self.base * 2.0 ** min(failures - 1, 64))
        return full * (1.0 - self.jitter * fraction)


class KeyQueue(Generic[K]):
    """State of all keys. A key that is added while it runs gets exactly one more run afterwards."""

    def __init__(self) -> None:
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._running: set[K] = set()
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._failures: dict[K, int] = {}

    def add(self, key: K) -> None:
        """The key wants a run now."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._running:
            self._ready.append(key)

    def add_at(self, key: K, when: float) -> None:
        """The key wants a run at time `when`; of several times the earliest counts."""
        if key in self._due and self._due[key] <= when:
            return
        self._due[key] = when
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, key))

    def advance(self, now: float) -> None:
        """Puts every key that is due in line."""
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            # Entries that an earlier time replaced stay in the heap and are recognised here.
            if self._due.get(key) == when:
                del self._due[key]
                self.add(key)

    def next_due(self) -> float | None:
        """When `advance` has something to do next."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self) -> K | None:
        """Takes the next key and marks it as running; None if no key is in line."""
        if not self._ready:
            return None
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._running.add(key)
        return key

    def done(self, key: K) -> None:
        """The run of `key` ended. Raises KeyError if it was not running."""
        self._running.remove(key)
        if key in self._waiting:
            self._ready.append(key)

    def failed(self, key: K) -> int:
        """Counts a failure; returns the failures in a row."""
        count = self._failures.get(key, 0) + 1
        self._failures[key] = count
        return count

    def forget(self, key: K) -> None:
        """Ends the row of failures."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """Failures in a row."""
        return self._failures.get(key, 0)

    @property
    def ready(self) -> int:
        """Keys in line."""
        return len(self._ready)

    @property
    def running(self) -> int:
        """Keys that run."""
        return len(self._running)

    @property
    def delayed(self) -> int:
        """Keys that are due later."""
        return len(self._due)

    @property
    def idle(self) -> bool:
        """True if nothing runs and nothing is in line; delayed keys do not count."""
        return not self._ready and not self._running


class WorkQueue(Generic[K]):
    """Asyncio rim of `KeyQueue`. Use from one event loop only.

    `clock` gives seconds that never go back, `fraction` the random part of back-off delays.
    """

    def __init__(
        self,
        backoff: Backoff | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        fraction: Callable[[], float] = random.random,
    ) -> None:
        self._keys: KeyQueue[K] = KeyQueue()
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._fraction = fraction
        self._getters: deque[asyncio.Future[None]] = deque()
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._shut_down = False

    def add(self, key: K) -> None:
        """Runs the key as soon as a worker is free. Ignored after shutdown."""
        if self._shut_down:
            return
        self._keys.add(key)
        self._wake()

    def add_after(self, key: K, seconds: float) -> None:
        """Runs the key in `seconds`; of several delays the one that ends first counts."""
        if seconds <= 0:
            self.add(key)
        elif not self._shut_down:
            self._keys.add_at(key, self._clock() + seconds)
            self._arm()

    def add_failed(self, key: K) -> float:
        """Runs the key again after its back-off; returns the delay in seconds."""
        delay = self._backoff.delay(self._keys.failed(key), self._fraction())
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key succeeded: its next back-off starts from the base again."""
        self._keys.forget(key)

    def failures(self, key: K) -> int:
        """Failures of the key in a row."""
        return self._keys.failures(key)

    async def get(self) -> K:
        """Next key; the caller must call `done`. Raises ShutdownError after `shutdown`."""
        while True:
            if self._shut_down:
                raise ShutdownError
            self._keys.advance(self._clock())
            key = self._keys.pop()
            if key is not None:
                return key
            self._arm()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # the wake-up was meant for somebody who can still take the key
                else:
                    self._getters.remove(waiter)
                raise

    def done(self, key: K) -> None:
        """The run of a key from `get` ended."""
        self._keys.done(key)
        self._wake()
        if self._keys.idle:
            self._release_idle_waiters()

    def shutdown(self) -> None:
        """No key is handed out any more; running keys may still be marked done."""
        self._shut_down = True
        if self._timer is not None:
            self._timer.cancel()
        while self._getters:
            waiter = self._getters.popleft()
            if not waiter.done():
                waiter.set_result(None)
        self._release_idle_waiters()

    async def wait_idle(self) -> None:
        """Returns when nothing runs and nothing is in line (or the queue is shut down)."""
        while not (self._shut_down or self._keys.idle):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle_waiters.append(waiter)
            await waiter

    @property
    def depth(self) -> int:
        """Keys in line."""
        return self._keys.ready

    @property
    def running(self) -> int:
        """Keys that run."""
        return self._keys.running

    @property
    def delayed(self) -> int:
        """Keys that are due later."""
        return self._keys.delayed

    def _wake(self) -> None:
        while self._keys.ready and self._getters:
            waiter = self._getters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _release_idle_waiters(self) -> None:
        waiters, self._idle_waiters = self._idle_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _arm(self) -> None:
        due = self._keys.next_due()
        if due is None or (self._timer_at is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, None
        self._keys.advance(self._clock())
        self._wake_all_ready()
        self._arm()

    def _wake_all_ready(self) -> None:
        for _ in range(self._keys.ready):
            self._wake()
