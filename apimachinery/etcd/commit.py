"""Commits whose outcome is known, although a connection may die between a request and its answer.

A transaction that got no answer may have happened, may still be on its way, or may never arrive. To find out:

1. Every transaction carries the condition that the *fence* key of this process does not exist. It normally never does,
   so this costs one look-up and no write.
2. After an unanswered attempt the fence key is created (with a lease, so it goes away by itself). From that revision on
   no copy of the transaction that is still under way can take effect.
3. The changes between the last revision seen before the attempt and the fence are read back. A revision that made all
   writes of the transaction is its commit; without one it did not happen and is sent again under the next fence.

Transactions that were under way with the raised fence but not lost fail at that condition only, and are sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from etcd3 import etcdrpc

from apimachinery import metrics
from apimachinery.errors import ApiError, Unavailable
from apimachinery.etcd.client import EtcdClient
from apimachinery.etcd.errors import (
    AttemptError,
    CompareFailed,
    OutcomeUnknown,
    RevisionCompacted,
    StoreUnavailable,
    Verdict,
)
from apimachinery.etcd.txn import MAX_OPERATIONS, Compare, Condition, Txn, compared
from apimachinery.etcd.values import ROOT
from apimachinery.etcd.watch import Change, Compacted, WatchBatch, watch

_log = structlog.get_logger(__name__)

FENCES: Final = "/fences/"
# Far beyond the life of any request; afterwards the fence has nothing left to hold back.
FENCE_TTL: Final = 3600
# Seconds. Bounds how much history has to be read back after a process that only listened loses its first answer.
MAX_REVISION_AGE: Final = 30.0

# Results of transactions in metrics; the first that fits.
_RESULTS: Final = (
    (CompareFailed, "conflict"),
    (OutcomeUnknown, "unknown"),
    (Unavailable, "unavailable"),
    (ApiError, "refused"),
)
_PEEK: Final = etcdrpc.RangeRequest(key=ROOT.encode(), serializable=True, keys_only=True)


@dataclass(frozen=True, slots=True)
class Revision:
    """All changes that one transaction made."""

    number: int
    changes: Mapping[str, Change]


def find_commit(txn: Txn, history: Iterable[Revision], after: int) -> int | None:
    """Revision after ``after`` that made the writes of ``txn``; None if there is none.

    A deletion of an absent key leaves no trace, so a transaction without puts is found by any of its deletions. If
    somebody else made exactly the same writes, theirs may be found: the state is the wanted one either way.
    """
    puts = [write for write in txn.writes.values() if write.value is not None]
    for revision in history:
        if revision.number <= after:
            continue
        seen = revision.changes
        if puts:
            found = all(
                write.key in seen
                and not seen[write.key].deleted
                and (seen[write.key].item.value, seen[write.key].item.lease) == (write.value, write.lease)
                for write in puts
            )
        else:
            found = any(key in seen and seen[key].deleted for key in txn.writes)
        if found:
            return revision.number
    return None


def by_revision(changes: Iterable[Change]) -> Sequence[Revision]:
    """Changes grouped by the transaction that made them, in order of revision."""
    grouped: dict[int, dict[str, Change]] = {}
    for change in changes:
        grouped.setdefault(change.item.mod_revision, {})[change.item.key] = change
    return [Revision(number, grouped[number]) for number in sorted(grouped)]


class _Fence:
    """One fence key and the attempts that depend on it."""

    def __init__(self, owner: str, number: int) -> None:
        self.key = f"{FENCES}{owner}/{number}"
        self.condition = Compare(self.key, Condition.ABSENT)
        # Attempts without an answer so far, each with the last revision seen before it was sent.
        self.under_way: dict[object, tuple[Txn, int]] = {}
        self.resolution: asyncio.Task[Sequence[Revision]] | None = None


class Committer:
    """Commits transactions over a client. Close it before the client.

    etcd's user needs read and write access to every key under "/", the fences and the history included.
    """

    def __init__(self, client: EtcdClient, *, max_operations: int = MAX_OPERATIONS) -> None:
        self._client = client
        self._max_operations = max_operations
        self._owner = uuid.uuid4().hex
        self._fences = itertools.count()
        self._fence = self._next_fence()
        self._resolutions: set[asyncio.Task[Sequence[Revision]]] = set()

    async def close(self) -> None:
        """Gives up on outcomes that are still being found out."""
        tasks = list(self._resolutions)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def commit(self, txn: Txn) -> int:
        """Revision of the commit. It happened exactly once.

        CompareFailed, TxnTooLarge, StoreFull, LeaseNotFound, StoreUnavailable: nothing happened.
        OutcomeUnknown: the answer was lost, and etcd stayed away for longer than the client's ``timeout`` or was
        compacted up to the present in between.
        """
        begin = time.monotonic()
        result = "cancelled"
        try:
            revision = await self._client.persist(lambda: self._commit_once(txn))
            result = "ok"
        except ApiError as error:
            result = next(name for kind, name in _RESULTS if isinstance(error, kind))
            raise
        finally:
            metrics.STORE_TRANSACTIONS.add(1, {"result": result})
            metrics.STORE_TRANSACTION_DURATION.record(time.monotonic() - begin)
        return revision

    async def _commit_once(self, txn: Txn) -> int:
        if self._client.revision_age > MAX_REVISION_AGE:
            await self._client.attempt(lambda stubs: stubs.kv.Range, _PEEK)
        fence, attempt = self._fence, object()
        request = txn.to_request(fence.condition, max_operations=self._max_operations)
        seen = self._client.revision
        fence.under_way[attempt] = (txn, seen)
        try:
            response = await self._client.attempt(lambda stubs: stubs.kv.Txn, request)
        except AttemptError as failure:
            if failure.verdict is not Verdict.UNKNOWN:
                raise
            outcome = "unknown"
            try:
                revision = find_commit(txn, await self._history(fence, failure), seen)
                outcome = "absent" if revision is None else "committed"
            finally:
                metrics.STORE_LOST_ANSWERS.add(1, {"outcome": outcome})
            if revision is None:
                raise AttemptError(Verdict.NOT_APPLIED, failure.error) from failure
            return revision
        finally:
            del fence.under_way[attempt]
        if response.succeeded:
            return int(response.header.revision)
        current = compared([*txn.compares, fence.condition], response)
        failed = tuple(compare for compare in txn.compares if not compare.holds(current[compare.key]))
        if failed:
            raise CompareFailed(failed, current, response.header.revision)
        raise AttemptError(Verdict.NOT_APPLIED, StoreUnavailable("etcd lost the answer to another transaction"))

    async def _history(self, fence: _Fence, failure: AttemptError) -> Sequence[Revision]:
        """What happened while the attempts under the fence were under way, once none of them can happen any more."""
        if fence.resolution is None:
            self._fence = self._next_fence()
            fence.resolution = asyncio.create_task(self._resolve(fence))
            self._resolutions.add(fence.resolution)
            fence.resolution.add_done_callback(self._resolutions.discard)
        try:
            async with asyncio.timeout(self._client.timeout):
                return await asyncio.shield(fence.resolution)
        except (TimeoutError, AttemptError, ApiError) as error:
            raise OutcomeUnknown(f"etcd did not confirm a write and its outcome cannot be read: {failure}") from error

    async def _resolve(self, fence: _Fence) -> Sequence[Revision]:
        async for attempt in self._client.retrying(stop_after=None):
            with attempt:
                raised_at = await self._raise_fence(fence)
        if not fence.under_way:  # everybody gave up meanwhile
            return []
        # No attempt starts under a raised fence, so this covers also those that will be found lost later.
        keys = frozenset(key for txn, _ in fence.under_way.values() for key in txn.writes)
        start = min(seen for _, seen in fence.under_way.values())
        history: list[Change] = []
        async with contextlib.aclosing(watch(self._client, ROOT, after_revision=start)) as items:
            async for item in items:
                if isinstance(item, Compacted):
                    raise RevisionCompacted(f"changes between revisions {start} and {raised_at} are compacted")
                if isinstance(item, WatchBatch):
                    history += (change for change in item.changes if change.item.key in keys)
                # The fence itself is a change under ROOT, so this comes.
                if item.revision >= raised_at:
                    break
        _log.info("lost answers of etcd resolved", attempts=len(fence.under_way), revisions=(start, raised_at))
        return by_revision(history)

    async def _raise_fence(self, fence: _Fence) -> int:
        """Revision from which on no transaction under the fence can happen."""
        grant = etcdrpc.LeaseGrantRequest(TTL=FENCE_TTL)
        lease = (await self._client.attempt(lambda stubs: stubs.lease.LeaseGrant, grant)).ID
        # Repeating it is harmless: the fence stays at its first revision.
        txn = Txn().require_absent(fence.key).put(fence.key, b"", lease)
        response = await self._client.attempt(lambda stubs: stubs.kv.Txn, txn.to_request())
        if response.succeeded:
            return int(response.header.revision)
        found = compared(txn.compares, response)[fence.key]
        assert found is not None
        return found.create_revision

    def _next_fence(self) -> _Fence:
        return _Fence(self._owner, next(self._fences))
