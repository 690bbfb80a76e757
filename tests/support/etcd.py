"""Clusters of real etcd processes that a test may kill, stop, restart and compact.

Members listen on unix sockets of one short-lived directory, so no port is taken. The directory is in memory where the
system has such a place: a killed process loses nothing there that it would not lose on a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from etcd3 import etcdrpc

from apimachinery.etcd.client import EtcdClient
from apimachinery.etcd.process import clean_environment, die_with_parent
from apimachinery.store import Change, RevisionCompacted, Store, Txn, WatchBatch, WatchItem

START_TIMEOUT = 30.0


class EtcdMember:
    """One process. Its data outlive :meth:`kill`; :meth:`start` continues with them."""

    def __init__(self, home: Path, name: str, cluster: str, extra: list[str]) -> None:
        self.name = name
        self._home = home
        self._log = home / f"{name}.log"
        self._command = [
            "etcd",
            f"--name={name}",
            f"--data-dir={home / name}",
            f"--listen-client-urls=unix://{name}:0",
            f"--advertise-client-urls=unix://{name}:0",
            f"--listen-peer-urls=unix://{name}:1",
            f"--initial-advertise-peer-urls=unix://{name}:1",
            f"--initial-cluster={cluster}",
            "--heartbeat-interval=50",
            "--election-timeout=500",
            "--experimental-watch-progress-notify-interval=1s",
            "--logger=zap",
            "--log-level=warn",
            "--log-outputs=stderr",
            *extra,
        ]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def socket(self) -> Path:
        return self._home / f"{self.name}:0"

    @property
    def endpoint(self) -> str:
        return f"unix://{self.socket}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        assert not self.running
        for socket in (self.socket, self._home / f"{self.name}:1"):
            socket.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *die_with_parent(self._command),
                cwd=self._home,
                env=clean_environment(os.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def ready(self) -> None:
        """Returns when the member answers with the consent of a majority."""
        async with EtcdClient([self.endpoint], timeout=START_TIMEOUT) as client, Store(client) as store:
            try:
                await store.current_revision()
            except Exception as error:
                raise AssertionError(f"{self.name} does not come up: {error}; log:\n{self._log.read_text()}") from error

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    def pause(self) -> None:
        """The process stops in its tracks; its sockets stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # It may go on for a moment, and answer.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class EtcdCluster:
    """``size`` members, m0 to m<size-1>. Use :func:`etcd_cluster`."""

    def __init__(self, home: Path, size: int, extra: list[str]) -> None:
        names = [f"m{number}" for number in range(size)]
        peers = ",".join(f"{name}=unix://{name}:1" for name in names)
        self.home = home
        self.members = [EtcdMember(home, name, peers, extra) for name in names]

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    async def start(self) -> None:
        for member in self.members:
            await member.start()
        await asyncio.gather(*(member.ready() for member in self.members))

    async def stop(self) -> None:
        await asyncio.gather(*(member.kill() for member in self.members if member.running))

    async def leader(self) -> EtcdMember:
        """The member that the reachable ones take for the leader. Waits until there is one."""
        async with asyncio.timeout(START_TIMEOUT):
            while True:
                leaders = set()
                for member in self.members:
                    if member.running:
                        with contextlib.suppress(grpc.aio.AioRpcError):
                            status = await self._status(member)
                            if status.leader == status.header.member_id:
                                leaders.add(member)
                if len(leaders) == 1:
                    return leaders.pop()
                await asyncio.sleep(0.05)

    async def compact(self, revision: int) -> None:
        """Forgets what was before the revision."""
        async with EtcdClient(self.endpoints, timeout=START_TIMEOUT) as client:
            with contextlib.suppress(RevisionCompacted):  # more than that is forgotten already
                await client.call(lambda stubs: stubs.kv.Compact, etcdrpc.CompactionRequest(revision=revision))

    async def _status(self, member: EtcdMember) -> etcdrpc.StatusResponse:
        async with grpc.aio.insecure_channel(f"unix:{member.socket}") as channel:
            return await etcdrpc.MaintenanceStub(channel).Status(etcdrpc.StatusRequest(), timeout=1.0)


@contextlib.asynccontextmanager
async def etcd_cluster(size: int = 1, *extra: str) -> AsyncIterator[EtcdCluster]:
    """A running cluster; ``extra`` are flags for every member. Everything is gone afterwards."""
    memory = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(prefix="etcd-", dir=memory if os.access(memory, os.W_OK) else None))
    cluster = EtcdCluster(home, size, list(extra))
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
        shutil.rmtree(home)


@contextlib.asynccontextmanager
async def etcd_store(cluster: EtcdCluster, **options: float) -> AsyncIterator[Store]:
    """A store on the cluster; ``options`` are EtcdClient's ``timeout`` and ``attempt_timeout``."""
    async with EtcdClient(cluster.endpoints, **options) as client, Store(client) as store:
        yield store


async def put(store: Store, *keys: str) -> int:
    """Writes the keys, each with its name as the value, one after the other; returns the last revision."""
    return [await store.commit(Txn().put(key, key.encode())) for key in keys][-1]


async def next_item(items: AsyncIterator[WatchItem]) -> WatchItem:
    """What a watch gives next."""
    async with asyncio.timeout(10):
        return await anext(items)


async def next_changes(items: AsyncIterator[WatchItem], count: int) -> list[Change]:
    """The next so many changes of a watch, and those of the same batch."""
    changes: list[Change] = []
    while len(changes) < count:
        item = await next_item(items)
        if isinstance(item, WatchBatch):
            changes += item.changes
    return changes
