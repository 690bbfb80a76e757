"""Executables of this project as child processes of a test."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from apimachinery.etcd.process import die_with_parent

BIN = Path(sys.executable).parent
TIMEOUT = 30.0


class ServerProcess:
    """`ironcore-net-server` on a unix socket; may be killed and started again. Use `server_process`."""

    def __init__(self, socket: Path, log: Path, etcd_endpoints: list[str], *arguments: str) -> None:
        self.socket = socket
        self.log = log
        flags = [f"--etcd-endpoints={endpoint}" for endpoint in etcd_endpoints]
        listen = f"--listen={self.target}"
        self._command = [str(BIN / "ironcore-net-server"), listen, *flags, *arguments]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def target(self) -> str:
        return f"unix:{self.socket}"

    async def start(self) -> None:
        """Returns when it reports that it is ready."""
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *die_with_parent(self._command), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            async with asyncio.timeout(TIMEOUT):
                # As text and as JSON.
                while not re.search(rb'[ "]ready[ "]', self.log.read_bytes()[begin:]):
                    if self._process.returncode is not None:
                        raise AssertionError(f"the server ended:\n{self.log.read_text()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"the server did not become ready:\n{self.log.read_text()}") from None

    async def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """SIGKILL if it runs."""
        if self._process is not None and self._process.returncode is None:
            await self.kill()


@contextlib.asynccontextmanager
async def server_process(
    directory: Path, name: str, etcd_endpoints: list[str], *arguments: str
) -> AsyncIterator[ServerProcess]:
    """A ready server whose socket and log are in `directory`; killed at the end."""
    server = ServerProcess(directory / f"{name}.sock", directory / f"{name}.log", etcd_endpoints, *arguments)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
