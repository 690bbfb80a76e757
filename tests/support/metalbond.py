"""Parties of the route distribution protocol for tests: recording backends, raw peers that may misbehave, processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from metalbond import codec
from metalbond.client import MetalbondClient
from metalbond.codec import Frame, Hello, MessageType
from metalbond.server import MetalbondServer, ServerConfig
from metalbond.types import Destination, HopType, NextHop, Route

WAIT = 15.0


async def eventually(condition: Callable[[], object], seconds: float = WAIT) -> None:
    """Wait for a state that nothing announces. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 # of another process, or not announced
            await asyncio.sleep(0.01)


def visible_routes(own: set[Route], vnis: set[int], others: set[Route]) -> set[Route]:
    """What a client's backend must have: its own announcements, its subscriptions, the announcements of all others."""
    rivals = {(vni, destination) for vni, destination, hop in own if hop.type == HopType.STANDARD}
    visible = {route for route in own if route.hop.type == HopType.LOADBALANCER_TARGET}
    visible |= {route for route in others - own if route.hop.type != HopType.STANDARD or route[:2] not in rivals}
    return {route for route in visible if route.vni in vnis}


class RecordingBackend:
    """Holds the routes that a client delivers, and the history; refuses repeated transitions."""

    def __init__(self) -> None:
        self.routes: set[Route] = set()
        self.history: list[tuple[bool, Route]] = []
        self._changed = asyncio.Event()

    def route_added(self, vni: int, destination: Destination, hop: NextHop) -> None:
        self._record(True, Route(vni, destination, hop))

    def route_removed(self, vni: int, destination: Destination, hop: NextHop) -> None:
        self._record(False, Route(vni, destination, hop))

    def _record(self, added: bool, route: Route) -> None:
        self.history.append((added, route))
        assert added != (route in self.routes), f"no transition: {added} {route}"
        (self.routes.add if added else self.routes.discard)(route)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def removals(self) -> list[Route]:
        return [route for added, route in self.history if not added]

    async def wait(self, condition: Callable[[set[Route]], object], seconds: float = WAIT) -> None:
        """Until the routes fulfil the condition. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not condition(self.routes):
                await self._changed.wait()

    async def wait_for(self, *routes: Route) -> None:
        await self.wait(lambda have: have == set(routes))


@contextlib.asynccontextmanager
async def running_server(config: ServerConfig | None = None, listen: str = "[::1]:0") -> AsyncIterator[MetalbondServer]:
    server = MetalbondServer(config)
    await server.start([listen])
    try:
        yield server
    finally:
        await server.close()


@contextlib.asynccontextmanager
async def running_client(
    servers: Sequence[str], backend: RecordingBackend | None = None, **options: object
) -> AsyncIterator[tuple[MetalbondClient, RecordingBackend]]:
    backend = backend or RecordingBackend()
    settings: dict[str, object] = {"keepalive": 1, "settle_seconds": 0.3, **options}
    client = MetalbondClient(servers, backend=backend, **settings)  # type: ignore[arg-type]
    await client.start()
    try:
        yield client, backend
    finally:
        await client.close()


class RawPeer:
    """One end of a connection, byte for byte."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._rest = b""
        self._frames: list[Frame] = []

    @classmethod
    async def connect(cls, address: str, *, receive_buffer: int = 0, segment: int = 0) -> RawPeer:
        """`segment`: largest TCP segment in bytes that it accepts."""
        host, _, port = address.rpartition(":")
        sock = socket.socket(socket.AF_INET6)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if segment:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host.strip("[]"), int(port)))
        return cls(sock)

    @classmethod
    async def connect_ipv4(cls, address: str) -> RawPeer:
        host, _, port = address.rpartition(":")
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        return cls(sock)

    async def send(self, *frames: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, b"".join(frames))

    async def receive_bytes(self, size: int = 65535, seconds: float = WAIT) -> bytes:
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().sock_recv(self.sock, size)

    async def receive(self, seconds: float = WAIT) -> Frame | None:
        """Next frame, None when the other side has closed or reset the connection. Raises TimeoutError."""
        while not self._frames:
            try:
                data = await self.receive_bytes(seconds=seconds)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._rest += data
            self._frames, used = codec.split(self._rest)
            self._rest = self._rest[used:]
        return self._frames.pop(0)

    async def receive_updates(self, count: int) -> list[tuple[bool, Route]]:
        """The next updates; keepalives between them are skipped."""
        updates: list[tuple[bool, Route]] = []
        while len(updates) < count:
            frame = await self.receive()
            assert frame is not None, f"closed after {len(updates)} of {count} updates"
            if frame[0] is MessageType.UPDATE:
                updates.append(codec.decode_update(frame[1]))
        return updates

    async def closed(self, seconds: float = WAIT) -> None:
        """Read until the other side closes. Raises TimeoutError."""
        while await self.receive(seconds) is not None:
            pass

    async def establish(self, hello: Hello | None = None) -> Hello:
        """The client's part of the handshake; the server's HELLO."""
        await self.send(codec.encode_hello(hello or Hello(5)))
        answer = await self.receive()
        assert answer is not None and answer[0] is MessageType.HELLO
        await self.send(codec.KEEPALIVE)
        assert await self.receive() == (MessageType.KEEPALIVE, b"")
        return codec.decode_hello(answer[1])

    async def accept(self, hello: Hello | None = None) -> Hello:
        """The server's part of the handshake; the client's HELLO."""
        first = await self.receive()
        assert first is not None and first[0] is MessageType.HELLO
        await self.send(codec.encode_hello(hello or Hello(1, is_server=True)))
        assert await self.receive() == (MessageType.KEEPALIVE, b"")
        await self.send(codec.KEEPALIVE)
        return codec.decode_hello(first[1])

    def close(self) -> None:
        self.sock.close()


