"""Controllers: retries, requeues, bounded logs, graceful stop, terms of leadership."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from ironcore.apinet.v1 import network_pb2
from ironcore.meta.v1 import meta_pb2

from apimachinery.controller import Controller, Result, own_key, owner_keys, run_controllers
from apimachinery.errors import Conflict, Unavailable
from apimachinery.informer import Key
from apimachinery.workqueue import Backoff

FAST = Backoff(base=0.001, cap=0.005)


@contextlib.asynccontextmanager
async def running(*controllers: Controller, **options: object) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(run_controllers(controllers, **options))  # type: ignore[arg-type]
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def lines() -> Iterator[list[dict[str, object]]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


async def test_errors_are_retried_until_they_end() -> None:
    failures = {Key("ns", "a"): [RuntimeError("x"), Conflict("race"), Unavailable("away")]}
    done = asyncio.Event()

    async def reconcile(key: Key) -> Result | None:
        if failures[key]:
            raise failures[key].pop(0)
        done.set()
        return None

    controller = Controller("test", reconcile, backoff=FAST)
    controller.enqueue(Key("ns", "a"))
    async with running(controller):
        await asyncio.wait_for(done.wait(), 2)


async def test_result_asks_for_another_run() -> None:
    runs: list[Key] = []
    twice = asyncio.Event()

    async def reconcile(key: Key) -> Result | None:
        runs.append(key)
        if len(runs) == 2:
            twice.set()
            return None
        return Result(requeue_after=0.01)

    controller = Controller("test", reconcile)
    controller.enqueue(Key("", "a"))
    async with running(controller):
        await asyncio.wait_for(twice.wait(), 2)


async def test_a_hanging_run_is_cancelled_and_retried() -> None:
    runs = 0
    second = asyncio.Event()

    async def reconcile(_: Key) -> Result | None:
        nonlocal runs
        runs += 1
        if runs == 1:
            await asyncio.Event().wait()
        second.set()
        return None

    controller = Controller("test", reconcile, backoff=FAST, limit=0.02)
    controller.enqueue(Key("", "a"))
    async with running(controller):
        await asyncio.wait_for(second.wait(), 2)


async def test_a_thousand_failing_keys_do_not_flood_the_log(lines: list[dict[str, object]]) -> None:
    runs: dict[Key, int] = {}
    enough = asyncio.Event()

    async def reconcile(key: Key) -> Result | None:
        runs[key] = runs.get(key, 0) + 1
        if len(runs) == 1000 and sum(runs.values()) >= 3000:
            enough.set()
        raise RuntimeError("always")

    controller = Controller("test", reconcile, workers=10, backoff=FAST)
    for number in range(1000):
        controller.enqueue(Key("ns", str(number)))
    async with running(controller):
        await asyncio.wait_for(enough.wait(), 10)
    failed = [line for line in lines if line["event"] == "reconcile failed"]
    assert 1 <= len(failed) <= 40
    assert failed[0]["controller"] == "test"
    assert failed[0]["error"] == "always"


async def test_an_unreachable_api_is_waited_for_in_silence(lines: list[dict[str, object]]) -> None:
    runs = 0
    done = asyncio.Event()

    async def reconcile(_: Key) -> Result | None:
        nonlocal runs
        runs += 1
        if runs < 20:
            raise Unavailable("connection refused")
        done.set()
        return None

    controller = Controller("test", reconcile, backoff=FAST)
    controller.enqueue(Key("", "a"))
    async with running(controller):
        await asyncio.wait_for(done.wait(), 5)
        await asyncio.wait_for(controller.wait_idle(), 2)
    assert runs == 20
    assert [line["event"] for line in lines if line["log_level"] != "debug"] == []


async def test_stop_lets_begun_runs_end_but_begins_none() -> None:
    begun, release = asyncio.Event(), asyncio.Event()
    ended: list[Key] = []

    async def reconcile(key: Key) -> Result | None:
        begun.set()
        await release.wait()
        ended.append(key)
        return None

    controller = Controller("test", reconcile)
    controller.enqueue(Key("", "a"))
    controller.enqueue(Key("", "b"))
    async with running(controller) as task:
        await asyncio.wait_for(begun.wait(), 2)
        task.cancel()
        await asyncio.sleep(0.01)
        release.set()
        await asyncio.wait({task}, timeout=2)
        assert task.cancelled()
    assert ended == [Key("", "a")]


async def test_stop_does_not_wait_for_ever() -> None:
    begun = asyncio.Event()

    async def reconcile(_: Key) -> Result | None:
        begun.set()
        await asyncio.Event().wait()
        return None

    controller = Controller("test", reconcile)
    controller.enqueue(Key("", "a"))
    async with running(controller, grace=0.02) as task:
        await asyncio.wait_for(begun.wait(), 2)
        task.cancel()
        _, pending = await asyncio.wait({task}, timeout=2)
        assert not pending


class Elections:
    """Hands out terms when told to."""

    def __init__(self) -> None:
        self.elected = asyncio.Event()
        self.lost = asyncio.Event()
        self.terms = 0
        self.key = "/elections/test"

    @property
    def revision(self) -> int:
        return self.terms

    @contextlib.asynccontextmanager
    async def leadership(self) -> AsyncIterator["Elections"]:
        await self.elected.wait()
        self.elected.clear()
        self.terms += 1
        yield self

    def depose(self) -> None:
        old, self.lost = self.lost, asyncio.Event()
        old.set()


async def test_controllers_run_in_terms_only() -> None:
    runs: asyncio.Queue[int] = asyncio.Queue()
    cancelled = asyncio.Event()
    election = Elections()

    async def reconcile(_: Key) -> Result | None:
        runs.put_nowait(election.terms)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return None

    controller = Controller("test", reconcile)
    controller.enqueue(Key("", "a"))
    async with running(controller, leader=election):
        await asyncio.sleep(0.02)
        assert runs.empty()
        election.elected.set()
        assert await asyncio.wait_for(runs.get(), 2) == 1
        election.depose()
        await asyncio.wait_for(cancelled.wait(), 2)
        await asyncio.sleep(0.02)
        assert runs.empty()
        # The run that was cancelled is owed.
        election.elected.set()
        assert await asyncio.wait_for(runs.get(), 2) == 2


def test_map_functions() -> None:
    owners = [
        meta_pb2.OwnerReference(kind="Network", name="owner", uid="1"),
        meta_pb2.OwnerReference(kind="Other", name="no", uid="2"),
    ]
    obj = network_pb2.Network(metadata=meta_pb2.ObjectMeta(namespace="ns", name="a", owner_references=owners))
    assert list(own_key(obj)) == [Key("ns", "a")]
    assert list(owner_keys("Network")(obj)) == [Key("ns", "owner")]
