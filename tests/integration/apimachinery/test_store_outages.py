"""What becomes of calls when etcd, or the way to it, fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from apimachinery import metrics
from apimachinery.etcd.client import EtcdClient
from apimachinery.store import (
    OutcomeUnknown,
    Store,
    StoreUnavailable,
    Txn,
    WatchBatch,
)
from tests.support.etcd import EtcdCluster, etcd_cluster, etcd_store, next_changes, put
from tests.support.stream_proxy import StreamProxy, stream_proxy


@pytest.fixture
async def cluster() -> AsyncIterator[EtcdCluster]:
    async with etcd_cluster() as running:
        yield running


@pytest.fixture
async def store(cluster: EtcdCluster) -> AsyncIterator[Store]:
    async with etcd_store(cluster) as connected:
        yield connected


# Commits without an answer


class Counter:
    """In place of a counter: its counts by outcome."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, amount: int, attributes: dict[str, str]) -> None:
        outcome = attributes["outcome"]
        self.counts[outcome] = self.counts.get(outcome, 0) + amount


@pytest.fixture
def lost_answers(monkeypatch: pytest.MonkeyPatch) -> Counter:
    counter = Counter()
    monkeypatch.setattr(metrics, "STORE_LOST_ANSWERS", counter)
    return counter


@contextlib.asynccontextmanager
async def two_ways(cluster: EtcdCluster, attempt_timeout: float = 0.5) -> AsyncIterator[tuple[StreamProxy, Store]]:
    """A store with two ways to one etcd: first through a proxy, then directly."""
    (member,) = cluster.members
    async with (
        stream_proxy(cluster.home / "proxy", member.socket) as proxy,
        EtcdClient([proxy.endpoint, member.endpoint], attempt_timeout=attempt_timeout) as client,
        Store(client) as store,
    ):
        yield proxy, store


async def test_a_commit_whose_answer_was_lost_is_recognized(
    cluster: EtcdCluster, store: Store, lost_answers: Counter
) -> None:
    async with two_ways(cluster) as (proxy, harmed):
        warm = await put(harmed, "/warm")
        proxy.lose_answers()
        committing = asyncio.create_task(harmed.commit(Txn().require_absent("/a").put("/a", b"1")))
        await proxy.struck.wait()
        # Somebody acts on it before its author knows of it.
        async with contextlib.aclosing(store.watch("/a", after_revision=warm)) as items:
            (change,) = await next_changes(items, 1)
        await store.commit(Txn().require_revision("/a", change.item.mod_revision).delete("/a"))
        assert await committing == change.item.mod_revision
    assert lost_answers.counts == {"committed": 1}
    assert await store.get("/a") is None


async def test_a_commit_that_never_arrived_is_sent_again_and_its_ghost_is_harmless(
    cluster: EtcdCluster, store: Store, lost_answers: Counter
) -> None:
    async with two_ways(cluster) as (proxy, harmed):
        await put(harmed, "/warm")
        proxy.hold_requests()
        revision = await harmed.commit(Txn().put("/a", b"1"))
        assert lost_answers.counts == {"absent": 1}
        value = await store.get("/a")
        assert value is not None
        assert (value.mod_revision, value.create_revision) == (revision, revision)
        await store.commit(Txn().put("/a", b"2"))
        # Now the first copy arrives. A condition of its own would not stop it: it has none.
        proxy.release_requests()
        async with asyncio.timeout(10):
            await proxy.ghost_answered.wait()
        async with contextlib.aclosing(store.watch("/a", after_revision=revision - 1)) as items:
            changes = await next_changes(items, 2)
            await put(store, "/a-last")
            changes += await next_changes(items, 1)
        assert [change.item.value for change in changes] == [b"1", b"2", b"/a-last"]


async def test_many_unanswered_commits_happen_once_each(cluster: EtcdCluster, store: Store) -> None:
    async with two_ways(cluster) as (proxy, harmed):
        start = await put(harmed, "/warm")
        proxy.lose_answers()
        txns = [Txn().put(f"/n/{number}", b"x").put("/last", str(number).encode()) for number in range(50)]
        revisions = await asyncio.gather(*map(harmed.commit, txns))
        async with contextlib.aclosing(store.watch("/n/", after_revision=start)) as items:
            changes = await next_changes(items, 50)
        assert sorted(revisions) == [change.item.mod_revision for change in changes]
        by_key = {change.item.key: change.item.mod_revision for change in changes}
        assert [by_key[f"/n/{number}"] for number in range(50)] == revisions


