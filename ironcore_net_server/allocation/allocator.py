"""Hands out numbers of pools: chooses from memory, decides by transaction, confirms exhaustion with the store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing, closing, suppress
from typing import Final

from apimachinery.errors import ApiError, ResourceExhausted
from apimachinery.resource import WritePlan
from apimachinery.store import Store, WatchBatch
from ironcore_net_server.allocation.pool import Pool, pick_free
from ironcore_net_server.allocation.taken import TakenNumbers

# How long a request waits for other requests of this process to commit or fail when they hold the last free numbers.
CONTENTION_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 1.0


class Allocator:
    """Numbers of pools whose claims are the keys `prefix` + name of the number.

    what:     how errors call the numbers ("public IPv4 address").
    name_of:  last part of the claim's key for a number; number_of inverts it and answers None for foreign keys.

    The view of what is taken follows the store by a watch that starts with the first use and ends with the event loop.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        pools: Sequence[Pool],
        *,
        what: str,
        name_of: Callable[[int], str],
        number_of: Callable[[str], int | None],
        rng: random.Random | None = None,
    ) -> None:
        self.prefix = prefix
        self.pools = tuple(pools)
        self.what = what
        self.name_of = name_of
        self._number_of = number_of
        self._store = store
        self._rng = rng or random.Random()
        self._taken = TakenNumbers(pools)
        # Revision of the newest complete read; older changes must not be applied on top of it.
        self._revision = 0
        self._changed = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._next_read: asyncio.Task[None] | None = None

    def key(self, number: int) -> str:
        """Key of the claim on a number."""
        return self.prefix + self.name_of(number)

    def pool_of(self, number: int) -> Pool | None:
        """The pool that has the number."""
        return next((pool for pool in self.pools if number in pool), None)

    async def take(self, plan: WritePlan, owner: str) -> int:
        """Chooses a free number and claims it in the plan. If another server was faster, the write starts again.

        Raises ResourceExhausted with the names of the pools when the store, asked after the call began, has none free,
        and Unavailable when the store cannot be asked.
        """
        number = await self._choose(reserve=not plan.dry_run)
        plan.claim(self.key(number), owner)
        return number

    def take_given(self, plan: WritePlan, number: int, owner: str, error: ApiError) -> None:
        """Claims this number in the plan; `error` is raised if it is taken at commit."""
        plan.claim(self.key(number), owner, error=error)

    async def _choose(self, *, reserve: bool) -> int:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONTENTION_SECONDS
        await self._follow()
        while True:
            self._taken.expire(loop.time())
            # Cleared before the view is read: a change between reading and waiting is not slept through.
            self._changed.clear()
            number = pick_free(self.pools, self._taken, self._taken.used, self._rng)
            if number is not None:
                if reserve:
                    self._taken.reserve(number, loop.time())
                return number
            expiry = self._taken.next_expiry
            if expiry is not None and loop.time() < deadline:
                await self._wait_changed(min(expiry, deadline) - loop.time())
            elif await self._is_full():
                raise self._exhausted()
            else:
                await self._refresh()

    async def _is_full(self) -> bool:
        """Whether the store, asked now, has as many claims as the view, which has no free number.

        With fewer claims there the view has missed a release. As many mean that it has not, unless a claim outside of
        the pools made up for it a moment ago; then the next request sees the release.
        """
        return await self._store.count(self.prefix) >= self._taken.committed

    def _exhausted(self) -> ResourceExhausted:
        names = ", ".join(pool.name for pool in self.pools) or "no pool configured"
        return ResourceExhausted(f"no free {self.what} in {names}", reason="POOL_EXHAUSTED", exhausted=names)

    async def _wait_changed(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.001)):
                await self._changed.wait()

    async def _follow(self) -> None:
        """Starts following the store unless that is done; returns when the view was complete once."""
        if self._follower is not None and not self._follower.done():
            return
        await self._refresh()
        if self._follower is None or self._follower.done():
            self._follower = asyncio.create_task(self._run(), name=f"follow {self.prefix}")

    async def _refresh(self) -> None:
        """Reads all claims with a read that begins after this call. Callers that wait at the same time share it."""
        if self._next_read is None:
            self._next_read = asyncio.create_task(self._read_after(self._reading))
        await asyncio.shield(self._next_read)

    async def _read_after(self, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait((previous,))
        self._reading, self._next_read = self._next_read, None
        page = await self._store.list(self.prefix)
        self._revision = page.revision
        self._taken.replace(number for item in page.items if (number := self._number(item.key)) is not None)
        self._changed.set()

    async def _run(self) -> None:
        with closing(self._store.outage.part(f"follower of {self.prefix}")) as outage:
            while True:
                try:
                    async with aclosing(self._store.watch(self.prefix, after_revision=self._revision)) as items:
                        async for item in items:
                            outage.recovered()
                            if isinstance(item, WatchBatch):
                                self._apply(item)
                    # The store no longer has the history since then.
                    await self._refresh()
                    outage.recovered()
                except ApiError as error:
                    outage.lost(error)
                    await asyncio.sleep(RETRY_SECONDS)

    def _apply(self, batch: WatchBatch) -> None:
        for change in batch.changes:
            number = self._number(change.item.key)
            if number is None or change.item.mod_revision <= self._revision:
                continue
            if change.deleted:
                self._taken.release(number)
            else:
                self._taken.commit(number)
        self._changed.set()

    def _number(self, key: str) -> int | None:
        return self._number_of(key.removeprefix(self.prefix))
