"""The server: accepts peers, keeps the table in memory, tells subscribers what others announce."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count

import structlog

from metalbond import codec
from metalbond.codec import Hello, InvalidRouteError, MessageType
from metalbond.distribution import Distributor, Subscriber
from metalbond.inspect import HELD, PeerView
from metalbond.peer import FloodError, Peer
from metalbond.session import Role, SessionConfig, SessionState
from metalbond.stats import Stats
from metalbond.types import Destination, NextHop, Route
from metalbond.wire import Pace, endpoint_text, parse_endpoint

log = structlog.get_logger(__name__)

ORIGINAL_CLIENT_PACE = Pace(rate=18_000, burst=30_000)
"""A client of the original protocol breaks with 64 KiB unread and may need more than 1 ms per route: 500 a second."""
DEFAULT_MAX_HOLD = 300
FRAME_BYTES = 48
"""Typical size, for turning bytes into a number of routes."""
MAX_WAITING_ANSWERS = 1024
ACCEPT_PAUSE = 1.0
"""Seconds after a failed accept."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    keepalive: int = 5
    """Seconds, 1 to 3600."""
    hello_timeout: float = 10.0
    max_hold: int = DEFAULT_MAX_HOLD
    """Seconds: the longest time for which routes of a lost peer are kept if it asked for that."""
    stall_timeout: float = 30.0
    """Seconds for which a peer may read nothing while something waits for it."""
    max_peers: int = 16_384
    max_subscriptions: int = 65_536
    """Per peer."""
    max_peer_routes: int = 500_000
    """Per peer."""
    max_routes: int = 4_000_000
    """Of all peers together."""
    original_pace: Pace = ORIGINAL_CLIENT_PACE

    def session(self) -> SessionConfig:
        return SessionConfig(Role.SERVER, self.keepalive, self.hello_timeout, self.max_hold)


