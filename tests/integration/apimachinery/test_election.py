"""One leader at a time, and no write of a former one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from apimachinery.etcd.election import Election, Leadership
from apimachinery.store import CompareFailed, LeaseNotFound, Store, Txn
from tests.support.etcd import EtcdCluster, etcd_cluster, etcd_store

TTL = 2
# No test takes so long.
LONG_TTL = 3600
# A candidate in a process of its own, which a test can stop and kill. It writes once per line of its input, without
# asking itself whether it still leads. One from elsewhere cannot be proven dead here.
CANDIDATE = """
import asyncio, sys
from apimachinery.etcd.client import EtcdClient
from apimachinery.etcd.election import Election
from apimachinery.etcd.holder import ProcessId
from apimachinery.logs import configure_logging
from apimachinery.store import CompareFailed, Store, Txn

async def main():
    configure_logging("warning")
    if sys.argv[3] == "elsewhere":
        ProcessId.own = lambda: None
    async with EtcdClient([sys.argv[1]]) as client, Store(client) as store:
        async with Election(store, "test", "other", ttl=int(sys.argv[2])).leadership() as leadership:
            print("leads", flush=True)
            for line in sys.stdin:
                try:
                    await store.commit(leadership.guard(Txn().put("/test/written-by", b"other")))
                    print("written", flush=True)
                except CompareFailed:
                    print("refused", flush=True)

