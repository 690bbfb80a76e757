"""Messages to the service manager reach path and abstract sockets; a manager that is gone hurts nobody."""

import asyncio
import socket
import uuid
from pathlib import Path

import pytest

from apimachinery.sdnotify import Notifier


def _receiver(address: str) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(address)
    receiver.settimeout(2)
    return receiver


@pytest.mark.parametrize("abstract", [False, True])
def test_states_arrive(tmp_path: Path, abstract: bool) -> None:
    name = f"@test-{uuid.uuid4()}" if abstract else str(tmp_path / "notify")
    with _receiver(name.replace("@", "\0", 1)) as receiver:
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": name})
        notifier.ready()
        notifier.status("two\nlines")
        notifier.stopping()
        assert [receiver.recv(100) for _ in range(3)] == [b"READY=1", b"STATUS=two lines", b"STOPPING=1"]


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "absent")}, {"NOTIFY_SOCKET": "tcp:1"}):
        Notifier.from_environment(environment).ready()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_watchdog_time(environment: dict[str, str], seconds: float) -> None:
    assert Notifier.from_environment({"NOTIFY_SOCKET": "/n", **environment}, pid=7).watchdog_seconds == seconds
    assert Notifier.from_environment(environment, pid=7).watchdog_seconds == 0.0


async def test_the_watchdog_is_fed_while_the_block_runs(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with _receiver(path) as receiver:
        async with Notifier(path, watchdog_seconds=0.02).watchdog():
            for _ in range(3):
                assert await asyncio.to_thread(receiver.recv, 100) == b"WATCHDOG=1"
        receiver.setblocking(False)
        while True:
            try:
                receiver.recv(100)
            except BlockingIOError:
                break
        await asyncio.sleep(0.05)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)
