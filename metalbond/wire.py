"""One TCP connection, cut into frames. The socket is driven directly and not through a transport, because peers of the
original protocol need each frame in a segment of its own (MSG_EOR), which transports cannot ask for.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from metalbond.codec import Frame, ProtocolError, split_runs
from metalbond.pacing import TokenBucket

READ_BYTES = 65536
"""About 1500 routes: a millisecond of work before others get their turn. Not less than a TLS record has, so that
nothing is left where the loop cannot see it.
"""
WRITE_BYTES = 65536
ROUNDS = 8
"""Writes of one connection before others get their turn."""
UNSENT_BYTES = 131072
"""More than this waits in our queues, where it can still be coalesced, and not in the kernel."""
_AGAIN = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_TCP_NOTSENT_LOWAT = 25
"""Linux, linux/tcp.h; Python's socket module names it since 3.12."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits for writing to a peer of the original protocol."""

    rate: float
    """Bytes per second."""
    burst: int
    """Bytes."""


class Connection:
    """Owns a connected non-blocking socket, on which a TLS handshake is over already.

    `on_frames` gets all frames of one read, UPDATEs in runs. `on_lost` gets a reason and a detail, once, never after
    `close`.
    `next_frames(limit)` gives about `limit` bytes of frames, and whether the limit held others back. It is asked when
    there is room, and after `wake` if it had nothing to give.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_frames: Callable[[list[Frame]], None],
        on_lost: Callable[[str, str], None],
        next_frames: Callable[[int], tuple[list[bytes], bool]],
    ) -> None:
        self._sock = sock
        self._marks_frames = not isinstance(sock, ssl.SSLSocket)
        self._loop = asyncio.get_running_loop()
        self._on_frames = on_frames
        self._on_lost = on_lost
        self._next_frames = next_frames
        self._rest = b""
        self._unsent: deque[bytes | memoryview] = deque()
        self._bucket: TokenBucket | None = None
        self._waker: asyncio.Handle | None = None
        self._pausing = False
        self._blocked = False
        self._closed = False
        self._progress = self._loop.time()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self.remote = endpoint_text(sock.getpeername())
        self.local = endpoint_text(sock.getsockname())
        self._loop.add_reader(sock, self._readable)

    @property
    def stalled_for(self) -> float:
        """Seconds since the peer last took something, 0 unless frames wait for it."""
        return self._loop.time() - self._progress if self._blocked else 0.0

    def frame_per_segment(self, pace: Pace) -> None:
        """From now on write each frame into a segment of its own, and no faster than `pace`."""
        self._bucket = TokenBucket.full(pace.rate, pace.burst, self._loop.time())

    def wake(self) -> None:
        """There is something to write. It is written in the next round of the loop: many wishes make one write."""
        if self._closed or self._blocked or (self._waker is not None and not self._pausing):
            return
        if self._waker is not None:
            self._waker.cancel()
        self._pausing = False
        self._waker = self._loop.call_soon(self._write)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        if self._blocked:
            self._loop.remove_writer(self._sock)
        if self._waker is not None:
            self._waker.cancel()
        self._unsent.clear()
        self._sock.close()

    def _lose(self, reason: str, detail: str) -> None:
        self.close()
        self._on_lost(reason, detail)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except _AGAIN:
            return
        except OSError as error:
            self._lose("read_error", _text(error))
            return
        if not data:
            self._lose("eof", "closed by the peer")
            return
        stream = self._rest + data if self._rest else data
        try:
            frames, used = split_runs(stream)
            self._rest = stream[used:]
            if frames:
                self._on_frames(frames)
        except ProtocolError as error:
            self._lose(error.reason, str(error))

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock)
        self._blocked = False
        self._write()

    def _write(self) -> None:
        self._waker, self._pausing = None, False
        for _ in range(ROUNDS):
            if not self._unsent and not self._refill():
                return
            if not self._send():
                return
        self.wake()

    def _refill(self) -> bool:
        """False if nothing is to be written now."""
        if self._bucket is None:
            frames, _ = self._next_frames(WRITE_BYTES)
            if frames:
                self._unsent.append(b"".join(frames))
            return bool(frames)
        self._bucket = self._bucket.refill(self._loop.time())
        frames, more = self._next_frames(max(0, int(self._bucket.tokens)))
        if frames:
            self._unsent.extend(frames)
            self._bucket = self._bucket.take(sum(map(len, frames)))
        elif more:
            self._pausing = True
            self._waker = self._loop.call_later(self._bucket.delay(self._bucket.burst // 4), self._write)
        return bool(frames)

    def _send(self) -> bool:
        """False if the kernel is full or the connection is gone."""
        flags = socket.MSG_EOR if self._bucket and self._marks_frames else 0
        while self._unsent:
            piece = self._unsent[0]
            try:
                sent = self._sock.send(piece, flags)
            except _AGAIN:
                self._blocked = True
                self._loop.add_writer(self._sock, self._writable)
                return False
            except OSError as error:
                self._lose("write_error", _text(error))
                return False
            self._progress = self._loop.time()
            if sent == len(piece):
                self._unsent.popleft()
            else:
                self._unsent[0] = memoryview(piece)[sent:]
        return True


def endpoint_text(address: tuple[str | int, ...]) -> str:
    """ "10.0.0.1:4711" or "[fd00::1]:4711" from a socket address."""
    host, port = str(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_endpoint(text: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port". Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, [address]:port")
    if not colon or not host:
        raise ValueError(f"{text!r}: must be host:port; to listen on all addresses say so with [::]:port")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r}: port must be a number from 0 to 65535")
    return host, int(port)


def _text(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return os.strerror(error.errno) if error.errno is not None else str(error)
