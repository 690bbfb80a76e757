"""The store: keys with revisions in etcd. Everything that is kept, kept unique or kept alive goes through here.

async with EtcdClient(["unix:///var/lib/ironcore-net/etcd/client:0"]) as client, Store(client) as store:
    revision = await store.commit(Txn().require_absent("/a").put("/a", b"1"))
    async with aclosing(store.watch("/", after_revision=revision)) as items: ...
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

from etcd3 import etcdrpc

from apimachinery.etcd import lease as leases
from apimachinery.etcd.client import EtcdClient
from apimachinery.etcd.commit import Committer
from apimachinery.etcd.errors import (
    CompareFailed,
    LeaseNotFound,
    OutcomeUnknown,
    RevisionCompacted,
    RevisionInFuture,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
    TxnTooLarge,
)
from apimachinery.etcd.lease import Lease
from apimachinery.etcd.txn import MAX_OPERATIONS, Compare, Condition, Txn
from apimachinery.etcd.values import ROOT, Page, StoredValue, after, from_kv, range_of, read_request
from apimachinery.etcd.watch import Change, Compacted, Progress, WatchBatch, WatchItem, watch
from apimachinery.logs import Outage

__all__ = [
    "Change",
    "Compacted",
    "Compare",
    "CompareFailed",
    "Condition",
    "Lease",
    "LeaseNotFound",
    "OutcomeUnknown",
    "Page",
    "Progress",
    "RevisionCompacted",
    "RevisionInFuture",
    "Store",
    "StoreDenied",
    "StoreFull",
    "StoreUnavailable",
    "StoredValue",
    "Txn",
    "TxnTooLarge",
    "WatchBatch",
    "WatchItem",
]

# Keys per request of an unlimited listing: keeps one answer, and etcd's work for it, small.
CHUNK: Final = 500
# An unlimited listing that takes longer than etcd keeps history starts again this often.
LIST_ATTEMPTS: Final = 3


class Store:
    """Reads, transactions, watches and leases of one cluster.

    Reads and transactions wait for an unreachable etcd as long as the client's ``timeout``, then raise
    StoreUnavailable. ``max_operations`` is etcd's --max-txn-ops.
    """

    def __init__(self, client: EtcdClient, *, max_operations: int = MAX_OPERATIONS) -> None:
        self.client = client
        self._committer = Committer(client, max_operations=max_operations)

    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def outage(self) -> Outage:
        """Of etcd; who follows the store for long tells its losses through a part of it."""
        return self.client.outage

    @property
    def known_revision(self) -> int:
        """Highest revision of the store that this process has heard of; 0 before the first answer."""
        return self.client.revision

    async def close(self) -> None:
        """Ends background work; the client stays open."""
        await self._committer.close()

    async def current_revision(self) -> int:
        """Revision of the last change of the store, confirmed by a majority: etcd works if this returns."""
        key, end = range_of(ROOT)
        return int((await self._range(etcdrpc.RangeRequest(key=key, range_end=end, limit=1))).header.revision)

    async def get(self, key: str, *, serializable: bool = False) -> StoredValue | None:
        """The key, None if absent. ``serializable``: as one member knows it, maybe late, but without a majority."""
        response = await self._range(read_request(key, serializable=serializable))
        return from_kv(response.kvs[0]) if response.kvs else None

    async def count(self, prefix: str) -> int:
        """Number of keys with the prefix."""
        key, end = range_of(prefix)
        return int((await self._range(etcdrpc.RangeRequest(key=key, range_end=end, count_only=True))).count)

    async def list(self, prefix: str, *, limit: int = 0, start_after: str = "", revision: int = 0) -> Page:
        """Keys with the prefix after ``start_after``, in order, at most ``limit`` (0: all), at ``revision`` (0: now).

        Raises RevisionCompacted if the revision is no longer kept, RevisionInFuture, ValueError for a ``start_after``
        outside the prefix.
        """
        if limit < 0 or revision < 0:
            raise ValueError(f"limit {limit} or revision {revision} is negative")
        if start_after and not start_after.startswith(prefix):
            raise ValueError(f"{start_after!r} is outside {prefix!r}")
        if limit:
            return await self._page(prefix, limit, start_after, revision)
        for remaining in reversed(range(LIST_ATTEMPTS)):
            try:
                return await self._all(prefix, start_after, revision)
            except RevisionCompacted:
                if revision or not remaining:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def commit(self, txn: Txn) -> int:
        """Revision of the commit; see :meth:`apimachinery.etcd.commit.Committer.commit`.

        Raises CompareFailed (with the conditions that failed and the present values), TxnTooLarge, StoreFull,
        LeaseNotFound, StoreUnavailable: nothing happened; OutcomeUnknown: it may have happened.
        """
        return await self._committer.commit(txn)

    def watch(self, prefix: str, *, after_revision: int) -> AsyncGenerator[WatchItem]:
        """Changes of the keys with the prefix after a revision; see :func:`apimachinery.etcd.watch.watch`."""
        return watch(self.client, prefix, after_revision=after_revision)

    async def lease(self, ttl: int) -> Lease:
        """A lease of ``ttl`` seconds that renews itself and tells when it is lost."""
        return await Lease.grant(self.client, ttl)

    async def grant_lease(self, ttl: int) -> int:
        """Id of a lease that ends after ``ttl`` seconds unless :meth:`renew_lease` is called."""
        return (await leases.grant_lease(self.client, ttl))[0]

    async def renew_lease(self, lease_id: int) -> int:
        """Starts the time to live again; returns it in seconds. Raises LeaseNotFound."""
        return await leases.renew_lease(self.client, lease_id)

    async def revoke_lease(self, lease_id: int) -> None:
        """Ends a lease and deletes its keys."""
        await leases.revoke_lease(self.client, lease_id)

    async def _all(self, prefix: str, start_after: str, revision: int) -> Page:
        page = await self._page(prefix, CHUNK, start_after, revision)
        items: list[StoredValue] = list(page.items)
        count = page.count
        while page.more:
            page = await self._page(prefix, CHUNK, items[-1].key, page.revision)
            items += page.items
        return Page(items, page.revision, False, count)

    async def _page(self, prefix: str, limit: int, start_after: str, revision: int) -> Page:
        key, end = range_of(prefix)
        response = await self._range(
            etcdrpc.RangeRequest(
                key=after(start_after) if start_after else key, range_end=end, limit=limit, revision=revision
            )
        )
        items: Sequence[StoredValue] = [from_kv(kv) for kv in response.kvs]
        return Page(items, revision or response.header.revision, response.more, response.count)

    async def _range(self, request: Any) -> Any:
        return await self.client.call(lambda stubs: stubs.kv.Range, request)
