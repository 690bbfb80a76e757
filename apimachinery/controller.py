"""Controllers: informers put keys into a queue, workers reconcile one key at a time."""

import asyncio
import contextlib
import importlib.metadata
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

import structlog
from google.protobuf.message import Message

from apimachinery import metrics
from apimachinery.client import Client
from apimachinery.errors import ApiError, Conflict, Unavailable
from apimachinery.fencing import Fence, current_fence
from apimachinery.informer import Change, Informer, Key, key_of
from apimachinery.logs import LogLimiter
from apimachinery.scheme import metadata_of
from apimachinery.workqueue import Backoff, WorkQueue

if TYPE_CHECKING:
    from apimachinery.store import Store

_log = structlog.get_logger(__name__)

CONTROLLERS_ENTRY_POINT: Final = "ironcore.controllers"

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Result:
    """What a successful run wants next: another run after `requeue_after` seconds, or none."""

    requeue_after: float | None = None


Reconcile = Callable[[Key], Awaitable[Result | None]]
"""Brings the world to what the object of this key (which may be gone) asks for. Raises to be called again later."""
MapFunction = Callable[[M], Iterable[Key]]
"""Keys that a change of this object concerns. Called with the old and with the new state."""


def own_key(obj: Message) -> Iterable[Key]:
    """Map function of the kind that the controller is about."""
    return (key_of(obj),)


def owner_keys(kind: str) -> Callable[[Message], Iterable[Key]]:
    """Map function of dependents: the owners of this kind, in the dependent's namespace."""

    def keys(obj: Message) -> Iterable[Key]:
        meta = metadata_of(obj)
        return [Key(meta.namespace, owner.name) for owner in meta.owner_references if owner.kind == kind]

    return keys


# A controller watches kinds of different message classes; each pair is typed where it is written.
Watch = tuple[Informer[Any], Callable[[Any], Iterable[Key]]]


class Controller:
    """Reconciles keys with `workers` runs at a time, never two of the same key.

    A run that raises is repeated with `backoff`; Conflict and Unavailable are expected and quiet. `limit` (seconds)
    cancels a run that hangs and counts as a failure.
    """

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        watches: Sequence[Watch] = (),
        *,
        workers: int = 1,
        backoff: Backoff | None = None,
        limit: float = 300.0,
    ) -> None:
        self.name = name
        self.watches = list(watches)
        self._reconcile = reconcile
        self._workers = workers
        self._limit = limit
        self._queue: WorkQueue[Key] = WorkQueue(backoff)
        self._draining = False
        self._log = structlog.get_logger(__name__).bind(controller=name)
        self._limiter = LogLimiter()
        metrics.QUEUE_DEPTH.track(self._queue, lambda queue: queue.depth, controller=name)
        for informer, map_function in self.watches:
            informer.add_handler(self._handler(map_function))

    @property
    def informers(self) -> list[Informer[Any]]:
        """What must be synced before the first run."""
        return [informer for informer, _ in self.watches]

    def enqueue(self, key: Key, *, after: float = 0.0) -> None:
        """Wants a run of the key, `after` seconds from now."""
        self._queue.add_after(key, after)

    def enqueue_all(self) -> None:
        """Wants a run of every key that the watched objects map to."""
        for informer, map_function in self.watches:
            for obj in informer.list():
                for key in map_function(obj):
                    self._queue.add(key)

    async def wait_idle(self) -> None:
        """Returns when no key is in line and none runs; for tests."""
        await self._queue.wait_idle()

    async def run(self, *, grace: float = 10.0) -> None:
        """Works until cancelled; then runs that began get `grace` seconds to end before they are cancelled, too."""
        self._draining = False
        idle: set[asyncio.Task[None]] = set()
        workers = [
            asyncio.create_task(self._work(idle), name=f"controller {self.name} {number}")
            for number in range(self._workers)
        ]
        try:
            # Unlike gather, wait does not pass a cancellation on to runs that began.
            ended, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for worker in ended:
                worker.result()
        finally:
            self._draining = True
            for worker in idle:
                worker.cancel()
            _, late = await asyncio.wait(workers, timeout=grace)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _handler(self, map_function: Callable[[Any], Iterable[Key]]) -> Callable[[Change[Any]], None]:
        def enqueue(change: Change[Any]) -> None:
            keys = dict.fromkeys(map_function(change.new)) if change.new is not None else {}
            if change.old is not None:
                keys |= dict.fromkeys(map_function(change.old))
            for key in keys:
                self._queue.add(key)

        return enqueue

    async def _work(self, idle: set[asyncio.Task[None]]) -> None:
        task = cast(asyncio.Task[None], asyncio.current_task())
        while not self._draining:
            idle.add(task)
            key = await self._queue.get()
            idle.discard(task)
            await self._run_key(key)
            # Runs that never wait must not keep everything else from running.
            await asyncio.sleep(0)

    async def _run_key(self, key: Key) -> None:
        begin = time.monotonic()
        outcome = "error"
        try:
            async with asyncio.timeout(self._limit):
                result = await self._reconcile(key)
            outcome = "ok"
            self._succeeded(key, result)
        except asyncio.CancelledError:
            self._queue.add(key)
            outcome = "cancelled"
            raise
        except Unavailable as error:
            outcome = "unavailable"
            # Said once by what lost it, not by each of those who need it.
            self._log.debug("reconcile waits", key=str(key), error=str(error))
            self._queue.add_failed(key)
        except Conflict as error:
            outcome = "conflict"
            self._log.debug("reconcile lost a race", key=str(key), error=str(error))
            self._queue.add_failed(key)
        except Exception as error:
            self._failed(key, error)
        finally:
            self._queue.done(key)
            metrics.RECONCILES.add(1, {"controller": self.name, "result": outcome})
            metrics.RECONCILE_DURATION.record(time.monotonic() - begin, {"controller": self.name})

    def _succeeded(self, key: Key, result: Result | None) -> None:
        failures = self._queue.failures(key)
        if failures:
            self._log.debug("reconcile succeeded again", key=str(key), failures=failures)
        self._queue.forget(key)
        if result is not None and result.requeue_after is not None:
            self._queue.add_after(key, result.requeue_after)

    def _failed(self, key: Key, error: Exception) -> None:
        delay = self._queue.add_failed(key)
        failures = self._queue.failures(key)
        # Every failure that doubles the count, and not more than the limiter lets through for all keys together.
        if failures & (failures - 1):
            return
        suppressed = self._limiter.allow()
        if suppressed is None:
            return
        expected = isinstance(error, ApiError)
        self._log.error(
            "reconcile failed",
            key=str(key),
            error=str(error) or type(error).__name__,
            failures=failures,
            retry_seconds=round(delay, 3),
            suppressed=suppressed,
            # An API error says all; anything else is a defect, and its place is needed.
            exc_info=None if expected else error,
        )