class RawServer:
    """A listening socket whose connections a test plays itself."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("::1", 0), family=socket.AF_INET6)
        self._sock.setblocking(False)
        self.address = f"[::1]:{self._sock.getsockname()[1]}"
        self._peers: list[RawPeer] = []

    async def next_peer(self, seconds: float = WAIT) -> RawPeer:
        async with asyncio.timeout(seconds):
            sock, _ = await asyncio.get_running_loop().sock_accept(self._sock)
        self._peers.append(RawPeer(sock))
        return self._peers[-1]

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        self._sock.close()


class Process:
    """The program `metalbond` as a child process whose log is read line by line."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None, prefix: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "metalbond.main", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, **(environment or {})},
        )
        self.log: list[dict[str, object]] = []
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.text += line
            with contextlib.suppress(json.JSONDecodeError):
                self.log.append(json.loads(line))

    async def logged(self, event: str, **fields: object) -> dict[str, object]:
        """The first log entry with this event and these fields. Raises TimeoutError."""
        found: list[dict[str, object]] = []

        def look() -> bool:
            found[:] = [e for e in self.log if e.get("event") == event and fields.items() <= e.items()]
            return bool(found)

        try:
            await eventually(look)
        except TimeoutError:
            raise TimeoutError(f"no {event!r} {fields} in the log:\n{self.text}") from None
        return found[0]

    async def stop_code(self) -> int:
        """Its exit code when it ends by itself. Raises TimeoutError."""
        await eventually(lambda: self._process.poll() is not None, 60)
        return await self.stop()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to this process; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            await eventually(lambda: self._process.poll() is not None)
        finally:
            if self._process.poll() is None:
                self._process.kill()
            code = self._process.wait()
            self._reader.join(5)
            assert self._process.stderr is not None
            self._process.stderr.close()
        return code


@contextlib.asynccontextmanager
async def process(
    *arguments: str, environment: dict[str, str] | None = None, prefix: Sequence[str] = ()
) -> AsyncIterator[Process]:
    """`prefix`: words of a command that runs the program."""
    child = Process(*arguments, environment=environment, prefix=prefix)
    try:
        yield child
    finally:
        await child.stop(signal.SIGKILL)


@contextlib.asynccontextmanager
async def server_process(listen: str = "[::1]:0", *arguments: str) -> AsyncIterator[tuple[Process, str]]:
    """A server in its own process, and its address."""
    async with process("server", "--listen", listen, "--keepalive", "1", *arguments) as child:
        addresses = (await child.logged("listening"))["addresses"]
        assert isinstance(addresses, list)
        yield child, addresses[0]
