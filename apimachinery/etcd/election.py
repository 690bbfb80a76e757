"""Leader election: one key under ``/elections/``, held by a lease, and fencing of what its holder writes.

Being leader is a belief that can be outdated: a paused process wakes up and goes on. Therefore everything that only a
leader may write is committed with :meth:`Leadership.guard`, which makes etcd refuse it once the key changed hands.

A leader that ends without resigning is followed when its lease ends, or at once where its end can be proven
(:mod:`apimachinery.etcd.holder`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random

from apimachinery.errors import ApiError, Unavailable
from apimachinery.etcd.errors import CompareFailed
from apimachinery.etcd.holder import Holder, ProcessId
from apimachinery.etcd.lease import Lease
from apimachinery.etcd.txn import Txn
from apimachinery.etcd.values import StoredValue
from apimachinery.etcd.watch import Compacted, WatchBatch
from apimachinery.fencing import ELECTIONS

if TYPE_CHECKING:
    from apimachinery.store import Store

_log = structlog.get_logger(__name__)

# Seconds. A dead leader is replaced after at most this time; a network pause shorter than that changes nothing.
DEFAULT_TTL: Final = 15


@dataclass(frozen=True, slots=True)
class Leadership:
    """The right to act as leader, from winning until ``lost`` is set."""

    name: str
    identity: str
    key: str
    revision: int
    lease: Lease
    lost: asyncio.Event

    @property
    def certain(self) -> bool:
        """False as soon as another leader may exist. For actions outside the store, which nobody fences."""
        return not self.lost.is_set() and self.lease.valid

    def guard(self, txn: Txn) -> Txn:
        """Adds the condition that this leadership still stands: a transaction of a former leader fails."""
        return txn.require_created(self.key, self.revision)


class Election:
    """Takes part in the election of ``name`` as ``identity`` (shown to operators; must differ between processes).

    sole_user: this process has the lock of the store's directory (see `apimachinery.etcd.process`), so every other
    process that had it runs no more.
    """

    def __init__(
        self, store: Store, name: str, identity: str, *, ttl: int = DEFAULT_TTL, sole_user: bool = False
    ) -> None:
        if not name or "/" in name:
            raise ValueError(f"election name {name!r} is empty or has a slash")
        self._store = store
        self._name = name
        self._self = Holder(identity, ProcessId.own(), sole_user)
        self._ttl = ttl
        self._key = ELECTIONS + name
        self._outage = store.outage.part(f"election {name}")

    async def holder(self) -> str | None:
        """Identity of the present leader, None if there is none."""
        value = await self._store.get(self._key)
        return None if value is None else Holder.decode(value.value).identity

    async def run(self, body: Callable[[Leadership], Awaitable[None]]) -> None:
        """Runs ``body`` whenever this process is leader and cancels it when that ends; returns when ``body`` returns.

        An exception of ``body`` is raised after resigning.
        """
        while True:
            async with self.leadership() as leadership:
                work = asyncio.ensure_future(body(leadership))
                lost = asyncio.ensure_future(leadership.lost.wait())
                try:
                    await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
                    if work.done():
                        return await work
                finally:
                    work.cancel()
                    lost.cancel()
                    await asyncio.gather(work, lost, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def leadership(self) -> AsyncIterator[Leadership]:
        """Waits until this process is leader, however long etcd is away; resigns when the block ends."""
        leadership = await self._campaign()
        _log.info("became leader", election=self._name, identity=self._self.identity)
        guardian = asyncio.create_task(self._guard(leadership))
        try:
            yield leadership
        finally:
            guardian.cancel()
            await asyncio.gather(guardian, return_exceptions=True)
            await leadership.lease.revoke()
            _log.info("no longer leader", election=self._name, identity=self._self.identity)

    async def _campaign(self) -> Leadership:
        try:
            async for attempt in AsyncRetrying(retry=retry_if_exception_type(Unavailable), wait=wait_random(0.1, 1.0)):
                with attempt:
                    try:
                        return await self._lead()
                    except Unavailable as error:
                        self._outage.lost(error)
                        raise
        finally:
            self._outage.close()
        raise AssertionError("unreachable: retrying ends by return or by raising")

    async def _lead(self) -> Leadership:
        while True:
            held = await self._store.get(self._key)
            self._outage.recovered()
            if held is not None:
                await self._wait_for_vacancy(held)
            elif (leadership := await self._try_to_lead()) is not None:
                return leadership

    async def _try_to_lead(self) -> Leadership | None:
        lease = await self._store.lease(self._ttl)
        try:
            txn = Txn().require_absent(self._key).put(self._key, self._self.encode(), lease.id)
            revision = await self._store.commit(txn)
        except CompareFailed:
            await lease.revoke()
            return None
        except BaseException:
            # Whether the key was written or not, it goes with the lease.
            await lease.revoke()
            raise
        return Leadership(self._name, self._self.identity, self._key, revision, lease, asyncio.Event())

    async def _wait_for_vacancy(self, held: StoredValue) -> None:
        """Returns once the key as read is (or may be) gone; takes it away from a process that is proven to be dead."""
        changed = asyncio.ensure_future(self._wait_for_change(held.create_revision, held.mod_revision))
        ended = asyncio.ensure_future(Holder.decode(held.value).wait_ended(self._self))
        try:
            await asyncio.wait({changed, ended}, return_when=asyncio.FIRST_COMPLETED)
            if changed.done():
                await changed
            else:
                await self._depose(held, await ended)
        finally:
            changed.cancel()
            ended.cancel()
            await asyncio.gather(changed, ended, return_exceptions=True)

    async def _depose(self, held: StoredValue, proof: str) -> None:
        # Deleted and not overwritten: what the dead leader still has under way is compared with the key's creation.
        try:
            await self._store.commit(Txn().require_revision(self._key, held.mod_revision).delete(self._key))
        except CompareFailed:
            return
        former = Holder.decode(held.value).identity
        _log.info("former leader is dead, not waiting for its lease", election=self._name, former=former, proof=proof)
        # The lease has no key any more; revoked, it does not linger.
        with contextlib.suppress(ApiError):
            await self._store.revoke_lease(held.lease)

    async def _wait_for_change(self, create_revision: int, after_revision: int) -> None:
        """Returns once the key is not (or may be not) the one created at ``create_revision`` any more."""
        async with contextlib.aclosing(self._store.watch(self._key, after_revision=after_revision)) as items:
            async for item in items:
                if isinstance(item, Compacted):
                    value = await self._store.get(self._key)
                    if value is None or value.create_revision != create_revision:
                        return
                    await self._wait_for_change(create_revision, item.revision)
                    return
                if isinstance(item, WatchBatch) and any(
                    change.item.key == self._key and change.item.create_revision != create_revision
                    for change in item.changes
                ):
                    return

    async def _guard(self, leadership: Leadership) -> None:
        """Sets ``lost`` when the lease is lost or the key was taken away."""
        taken = asyncio.ensure_future(self._wait_for_change(leadership.revision, leadership.revision))
        expired = asyncio.ensure_future(leadership.lease.lost.wait())
        try:
            await asyncio.wait({taken, expired}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            taken.cancel()
            expired.cancel()
            await asyncio.gather(taken, expired, return_exceptions=True)
            leadership.lost.set()
