"""What proves that the holder of an election key runs no more, against real processes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apimachinery.etcd import holder
from apimachinery.etcd.holder import Holder, ProcessId

SOON = 10.0
# Prints its ProcessId and waits for the end of its input.
PROGRAM = """
import dataclasses, sys
from apimachinery.etcd.holder import ProcessId
print(*dataclasses.astuple(ProcessId.own()), sep="|", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def id_of(process: subprocess.Popen[str]) -> ProcessId:
    assert process.stdout is not None
    scope, pid, started = process.stdout.readline().strip().split("|")
    return ProcessId(scope, int(pid), int(started))


def me() -> Holder:
    return Holder("me", ProcessId.own())


async def proof(of: Holder, judge: Holder) -> str:
    async with asyncio.timeout(SOON):
        return await of.wait_ended(judge)


async def unproven(of: Holder, judge: Holder) -> bool:
    """Whether nothing is known about the holder: everything that can be looked at now has been looked at."""
    waiting = asyncio.ensure_future(of.wait_ended(judge))
    for _ in range(10):
        await asyncio.sleep(0)
    pending = not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return pending


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_the_end_of_a_process_is_seen_when_it_comes(
    process: subprocess.Popen[str], number: signal.Signals
) -> None:
    other = Holder("other", id_of(process))
    waiting = asyncio.ensure_future(other.wait_ended(me()))
    await asyncio.sleep(0)
    assert not waiting.done()
    process.send_signal(number)
    async with asyncio.timeout(SOON):
        assert await waiting == "its process has ended"
    # Also of one that nobody has collected, and of one that is gone.
    assert process.returncode is None
    assert await proof(other, me())
    process.wait()
    assert await proof(other, me())


async def test_a_stopped_process_is_not_dead(process: subprocess.Popen[str]) -> None:
    other = Holder("other", id_of(process))
    process.send_signal(signal.SIGSTOP)
    await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert await unproven(other, me())


async def test_a_process_with_the_number_of_the_holder_is_another_one(process: subprocess.Popen[str]) -> None:
    running = id_of(process)
    assert await proof(Holder("other", dataclasses.replace(running, started=running.started - 1)), me())
    assert await unproven(Holder("other", running), me())


async def test_what_is_forbidden_to_look_at_is_not_dead(
    process: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(_: int) -> int:
        raise PermissionError

    running = id_of(process)
    monkeypatch.setattr(os, "pidfd_open", forbidden)
    assert await unproven(Holder("other", running), me())
    assert await proof(Holder("other", dataclasses.replace(running, started=running.started - 1)), me())
    # As with a /proc that hides the processes of others.
    monkeypatch.setattr(holder, "_started", lambda pid: None)
    assert await unproven(Holder("other", running), me())


async def test_nothing_is_known_about_a_process_elsewhere(process: subprocess.Popen[str]) -> None:
    elsewhere = dataclasses.replace(id_of(process), scope="another boot")
    process.kill()
    process.wait()
    assert await unproven(Holder("other", elsewhere), me())
    assert await unproven(Holder("other"), me())
    assert await unproven(Holder("other", ProcessId.own()), Holder("me"))


async def test_the_lock_of_the_directory_proves_that_who_had_it_is_gone() -> None:
    ours = Holder("me", sole_user=True)
    assert await proof(Holder("other", sole_user=True), ours) == "its lock of the store's directory is free"
    # A process that uses the same store without the lock may live on, and this process itself does.
    assert await unproven(Holder("other"), ours)
    assert await unproven(Holder("other", sole_user=True), Holder("me"))
    assert await unproven(ours, ours)


def test_descriptors_are_closed(process: subprocess.Popen[str]) -> None:
    async def look() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await Holder("other", running).wait_ended(me())

    running = id_of(process)
    asyncio.run(look())
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        asyncio.run(look())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    "original", [Holder("a"), Holder("b", sole_user=True), Holder("c", ProcessId("boot pid:[1]", 7, 123), True)]
)
def test_a_holder_is_read_as_it_was_written(original: Holder) -> None:
    assert Holder.decode(original.encode()) == original


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"host-12-abcd", Holder("host-12-abcd")),
        (b"12", Holder("12")),
        (b'["a"]', Holder('["a"]')),
        (b"\xff", Holder("�")),
        (b"{}", Holder("")),
        (b'{"identity": "a", "sole_user": 1}', Holder("a")),
        (b'{"identity": "a", "sole_user": true, "scope": "s", "pid": -1, "started": 1}', Holder("a", sole_user=True)),
        (
            b'{"identity": "a", "sole_user": true, "scope": "s", "pid": 4294967296, "started": 1}',
            Holder("a", None, True),
        ),
        (b'{"identity": "a", "sole_user": false, "scope": "s", "pid": 7}', Holder("a")),
    ],
)
def test_a_value_that_is_something_else_proves_nothing(value: bytes, expected: Holder) -> None:
    assert Holder.decode(value) == expected
