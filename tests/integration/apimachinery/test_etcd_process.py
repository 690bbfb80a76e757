"""The private etcd: one per directory, back after every crash, gone with its server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from apimachinery.etcd.client import EtcdClient
from apimachinery.etcd.process import EtcdProcess, EtcdProcessError, EtcdSettings, arguments, find_processes
from apimachinery.store import Store, Txn

# A server that writes a key, says so, and then does nothing until it is killed.
SERVER = """
import asyncio, sys
from pathlib import Path
from apimachinery.etcd.client import EtcdClient
from apimachinery.etcd.process import EtcdProcess
from apimachinery.logs import configure_logging
from apimachinery.store import Store, Txn

async def main():
    configure_logging("warning")
    async with EtcdProcess(Path(sys.argv[1])) as etcd, EtcdClient([etcd.endpoint]) as client, Store(client) as store:
        await store.commit(Txn().put(sys.argv[2], b"1"))
        print("written", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def keys(etcd: EtcdProcess) -> list[str]:
    async with EtcdClient([etcd.endpoint]) as client, Store(client) as store:
        return [item.key for item in (await store.list("/test/")).items]


def ip_sockets(pid: int) -> list[str]:
    """Local addresses of the TCP and UDP sockets that a process has, as /proc shows them."""
    process = Path(f"/proc/{pid}")
    files = [str(link.readlink()) for link in (process / "fd").iterdir()]
    inodes = {name[8:-1] for name in files if name.startswith("socket:[")}
    assert inodes
    rows = [
        line.split()
        for table in ("tcp", "tcp6", "udp", "udp6")
        for line in (process / "net" / table).read_text().splitlines()[1:]
    ]
    return [columns[1] for columns in rows if columns[9] in inodes]


async def ended(data: Path) -> None:
    async with asyncio.timeout(10):
        while find_processes(data):  # noqa: ASYNC110 - nobody announces the death of another's child
            await asyncio.sleep(0.02)


async def run_server_and_kill_it(directory: Path, key: str) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, str(directory), key, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        async with asyncio.timeout(30):
            assert await server.stdout.readline() == b"written\n"
    finally:
        server.kill()
        await server.wait()


async def test_data_outlive_a_clean_stop(tmp_path: Path) -> None:
    async with EtcdProcess(tmp_path) as etcd, EtcdClient([etcd.endpoint]) as client, Store(client) as store:
        await store.commit(Txn().put("/test/a", b"1"))
    assert etcd.pid is None
    assert find_processes(tmp_path / "etcd" / "data") == []
    async with EtcdProcess(tmp_path) as etcd:
        assert await keys(etcd) == ["/test/a"]


async def test_only_its_owner_may_reach_it(tmp_path: Path) -> None:
    async with EtcdProcess(tmp_path) as etcd:
        assert stat.S_IMODE((tmp_path / "etcd").stat().st_mode) == 0o700
        assert etcd.pid is not None
        assert ip_sockets(etcd.pid) == []


async def test_it_comes_back_after_every_crash(tmp_path: Path) -> None:
    async with EtcdProcess(tmp_path) as etcd, EtcdClient([etcd.endpoint], timeout=30) as client, Store(client) as store:
        for crash in range(3):
            assert etcd.pid is not None
            os.kill(etcd.pid, signal.SIGKILL)
            await store.commit(Txn().put(f"/test/{crash}", b"1"))
        assert etcd.restarts == 3
        assert await keys(etcd) == ["/test/0", "/test/1", "/test/2"]


async def test_a_killed_server_can_be_started_again_at_once(tmp_path: Path) -> None:
    for key in ("/test/a", "/test/b", "/test/c"):
        await run_server_and_kill_it(tmp_path, key)
    async with EtcdProcess(tmp_path) as etcd:
        assert await keys(etcd) == ["/test/a", "/test/b", "/test/c"]


async def test_etcd_dies_with_its_server(tmp_path: Path) -> None:
    await run_server_and_kill_it(tmp_path, "/test/a")
    await ended(tmp_path / "etcd" / "data")


async def test_an_etcd_left_behind_is_stopped(tmp_path: Path) -> None:
    async with EtcdProcess(tmp_path) as etcd, EtcdClient([etcd.endpoint]) as client, Store(client) as store:
        await store.commit(Txn().put("/test/a", b"1"))
    home = tmp_path / "etcd"
    command = ["etcd", *arguments(EtcdSettings(), home / "data", (3, 4))]
    orphan = await asyncio.create_subprocess_exec(*command, cwd=home, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with EtcdProcess(tmp_path) as etcd:
            async with asyncio.timeout(10):
                await orphan.wait()
            assert await keys(etcd) == ["/test/a"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            orphan.kill()
        await orphan.wait()


async def test_a_directory_has_one_server(tmp_path: Path) -> None:
    async with EtcdProcess(tmp_path) as etcd:
        with pytest.raises(EtcdProcessError, match=f"in use by process {os.getpid()}"):
            await EtcdProcess(tmp_path).start()
        assert await keys(etcd) == []
    async with EtcdProcess(tmp_path):
        pass


async def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(EtcdProcessError, match="/no/etcd: No such file or directory; is etcd"):
        await EtcdProcess(tmp_path, EtcdSettings(binary="/no/etcd")).start()
    with pytest.raises(EtcdProcessError, match="/bin/echo: not the output of etcd --version"):
        await EtcdProcess(tmp_path, EtcdSettings(binary="/bin/echo")).start()
    (tmp_path / "file").write_text("")
    with pytest.raises(EtcdProcessError, match="file"):
        await EtcdProcess(tmp_path / "file").start()
    with pytest.raises(EtcdProcessError, match="choose a shorter data directory"):
        await EtcdProcess(tmp_path / ("x" * 100)).start()
    with pytest.raises(EtcdProcessError, match=r"ended: .*invalid duration"):
        await EtcdProcess(tmp_path, EtcdSettings(retention="soon")).start()
    async with EtcdProcess(tmp_path) as etcd:
        assert await keys(etcd) == []
