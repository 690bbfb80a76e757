"""The watch cache against a store in memory: whatever happens, every watcher's account adds up to the store's state."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ironcore.apinet.v1 import network_interface_pb2
from ironcore.meta.v1 import meta_pb2

from apimachinery.errors import InvalidArgument, Unavailable
from apimachinery.logs import Outage
from apimachinery.scheme import kind_info, metadata_of
from apimachinery.store import Change, Compacted, Page, Progress, StoredValue, WatchBatch
from apimachinery.watch_cache import CacheLimits, WatchCache
from apimachinery.watch_filter import CachedObject, Filter, make_filter
from apimachinery.watch_queue import CHUNK_BYTES, Chunk, ResetReason, Subscriber, chunks
from apimachinery.watch_stream import WatchTiming, watch_responses

NIC = kind_info(network_interface_pb2.NetworkInterface)
TIMING = WatchTiming(bookmark=0.01, gather=0.0, catch_up=0.2)
TIMEOUT = 5.0


class MemoryStore:
    """What the cache needs of a store, in memory."""

    def __init__(self) -> None:
        self.outage = Outage("store")
        self.known_revision = 0
        self.revision = 1
        self.state: dict[str, StoredValue] = {}
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._listed = asyncio.Event()
        self.watches = 0
        # Watches that were open at each listing.
        self.watches_at_listing: list[int] = []

    async def listed(self) -> None:
        """Returns after the next listing, which follows a compaction."""
        self._listed.clear()
        await asyncio.wait_for(self._listed.wait(), TIMEOUT)

    async def list(self, prefix: str, *, limit: int = 0, start_after: str = "", revision: int = 0) -> Page:
        self.watches_at_listing.append(self.watches)
        self._listed.set()
        # Everything up to now is in the listing; the watch begins after it.
        self._items = asyncio.Queue()
        return Page(sorted(self.state.values(), key=lambda item: item.key), self.revision, False, len(self.state))

    async def watch(self, prefix: str, *, after_revision: int) -> AsyncGenerator[Any]:
        self.watches += 1
        try:
            while True:
                item = await self._items.get()
                yield item
                if isinstance(item, Compacted):
                    return
        finally:
            self.watches -= 1

    async def current_revision(self) -> int:
        return self.revision

    def put(self, name: str, node: str = "", label: str = "") -> None:
        self.commit((name, node, label))

    def delete(self, name: str) -> None:
        self.commit((name, None, ""))

    def commit(self, *changes: tuple[str, str | None, str]) -> None:
        """One transaction; node None deletes."""
        self.revision += 1
        told = []
        for name, node, label in changes:
            key = NIC.key("default", name)
            if node is None:
                self.state.pop(key, None)
                told.append(Change(True, StoredValue(key, b"", self.revision, 0)))
                continue
            obj = network_interface_pb2.NetworkInterface(metadata={"name": name, "namespace": "default"})
            obj.spec.node_ref.name = node
            obj.spec.hostname = f"r{self.revision}"
            if label:
                obj.metadata.labels["l"] = label
            created = self.state[key].create_revision if key in self.state else self.revision
            self.state[key] = StoredValue(key, obj.SerializeToString(), self.revision, created)
            told.append(Change(False, self.state[key]))
        self._items.put_nowait(WatchBatch(self.revision, tuple(told)))

    def progress(self) -> None:
        self.revision += 1
        self._items.put_nowait(Progress(self.revision))

    def compact(self) -> None:
        """Changes that the watch never gets to see, and the word that it missed some."""
        told = self._items
        self._items = asyncio.Queue()
        self.commit(("n1", None, ""), ("n2", "a", "x"))
        self._items = told
        told.put_nowait(Compacted(self.revision))

    def selected(self, wanted: Filter) -> dict[str, str]:
        """Name and hostname (which tells the revision) of the objects that a filter selects."""
        found = {}
        for item in self.state.values():
            obj = network_interface_pb2.NetworkInterface.FromString(item.value)
            fields = {"spec.node_ref.name": obj.spec.node_ref.name, "metadata.name": obj.metadata.name}
            equal = all((fields[r.field] == r.value) != r.negate for r in wanted.fields)
            if equal and (wanted.labels is None or wanted.labels(obj.metadata.labels)):
                found[obj.metadata.name] = obj.spec.hostname
        return found


class Watcher:
    """Follows a watch by the letter of its contract."""

    def __init__(self, state: dict[str, str] | None = None) -> None:
        self.state = state or {}
        self.complete = 0
        self.resets = 0
        self.events: list[tuple[int, str, int]] = []
        self.moved = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._synced = False

    def take(self, raw: bytes) -> None:
        response = network_interface_pb2.NetworkInterfaceWatchResponse.FromString(raw)
        for event in response.events:
            name, revision = event.object.metadata.name, event.object.metadata.resource_version
            assert revision > 0
            if self._synced:
                # After SYNCED every event is news, and of a later revision than everything that is complete.
                assert revision > self.complete
                assert (event.type == meta_pb2.EVENT_TYPE_ADDED) == (name not in self.state)
            self.events.append((event.type, name, revision))
            if event.type == meta_pb2.EVENT_TYPE_DELETED:
                del self.state[name]
            else:
                self.state[name] = event.object.spec.hostname
        if response.HasField("mark"):
            if response.mark.type == meta_pb2.MARK_TYPE_RESET:
                assert not response.events
                self.state.clear()
                self.resets += 1
                self._synced = False
            else:
                self._synced = True
                assert response.mark.resource_version >= self.complete
                self.complete = response.mark.resource_version
        self.moved.set()

    async def reached(self, revision: int) -> None:
        async with asyncio.timeout(TIMEOUT):
            while self.complete < revision:
                self.moved.clear()
                await self.moved.wait()
                if self.task is not None and self.task.done():
                    self.task.result()


@contextlib.asynccontextmanager
async def running(store: MemoryStore, limits: CacheLimits | None = None) -> AsyncIterator[WatchCache]:
    cache = WatchCache(NIC, store, limits)  # type: ignore[arg-type]
    task = asyncio.create_task(cache.run())
    try:
        await asyncio.wait_for(cache.synced.wait(), TIMEOUT)
        yield cache
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def watching(
    cache: WatchCache, store: MemoryStore, wanted: Filter, after: int = 0, state: dict[str, str] | None = None
) -> AsyncIterator[Watcher]:
    watcher = Watcher(state)

    async def follow() -> None:
        async for raw in watch_responses(cache, store, wanted, after, timing=TIMING):  # type: ignore[arg-type]
            watcher.take(raw)

    task = watcher.task = asyncio.create_task(follow())
    task.add_done_callback(lambda _: watcher.moved.set())
    try:
        yield watcher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def name_of(obj: CachedObject) -> str:
    return metadata_of(obj.message).name


def fields(**equal: str) -> Filter:
    names = {"node": "spec.node_ref.name", "name": "metadata.name"}
    return make_filter(NIC, "", None, [meta_pb2.FieldRequirement(field=names[k], value=v) for k, v in equal.items()])


def labels(value: str) -> Filter:
    return make_filter(NIC, "", meta_pb2.LabelSelector(match_labels={"l": value}), [])


EVERYTHING = make_filter(NIC, "", None, [])
NOT_ON_A = make_filter(NIC, "", None, [meta_pb2.FieldRequirement(field="spec.node_ref.name", value="a", negate=True)])
FILTERS = [EVERYTHING, fields(node="a"), fields(node="b"), labels("x"), NOT_ON_A, fields(name="n1", node="a")]

NAMES = st.sampled_from(["n1", "n2", "n3"])
CHANGE = st.tuples(NAMES, st.sampled_from(["a", "b", "", None]), st.sampled_from(["", "x"]))
STEPS = st.one_of(
    st.lists(CHANGE, min_size=1, max_size=3, unique_by=lambda change: change[0]),
    st.sampled_from(["progress", "compact", "yield"]),
    st.sampled_from(FILTERS),
)


# A wrong example waits until its timeout, so it is reported as found and not made smaller.
@settings(
    suppress_health_check=[HealthCheck.too_slow],
    deadline=None,
    max_examples=80,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    report_multiple_bugs=False,
)
@given(st.lists(STEPS, min_size=1, max_size=25), st.sampled_from([CacheLimits(), CacheLimits(3, 10**6, 300)]))
def test_every_watcher_ends_with_the_state_of_the_store(steps: list[Any], limits: CacheLimits) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        compactions = 0
        async with running(store, limits) as cache, contextlib.AsyncExitStack() as stack:
            watchers = [(wanted, await stack.enter_async_context(watching(cache, store, wanted))) for wanted in FILTERS]
            for step in steps:
                if isinstance(step, list):
                    store.commit(*step)
                elif isinstance(step, Filter):
                    # A watcher that resumes holds the state at its revision already.
                    state = {name_of(obj): obj.message.spec.hostname for obj in cache.snapshot(step)}
                    late = watching(cache, store, step, after=cache.revision, state=state)
                    watchers.append((step, await stack.enter_async_context(late)))
                elif step == "progress":
                    store.progress()
                elif step == "compact":
                    store.compact()
                    compactions += 1
                    await store.listed()
                else:
                    for _ in range(5):
                        await asyncio.sleep(0)
            store.progress()
            for wanted, watcher in watchers:
                await watcher.reached(store.revision)
                assert watcher.state == store.selected(wanted)
                if limits == CacheLimits():
                    assert watcher.resets <= compactions
            assert cache.subscribers == len(watchers)
        assert cache.subscribers == 0

    asyncio.run(scenario())


async def test_selector_transitions() -> None:
    store = MemoryStore()
    async with running(store) as cache, watching(cache, store, fields(node="a")) as watcher:
        store.put("n1", "b")
        store.put("n1", "a")
        store.put("n1", "a")
        store.put("n1", "b")
        store.put("n1", "a")
        store.delete("n1")
        store.progress()
        await watcher.reached(store.revision)
    added, modified, deleted = meta_pb2.EVENT_TYPE_ADDED, meta_pb2.EVENT_TYPE_MODIFIED, meta_pb2.EVENT_TYPE_DELETED
    assert watcher.events == [
        (added, "n1", 3),
        (modified, "n1", 4),
        (deleted, "n1", 5),
        (added, "n1", 6),
        (deleted, "n1", 7),
    ]


async def test_a_watch_never_outlives_its_reader() -> None:
    store = MemoryStore()
    async with running(store) as cache:
        subscriber, _ = cache.subscribe(EVERYTHING)
        store.compact()
        await store.listed()
    assert (subscriber.lost, subscriber.reason) == (True, ResetReason.RELOADED)
    assert store.watches_at_listing == [0, 0]
    assert not store.watches


async def test_resume_within_history_has_no_reset_and_before_it_has_one() -> None:
    store = MemoryStore()
    async with running(store, CacheLimits(history_events=3)) as cache:
        for number in range(6):
            store.put(f"n{number}", "a")
        await cache.wait_revision(store.revision, TIMEOUT)
        async with watching(cache, store, EVERYTHING, after=store.revision - 3) as watcher:
            await watcher.reached(store.revision)
            assert [name for _, name, _ in watcher.events] == ["n3", "n4", "n5"]
            assert watcher.resets == 0
        async with watching(cache, store, EVERYTHING, after=store.revision - 4) as watcher:
            await watcher.reached(store.revision)
            assert watcher.resets == 1
            assert len(watcher.state) == 6


async def test_a_revision_of_another_store_is_reset_and_one_that_is_not_there_yet_is_waited_for() -> None:
    store = MemoryStore()
    async with running(store) as cache:
        async with watching(cache, store, EVERYTHING, after=10**9) as watcher:
            await watcher.reached(store.revision)
            assert watcher.resets == 1
        store.revision += 5
        stream = watch_responses(cache, store, EVERYTHING, store.revision, timing=TIMING)  # type: ignore[arg-type]
        with pytest.raises(Unavailable):
            await anext(stream)
        store.put("n1", "a")
        async with watching(cache, store, EVERYTHING, after=store.revision - 1) as watcher:
            await watcher.reached(store.revision)
            assert (watcher.resets, list(watcher.state)) == (0, ["n1"])


async def test_a_watcher_that_does_not_read_is_cut_and_loses_nothing_silently() -> None:
    store = MemoryStore()
    async with running(store, CacheLimits(queue_bytes=1000)) as cache:
        stream = watch_responses(cache, store, EVERYTHING, 0, timing=TIMING)  # type: ignore[arg-type]
        slow = Watcher()
        slow.take(await anext(stream))
        for number in range(100):
            store.put(f"n{number}", "a")
        await cache.wait_revision(store.revision, TIMEOUT)
        (group,) = cache._groups.values()
        (subscriber,) = group.members
        assert subscriber.lost and subscriber.empty
        while slow.complete < store.revision:
            slow.take(await anext(stream))
        assert slow.resets == 1
        assert slow.state == store.selected(EVERYTHING)
        await stream.aclose()


async def test_watchers_of_nodes_do_not_look_at_changes_of_other_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    evaluated: list[Filter] = []
    matches = Filter.matches

    def count(self: Filter, obj: Any) -> bool:
        evaluated.append(self)
        return matches(self, obj)

    async with running(store) as cache, contextlib.AsyncExitStack() as stack:
        watchers = [
            await stack.enter_async_context(watching(cache, store, fields(node=f"node{number}")))
            for number in range(100)
        ]
        for watcher in watchers:
            await watcher.reached(1)
        monkeypatch.setattr(Filter, "matches", count)
        store.put("n1", "node7")
        store.put("n1", "node8")
        store.progress()
        await watchers[7].reached(store.revision)
        await watchers[8].reached(store.revision)
        assert {wanted.route for wanted in evaluated} == {
            ("spec.node_ref.name", "node7"),
            ("spec.node_ref.name", "node8"),
        }


async def test_a_routed_snapshot_looks_only_at_what_its_route_leads_to(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    async with running(store) as cache:
        for number in range(50):
            store.put(f"n{number}", f"node{number % 10}")
        await cache.wait_revision(store.revision, TIMEOUT)
        assert len(cache.snapshot(fields(node="node3"))) == 5
        store.put("n3", "node4")
        store.delete("n13")
        await cache.wait_revision(store.revision, TIMEOUT)
        looked_at: list[str] = []
        matches = Filter.matches

        def count(self: Filter, obj: CachedObject) -> bool:
            looked_at.append(name_of(obj))
            return matches(self, obj)

        monkeypatch.setattr(Filter, "matches", count)
        assert [name_of(obj) for obj in cache.snapshot(fields(node="node3"))] == ["n23", "n33", "n43"]
        assert looked_at == ["n23", "n33", "n43"]
        assert {name_of(obj) for obj in cache.snapshot(fields(node="node4"))} == {
            "n3",
            "n4",
            "n14",
            "n24",
            "n34",
            "n44",
        }
        assert cache.snapshot(fields(node="nowhere")) == []


async def test_an_event_is_encoded_once_for_all_watchers_and_filters() -> None:
    store = MemoryStore()
    async with running(store) as cache, contextlib.AsyncExitStack() as stack:
        for wanted in (EVERYTHING, EVERYTHING, fields(node="a"), labels("x")):
            watcher = await stack.enter_async_context(watching(cache, store, wanted))
            await watcher.reached(1)
        assert len(cache._groups) == 3
        store.put("n1", "a", "x")
        await cache.wait_revision(store.revision, TIMEOUT)
        event = cache._ring[-1]
        encoded = event.for_filter(EVERYTHING)
        assert encoded is not None
        assert event.for_filter(fields(node="a")) is encoded
        assert event.for_filter(labels("x")) is encoded


async def test_damaged_values_do_not_take_the_kind_down() -> None:
    store = MemoryStore()
    key = NIC.key("default", "bad")
    store.state[key] = StoredValue(key, b"\xff\xff", 1, 1)
    async with running(store) as cache, watching(cache, store, EVERYTHING) as watcher:
        store.put("n1", "a")
        await watcher.reached(store.revision)
        assert list(watcher.state) == ["n1"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, CHUNK_BYTES)), max_size=12))
@settings(deadline=None)
def test_chunks_keep_revisions_whole(steps: list[tuple[int, int]]) -> None:
    revision, events = 1, []
    for step, size in steps:
        revision += step
        events.append((revision, bytes([revision % 256]) * size))
    made = list(chunks(events))
    assert b"".join(chunk.data for chunk in made) == b"".join(data for _, data in events)
    assert [chunk.revision for chunk in made] == sorted({chunk.revision for chunk in made})
    taken = [sum(len(data) for at, data in events if at <= chunk.revision) for chunk in made]
    assert taken == [sum(len(c.data) for c in made[: i + 1]) for i in range(len(made))]


def test_a_chunk_beyond_the_limit_of_an_empty_queue_still_gets_through() -> None:
    subscriber = Subscriber(limit=10)
    subscriber.offer(Chunk(b"x" * 50, 1))
    assert [chunk.revision for chunk in subscriber.take(1)] == [1]
    subscriber.offer(Chunk(b"x" * 6, 2))
    subscriber.offer(Chunk(b"x" * 6, 3))
    assert subscriber.lost
    assert subscriber.empty


def test_bad_selectors_name_the_field() -> None:
    requirement = meta_pb2.FieldRequirement(field="spec.hostname", value="x")
    selector = meta_pb2.LabelSelector(match_expressions=[meta_pb2.LabelSelectorRequirement(key="a")])
    with pytest.raises(InvalidArgument) as caught:
        make_filter(NIC, "A", selector, [requirement])
    assert [violation.field for violation in caught.value.violations] == [
        "namespace",
        "label_selector.match_expressions[0].operator",
        "field_selector[0].field",
    ]
