"""The frame of a daemon: readiness, signals and exit codes as the service manager sees them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PROGRAM = """
import asyncio, sys
from apimachinery.daemon import run_daemon
from apimachinery.errors import Unavailable

async def main(notifier):
    notifier.ready()
    match sys.argv[1]:
        case "returns":
            return
        case "fails":
            raise Unavailable("the store is away")
        case "breaks":
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(10))
                raise KeyError("defect")
        case "waits":
            try:
                await asyncio.Event().wait()
            finally:
                print("cleaned up", flush=True)
        case "hangs":
            try:
                await asyncio.Event().wait()
            finally:
                print("hanging", flush=True)
                await asyncio.sleep(60)

sys.exit(run_daemon(main))
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(20)
        yield receiver


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return [sys.executable, str(path)]


def start(program: list[str], tmp_path: Path, what: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*program, what],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("what", "code", "told", "traceback"),
    [("returns", 0, "", False), ("fails", 1, "the store is away", False), ("breaks", 1, "defect", True)],
)
def test_ends(
    manager: socket.socket, program: list[str], tmp_path: Path, what: str, code: int, told: str, traceback: bool
) -> None:
    with start(program, tmp_path, what) as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert manager.recv(100) == b"READY=1"
    assert told in out + err
    assert ("Traceback" in out + err) is traceback


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_cleanly(
    manager: socket.socket, program: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    with start(program, tmp_path, "waits") as process:
        assert manager.recv(100) == b"READY=1"
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    assert manager.recv(100) == b"STOPPING=1"
    assert process.returncode == 0
    assert "cleaned up" in out


def test_a_second_signal_ends_at_once(manager: socket.socket, program: list[str], tmp_path: Path) -> None:
    with start(program, tmp_path, "hangs") as process:
        assert manager.recv(100) == b"READY=1"
        process.terminate()
        assert process.stdout is not None
        assert any("hanging" in line for line in process.stdout)
        process.terminate()
        process.wait(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM


def test_the_watchdog_is_fed(manager: socket.socket, program: list[str], tmp_path: Path) -> None:
    with start(program, tmp_path, "waits", WATCHDOG_USEC="100000") as process:
        messages = [manager.recv(100) for _ in range(4)]
        process.terminate()
        process.communicate(timeout=30)
    assert sorted(messages) == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"WATCHDOG=1"]
