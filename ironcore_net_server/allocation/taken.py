"""Which keys under a claims prefix are taken, as far as this process knows: pure bookkeeping, fed by a watch.

Committed claims come from the store. Reservations are choices of this process whose transactions are still under way:
they keep a thousand concurrent creates from choosing the same number, and expire by themselves because nobody tells how
a transaction ended. Nothing here decides who gets a number; the transaction does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ironcore_net_server.allocation.pool import Pool

# Longer than a transaction takes on a healthy store, shorter than people wait.
RESERVATION_SECONDS: Final = 2.0


class TakenNumbers:
    """Numbers that are committed or reserved, with a count per pool."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools = tuple(pools)
        self._committed: set[int] = set()
        # Number -> when the reservation ends (monotonic seconds). In the order of expiry: all last equally long.
        self._reserved: dict[int, float] = {}
        self._used = dict.fromkeys(self.pools, 0)

    def __contains__(self, number: object) -> bool:
        return number in self._committed or number in self._reserved

    def used(self, pool: Pool) -> int:
        """How many numbers of the pool are committed or reserved."""
        return self._used[pool]

    @property
    def committed(self) -> int:
        """How many numbers the store has, those outside of the pools included."""
        return len(self._committed)

    @property
    def next_expiry(self) -> float | None:
        """When the oldest reservation ends; None without reservations."""
        return next(iter(self._reserved.values()), None)

    def commit(self, number: int) -> None:
        """The store has the number."""
        if number not in self:
            self._count(number, 1)
        self._reserved.pop(number, None)
        self._committed.add(number)

    def release(self, number: int) -> None:
        """The store no longer has the number."""
        if number in self._committed:
            self._committed.discard(number)
            self._count(number, -1)

    def replace(self, numbers: Iterable[int]) -> None:
        """The store has exactly these numbers."""
        fresh = set(numbers)
        for number in self._committed - fresh:
            self.release(number)
        for number in fresh - self._committed:
            self.commit(number)

    def reserve(self, number: int, now: float) -> None:
        """This process has chosen the free number at `now` (monotonic seconds)."""
        if number not in self:
            self._count(number, 1)
            self._reserved[number] = now + RESERVATION_SECONDS

    def expire(self, now: float) -> None:
        """Drops reservations that ended."""
        while (end := self.next_expiry) is not None and end <= now:
            number = next(iter(self._reserved))
            del self._reserved[number]
            self._count(number, -1)

    def _count(self, number: int, change: int) -> None:
        for pool in self.pools:
            if number in pool:
                self._used[pool] += change
                return
