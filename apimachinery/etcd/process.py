"""A private etcd of one member for a data directory: started, watched over, restarted and stopped by its server.

It listens on unix sockets in a directory that only its owner may enter, so there is no port to choose and nothing to
reach from outside. It dies with its server (PR_SET_PDEATHSIG); should one survive all the same, the next server stops
it. A file lock keeps two servers from using one directory.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import structlog
from tenacity import AsyncRetrying, retry_if_result, wait_fixed

from apimachinery.errors import ApiError
from apimachinery.etcd.client import MAX_SOCKET_PATH, EtcdClient
from apimachinery.etcd.values import read_request

_log = structlog.get_logger(__name__)

# etcd takes unix URLs only in the form host:port and makes that the file name, relative to its working directory.
CLIENT_SOCKET: Final = "client:0"
PEER_SOCKET: Final = "peer:0"

STOP_TIMEOUT: Final = 10.0
# Seconds of life after which a crash counts as the first one again.
STABLE_AFTER: Final = 60.0
MAX_RESTART_DELAY: Final = 10.0


class EtcdProcessError(Exception):
    """The private etcd cannot be started; the message says why and what the operator can do."""


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """What the operator may choose.

    quota_bytes:      size of the database at which etcd stops taking writes; at most 8 GiB is sensible.
    retention:        how long old revisions stay readable: the longest pause that a watch survives without a reset.
    progress_seconds: how often an idle watch learns the store's revision.
    """

    binary: str = "etcd"
    quota_bytes: int = 4 << 30
    retention: str = "10m"
    progress_seconds: int = 5
    start_timeout: float = 60.0


def arguments(settings: EtcdSettings, data_dir: Path, version: tuple[int, int]) -> list[str]:
    """etcd's command line after the program's name, for the given (major, minor) version."""
    progress = "experimental-watch-progress-notify-interval" if version < (3, 6) else "watch-progress-notify-interval"
    flags = {
        "name": "default",
        "data-dir": str(data_dir),
        "listen-client-urls": f"unix://{CLIENT_SOCKET}",
        "advertise-client-urls": f"unix://{CLIENT_SOCKET}",
        "listen-peer-urls": f"unix://{PEER_SOCKET}",
        "initial-advertise-peer-urls": f"unix://{PEER_SOCKET}",
        "initial-cluster": f"default=unix://{PEER_SOCKET}",
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": settings.retention,
        "quota-backend-bytes": str(settings.quota_bytes),
        "snapshot-count": "10000",
        # A single member elects itself, so nothing is risked by not waiting the default second at every start.
        "heartbeat-interval": "50",
        "election-timeout": "250",
        progress: f"{settings.progress_seconds}s",
        "log-level": "warn",
        "log-outputs": "stderr",
    }
    if version < (3, 5):
        flags["logger"] = "zap"
    return [f"--{name}={value}" for name, value in flags.items()]


def parse_version(output: str) -> tuple[int, int]:
    """(major, minor) of what ``etcd --version`` prints. ValueError if it is something else."""
    match = re.search(r"^etcd Version: (\d+)\.(\d+)\.", output, re.MULTILINE)
    if match is None:
        raise ValueError(f"not the output of etcd --version: {output[:100]!r}")
    return int(match[1]), int(match[2])


def restart_delay(crashes: int) -> float:
    """Seconds before the restart after the given number of crashes in a row (1, 2, ...)."""
    return min(MAX_RESTART_DELAY, 0.1 * 2.0 ** (crashes - 1))


def find_processes(data_dir: Path, proc: Path = Path("/proc")) -> list[int]:
    """Ids of the processes that were started with this data directory, as their command lines say."""
    wanted = f"--data-dir={data_dir}".encode()
    found = []
    for directory in proc.iterdir():
        if not directory.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it may end while we look
            if wanted in (directory / "cmdline").read_bytes().split(b"\0"):
                found.append(int(directory.name))
    return sorted(found)


def die_with_parent(command: list[str]) -> list[str]:
    """The command, wrapped so that the kernel kills it when its parent dies, if setpriv(1) is there to ask for it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without ETCD_* variables, which etcd would take for flags, and without the service manager's
    socket, on which etcd would call itself ready in the server's name."""
    return {
        name: value for name, value in environment.items() if not name.startswith("ETCD_") and name != "NOTIFY_SOCKET"
    }