class Leadership(Protocol):
    """One term of leadership."""

    @property
    def key(self) -> str:
        """Store key that only this leader holds."""

    @property
    def revision(self) -> int:
        """Revision at which the key was created."""

    @property
    def lost(self) -> asyncio.Event:
        """Set when leadership was or may have been lost: nothing may be written from then on."""


class LeaderElection(Protocol):
    """What `run_controllers` needs of `apimachinery.etcd.election.Election`."""

    def leadership(self) -> contextlib.AbstractAsyncContextManager[Leadership]:
        """Entering waits until elected, leaving resigns."""


async def run_controllers(
    controllers: Sequence[Controller],
    *,
    leader: LeaderElection | None = None,
    on_synced: Callable[[], None] = lambda: None,
    grace: float = 10.0,
) -> None:
    """Starts the controllers' informers, waits until all are synced, and runs the controllers until cancelled.

    With `leader` they run only during this process's terms: at the end of one, runs are cancelled at once, because
    another process may lead already, and what they still write through a fenced client fails. The next term begins with
    a run of every key. `on_synced` is called once, also in a process that does not lead. An exception of a controller's
    own code (not of a reconcile) ends all.
    """
    informers = {informer for controller in controllers for informer in controller.informers}
    async with asyncio.TaskGroup() as group:
        # An informer that somebody else started is somebody else's to stop.
        own = [
            group.create_task(informer.run(), name=f"informer {informer.client.info.plural}")
            for informer in informers
            if not informer.started
        ]
        try:
            for informer in informers:
                await informer.wait_synced()
            on_synced()
            if leader is None:
                await _run_all(controllers, grace)
            while leader is not None:
                async with leader.leadership() as term:
                    await _run_term(controllers, term)
        finally:
            for task in own:
                task.cancel()


async def _run_all(controllers: Sequence[Controller], grace: float) -> None:
    async with asyncio.TaskGroup() as group:
        for controller in controllers:
            group.create_task(controller.run(grace=grace), name=f"controller {controller.name}")


async def _run_term(controllers: Sequence[Controller], term: Leadership) -> None:
    _log.info("leading", controllers=[controller.name for controller in controllers])
    metrics.LEADER_TERMS.add(1)
    for controller in controllers:
        controller.enqueue_all()
    # Tasks that begin from here on inherit it.
    fenced = current_fence.set(Fence(term.key, term.revision))
    work = asyncio.create_task(_run_all(controllers, grace=0.0), name="controllers of this term")
    lost = asyncio.create_task(term.lost.wait(), name="leadership lost")
    try:
        await asyncio.wait((work, lost), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        _log.warning("leadership lost, controllers stop")
    finally:
        current_fence.reset(fenced)
        metrics.LEADER_TERMS.add(-1)
        for task in (work, lost):
            task.cancel()
        await asyncio.gather(work, lost, return_exceptions=True)


class ControllerContext:
    """What a room's `controllers(context)` entry point gets.

    client:   of the API that the process serves or is pointed at.
    options:  the configuration of the process.
    identity: name of this process in elections and as field owner.
    store:    of the API server in the same process; None in a process that is only a client.
    """

    def __init__(
        self, client: Client, options: Mapping[str, object], identity: str, *, store: "Store | None" = None
    ) -> None:
        self.client = client
        self.options = options
        self.identity = identity
        self.store = store
        self._informers: dict[tuple[type[Message], str], Informer[Any]] = {}

    def informer(self, message_class: type[M], namespace: str = "") -> Informer[M]:
        """The informer of this kind that all controllers of the process share."""
        key = (message_class, namespace)
        if key not in self._informers:
            self._informers[key] = Informer(self.client.kind(message_class), namespace)
        return cast(Informer[M], self._informers[key])


def load_controllers(context: ControllerContext, names: Iterable[str] | None = None) -> list[Controller]:
    """Controllers of the installed rooms, or of these entry points only. Raises ValueError for an unknown name."""
    found = {entry.name: entry for entry in importlib.metadata.entry_points(group=CONTROLLERS_ENTRY_POINT)}
    wanted = list(found) if names is None else list(names)
    unknown = sorted(set(wanted) - set(found))
    if unknown:
        raise ValueError(f"unknown controllers {', '.join(unknown)}; known are {', '.join(sorted(found))}")
    return [controller for name in wanted for controller in found[name].load()(context)]
