"""Work queue: never two runs of a key, no wish for a run lost, back-off bounded."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from apimachinery.workqueue import Backoff, KeyQueue, ShutdownError, WorkQueue

KEYS = st.sampled_from("abcd")


class QueueAgainstModel(RuleBasedStateMachine):
    """The queue against the plainest model: a set of keys that want a run, a set that runs, times that are due."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: KeyQueue[str] = KeyQueue()
        self.wanted: set[str] = set()
        self.running: set[str] = set()
        self.due: dict[str, float] = {}
        self.now = 0.0

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.wanted.add(key)

    @rule(key=KEYS, delay=st.integers(1, 5))
    def add_at(self, key: str, delay: int) -> None:
        self.queue.add_at(key, self.now + delay)
        self.due[key] = min(self.due.get(key, self.now + delay), self.now + delay)

    @rule(seconds=st.integers(0, 3))
    def advance(self, seconds: int) -> None:
        self.now += seconds
        self.queue.advance(self.now)
        reached = {key for key, when in self.due.items() if when <= self.now}
        self.wanted |= reached
        self.due = {key: when for key, when in self.due.items() if key not in reached}

    @rule()
    def pop(self) -> None:
        key = self.queue.pop()
        if key is None:
            assert self.wanted <= self.running
        else:
            assert key in self.wanted
            assert key not in self.running
            self.wanted.discard(key)
            self.running.add(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.queue.done(key)
        self.running.discard(key)

    @invariant()
    def counts(self) -> None:
        assert self.queue.ready == len(self.wanted - self.running)
        assert self.queue.running == len(self.running)
        assert self.queue.delayed == len(self.due)
        assert self.queue.next_due() == (min(self.due.values()) if self.due else None)


TestQueueAgainstModel = QueueAgainstModel.TestCase


@given(st.integers(1, 2000), st.floats(0, 1, exclude_max=True), st.floats(0.001, 10), st.floats(10, 1000))
def test_backoff_stays_within_its_bounds(failures: int, fraction: float, base: float, cap: float) -> None:
    backoff = Backoff(base=base, cap=cap, jitter=0.3)
    delay = backoff.delay(failures, fraction)
    assert 0.7 * min(base, cap) * 0.999 <= delay <= cap
    assert backoff.delay(failures + 1, fraction) >= delay


async def test_a_key_added_while_it_runs_gets_one_more_run() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.done("a")
    assert await asyncio.wait_for(waiting, 1) == "a"
    queue.done("a")
    await asyncio.wait_for(queue.wait_idle(), 1)
    assert queue.depth == 0


async def test_workers_never_share_a_key_and_miss_none() -> None:
    queue: WorkQueue[int] = WorkQueue()
    running: set[int] = set()
    runs: dict[int, int] = {}

    async def worker() -> None:
        while True:
            key = await queue.get()
            assert key not in running
            running.add(key)
            await asyncio.sleep(0)
            runs[key] = runs.get(key, 0) + 1
            running.discard(key)
            queue.done(key)

    workers = [asyncio.create_task(worker()) for _ in range(8)]
    for round_ in range(50):
        for key in range(20):
            queue.add(key)
            if (key + round_) % 7 == 0:
                await asyncio.sleep(0)
    await asyncio.wait_for(queue.wait_idle(), 5)
    queue.shutdown()
    results = await asyncio.gather(*workers, return_exceptions=True)
    assert all(isinstance(result, ShutdownError) for result in results)
    assert set(runs) == set(range(20))
    assert all(1 <= count <= 50 for count in runs.values())


async def test_a_cancelled_getter_passes_its_wake_up_on() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")  # wakes the first getter, which is cancelled before it can take the key
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "a"


async def test_delays_run_in_order_of_their_time() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("late", 0.06)
    queue.add_after("early", 0.02)
    queue.add_after("late", 0.04)
    order = []
    for _ in range(2):
        order.append(key := await asyncio.wait_for(queue.get(), 2))
        queue.done(key)
    assert order == ["early", "late"]
    assert queue.delayed == 0


async def test_failures_double_the_delay_and_success_ends_the_row() -> None:
    queue: WorkQueue[str] = WorkQueue(Backoff(base=1.0, cap=5.0), fraction=lambda: 0.0)
    assert [queue.add_failed("a") for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    queue.forget("a")
    assert queue.failures("a") == 0
    assert queue.add_failed("a") == 1.0
    queue.shutdown()


async def test_shutdown_ends_every_getter() -> None:
    queue: WorkQueue[str] = WorkQueue()
    getters = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.shutdown()
    queue.add("a")
    for getter in getters:
        with pytest.raises(ShutdownError):
            await asyncio.wait_for(getter, 1)
    assert queue.depth == 0
