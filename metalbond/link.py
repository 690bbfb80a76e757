"""A client's line to one server: dials, keeps desired and told state of the connection apart, hands on what comes."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter, OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol

import structlog
from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from metalbond import _core, codec, session
from metalbond.codec import BadPayloadError, MessageType
from metalbond.inspect import PeerView
from metalbond.peer import Peer
from metalbond.session import SessionConfig, SessionState
from metalbond.stats import Stats
from metalbond.tls import Tls, handshake
from metalbond.types import Route
from metalbond.wire import Pace, parse_endpoint

log = structlog.get_logger(__name__)

ORIGINAL_SERVER_PACE = Pace(rate=360_000, burst=18_000)
"""A server of the original protocol breaks with 64 KiB unread. About 500 frames at once, 10 000 a second."""
FRAME_BYTES = 48
STABLE_SECONDS = 10.0
"""A session that lived this long makes the next dial the first of a new series."""
QUIET_SECONDS = 1.0
REPLAY_ANSWERS = 3
REANNOUNCE_PAUSE = 1.0
"""Seconds between an UNSUBSCRIBE and what conflicts with it, for servers that execute out of order."""


@dataclass(frozen=True, slots=True)
class LinkConfig:
    session: SessionConfig
    local_address: str | None = None
    dial_timeout: float = 5.0
    redial_max: float = 5.0
    """Seconds: the waits before dials are random between 0.05 and a bound that doubles from 0.2 up to this."""
    stall_timeout: float = 30.0
    original_pace: Pace = ORIGINAL_SERVER_PACE
    tls: Tls | None = None
    tls_name: str = ""
    """What the servers' certificates must name, instead of the host that is dialled."""


class LinkOwner(Protocol):
    """What a link asks and tells. Names are those of the servers."""

    def subscriptions(self) -> Collection[int]: ...

    def announcements(self, vni: int | None = None) -> Collection[Route]: ...

    def link_up(self, server: str) -> None: ...

    def link_down(self, server: str) -> None: ...

    def received(self, server: str, updates: list[tuple[bool, Route]], *, original: bool) -> None: ...

    def replayed(self, server: str) -> None:
        """One more VNI of this server is complete."""


class SessionFailedError(Exception):
    """The session ended before it was of any use."""