asyncio.run(main())
"""


@pytest.fixture
async def cluster() -> AsyncIterator[EtcdCluster]:
    async with etcd_cluster() as running:
        yield running


@pytest.fixture
async def store(cluster: EtcdCluster) -> AsyncIterator[Store]:
    async with etcd_store(cluster) as connected:
        yield connected


@contextlib.asynccontextmanager
async def other_candidate(
    cluster: EtcdCluster, ttl: int = TTL, where: str = "here"
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that leads."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CANDIDATE,
        cluster.endpoints[0],
        str(ttl),
        where,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert await line_of(process) == "leads"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode().strip()


async def write_by(process: asyncio.subprocess.Process) -> str:
    assert process.stdin is not None
    process.stdin.write(b"write\n")
    return await line_of(process)


async def test_a_resigned_leader_is_followed_at_once(store: Store) -> None:
    first, second = Election(store, "test", "a", ttl=60), Election(store, "test", "b", ttl=60)
    async with first.leadership() as leadership:
        assert await first.holder() == "a"
        waiting = asyncio.create_task(second.run(record_holder := HolderOf(second)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.shield(waiting)
        assert leadership.certain
    async with asyncio.timeout(10):
        await waiting
    assert record_holder.names == ["b"]
    assert await first.holder() is None
    assert not leadership.certain


class HolderOf:
    """Body of a leader that looks who leads."""

    def __init__(self, election: Election) -> None:
        self._election = election
        self.names: list[str | None] = []

    async def __call__(self, leadership: Leadership) -> None:
        assert leadership.certain
        self.names.append(await self._election.holder())


async def test_a_killed_leader_elsewhere_is_followed_when_its_lease_ends(cluster: EtcdCluster, store: Store) -> None:
    async with other_candidate(cluster, where="elsewhere") as other:
        election = Election(store, "test", "here", ttl=TTL)
        other.kill()
        async with asyncio.timeout(TTL + 10), election.leadership():
            assert await election.holder() == "here"


async def test_a_killed_leader_here_is_followed_at_once(cluster: EtcdCluster, store: Store) -> None:
    async with other_candidate(cluster, LONG_TTL) as other:
        election = Election(store, "test", "here", ttl=60)
        former = await store.get("/elections/test")
        assert former is not None
        assert await election.holder() == "other"
        other.kill()
        async with asyncio.timeout(20), election.leadership() as leadership:
            assert await election.holder() == "here"
            # What the dead one may still have under way fails.
            with pytest.raises(CompareFailed):
                await store.commit(Txn().require_created("/elections/test", former.create_revision).put("/test/x", b""))
            await store.commit(leadership.guard(Txn().put("/test/x", b"")))
        with pytest.raises(LeaseNotFound):
            await store.renew_lease(former.lease)


async def test_who_waits_for_a_leader_here_sees_it_die(cluster: EtcdCluster, store: Store) -> None:
    async with other_candidate(cluster, LONG_TTL) as other, asyncio.timeout(30):
        leading = 0
        ran: list[str] = []

        async def body(leadership: Leadership) -> None:
            nonlocal leading
            leading += 1
            assert leading == 1
            ran.append(leadership.identity)
            await store.commit(leadership.guard(Txn().put("/test/leader", leadership.identity.encode())))
            leading -= 1

        waiting = [asyncio.create_task(Election(store, "test", f"w{i}", ttl=60).run(body)) for i in range(3)]
        assert await write_by(other) == "written"
        assert not any(task.done() for task in waiting)
        other.kill()
        await asyncio.gather(*waiting)
        assert sorted(ran) == ["w0", "w1", "w2"]


async def test_a_proof_against_a_former_leader_is_no_proof_against_the_next(store: Store) -> None:
    async with Election(store, "test", "former", ttl=60).leadership() as former:
        held = await store.get(former.key)
        assert held is not None
    async with Election(store, "test", "next", ttl=60).leadership() as following:
        await Election(store, "test", "late", ttl=60)._depose(held, "it was long ago")
        await store.commit(following.guard(Txn().put("/test/x", b"")))
        assert following.certain


async def test_a_paused_leader_that_wakes_up_writes_nothing(cluster: EtcdCluster, store: Store) -> None:
    async with other_candidate(cluster) as other:
        assert await write_by(other) == "written"
        other.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(TTL + 10), Election(store, "test", "here", ttl=60).leadership() as leadership:
            await store.commit(leadership.guard(Txn().put("/test/written-by", b"here")))
            other.send_signal(signal.SIGCONT)
            assert await write_by(other) == "refused"
            value = await store.get("/test/written-by")
            assert value is not None
            assert value.value == b"here"


async def test_a_leader_is_stopped_when_its_key_is_taken_and_runs_again(store: Store) -> None:
    started: asyncio.Queue[Leadership] = asyncio.Queue()
    stopped: list[Leadership] = []

    async def body(leadership: Leadership) -> None:
        started.put_nowait(leadership)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(leadership)

    running = asyncio.create_task(Election(store, "test", "here", ttl=60).run(body))
    async with asyncio.timeout(20):
        first = await started.get()
        await store.commit(Txn().delete(first.key))
        second = await started.get()
    assert stopped == [first]
    assert first.lost.is_set()
    assert second.revision > first.revision
    with pytest.raises(CompareFailed):
        await store.commit(first.guard(Txn().put("/test/x", b"")))
    await store.commit(second.guard(Txn().put("/test/x", b"")))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert stopped == [first, second]
    assert await store.get(second.key) is None


async def test_a_leader_without_etcd_stops_in_time(cluster: EtcdCluster, store: Store) -> None:
    (member,) = cluster.members
    async with Election(store, "test", "here", ttl=TTL).leadership() as leadership:
        await member.kill()
        async with asyncio.timeout(TTL + 1):
            await leadership.lost.wait()
        assert not leadership.certain
        await member.start()


async def test_a_failure_of_the_work_is_raised_after_resigning(store: Store) -> None:
    election = Election(store, "test", "here", ttl=60)

    async def body(leadership: Leadership) -> None:
        raise RuntimeError("work failed")

    with pytest.raises(RuntimeError, match="work failed"):
        await election.run(body)
    assert await election.holder() is None


async def test_many_candidates_one_leader_at_a_time(store: Store) -> None:
    leading = 0
    order: list[int] = []

    async def take_part(number: int) -> None:
        async def body(leadership: Leadership) -> None:
            nonlocal leading
            leading += 1
            assert leading == 1
            await store.commit(leadership.guard(Txn().put("/test/leader", str(number).encode())))
            order.append(number)
            leading -= 1

        await Election(store, "test", str(number), ttl=60).run(body)

    async with asyncio.timeout(60):
        await asyncio.gather(*map(take_part, range(10)))
    assert sorted(order) == list(range(10))


def test_bad_names_are_refused(store: Store) -> None:
    for name in ("", "a/b"):
        with pytest.raises(ValueError, match="election name"):
            Election(store, name, "here")