class EtcdProcess:
    """Use as ``async with EtcdProcess(directory) as etcd: EtcdClient([etcd.endpoint])``."""

    def __init__(self, data_dir: Path, settings: EtcdSettings | None = None) -> None:
        self._settings = settings or EtcdSettings()
        self._home = data_dir.resolve() / "etcd"
        self._data = self._home / "data"
        self._lock: TextIO | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._logs: asyncio.Task[None] | None = None
        self._last_lines: collections.deque[str] = collections.deque(maxlen=10)
        self.restarts = 0

    @property
    def endpoint(self) -> str:
        """For EtcdClient and ``etcdctl --endpoints``."""
        return f"unix://{self._home / CLIENT_SOCKET}"

    @property
    def pid(self) -> int | None:
        """Process id; None while it does not run."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def __aenter__(self) -> EtcdProcess:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Returns when etcd answers. Raises EtcdProcessError."""
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._home.chmod(0o700)
            socket_path = len(os.fsencode(self._home / CLIENT_SOCKET))
            if socket_path > MAX_SOCKET_PATH:
                raise EtcdProcessError(
                    f"{self._home}: path of the socket has {socket_path} bytes, the system takes {MAX_SOCKET_PATH}; "
                    "choose a shorter data directory"
                )
            self._take_lock()
        except OSError as error:
            raise EtcdProcessError(f"{error.filename or self._home}: {error.strerror}") from error
        try:
            version = await self._version()
            await self._stop_orphans()
            await self._spawn(version)
            await self._wait_until_ready()
        except BaseException:
            await self._terminate()
            self._release_lock()
            raise
        self._supervisor = asyncio.create_task(self._supervise(version))

    async def stop(self) -> None:
        """Stops etcd (cleanly if it can) and releases the directory."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        await self._terminate()
        self._release_lock()

    def _take_lock(self) -> None:
        lock = (self._home / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise EtcdProcessError(f"{self._home} is in use by process {holder or '(unknown)'}") from None
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _version(self) -> tuple[int, int]:
        binary = self._settings.binary
        try:
            process = await asyncio.create_subprocess_exec(
                binary, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
        except OSError as error:
            raise EtcdProcessError(f"{binary}: {error.strerror}; is etcd (package etcd-server) installed?") from error
        output, _ = await process.communicate()
        try:
            return parse_version(output.decode(errors="replace"))
        except ValueError as error:
            raise EtcdProcessError(f"{binary}: {error}") from None

    async def _stop_orphans(self) -> None:
        """Ends an etcd that a killed server left behind. Its directory lock is ours, so no live server owns it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            orphans = find_processes(self._data)
            for pid in orphans:
                _log.warning("stopping etcd left behind by a former server", pid=pid, signal=number.name)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = asyncio.get_running_loop().time() + STOP_TIMEOUT
            while find_processes(self._data):
                if asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(0.02)
            else:
                return
        raise EtcdProcessError(f"{self._data}: in use by etcd process {find_processes(self._data)}, which does not end")

    async def _spawn(self, version: tuple[int, int]) -> None:
        command = [self._settings.binary, *arguments(self._settings, self._data, version)]
        self._last_lines.clear()
        # A killed etcd leaves its sockets, and a new one refuses to listen on them. Nobody uses them: the lock is ours.
        for name in (CLIENT_SOCKET, PEER_SOCKET):
            (self._home / name).unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *die_with_parent(command),
            cwd=self._home,
            env=clean_environment(os.environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # A terminal's Ctrl-C is for the server, which stops its clients before its store.
            start_new_session=True,
        )
        self._logs = asyncio.create_task(self._read_log(self._process))

    async def _wait_until_ready(self) -> None:
        assert self._logs is not None
        timeout = self._settings.start_timeout
        ready = asyncio.create_task(self._ask())
        try:
            await asyncio.wait({ready, self._logs}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                what = "ended" if self._logs.done() else f"does not answer after {timeout:g} s"
                raise EtcdProcessError(f"etcd in {self._home} {what}: {' | '.join(self._last_lines) or 'no output'}")
            await ready
        except ApiError as error:
            raise EtcdProcessError(f"etcd in {self._home}: {error}") from error
        finally:
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)

    async def _ask(self) -> None:
        """Returns once etcd has listened, elected itself and answered."""
        socket = self._home / CLIENT_SOCKET

        async def listening() -> bool:
            return socket.exists()

        await AsyncRetrying(retry=retry_if_result(lambda there: not there), wait=wait_fixed(0.01))(listening)
        timeout = self._settings.start_timeout
        async with EtcdClient([self.endpoint], timeout=timeout, attempt_timeout=timeout) as client:
            await client.call(lambda stubs: stubs.kv.Range, read_request("/"))

    async def _supervise(self, version: tuple[int, int]) -> None:
        loop = asyncio.get_running_loop()
        crashes = 0
        while True:
            started = loop.time()
            assert self._process is not None
            code = await self._process.wait()
            await self._drain_log()
            crashes = 1 if loop.time() - started > STABLE_AFTER else crashes + 1
            delay = restart_delay(crashes)
            _log.error(
                "etcd ended, restarting it",
                code=code,
                delay_seconds=delay,
                output=list(self._last_lines),
                crashes=crashes,
            )
            await asyncio.sleep(delay)
            try:
                await self._spawn(version)
            except OSError as error:
                _log.error("etcd cannot be started", error=str(error))
                continue
            self.restarts += 1

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        """Passes etcd's log on until etcd ends. Its warnings are mostly about slow disks, and many."""
        assert process.stderr is not None
        while line := await process.stderr.readline():
            text = line.decode(errors="replace").strip()
            try:
                entry = json.loads(text)
                level, message = str(entry.pop("level")), str(entry.pop("msg"))
            except (ValueError, KeyError, AttributeError):
                level, message, entry = "debug", text, {}  # told when etcd ends, if it does
            self._last_lines.append(f"{message} {entry.get('error', '')}".strip())
            log = _log.debug if level in ("debug", "info", "warn") else _log.error
            log("etcd says", message=message, **{f"etcd_{key}": value for key, value in entry.items()})

    async def _drain_log(self) -> None:
        if self._logs is not None:
            await self._logs

    async def _terminate(self) -> None:
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT):
                    await self._process.wait()
                    break
        await self._drain_log()