class ServerLink:
    """One server of a client. `run` until cancelled; everything else may be called at any time."""

    def __init__(self, server: str, config: LinkConfig, owner: LinkOwner, stats: Stats) -> None:
        self.server = server
        self._host, self._port = parse_endpoint(server)
        self._config = config
        self._owner = owner
        self._stats = stats
        self._idle = session.Session()
        self._ended: asyncio.Future[tuple[str, str]] | None = None
        self._peer: Peer | None = None
        self._log = log.bind(server=server)
        self._reported = False
        self._was_up = False
        self._started = 0.0
        self._forget()

    def _forget(self) -> None:
        """A new connection starts from nothing."""
        self._commands: OrderedDict[tuple[int, bool], None] = OrderedDict()
        self._subscribed: set[int] = set()
        self._unsubscribed: set[int] = set()
        self._muted: dict[int, int] = {}
        self._replaying: dict[int, int] = {}
        self._replayed: set[int] = set()
        self._routes = _core.RouteOutbox()
        self._paused: set[int] = set()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._answers: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._last_update = 0.0
        self._refused: Counter[str] = Counter()

    def view(self) -> PeerView:
        state, hello = self._peer.session if self._peer else self._idle, None
        if self._peer:
            hello = self._peer.session.peer
        return PeerView(
            self.server,
            state.state.name,
            age=asyncio.get_running_loop().time() - self._started if self._peer else 0.0,
            interval=state.interval,
            revision=hello.revision if hello else 0,
            hold=hello.hold if hello else 0,
            subscriptions=tuple(sorted(self._subscribed)),
            waiting=self.waiting,
            refused=dict(self._refused),
        )

    @property
    def state(self) -> SessionState:
        return self._peer.session.state if self._peer else self._idle.state

    @property
    def up(self) -> bool:
        return self.state is SessionState.ESTABLISHED

    def synced(self, vni: int) -> bool:
        """The server's table of the VNI has arrived completely. Exact with servers that execute in order: they answer a
        KEEPALIVE behind the table. With others a guess: the first answer after SUBSCRIBE that a second of silence
        precedes, or the third.
        """
        return vni in self._replayed

    @property
    def waiting(self) -> int:
        """Messages that the server must still be told."""
        return len(self._commands) + len(self._routes)

    # Desired state

    def subscribe(self, vni: int, wanted: bool) -> None:
        if not self.up:
            return
        assert self._peer is not None
        if wanted:
            again = vni in self._unsubscribed or (vni, False) in self._commands
            if again and not self._peer.session.extended:
                # A second SUBSCRIBE on one connection can deadlock a server of the original protocol.
                self._peer.reset("resubscribe", f"VNI {vni} is wanted again")
                return
            self._commands[vni, True] = None
        else:
            self._commands.pop((vni, True), None)
            self._replaying.pop(vni, None)
            self._replayed.discard(vni)
            if vni in self._subscribed:
                self._commands[vni, False] = None
        self._peer.wake()

    def announce(self, route: Route, wanted: bool) -> None:
        if self.up and not (wanted and route.vni in self._paused):
            assert self._peer is not None
            self._routes.want(route, wanted)
            self._peer.wake()

    async def told(self) -> None:
        """Returns when the server has answered behind everything that waits now, or the connection is gone."""
        if self.up:
            assert self._peer is not None
            told = asyncio.get_running_loop().create_future()
            self._waiters.append(told)
            self._routes.mark()
            self._peer.wake()
            await told

    # Life

    async def run(self) -> None:
        """Dial, serve the session, dial again; never gives up."""
        try:
            while True:
                async for attempt in AsyncRetrying(
                    wait=wait_random_exponential(multiplier=0.2, max=self._config.redial_max, min=0.05),
                    before_sleep=self._report_failure,
                ):
                    with attempt:
                        await self._serve_once()
                # All clients of a dead server come back at the same time.
                await asyncio.sleep(random.uniform(0.0, 0.2))
        finally:
            if self._peer is not None:
                self._peer.close()

    async def _serve_once(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle, _ = session.step(self._idle, session.Redial(loop.time()), self._config.session)
        try:
            async with asyncio.timeout(self._config.dial_timeout):
                sock = await self._dial()
        except OSError as error:
            self._stats.dials_failed += 1
            self._idle, _ = session.step(self._idle, session.Lost(loop.time(), "dial"), self._config.session)
            raise error if str(error) else TimeoutError(f"no answer within {self._config.dial_timeout:g} s") from None
        started = self._started = loop.time()
        self._ended = loop.create_future()
        factor = random.uniform(0.75, 0.95)
        try:
            self._peer = Peer(
                sock,
                replace(self._config.session, keepalive_factor=factor),
                self,
                stall_timeout=self._config.stall_timeout,
                original_pace=self._config.original_pace,
            )
        except OSError:
            sock.close()
            raise
        self._peer.start()
        reason, detail = await self._ended
        if loop.time() - started < STABLE_SECONDS:
            raise SessionFailedError(f"{reason}: {detail}" if detail else reason)

    async def _dial(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        local = (self._config.local_address, 0) if self._config.local_address else None
        errors: list[OSError] = []
        for family, kind, proto, _, address in await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, proto)
            try:
                sock.setblocking(False)
                if local:
                    sock.bind(local)
                await loop.sock_connect(sock, address)
                if self._config.tls is None:
                    return sock
                name = self._config.tls_name or self._host
                return await handshake(sock, self._config.tls.context(), server_name=name)
            except OSError as error:
                errors.append(error)
                sock.close()
            except BaseException:
                sock.close()
                raise
        raise errors[0]

    def _report_failure(self, state: RetryCallState) -> None:
        """Once per outage; `on_established` reports the end of it."""
        if not self._reported and state.outcome is not None:
            self._reported = True
            self._log.warning("server not reachable, retrying", error=str(state.outcome.exception()))

    # Session

    def on_established(self) -> None:
        assert self._peer is not None
        hello = self._peer.session.peer
        assert hello is not None
        self._stats.sessions_established += 1
        self._reported, self._was_up = False, True
        self._log.info(
            "server established", interval=self._peer.session.interval, revision=hello.revision, hold=hello.hold
        )
        for vni in self._owner.subscriptions():
            self.subscribe(vni, True)
        for route in self._owner.announcements():
            self.announce(route, True)
        self._owner.link_up(self.server)

    def on_lost(self, reason: str, detail: str) -> None:
        assert self._peer is not None and self._ended is not None
        was_up, self._was_up = self._was_up, False
        self._idle, self._peer = self._peer.session, None
        for told in [*self._waiters, *(told for _, told in self._answers)]:
            if not told.done():
                told.set_result(None)
        self._stats.sessions_lost[reason] += 1
        self._forget()
        if was_up:
            self._reported = True
            if reason != "shutdown":
                self._log.warning("server lost, retrying", reason=reason, detail=detail)
            self._owner.link_down(self.server)
        if not self._ended.done():
            self._ended.set_result((reason, detail))

    def on_message(self, kind: MessageType, payload: bytes) -> None:
        assert kind is MessageType.UPDATE and self._peer is not None
        self._last_update = asyncio.get_running_loop().time()
        self._hand_on(payload, original=not self._peer.session.extended)

    def _hand_on(self, frames: bytes, *, original: bool) -> None:
        """Raises BadPayloadError behind the updates before it."""
        updates, refusals, broken = _core.decode_frames(frames, False)
        wanted = [update for update in updates if update[1].vni not in self._muted] if self._muted else updates
        self._owner.received(self.server, wanted, original=original)
        self._account(len(updates), refusals, broken)

    def _account(self, updates: int, refusals: list[tuple[str, int, str]], broken: str | None) -> None:
        self._stats.updates_received += updates
        for reason, count, what in refusals:
            self._stats.updates_received += count
            self._stats.updates_refused[reason] += count
            if reason not in self._refused:
                self._log.warning("route refused, more like it are only counted", error=what)
            self._refused[reason] += count
        if broken is not None:
            raise BadPayloadError(broken)

    def on_keepalive(self) -> None:
        """Only servers are asked for answers."""

    def on_answer(self) -> None:
        assert self._peer is not None
        state = self._peer.session
        self._muted = {vni: probe for vni, probe in self._muted.items() if probe > state.answers}
        while self._answers and self._answers[0][0] <= state.answers:
            _, told = self._answers.popleft()
            if not told.done():
                told.set_result(None)
        quiet = asyncio.get_running_loop().time() - self._last_update >= QUIET_SECONDS
        for vni, probe in list(self._replaying.items()):
            if state.answers >= (probe if state.extended or quiet else probe + REPLAY_ANSWERS - 1):
                del self._replaying[vni]
                self._replayed.add(vni)
                self._owner.replayed(self.server)

    def next_frames(self, limit: int) -> tuple[list[bytes], bool]:
        if not self.up:
            return [], False
        assert self._peer is not None
        count = limit // FRAME_BYTES
        frames: list[bytes] = []
        asked: list[int] = []
        while self._commands and len(frames) < count:
            (vni, wanted), _ = self._commands.popitem(last=False)
            frames += self._command(self._peer, vni, wanted)
            if wanted:
                asked.append(vni)
        if asked:
            if self._peer.session.extended:
                frames += self._peer.probe()
                probe = self._peer.session.probes
            else:
                probe = self._peer.session.probes + 1
            self._replaying.update(dict.fromkeys(asked, probe))
        for frame in self._routes.take(max(0, count - len(frames))):
            if frame is not None:
                frames.append(frame)
                self._stats.updates_sent += 1
            else:
                frames += self._peer.probe()
                self._answers.append((self._peer.session.probes, self._waiters.popleft()))
        return frames, bool(self.waiting)

    def _command(self, peer: Peer, vni: int, subscribe: bool) -> list[bytes]:
        frame = codec.encode_subscription(vni, subscribe)
        if subscribe:
            self._subscribed.add(vni)
            if vni not in self._unsubscribed:
                return [frame]
            # Until the answer comes, what arrives belongs to the old subscription, whose end nothing else marks.
            probe = peer.probe()
            self._muted[vni] = peer.session.probes
            return [*probe, frame]
        self._subscribed.discard(vni)
        self._unsubscribed.add(vni)
        if not peer.session.extended:
            # Such a server takes our routes of the VNI away too.
            self._routes.forget(vni)
            self._paused.add(vni)
            asyncio.get_running_loop().call_later(REANNOUNCE_PAUSE, self._resume, peer, vni)
        return [frame]

    def _resume(self, peer: Peer, vni: int) -> None:
        if self._peer is peer and self.up:
            self._paused.discard(vni)
            for route in self._owner.announcements(vni):
                self.announce(route, True)
