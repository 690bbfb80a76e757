"""Local copy of one kind's objects, kept by one watch stream, with handlers and indexes.

`ObjectCache` is the pure part: it turns watch responses into changes, and makes a lost and resumed stream, a replayed
event or a new snapshot look to its readers like one gapless history. `Informer` adds the stream.
"""

import asyncio
import builtins
import contextlib
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, Self, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from apimachinery import metrics
from apimachinery.client import Fields, KindClient, Labels, field_requirements
from apimachinery.errors import ApiError
from apimachinery.scheme import metadata_of

_log = structlog.get_logger(__name__)

M = TypeVar("M", bound=Message)
IndexFunction = Callable[[M], Iterable[str]]
"""Values under which `by_index` finds the object."""


class Key(NamedTuple):
    """Which object of a kind. `namespace` is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def key_of(obj: Message) -> Key:
    """Key of an object."""
    meta = metadata_of(obj)
    return Key(meta.namespace, meta.name)


@dataclass(frozen=True, slots=True)
class Change(Generic[M]):
    """One change of the copy: added (`old` is None), updated, or deleted (`new` is None).

    Objects are shared with the cache and all handlers: copy before changing one. A deletion and a re-creation under the
    same name may arrive as one update; compare `metadata.uid` where that matters.
    """

    old: M | None
    new: M | None

    @property
    def object(self) -> M:
        """The newest state known."""
        obj = self.new if self.new is not None else self.old
        assert obj is not None
        return obj

    @property
    def key(self) -> Key:
        """Key of the object."""
        return key_of(self.object)


Handler = Callable[[Change[M]], None]


class _Event(Protocol[M]):
    type: "meta_pb2.EventType.ValueType"
    object: M


class _WatchResponse(Protocol[M]):
    events: Iterable[_Event[M]]
    mark: meta_pb2.WatchMark

    def HasField(self, name: str) -> bool: ...  # noqa: N802 - protobuf's name


class ObjectCache(Generic[M]):
    """Objects of one watch. Feed every response to `apply`; call `restart` before a new stream.

    A stream resumes after `resume_revision`, the last revision that is known to be complete. Events that a new stream
    repeats are recognised by the object's resource_version and dropped.
    """

    def __init__(self) -> None:
        self.objects: dict[Key, M] = {}
        self.revision = 0
        """Newest revision seen."""
        self.resume_revision = 0
        """Where the next stream continues; 0: with a snapshot."""
        self.synced = False
        """True once a complete state was seen."""
        self._snapshot: dict[Key, M] | None = {}

    def restart(self) -> int:
        """Drops a half-received snapshot; returns the revision for the next Watch."""
        self._snapshot = None if self.resume_revision else {}
        return self.resume_revision

    def forget_revision(self) -> None:
        """The next stream begins with a snapshot; the objects stay until it is complete."""
        self.resume_revision = 0

    def apply(self, response: Message) -> list[Change[M]]:
        """Changes of the copy by this response, in order."""
        changes: list[Change[M]] = []
        parts = cast(_WatchResponse[M], response)
        for event in parts.events:
            if self._snapshot is not None:
                self._collect(event)
            else:
                changes += self._apply_event(event)
        if parts.HasField("mark"):
            changes += self._apply_mark(parts.mark)
        return changes

    def _collect(self, event: _Event[M]) -> None:
        assert self._snapshot is not None
        if event.type == meta_pb2.EVENT_TYPE_DELETED:
            self._snapshot.pop(key_of(event.object), None)
        else:
            self._snapshot[key_of(event.object)] = event.object

    def _apply_event(self, event: _Event[M]) -> list[Change[M]]:
        key = key_of(event.object)
        revision = metadata_of(event.object).resource_version
        old = self.objects.get(key)
        self.revision = max(self.revision, revision)
        # Further events of the same revision may follow, so only what lies before it is complete.
        self.resume_revision = max(self.resume_revision, revision - 1)
        deleted = event.type == meta_pb2.EVENT_TYPE_DELETED
        if old is not None and revision < metadata_of(old).resource_version + (not deleted):
            return []
        if not deleted:
            self.objects[key] = event.object
            return [Change(old, event.object)]
        if old is None:
            return []
        del self.objects[key]
        return [Change(old, None)]

    def _apply_mark(self, mark: meta_pb2.WatchMark) -> list[Change[M]]:
        if mark.type == meta_pb2.MARK_TYPE_RESET:
            self._snapshot = {}
            self.resume_revision = 0
            return []
        if mark.type == meta_pb2.MARK_TYPE_SYNCED and self._snapshot is not None:
            changes = differences(self.objects, self._snapshot)
            self.objects, self._snapshot = self._snapshot, None
            self.revision = self.resume_revision = mark.resource_version
            self.synced = True
            return changes
        if self._snapshot is None:
            self.revision = max(self.revision, mark.resource_version)
            self.resume_revision = max(self.resume_revision, mark.resource_version)
        return []


def differences(old: Mapping[Key, M], new: Mapping[Key, M]) -> list[Change[M]]:
    """Changes that lead from `old` to `new`: deletions first, the rest in the order of their revisions."""
    gone = [Change(obj, None) for key, obj in old.items() if key not in new]
    changed = [
        Change(old.get(key), obj)
        for key, obj in new.items()
        if key not in old or _incarnation(old[key]) != _incarnation(obj)
    ]
    changed.sort(key=lambda change: metadata_of(change.object).resource_version)
    return [*gone, *changed]


def _incarnation(obj: Message) -> tuple[str, int]:
    meta = metadata_of(obj)
    return meta.uid, meta.resource_version


class Informer(Generic[M]):
    """Keeps the copy by watching, for as long as `run` runs. Reads never wait; before `synced` they see nothing.

    Handlers are called in the event loop, in order, and must not block; one that raises is logged and does not stop the
    others. A handler that is added late first sees every object as added.
    """

    def __init__(
        self,
        client: KindClient[M],
        namespace: str = "",
        *,
        labels: Labels | None = None,
        fields: Fields | None = None,
        indexers: Mapping[str, IndexFunction[M]] | None = None,
    ) -> None:
        self.client = client
        self._namespace = namespace
        self._labels = labels
        self._fields = field_requirements(fields)
        self._cache: ObjectCache[M] = ObjectCache()
        self._handlers: list[Handler[M]] = []
        self._indexers: dict[str, IndexFunction[M]] = {}
        self._indexes: dict[str, dict[str, dict[Key, M]]] = {}
        self._synced = asyncio.Event()
        self._revision_waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._waiter_sequence = 0
        self._task: asyncio.Task[None] | None = None
        self._outage = client.client.outage.part(f"watch of {client.info.resource_type}")
        kind = client.info.resource_type
        metrics.INFORMER_OBJECTS.track(self, len, kind=kind)
        metrics.INFORMER_CONNECTED.track(self, lambda informer: informer.connected, kind=kind)
        for name, function in (indexers or {}).items():
            self.add_indexer(name, function)

    # Reading

    @property
    def synced(self) -> bool:
        """True once a complete state was seen."""
        return self._cache.synced

    @property
    def connected(self) -> bool:
        """False while the stream is lost and being retried."""
        return self.synced and not self._outage.active

    @property
    def revision(self) -> int:
        """Newest revision seen."""
        return self._cache.revision

    def get(self, namespace: str, name: str) -> M | None:
        """The object as last seen."""
        return self._cache.objects.get(Key(namespace, name))

    def list(self, namespace: str = "") -> builtins.list[M]:
        """All objects, or those of one namespace."""
        return [obj for key, obj in self._cache.objects.items() if not namespace or key.namespace == namespace]

    def by_index(self, name: str, value: str) -> builtins.list[M]:
        """Objects whose index function gave `value`. Raises KeyError for an unknown index."""
        return list(self._indexes[name].get(value, {}).values())

    def __len__(self) -> int:
        return len(self._cache.objects)

    # Following

    def add_handler(self, handler: Handler[M]) -> None:
        """Calls `handler` with every change from now on, and now with every object as added."""
        self._handlers.append(handler)
        for obj in list(self._cache.objects.values()):
            self._call(handler, Change(None, obj))

    def add_indexer(self, name: str, function: IndexFunction[M]) -> None:
        """Adds an index, also over what is there already. Raises ValueError if another function has the name."""
        if name in self._indexers:
            if self._indexers[name] is function:
                return
            raise ValueError(f"informer of {self.client.info.plural} has an index {name!r} already")
        self._indexers[name] = function
        self._indexes[name] = {}
        for obj in self._cache.objects.values():
            self._index(name, Change(None, obj))

    async def wait_synced(self) -> None:
        """Returns once a complete state was seen. Use `asyncio.timeout` for a limit."""
        await self._synced.wait()

    async def wait_revision(self, revision: int) -> None:
        """Returns once every change up to `revision` (of a write, for example) was seen."""
        if self.synced and self.revision >= revision:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiter_sequence += 1
        heapq.heappush(self._revision_waiters, (revision, self._waiter_sequence, waiter))
        await waiter

    # Life

    @property
    def started(self) -> bool:
        """True between `start` and `stop`."""
        return self._task is not None

    def start(self) -> None:
        """Runs the informer in a task of its own until `stop`; starting twice is the same as once."""
        if self._task is None:
            self._task = asyncio.create_task(self.run(), name=f"informer {self.client.info.plural}")
            self._task.add_done_callback(_log_crash)

    async def stop(self) -> None:
        """Ends the task of `start`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def run(self) -> None:
        """Watches until cancelled; a lost stream is told to the client's outage, retried with back-off, and resumed
        where it ended."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(ApiError), wait=wait_random_exponential(multiplier=0.1, max=1.0)
        )
        with contextlib.closing(self._outage):
            while True:
                async for attempt in retrying:
                    with attempt:
                        await self._follow_one_stream()

    async def _follow_one_stream(self) -> None:
        """Returns when a stream ends that delivered something; raises ApiError if it did not."""
        delivered = False
        stream = self.client.watch(
            self._namespace, labels=self._labels, fields=self._fields, resource_version=self._cache.restart()
        )
        try:
            async with contextlib.aclosing(stream):
                async for response in stream:
                    if not delivered:
                        delivered = True
                        self._outage.recovered(revision=self.revision)
                        metrics.INFORMER_STREAMS.add(1, {"kind": self.client.info.resource_type})
                    self._dispatch(self._cache.apply(response))
        except ApiError as error:
            if error.code is grpc.StatusCode.OUT_OF_RANGE:
                self._cache.forget_revision()
            self._outage.lost(error, revision=self.revision)
            if not delivered:
                raise
        else:
            self._outage.lost("the server ended the stream", revision=self.revision)
        # A server that accepts and drops streams in a loop must not be hammered.
        await asyncio.sleep(0.05)

    def _dispatch(self, changes: Sequence[Change[M]]) -> None:
        if changes:
            metrics.INFORMER_CHANGES.add(len(changes), {"kind": self.client.info.resource_type})
        for change in changes:
            for name in self._indexers:
                self._index(name, change)
        for change in changes:
            for handler in self._handlers:
                self._call(handler, change)
        if not self.synced:
            return
        self._synced.set()
        while self._revision_waiters and self._revision_waiters[0][0] <= self.revision:
            waiter = heapq.heappop(self._revision_waiters)[2]
            if not waiter.done():
                waiter.set_result(None)

    def _call(self, handler: Handler[M], change: Change[M]) -> None:
        try:
            handler(change)
        except Exception:
            _log.exception("informer handler failed", kind=self.client.info.kind, object=str(change.key))

    def _index(self, name: str, change: Change[M]) -> None:
        index, function, key = self._indexes[name], self._indexers[name], change.key
        if change.old is not None:
            for value in function(change.old):
                entries = index.get(value)
                if entries is not None:
                    entries.pop(key, None)
                    if not entries:
                        del index[value]
        if change.new is not None:
            for value in function(change.new):
                index.setdefault(value, {})[key] = change.new


def _log_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("informer crashed", task=task.get_name(), exc_info=error)
