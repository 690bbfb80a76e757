"""A proxy between a gRPC client and a unix socket that can lose, or hold back, what passes through it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

# RFC 9113: connection preface, length of a frame's header, and frame types.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER = 9
_DATA = 0
_RST_STREAM = 3


class _Frames:
    """Cuts a byte stream of HTTP/2 into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Complete frames, header included; the client's preface comes as one, too."""
        self._rest += data
        while True:
            if _PREFACE.startswith(self._rest[: len(_PREFACE)]) and self._rest:
                size = len(_PREFACE)
            else:
                size = _HEADER + int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < max(size, _HEADER):
                return
            yield self._rest[:size]
            self._rest = self._rest[size:]


def _type(frame: bytes) -> int:
    return frame[3]


class StreamProxy:
    """Listens on ``path`` and forwards to ``target``. Use :func:`stream_proxy`."""

    def __init__(self, path: Path, target: Path) -> None:
        self.endpoint = f"unix://{path}"
        self._path = path
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        # Requests wait here; set: they pass.
        self._requests = asyncio.Event()
        self._requests.set()
        self._lose_answers = False
        self._ghosts = False
        # Set when something was held back or lost.
        self.struck = asyncio.Event()
        # Set when a request that had been held back was answered.
        self.ghost_answered = asyncio.Event()

    def lose_answers(self) -> None:
        """Requests arrive, their answers do not."""
        self._lose_answers = True

    def hold_requests(self) -> None:
        """Nothing that the client sends arrives until :meth:`release_requests`, and never that it gave a call up."""
        self._ghosts = True
        self._requests.clear()

    def release_requests(self) -> None:
        """What was held back arrives now, in order."""
        self._requests.set()

    def cut(self) -> None:
        """Ends all connections, and heals."""
        self._lose_answers = False
        for writer in list(self._writers):
            writer.transport.abort()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.release_requests()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            target_reader, target_writer = await asyncio.open_unix_connection(self._target)
            self._writers.add(target_writer)
            try:
                await asyncio.gather(self._requests_to(reader, target_writer), self._answers_to(target_reader, writer))
            finally:
                self._writers.discard(target_writer)
                target_writer.close()
        except OSError:
            pass  # either side hung up
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _requests_to(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = _Frames()
        while data := await reader.read(65536):
            for frame in frames.feed(data):
                if not self._requests.is_set():
                    self.struck.set()
                    await self._requests.wait()
                if not (self._ghosts and _type(frame) == _RST_STREAM):
                    writer.write(frame)
            await writer.drain()
        writer.close()

    async def _answers_to(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = _Frames()
        while data := await reader.read(65536):
            for frame in frames.feed(data):
                if self._ghosts and self._requests.is_set() and _type(frame) == _DATA:
                    self.ghost_answered.set()
            if self._lose_answers:
                self.struck.set()
                continue
            writer.write(data)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def stream_proxy(path: Path, target: Path) -> AsyncIterator[StreamProxy]:
    """A running proxy."""
    proxy = StreamProxy(path, target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
