"""Runs one session on one connection: feeds the state machine and performs what it says. Used by server and client."""

from __future__ import annotations

import asyncio
import math
import socket
from collections import deque
from typing import Protocol

from metalbond import codec, session
from metalbond.codec import Frame, MessageType, ProtocolError
from metalbond.session import Event, Session, SessionConfig
from metalbond.wire import Connection, Pace

CONTROL_FRAMES = 1024
"""HELLOs and KEEPALIVEs that may wait for a peer that does not read."""


class FloodError(ProtocolError):
    reason = "flood"


class PeerHandler(Protocol):
    """The owner of a session. Methods must not block."""

    def on_established(self) -> None: ...

    def on_message(self, kind: MessageType, payload: bytes) -> None:
        """Execute a SUBSCRIBE or UNSUBSCRIBE, or a run of UPDATEs as whole frames. Raises ProtocolError."""

    def on_keepalive(self) -> None:
        """Server: a KEEPALIVE wants its echo. Raises ProtocolError."""

    def on_answer(self) -> None:
        """Client: the echo of a KEEPALIVE is there."""

    def next_frames(self, limit: int) -> tuple[list[bytes], bool]:
        """About `limit` bytes to write, and whether more would be there."""

    def on_lost(self, reason: str, detail: str) -> None:
        """The session has ended and the socket is closed. Called once."""


class Peer:
    """One live connection. `close` ends it with a call of `handler.on_lost`."""

    def __init__(
        self,
        sock: socket.socket,
        config: SessionConfig,
        handler: PeerHandler,
        *,
        stall_timeout: float,
        original_pace: Pace,
    ) -> None:
        self.session = Session()
        self._config = config
        self._handler = handler
        self._stall_timeout = stall_timeout
        self._original_pace = original_pace
        self._loop = asyncio.get_running_loop()
        self._control: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self.connection = Connection(
            sock, on_frames=self._on_frames, on_lost=self._on_lost, next_frames=self._next_frames
        )

    def start(self) -> None:
        self._handle(session.Connected(self._loop.time()))

    def wake(self) -> None:
        """The handler has frames to write."""
        self.connection.wake()

    def probe(self) -> list[bytes]:
        """A client's KEEPALIVE to be written at this very place of the stream, counted in `session.probes`."""
        before = len(self._control)
        self._handle(session.Probe(self._loop.time()))
        return [self._control.pop() for _ in range(len(self._control) - before)]

    def send_control(self, frame: bytes) -> None:
        """Write a frame ahead of everything that `next_frames` holds. Raises FloodError."""
        if len(self._control) >= CONTROL_FRAMES:
            raise FloodError(f"{CONTROL_FRAMES} answers wait for a peer that does not read")
        self._control.append(frame)
        self.connection.wake()

    def reset(self, reason: str, detail: str) -> None:
        self._handle(session.Lost(self._loop.time(), reason, detail))

    def close(self) -> None:
        self._handle(session.Shutdown(self._loop.time()))

    def _on_lost(self, reason: str, detail: str) -> None:
        self.reset(reason, detail)

    def _on_frames(self, frames: list[Frame]) -> None:
        for kind, payload in frames:
            if kind is MessageType.HELLO or kind is MessageType.KEEPALIVE:
                self._on_control(kind, payload)
            else:
                self._handle(session.Received(self._loop.time(), kind), payload)
            if self.session.state in (session.SessionState.RETRY, session.SessionState.CLOSED):
                return

    def _on_control(self, kind: MessageType, payload: bytes) -> None:
        hello = codec.decode_hello(payload) if kind is MessageType.HELLO else None
        if kind is MessageType.KEEPALIVE and payload:
            raise codec.BadPayloadError("keepalive: must be empty")
        answers = self.session.answers
        self._handle(session.Received(self._loop.time(), kind, hello))
        if self.session.answers > answers:
            self._handler.on_answer()

    def _handle(self, event: Event, payload: bytes = b"") -> None:
        self.session, actions = session.step(self.session, event, self._config)
        for action in actions:
            match action:
                case session.SendHello(hello=hello):
                    self.send_control(codec.encode_hello(hello))
                case session.SendKeepalive():
                    self.send_control(codec.KEEPALIVE)
                case session.AnswerKeepalive():
                    self._handler.on_keepalive()
                case session.Establish():
                    if not self.session.extended:
                        self.connection.frame_per_segment(self._original_pace)
                    self._handler.on_established()
                case session.Process():
                    assert isinstance(event, session.Received)
                    self._handler.on_message(event.type, payload)
                case session.Reset(reason=reason, detail=detail):
                    self._end(reason, detail)
                    return
        self._arm()

    def _end(self, reason: str, detail: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.connection.close()
        self._handler.on_lost(reason, detail)

    def _arm(self) -> None:
        """Timers are only moved closer: most traffic pushes the deadline away, and the old timer finds that out."""
        at = self.session.wake_at
        if at >= self._timer_at or math.isinf(at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer_at = math.inf
        if self.connection.stalled_for > self._stall_timeout:
            self.reset("stalled", f"has read nothing for {self._stall_timeout:g} s")
            return
        try:
            self._handle(session.Tick(self._loop.time()))
        except ProtocolError as error:
            self.reset(error.reason, str(error))

    def _next_frames(self, limit: int) -> tuple[list[bytes], bool]:
        control = list(self._control)
        self._control.clear()
        frames, more = self._handler.next_frames(limit)
        return control + frames, more