class _ServerPeer:
    """One accepted connection."""

    def __init__(self, server: MetalbondServer, number: int, sock: socket.socket) -> None:
        self._server = server
        self._config = server.config
        self._distributor = server.distributor
        self._number = number
        self._subscriber: Subscriber | None = None
        self._hello: Hello | None = None
        self._hold = 0
        self._refused: Counter[str] = Counter()
        self._started = asyncio.get_running_loop().time()
        self.peer = Peer(
            sock,
            self._config.session(),
            self,
            stall_timeout=self._config.stall_timeout,
            original_pace=self._config.original_pace,
        )
        self._log = log.bind(peer=self.peer.connection.remote)

    def on_established(self) -> None:
        hello = self.peer.session.peer
        assert hello is not None
        self._hello, self._hold = hello, hello.hold
        extended = self.peer.session.extended
        self._subscriber = self._distributor.connect(self._number, hello.identity, original=not extended)
        self._server.stats.sessions_established += 1
        if hello.identity and self._distributor.connections(hello.identity) > 1:
            self._log.warning(
                "identity used twice, these peers do not get each other's routes",
                identity=hello.identity.decode(errors="backslashreplace"),
            )
        self._log.info(
            "peer established",
            interval=self.peer.session.interval,
            revision=hello.revision,
            identity=hello.identity.decode(errors="backslashreplace"),
            hold=hello.hold,
        )

    def on_messages(self, kind: MessageType, payloads: list[bytes]) -> None:
        if kind is MessageType.UPDATE:
            self._update(payloads)
        else:
            for payload in payloads:
                self._subscribe(codec.decode_subscription(payload), kind is MessageType.SUBSCRIBE)
        self._server.wake_touched()

    def _subscribe(self, vni: int, subscribe: bool) -> None:
        assert self._subscriber is not None
        if not subscribe:
            self._distributor.unsubscribe(self._number, vni)
        elif len(self._subscriber.subscriptions) < self._config.max_subscriptions:
            self._distributor.subscribe(self._number, vni)
        else:
            self._refuse("max_subscriptions", f"subscription of VNI {vni}")

    def _update(self, payloads: list[bytes]) -> None:
        update, number = self._distributor.update, self._number
        table = self._distributor.table
        self._server.stats.updates_received += len(payloads)
        near_limit = self._full(len(payloads))
        for payload in payloads:
            try:
                add, route = codec.decode_update(payload)
            except InvalidRouteError as error:
                self._refuse("invalid", str(error))
                continue
            full = near_limit and add and self._full(1)
            if full and not table.announces(number, route):
                self._refuse(full, str(route))
            else:
                update(number, add, route)

    def _full(self, more: int) -> str:
        """Name of the limit that so many more routes would break, or an empty string."""
        table = self._distributor.table
        if table.count_of(self._number) + more > self._config.max_peer_routes:
            return "max_peer_routes"
        return "max_routes" if len(table) + more > self._config.max_routes else ""

    def _refuse(self, reason: str, what: str) -> None:
        self._server.stats.updates_refused[reason] += 1
        self._refused[reason] += 1
        if self._refused[reason] == 1:
            self._log.warning("message refused, more like it are only counted", reason=reason, message=what)

    def on_keepalive(self) -> None:
        assert self._subscriber is not None
        if self._subscriber.original:
            self.peer.send_control(codec.KEEPALIVE)
            return
        if self._subscriber.outbox.marks >= MAX_WAITING_ANSWERS:
            raise FloodError(f"{MAX_WAITING_ANSWERS} answers wait for a peer that does not read")
        self._subscriber.outbox.mark()
        self.peer.wake()

    def on_answer(self) -> None:
        """A server sends no KEEPALIVE of its own."""

    def next_frames(self, limit: int) -> tuple[list[bytes], bool]:
        if self._subscriber is None:
            return [], False
        outbox = self._subscriber.outbox
        entries = outbox.take(limit // FRAME_BYTES)
        frames = [codec.KEEPALIVE if entry is None else codec.encode_update(*entry) for entry in entries]
        self._server.stats.updates_sent += len(entries) - entries.count(None)
        return frames, bool(outbox)

    def view(self) -> PeerView:
        hello, subscriber = self._hello, self._subscriber
        return PeerView(
            self.peer.connection.remote,
            self.peer.session.state.name,
            hello.identity.decode(errors="backslashreplace") if hello else "",
            asyncio.get_running_loop().time() - self._started,
            self.peer.session.interval,
            hello.revision if hello else 0,
            self._hold,
            tuple(sorted(subscriber.subscriptions)) if subscriber else (),
            self._distributor.table.count_of(self._number),
            0,
            len(subscriber.outbox) if subscriber else 0,
            dict(self._refused),
        )

    def on_lost(self, reason: str, detail: str) -> None:
        routes = self._distributor.table.count_of(self._number)
        established = self._subscriber is not None
        self._server.peer_lost(self._number, reason, established=established, hold=self._hold)
        self._log.info(
            "peer lost", reason=reason, detail=detail, established=established, routes=routes, hold=self._hold
        )


class MetalbondServer:
    """Serves any number of listening addresses. All methods belong to the event loop that runs `start`."""

    def __init__(self, config: ServerConfig | None = None, stats: Stats | None = None) -> None:
        self.config = config or ServerConfig()
        self.stats = stats or Stats()
        self.distributor = Distributor()
        self._peers: dict[int, _ServerPeer] = {}
        self._numbers = count(1)
        self._holds: dict[int, asyncio.TimerHandle] = {}
        self._held: dict[int, PeerView] = {}
        self._sockets: list[socket.socket] = []
        self._acceptors: list[asyncio.Task[None]] = []

    @property
    def addresses(self) -> list[str]:
        """Where it listens, "host:port" with real port numbers."""
        return [endpoint_text(sock.getsockname()) for sock in self._sockets]

    async def start(self, listen: Iterable[str]) -> None:
        """Listen on "host:port" addresses; port 0 picks one. Raises ValueError, OSError, and then listens nowhere."""
        try:
            for text in listen:
                host, port = parse_endpoint(text)
                for address in await _resolve(host, port):
                    self._sockets.append(_listening_socket(*address))
        except BaseException:
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()
            raise
        self._acceptors = [asyncio.create_task(self._accept(sock)) for sock in self._sockets]
        log.info("listening", addresses=self.addresses)

    async def close(self) -> None:
        """Stop listening and end all sessions. Clients notice at once and keep their routes as they see fit."""
        for task in self._acceptors:
            task.cancel()
        await asyncio.gather(*self._acceptors, return_exceptions=True)
        for sock in self._sockets:
            sock.close()
        for peer in list(self._peers.values()):
            peer.peer.close()
        for timer in self._holds.values():
            timer.cancel()
        self._acceptors, self._sockets = [], []
        self._holds.clear()

    def sessions(self) -> Counter[SessionState]:
        return Counter(peer.peer.session.state for peer in self._peers.values())

    @property
    def held_peers(self) -> int:
        """Lost peers whose routes are kept."""
        return len(self._holds)

    # What it shows of itself: metalbond.inspect.Inspectable

    @property
    def role(self) -> str:
        return "server"

    def peers(self) -> list[PeerView]:
        count_of = self.distributor.table.count_of
        held = [replace(view, routes=count_of(number), stale=count_of(number)) for number, view in self._held.items()]
        return [peer.view() for peer in self._peers.values()] + held

    def vnis(self) -> dict[int, int]:
        return self.distributor.table.destination_counts()

    def route_count(self) -> int:
        return len(self.distributor.table)

    def destinations(self, vni: int) -> list[Destination]:
        return self.distributor.table.destinations(vni)

    def hops(self, vni: int, destination: Destination) -> dict[NextHop, tuple[str, ...]]:
        hops = self.distributor.table.hops(vni, destination)
        return {hop: tuple(map(self._name, sources)) for hop, sources in hops.items()}

    def record_changes(self, on: bool) -> None:
        self.distributor.changes.record(on)

    def take_changes(self) -> set[Route]:
        return self.distributor.changes.take()

    def _name(self, number: int) -> str:
        peer = self._peers.get(number)
        return peer.peer.connection.remote if peer else self._held[number].name

    def wake_touched(self) -> None:
        for number in self.distributor.take_touched():
            self._peers[number].peer.wake()

    def peer_lost(self, number: int, reason: str, *, established: bool, hold: int) -> None:
        view = self._peers.pop(number).view()
        self.stats.sessions_lost[reason] += 1
        if not established:
            return
        # Bounded like live peers are, or a client could leave its routes behind again and again.
        held = hold > 0 and reason != "shutdown" and len(self._holds) < self.config.max_peers
        held = held and self.distributor.table.count_of(number) > 0
        self.distributor.disconnect(number, hold=held)
        if held:
            self._held[number] = replace(view, state=HELD, interval=0, subscriptions=(), waiting=0)
            self._holds[number] = asyncio.get_running_loop().call_later(hold, self._release, number)
        self.wake_touched()

    def _release(self, number: int) -> None:
        del self._holds[number]
        log.info("hold ended", routes=self.distributor.table.count_of(number))
        self.distributor.release(number)
        del self._held[number]
        self.wake_touched()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        failing = False
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                # Out of descriptors, most likely. They come back when peers go.
                if not failing:
                    log.error("cannot accept, retrying", error=str(error))
                failing = True
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            failing = False
            if len(self._peers) >= self.config.max_peers:
                self.stats.accepts_refused += 1
                sock.close()
                continue
            try:
                self._adopt(sock)
            except OSError as error:
                log.info("connection lost at once", error=str(error))
                sock.close()

    def _adopt(self, sock: socket.socket) -> None:
        number = next(self._numbers)
        peer = _ServerPeer(self, number, sock)
        self._peers[number] = peer
        peer.peer.start()


async def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, (str(address[0]), port)) for family, _, _, _, address in infos))


def _listening_socket(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    """[::] also takes IPv4."""
    sock = socket.create_server(
        address,
        family=family,
        backlog=1024,
        dualstack_ipv6=family is socket.AF_INET6 and address[0] == "::",
    )
    sock.setblocking(False)
    return sock
