"""HTTP/2 peers that finish the handshake and then never say a word, as a frozen process or a dead host does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

# RFC 9113: the connection preface, and empty SETTINGS frames without and with ACK.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS_ACK = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"


class SilentServer:
    """What a silent server saw of its clients."""

    def __init__(self) -> None:
        self.connections = 0
        # Set when a client has given a connection up.
        self.abandoned = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await _shake_hands(reader, writer, b"")
            while await reader.read(65536):
                pass
        except OSError:
            pass
        finally:
            self.abandoned.set()
            writer.close()


@contextlib.asynccontextmanager
async def silent_server(socket: Path) -> AsyncIterator[SilentServer]:
    """Listens on a unix socket."""
    silent = SilentServer()
    server = await asyncio.start_unix_server(silent.serve, socket)
    try:
        yield silent
    finally:
        server.close()


async def silent_client(socket: Path) -> float:
    """Seconds until the server at a unix socket gave up on a client that shook hands and fell silent."""
    reader, writer = await asyncio.open_unix_connection(socket)
    await _shake_hands(reader, writer, _PREFACE)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass
    writer.close()
    return loop.time() - begin


async def _shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, preface: bytes) -> None:
    writer.write(preface + _SETTINGS)
    await reader.read(65536)
    writer.write(_SETTINGS_ACK)
    await writer.drain()
