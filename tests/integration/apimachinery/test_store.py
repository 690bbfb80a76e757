"""Transactions, listings, watches and leases on a real etcd."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from apimachinery.store import (
    Compacted,
    CompareFailed,
    LeaseNotFound,
    Progress,
    RevisionCompacted,
    RevisionInFuture,
    Store,
    StoredValue,
    StoreFull,
    Txn,
    TxnTooLarge,
)
from tests.support.etcd import EtcdCluster, etcd_cluster, etcd_store, next_changes, next_item, put


@pytest.fixture
async def cluster() -> AsyncIterator[EtcdCluster]:
    async with etcd_cluster() as running:
        yield running


@pytest.fixture
async def store(cluster: EtcdCluster) -> AsyncIterator[Store]:
    async with etcd_store(cluster) as connected:
        yield connected


# Transactions


async def test_a_commit_shows_its_revision(store: Store) -> None:
    created = await store.commit(Txn().require_absent("/a").put("/a", b"1").put("/b", b"2"))
    changed = await store.commit(Txn().require_revision("/a", created).put("/a", b"3"))
    assert changed > created
    assert await store.get("/a") == StoredValue("/a", b"3", changed, created)
    assert await store.get("/b") == StoredValue("/b", b"2", created, created)
    assert await store.get("/c") is None
    assert await store.current_revision() == changed


async def test_a_failed_condition_changes_nothing_and_is_named(store: Store) -> None:
    revision = await store.commit(Txn().put("/a", b"1").put("/b", b"1"))
    txn = Txn().require_revision("/a", revision).require_absent("/b").require_exists("/c").put("/a", b"2").delete("/b")
    with pytest.raises(CompareFailed) as caught:
        await store.commit(txn)
    assert [compare.key for compare in caught.value.failed] == ["/b", "/c"]
    assert caught.value.current["/b"] == StoredValue("/b", b"1", revision, revision)
    assert caught.value.current["/c"] is None
    assert str(caught.value) == "/b exists; /c does not exist"
    assert await store.current_revision() == revision


async def test_conditions_decide_as_etcd_does(store: Store) -> None:
    created = await put(store, "/a")
    changed = await store.commit(Txn().put("/a", b"new"))
    for good in (
        Txn().require_exists("/a"),
        Txn().require_revision("/a", changed),
        Txn().require_created("/a", created),
        Txn().require_value("/a", b"new"),
        Txn().require_absent("/b"),
    ):
        await store.commit(good)
    for bad in (
        Txn().require_exists("/b"),
        Txn().require_revision("/a", created),
        Txn().require_created("/a", changed),
        Txn().require_value("/a", b"/a"),
        Txn().require_value("/b", b""),
        Txn().require_absent("/a"),
    ):
        with pytest.raises(CompareFailed) as caught:
            await store.commit(bad)
        assert caught.value.failed == tuple(bad.compares)


async def test_one_of_many_rivals_wins(store: Store) -> None:
    async def claim(owner: int) -> int | None:
        try:
            await store.commit(Txn().require_absent("/claim").put("/claim", str(owner).encode()))
        except CompareFailed as error:
            assert error.current["/claim"] is not None
            return None
        return owner

    winners = [owner for owner in await asyncio.gather(*map(claim, range(200))) if owner is not None]
    value = await store.get("/claim")
    assert value is not None
    assert [value.value] == [str(owner).encode() for owner in winners]


async def test_size_limits_are_typed(store: Store) -> None:
    largest, over = Txn(), Txn()
    for number in range(129):
        over.put(f"/{number}", b"")
        if number < 128:
            largest.put(f"/{number}", b"")
    await store.commit(largest)
    with pytest.raises(TxnTooLarge, match="129 writes"):
        await store.commit(over)
    with pytest.raises(TxnTooLarge):
        await store.commit(Txn().put("/big", bytes(1_572_864)))
    assert await store.count("/") == 128


async def test_conditions_up_to_the_limit_of_etcd_pass(store: Store) -> None:
    txn = Txn().put("/a", b"")
    for number in range(127):  # one more is the store's own
        txn.require_absent(f"/{number}")
    await store.commit(txn)
    with pytest.raises(TxnTooLarge, match="conditions"):
        await store.commit(txn.require_absent("/127"))


async def test_a_full_store_says_so() -> None:
    async with etcd_cluster(1, f"--quota-backend-bytes={1 << 20}") as cluster, etcd_store(cluster) as store:
        with pytest.raises(StoreFull, match="database space exceeded") as caught:
            for number in range(100):
                await store.commit(Txn().put(f"/{number}", bytes(100_000)))
        assert caught.value.exhausted == "etcd database quota"


# Listings


async def test_pages_show_one_revision_while_others_write(store: Store) -> None:
    keys = [f"/p/{number:03}" for number in range(25)]
    await put(store, *keys)
    listed: list[StoredValue] = []
    page = await store.list("/p/", limit=10)
    first = page.revision
    assert page.count == 25
    while True:
        listed += page.items
        last = listed[-1].key
        await store.commit(Txn().delete(last).put(f"{last}x", b"new").put("/p/030", b"new"))
        if not page.more:
            break
        page = await store.list("/p/", limit=10, start_after=listed[-1].key, revision=first)
        assert page.revision == first
        assert page.count == 25 - len(listed)
    assert [item.key for item in listed] == keys
    assert [item.value for item in listed] == [key.encode() for key in keys]


async def test_an_unlimited_listing_is_complete_and_of_one_revision(store: Store) -> None:
    keys = [f"/p/{number:04}" for number in range(1203)]
    await asyncio.gather(*(put(store, key) for key in keys))
    await put(store, "/q", "/p")
    page = await store.list("/p/")
    assert [item.key for item in page.items] == keys
    assert (page.more, page.count) == (False, 1203)
    assert page.revision == await store.current_revision()
    assert await store.count("/p/") == 1203
    assert (await store.list("/p/", start_after=keys[1200])).count == 2


async def test_a_page_of_a_forgotten_revision_is_refused(cluster: EtcdCluster, store: Store) -> None:
    revision = await put(store, "/a", "/b")
    last = await put(store, "/c")
    await cluster.compact(last)
    with pytest.raises(RevisionCompacted):
        await store.list("/", limit=1, start_after="/a", revision=revision)
    with pytest.raises(RevisionInFuture):
        await store.list("/", revision=last + 10)


async def test_bad_listings_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="outside"):
        await store.list("/a/", start_after="/b/x")
    with pytest.raises(ValueError, match="negative"):
        await store.list("/a/", limit=-1)


# Watches


async def test_a_watch_starts_after_its_revision_and_keeps_transactions_whole(store: Store) -> None:
    await put(store, "/w/old")
    start = await put(store, "/other")
    first = await store.commit(Txn().put("/w/a", b"1").put("/w/b", b"1").put("/v", b""))
    second = await store.commit(Txn().delete("/w/a").put("/w/b", b"2"))
    async with contextlib.aclosing(store.watch("/w/", after_revision=start)) as items:
        changes = await next_changes(items, 4)
    seen = [(c.item.key, c.item.mod_revision, None if c.deleted else c.item.value) for c in changes]
    assert seen == [("/w/a", first, b"1"), ("/w/b", first, b"1"), ("/w/a", second, None), ("/w/b", second, b"2")]


async def test_an_idle_watch_makes_progress(store: Store) -> None:
    start = await put(store, "/w/a")
    async with contextlib.aclosing(store.watch("/w/", after_revision=start)) as items:
        waiting = asyncio.create_task(next_item(items))
        elsewhere = await put(store, "/v/a", "/v/b")
        item = await waiting
        assert isinstance(item, Progress)
        assert start < item.revision <= elsewhere


async def test_a_watch_behind_a_compaction_says_so_and_ends(cluster: EtcdCluster, store: Store) -> None:
    start = await put(store, "/w/a")
    last = await put(store, "/w/b", "/w/c")
    await cluster.compact(last)
    items = store.watch("/w/", after_revision=start)
    assert await next_item(items) == Compacted(last)
    with pytest.raises(StopAsyncIteration):
        await next_item(items)


async def test_a_watch_of_a_store_that_went_back_in_time_says_so(store: Store) -> None:
    revision = await put(store, "/w/a")
    async with contextlib.aclosing(store.watch("/w/", after_revision=revision + 100)) as items:
        assert await next_item(items) == Compacted(revision)


async def test_a_watch_far_behind_gets_its_changes_in_bearable_pieces(store: Store) -> None:
    start = await store.current_revision()
    for number in range(12):
        await store.commit(Txn().put(f"/w/{number}", bytes(1_000_000)))
    async with contextlib.aclosing(store.watch("/w/", after_revision=start)) as items:
        changes = await next_changes(items, 12)
    assert [change.item.key for change in changes] == [f"/w/{number}" for number in range(12)]


async def test_a_watcher_that_does_not_read_stops_nobody(store: Store) -> None:
    start = await store.current_revision()
    slow = store.watch("/w/", after_revision=start)
    await put(store, "/w/first")
    await next_changes(slow, 1)
    async with contextlib.aclosing(store.watch("/w/", after_revision=start)) as quick:
        for number in range(60):
            await store.commit(Txn().put(f"/w/{number}", bytes(500_000)))
        assert len(await next_changes(quick, 61)) == 61
    assert len(await next_changes(slow, 60)) == 60
    await slow.aclose()


# Leases


async def test_keys_die_with_their_lease(store: Store) -> None:
    lease_id = await store.grant_lease(60)
    revision = await store.commit(Txn().put("/l", b"", lease=lease_id))
    value = await store.get("/l")
    assert value is not None
    assert value.lease == lease_id
    assert await store.renew_lease(lease_id) == 60
    await store.revoke_lease(lease_id)
    await store.revoke_lease(lease_id)
    assert await store.get("/l") is None
    with pytest.raises(LeaseNotFound):
        await store.renew_lease(lease_id)
    with pytest.raises(LeaseNotFound):
        await store.commit(Txn().require_absent("/l").put("/l", b"", lease=lease_id))
    async with contextlib.aclosing(store.watch("/l", after_revision=revision)) as items:
        assert [change.deleted for change in await next_changes(items, 1)] == [True]


async def test_a_lease_lives_as_long_as_it_is_held(store: Store) -> None:
    async with await store.lease(2) as lease:
        await store.commit(Txn().put("/l", b"", lease=lease.id))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await lease.lost.wait()
        assert lease.valid
        assert await store.get("/l") is not None
    assert lease.lost.is_set()
    assert not lease.valid
    assert await store.get("/l") is None


async def test_a_lease_is_lost_in_time_when_etcd_hangs(cluster: EtcdCluster) -> None:
    (member,) = cluster.members
    async with etcd_store(cluster) as store:
        lease = await store.lease(2)
        loop = asyncio.get_running_loop()
        member.pause()
        paused = loop.time()
        try:
            async with asyncio.timeout(10):
                await lease.lost.wait()
            assert loop.time() - paused <= lease.ttl + 0.5
            assert not lease.valid
        finally:
            member.resume()
        await lease.close()


async def test_a_lease_that_was_revoked_by_others_is_lost_at_the_next_renewal(store: Store) -> None:
    lease = await store.lease(3)
    await store.revoke_lease(lease.id)
    async with asyncio.timeout(lease.ttl):
        await lease.lost.wait()
    await lease.close()
