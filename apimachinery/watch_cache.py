"""The state and the recent history of one kind, kept by one watch of the store, for any number of watchers.

Every change is decoded once and encoded at most once per event type. Watchers with the same filter form one group: the
filter is evaluated once per group, and all its members get the same bytes. Groups whose filter demands a field value
are found by an index, so a thousand watchers that each follow one node do not each look at every change.

History is a ring of recent changes: a watcher that resumes at a revision within it continues without a gap. A revision
that left the ring is answered with a reset and a new snapshot. The same happens to every watcher, once, if the store
compacted changes before this cache saw them, and to one watcher that does not read what is queued for it: its queue is
dropped instead of growing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog
from google.protobuf.message import DecodeError
from ironcore.meta.v1 import meta_pb2
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from apimachinery import metrics
from apimachinery.errors import ApiError, Unavailable
from apimachinery.scheme import KindInfo
from apimachinery.store import Change, Compacted, Store, StoredValue, WatchBatch
from apimachinery.watch_filter import CachedObject, Filter, Route
from apimachinery.watch_queue import Chunk, ResetReason, Subscriber, chunks
from apimachinery.wire import watch_event, with_revision

_log = structlog.get_logger(__name__)

_ADDED = meta_pb2.EVENT_TYPE_ADDED
_MODIFIED = meta_pb2.EVENT_TYPE_MODIFIED
_DELETED = meta_pb2.EVENT_TYPE_DELETED


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """Bounds of one kind's cache.

    history_events, history_bytes: what the ring keeps, whichever is reached first.
    queue_bytes: unread bytes at which a watcher is cut off and reset.
    list_page: objects per read while loading.
    """

    history_events: int = 16_384
    history_bytes: int = 64 << 20
    queue_bytes: int = 16 << 20
    list_page: int = 1000


class CacheEvent:
    """One change of one object, with its states before and after. ``cache`` counts what is encoded."""

    __slots__ = ("_cache", "_encoded", "after", "before", "revision")

    def __init__(
        self, cache: WatchCache, revision: int, before: CachedObject | None, after: CachedObject | None
    ) -> None:
        self._cache = cache
        self.revision = revision
        self.before = before
        self.after = after
        self._encoded: dict[int, bytes] = {}

    @property
    def size(self) -> int:
        """Bytes that the ring keeps alive for it."""
        return sum(len(state.data) for state in (self.before, self.after) if state is not None)

    def for_filter(self, wanted: Filter) -> bytes | None:
        """What watchers with this filter see: an encoded ``events`` entry, or None if it does not concern them."""
        before = self.before if self.before is not None and wanted.matches(self.before) else None
        after = self.after if self.after is not None and wanted.matches(self.after) else None
        if after is None:
            return None if before is None else self._encode(_DELETED, before)
        return self._encode(_ADDED if before is None else _MODIFIED, after)

    def _encode(self, event_type: meta_pb2.EventType.ValueType, state: CachedObject) -> bytes:
        found = self._encoded.get(event_type)
        if found is None:
            # The last state of an object that left carries the revision at which it left.
            data = with_revision(state.data, self.revision) if event_type == _DELETED else state.data
            found = self._encoded[event_type] = watch_event(event_type, data)
            self._cache.encoded_bytes += len(found)
        return found


@dataclass(slots=True, eq=False)
class _Group:
    """Watchers with the same filter."""

    filter: Filter
    members: set[Subscriber] = field(default_factory=set)
    pending: list[tuple[int, bytes]] = field(default_factory=list)


class WatchCache:
    """Cache of one kind. :meth:`run` keeps it; everything else is synchronous and sees one consistent revision."""

    def __init__(self, info: KindInfo, store: Store, limits: CacheLimits | None = None) -> None:
        self.info = info
        self.limits = limits or CacheLimits()
        self.synced = asyncio.Event()
        # Everything up to this revision of the store is in the cache.
        self.revision = 0
        self._store = store
        self._objects: dict[str, CachedObject] = {}
        self._ring: deque[CacheEvent] = deque()
        self._ring_bytes = 0
        # All changes after this revision are in the ring.
        self._floor = 0
        self._groups: dict[bytes, _Group] = {}
        self._routes: dict[Route, set[_Group]] = {}
        self._routed_paths: dict[str, int] = {}
        self._unrouted: set[_Group] = set()
        # Watchers connected now.
        self.subscribers = 0
        # Of events, so far.
        self.encoded_bytes = 0
        self._advanced: list[asyncio.Future[None]] = []
        self._everything: tuple[CachedObject, ...] | None = None
        # By path and value, for the paths that snapshots were routed by so far.
        self._indexes: dict[str, dict[str, dict[str, CachedObject]]] = {}
        self._outage = store.outage.part(f"cache of {info.resource_type}")
        readings: Mapping[metrics.ObservedGauge, Callable[[WatchCache], float]] = {
            metrics.CACHE_OBJECTS: len,
            metrics.CACHE_WATCHERS: lambda cache: cache.subscribers,
            metrics.CACHE_ENCODED_BYTES: lambda cache: cache.encoded_bytes,
            metrics.CACHE_HISTORY_EVENTS: lambda cache: len(cache._ring),
            metrics.CACHE_HISTORY_BYTES: lambda cache: cache._ring_bytes,
            metrics.CACHE_LAG: lambda cache: max(0, cache._store.known_revision - cache.revision),
        }
        for gauge, read in readings.items():
            gauge.track(self, read, kind=info.resource_type)

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: str) -> CachedObject | None:
        """The object at a store key as of ``revision``."""
        return self._objects.get(key)

    # Following the store

    async def run(self) -> None:
        """Loads the kind and follows the store until cancelled; the store's absence is logged once and waited out.

        A defect is logged and answered in the same way: loading again resets every watcher, but leaves none behind.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Exception), wait=wait_random_exponential(multiplier=0.1, max=5.0)
        )
        while True:
            async for attempt in retrying:
                with attempt:
                    try:
                        await self._load()
                        self._outage.recovered(revision=self.revision)
                        await self._follow()
                    except ApiError as error:
                        self._outage.lost(error)
                        raise
                    except Exception:
                        _log.exception("cache failed, loading again", kind=self.info.resource_type)
                        raise

    async def _load(self) -> None:
        objects: dict[str, CachedObject] = {}
        page = await self._store.list(self.info.prefix(), limit=self.limits.list_page)
        revision = page.revision
        while True:
            for item in page.items:
                state = self._decode(item)
                if state is not None:
                    objects[item.key] = state
            if not page.more:
                break
            page = await self._store.list(
                self.info.prefix(), limit=self.limits.list_page, start_after=page.items[-1].key, revision=revision
            )
        self._objects = objects
        self._everything = None
        self._indexes.clear()
        self._ring.clear()
        self._ring_bytes = 0
        self._floor = revision
        for group in self._groups.values():
            for member in group.members:
                member.cut(ResetReason.RELOADED)
        self.synced.set()
        self._advance(revision)

    async def _follow(self) -> None:
        """Applies changes; returns when the store compacted some away before they were seen."""
        # Closed at once, so that a stream to etcd never outlives its reader.
        async with aclosing(self._store.watch(self.info.prefix(), after_revision=self.revision)) as items:
            async for item in items:
                if isinstance(item, WatchBatch):
                    self._apply(item.changes)
                elif isinstance(item, Compacted):
                    _log.warning("changes were compacted away, watchers start over", kind=self.info.resource_type)
                    return
                self._advance(item.revision)

    def _apply(self, changes: Sequence[Change]) -> None:
        touched: set[_Group] = set()
        for change in changes:
            key = change.item.key
            before = self._objects.get(key)
            after = None if change.deleted else self._decode(change.item)
            if before is None and after is None:
                continue
            if after is None:
                del self._objects[key]
            else:
                self._objects[key] = after
            self._reindex(before, after)
            event = CacheEvent(self, change.item.mod_revision, before, after)
            self._remember(event)
            for group in self._concerned(event):
                encoded = event.for_filter(group.filter)
                if encoded is not None:
                    group.pending.append((event.revision, encoded))
                    touched.add(group)
        self._everything = None
        for group in touched:
            for chunk in chunks(group.pending):
                for member in group.members:
                    member.offer(chunk)
            group.pending = []

    def _reindex(self, before: CachedObject | None, after: CachedObject | None) -> None:
        for path, index in self._indexes.items():
            if before is not None:
                for value in before.values(path):
                    index.get(value, {}).pop(before.key, None)
                    if not index.get(value):
                        index.pop(value, None)
            if after is not None:
                for value in after.values(path):
                    index.setdefault(value, {})[after.key] = after

    def _decode(self, item: StoredValue) -> CachedObject | None:
        try:
            return CachedObject(self.info, item.key, item.value, item.mod_revision, item.create_revision)
        except DecodeError:
            # Treated as absent, so that one damaged value does not take the kind down.
            _log.error("stored object cannot be decoded", key=item.key, revision=item.mod_revision)
            return None

    def _remember(self, event: CacheEvent) -> None:
        self._ring.append(event)
        self._ring_bytes += event.size
        while len(self._ring) > self.limits.history_events or self._ring_bytes > self.limits.history_bytes:
            oldest = self._ring.popleft()
            self._ring_bytes -= oldest.size
            self._floor = oldest.revision

    def _concerned(self, event: CacheEvent) -> set[_Group]:
        """Groups whose filter may select the state before or after."""
        if not self._routes:
            return self._unrouted
        found = set(self._unrouted)
        for path in self._routed_paths:
            for state in (event.before, event.after):
                if state is not None:
                    for value in state.values(path):
                        found |= self._routes.get((path, value), set())
        return found

    def _advance(self, revision: int) -> None:
        self.revision = revision
        waiting, self._advanced = self._advanced, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    # Serving watchers

    def close(self) -> None:
        """Ends all watches that are open now."""
        for group in self._groups.values():
            for member in group.members:
                member.close()

    async def wait_revision(self, revision: int, seconds: float) -> None:
        """Returns once the cache shows ``revision``. Raises Unavailable after so many ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self.synced.wait()
                while self.revision < revision:
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._advanced.append(waiter)
                    await waiter
        except TimeoutError:
            raise Unavailable(
                f"{self.info.resource_type} is known up to revision {self.revision}, {revision} is not there yet",
                reason="CACHE_BEHIND",
            ) from None

    def snapshot(self, wanted: Filter) -> Sequence[CachedObject]:
        """The objects that a filter selects, as of ``revision``; a route spares the look at all others."""
        if wanted.route is not None:
            path, value = wanted.route
            if path not in self._indexes:
                self._indexes[path] = {}
                for obj in self._objects.values():
                    for found in obj.values(path):
                        self._indexes[path].setdefault(found, {})[obj.key] = obj
            return [obj for obj in self._indexes[path].get(value, {}).values() if wanted.matches(obj)]
        if self._everything is None:
            self._everything = tuple(self._objects.values())
        if wanted.everything:
            return self._everything
        return [obj for obj in self._everything if wanted.matches(obj)]

    def can_resume(self, revision: int) -> bool:
        """Whether every change after ``revision`` is still known."""
        return self._floor <= revision <= self.revision

    def replay(self, wanted: Filter, revision: int) -> list[Chunk]:
        """What a filter's watchers saw after ``revision``; only if :meth:`can_resume`."""
        newer: list[CacheEvent] = []
        for event in reversed(self._ring):
            if event.revision <= revision:
                break
            newer.append(event)
        encoded = ((event.revision, event.for_filter(wanted)) for event in reversed(newer))
        return list(chunks((at, data) for at, data in encoded if data is not None))

    def subscribe(self, wanted: Filter) -> tuple[Subscriber, Callable[[], None]]:
        """A queue that gets every change after ``revision``, and the function that ends it."""
        group = self._groups.get(wanted.identity)
        if group is None:
            group = self._groups[wanted.identity] = _Group(wanted)
            if wanted.route is None:
                self._unrouted.add(group)
            else:
                self._routes.setdefault(wanted.route, set()).add(group)
                self._routed_paths[wanted.route[0]] = self._routed_paths.get(wanted.route[0], 0) + 1
        subscriber = Subscriber(self.limits.queue_bytes)
        group.members.add(subscriber)
        self.subscribers += 1

        def unsubscribe() -> None:
            self.subscribers -= 1
            group.members.discard(subscriber)
            if not group.members and self._groups.get(wanted.identity) is group:
                self._forget(group)

        return subscriber, unsubscribe

    def _forget(self, group: _Group) -> None:
        del self._groups[group.filter.identity]
        self._unrouted.discard(group)
        route = group.filter.route
        if route is not None:
            self._routes[route].discard(group)
            if not self._routes[route]:
                del self._routes[route]
            self._routed_paths[route[0]] -= 1
            if not self._routed_paths[route[0]]:
                del self._routed_paths[route[0]]