async def test_an_outcome_that_cannot_be_known_is_called_so(cluster: EtcdCluster, lost_answers: Counter) -> None:
    (member,) = cluster.members
    async with etcd_store(cluster, timeout=1.0, attempt_timeout=0.5) as store:
        await put(store, "/warm")
        member.pause()
        with pytest.raises(OutcomeUnknown):
            await store.commit(Txn().put("/a", b"1"))
        assert lost_answers.counts == {"unknown": 1}
        member.resume()


async def test_an_outcome_whose_traces_were_compacted_is_called_unknown(cluster: EtcdCluster, store: Store) -> None:
    async with two_ways(cluster, attempt_timeout=3.0) as (proxy, harmed):
        warm = await put(harmed, "/warm")
        proxy.lose_answers()
        committing = asyncio.create_task(harmed.commit(Txn().put("/a", b"1")))
        async with contextlib.aclosing(store.watch("/a", after_revision=warm)) as items:
            await next_changes(items, 1)
        await cluster.compact(await put(store, "/b", "/c"))
        with pytest.raises(OutcomeUnknown):
            await committing
        # Others are not affected.
        await harmed.commit(Txn().require_exists("/a").put("/d", b""))


# Dead, hanging and closed


async def test_a_dead_store_is_reported_in_time_and_comes_back(cluster: EtcdCluster) -> None:
    (member,) = cluster.members
    async with etcd_store(cluster, timeout=1.0) as store:
        await put(store, "/a")
        await member.kill()
        with pytest.raises(StoreUnavailable):
            await store.get("/a")
        with pytest.raises(StoreUnavailable):
            await store.current_revision()
        assert not store.client.available
        await member.start()
        await member.ready()
        assert await store.get("/a") is not None
        assert store.client.available


async def test_a_hanging_member_is_left(cluster: EtcdCluster) -> None:
    async with etcd_cluster(3) as three, etcd_store(three, attempt_timeout=0.5, timeout=20.0) as store:
        await put(store, "/a")
        first = three.members[0]
        first.pause()
        try:
            assert await store.get("/a") is not None
            await put(store, "/b")
        finally:
            first.resume()


async def test_a_watch_leaves_a_member_that_hangs() -> None:
    async with (
        etcd_cluster(3) as cluster,
        etcd_store(cluster) as watching,
        EtcdClient(cluster.endpoints[1:], timeout=20.0) as client,
        Store(client) as writing,
    ):
        start = await watching.current_revision()
        async with contextlib.aclosing(watching.watch("/w/", after_revision=start)) as items:
            await put(writing, "/w/before")
            assert [change.item.key for change in await next_changes(items, 1)] == ["/w/before"]
            cluster.members[0].pause()
            try:
                await put(writing, "/w/after")
                # Nothing breaks: only unanswered pings (10 s) tell.
                async with asyncio.timeout(30):
                    item = await anext(items)
                    while not isinstance(item, WatchBatch):
                        item = await anext(items)
                assert [change.item.key for change in item.changes] == ["/w/after"]
            finally:
                cluster.members[0].resume()


async def test_closing_ends_everything_with_an_error(cluster: EtcdCluster) -> None:
    (member,) = cluster.members
    async with etcd_store(cluster) as store:
        watching = asyncio.ensure_future(anext(store.watch("/", after_revision=await put(store, "/a"))))
        member.pause()
        reading = asyncio.create_task(store.get("/a"))
        writing = asyncio.create_task(store.commit(Txn().put("/a", b"")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await store.client.close()
        for task, error in ((watching, StoreUnavailable), (reading, StoreUnavailable), (writing, OutcomeUnknown)):
            with pytest.raises(error):
                async with asyncio.timeout(10):
                    await task
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.get("/a")
        member.resume()
