"""A world without time and sockets: real servers and clients of the route distribution protocol on an event loop whose
clock jumps to the next event, connected by streams that delay, cut, stall and break as a seed says. Same seed, same
run.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

SERVERS = "fd00:ff::1"
"""Where servers dial from."""
BUFFER = 4096
"""Bytes that a direction of a stream holds before its writer must wait."""


class _Clock:
    """What the loop asks for events: there are none but timers, so waiting is a jump."""

    def __init__(self) -> None:
        self.now = 1000.0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("the simulation waits for something that never comes")
        self.now += max(0.0, timeout)
        return []


class SimulatedLoop(asyncio.BaseEventLoop):
    """Readers and writers may be registered for `SimulatedSocket`s only."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Clock()
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._selector.now

    def _process_events(self, events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def add_reader(self, sock: Any, callback: Callable[..., Any], *arguments: Any) -> None:
        sock.watch("read", callback, arguments)

    def add_writer(self, sock: Any, callback: Callable[..., Any], *arguments: Any) -> None:
        sock.watch("write", callback, arguments)

    def remove_reader(self, sock: Any) -> bool:
        return bool(sock.watchers.pop("read", None))

    def remove_writer(self, sock: Any) -> bool:
        return bool(sock.watchers.pop("write", None))

    async def sock_accept(self, listener: Any) -> tuple[Any, Any]:
        return await listener.accept()

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        return [(socket.AF_INET6, socket.SOCK_STREAM, 0, "", (host, port, 0, 0))]


class SimulatedSocket:
    """One end of a stream."""

    def __init__(self, world: World, local: tuple[str, int], remote: tuple[str, int]) -> None:
        self._world = world
        self._loop = asyncio.get_running_loop()
        self._local, self._remote = local, remote
        self.peer: SimulatedSocket | None = None
        self.watchers: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._arrived: deque[bytes] = deque()
        self._under_way = 0
        self._last_arrival = 0.0
        self.ended: OSError | bool = False
        self.closed = False

    # What connections ask of a socket

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def setsockopt(self, *_: Any) -> None: ...

    def getpeername(self) -> tuple[Any, ...]:
        return (*self._remote, 0, 0)

    def getsockname(self) -> tuple[Any, ...]:
        return (*self._local, 0, 0)

    def recv(self, size: int) -> bytes:
        if self._arrived:
            data = self._arrived.popleft()
            if len(data) > size:
                self._arrived.appendleft(data[size:])
            return data[:size]
        if isinstance(self.ended, OSError):
            raise self.ended
        if self.ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        if isinstance(self.ended, OSError):
            raise self.ended
        peer = self.peer
        assert peer is not None
        room = BUFFER - peer._under_way - sum(map(len, peer._arrived))
        if room <= 0:
            self._loop.call_later(0.005, self._poll, "write")
            raise BlockingIOError
        piece = bytes(data[: min(room, self._world.chance.randint(1, BUFFER))])
        peer._under_way += len(piece)
        at = max(peer._last_arrival, self._loop.time() + self._world.delay(self, peer))
        peer._last_arrival = at
        self._loop.call_at(at, self._arrive, peer, piece)
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._world.sockets.discard(self)
            self.watchers.clear()
            peer = self.peer
            if peer is not None and not peer.closed:
                at = max(peer._last_arrival, self._loop.time() + self._world.delay(self, peer))
                self._loop.call_at(at, peer.end, True)

    # What the world does to it

    def watch(self, what: str, callback: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.watchers[what] = callback, arguments
        self._loop.call_soon(self._poll, what)

    def end(self, how: OSError | bool) -> None:
        """True: an orderly end behind what has arrived."""
        if not self.closed:
            self.ended = self.ended or how
            self._poll("read")
            self._poll("write")

    def _arrive(self, peer: SimulatedSocket, piece: bytes) -> None:
        if self._world.cut(self, peer):
            self._loop.call_later(0.2, self._arrive, peer, piece)
            return
        peer._under_way -= len(piece)
        if not peer.closed and not isinstance(peer.ended, OSError):
            peer._arrived.append(piece)
            peer._poll("read")

    def _poll(self, what: str) -> None:
        watcher = self.watchers.get(what)
        if watcher is None or not self._ready(what):
            return
        callback, arguments = watcher
        callback(*arguments)
        if what == "read" and what in self.watchers and self._ready(what):
            self._loop.call_soon(self._poll, what)

    def _ready(self, what: str) -> bool:
        if self.ended:
            return True
        if what == "read":
            return bool(self._arrived)
        assert self.peer is not None
        return self.peer._under_way + sum(map(len, self.peer._arrived)) < BUFFER

    @property
    def host(self) -> str:
        return self._local[0]


class Listener:
    def __init__(self, world: World, address: tuple[str, int]) -> None:
        self.address = address
        self._world = world
        self._waiting: asyncio.Queue[SimulatedSocket] = asyncio.Queue()

    async def accept(self) -> tuple[SimulatedSocket, Any]:
        sock = await self._waiting.get()
        return sock, sock.getpeername()

    def offer(self, sock: SimulatedSocket) -> None:
        self._waiting.put_nowait(sock)

    def getsockname(self) -> tuple[Any, ...]:
        return (*self.address, 0, 0)

    def close(self) -> None:
        self._world.listeners.pop(self.address, None)


class World:
    """Hosts are texts. Everything random comes from `chance`."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.listeners: dict[tuple[str, int], Listener] = {}
        self.sockets: set[SimulatedSocket] = set()
        self.unreachable: set[str] = set()
        self._ports = iter(range(20_000, 60_000))

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run to the end with the protocol's sockets replaced by simulated ones."""
        loop = SimulatedLoop()
        state = random.getstate()
        random.seed(self.chance.random())
        try:
            with (
                mock.patch("metalbond.server._listening_socket", self._listen),
                mock.patch("metalbond.link.ServerLink._dial", _dial(self)),
            ):
                return loop.run_until_complete(work())
        finally:
            random.setstate(state)
            loop.close()

    def delay(self, source: SimulatedSocket, target: SimulatedSocket) -> float:
        return self.chance.choice((0.0, 0.0001, 0.001, 0.02))

    def cut(self, source: SimulatedSocket, target: SimulatedSocket) -> bool:
        return source.host in self.unreachable or target.host in self.unreachable

    def reset(self, host: str) -> None:
        """Break all streams of a host, with the loss of what is under way."""
        for sock in sorted(self.sockets, key=lambda s: (s._local, s._remote)):
            if host == sock.host and sock.peer is not None:
                error = ConnectionResetError(104, "Connection reset by peer")
                sock.end(error)
                sock.peer.end(error)

    def _listen(self, family: Any, address: tuple[str, int]) -> Listener:
        listener = self.listeners[address] = Listener(self, address)
        return listener

    async def connect(self, source: str, target: tuple[str, int]) -> SimulatedSocket:
        await asyncio.sleep(self.chance.choice((0.0, 0.001, 0.05)))
        while source in self.unreachable or target[0] in self.unreachable:  # noqa: ASYNC110 # of simulated time
            await asyncio.sleep(0.1)
        listener = self.listeners.get(target)
        if listener is None:
            raise ConnectionRefusedError(111, "Connection refused")
        local = (source, next(self._ports))
        near, far = SimulatedSocket(self, local, target), SimulatedSocket(self, target, local)
        near.peer, far.peer = far, near
        self.sockets |= {near, far}
        listener.offer(far)
        return near


def _dial(world: World) -> Callable[[Any], Coroutine[Any, Any, SimulatedSocket]]:
    async def dial(link: Any) -> SimulatedSocket:
        return await world.connect(link._config.local_address or SERVERS, (link._host, link._port))

    return dial
