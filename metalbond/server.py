"""The server: accepts peers, keeps the table in memory, tells subscribers what others announce."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import count

import structlog

from metalbond._core import Distributor
from metalbond.accepted import DEFAULT_MAX_HOLD, AcceptedPeer, ServerConfig
from metalbond.codec import MAX_IDENTITY
from metalbond.inspect import HELD, PeerView, Row
from metalbond.link import LinkConfig
from metalbond.mesh import Mesh, MeshConfig
from metalbond.policy import Policy
from metalbond.session import Role, SessionConfig, SessionState
from metalbond.stats import Stats
from metalbond.tls import Tls, TlsFiles, handshake
from metalbond.types import Destination, NextHop, Route
from metalbond.wire import endpoint_text, parse_endpoint

__all__ = ["DEFAULT_MAX_HOLD", "MetalbondServer", "ServerConfig"]

log = structlog.get_logger(__name__)

ACCEPT_PAUSE = 1.0
"""Seconds after a failed accept."""
RECENT = 64
"""Refused connections that are shown with the reason."""
_NO_REFUSAL = {"eof", "keepalive_timeout", "policy_changed", "read_error", "shutdown", "write_error"}
SCAN_SLOTS = 256
"""Routes at most in one slice of a scan: about a millisecond."""
RETIRED_PER_SLICE = 4096
"""Routes that are withdrawn at once when a peer is gone: about five milliseconds."""


class MetalbondServer:
    """Serves any number of listening addresses. All methods belong to the event loop that runs `start`.

    tls: files for addresses with TLS and for dialling the servers of the mesh; tls_name: what the certificates of those
    must name, instead of the host that is dialled. policy: None lets everybody do everything.
    """

    def __init__(
        self,
        config: ServerConfig | None = None,
        stats: Stats | None = None,
        *,
        policy: Policy | None = None,
        mesh: MeshConfig | None = None,
        tls: TlsFiles | None = None,
        tls_name: str = "",
    ) -> None:
        """Raises ValueError for impossible arguments; TlsError is one."""
        self.config = config or ServerConfig()
        self._tls = Tls(tls, server_side=True) if tls else None
        if not self.config.identity:
            name = (self._tls.name if self._tls else "") or secrets.token_hex(8)
            self.config = replace(self.config, identity=name.encode())
        if len(self.config.identity) > MAX_IDENTITY:
            raise ValueError(f"identity: {len(self.config.identity)} bytes, at most {MAX_IDENTITY}")
        self.stats = stats or Stats()
        self.distributor = Distributor(self.config.identity)
        self.policy = policy
        session = SessionConfig(
            Role.CLIENT, self.config.keepalive, self.config.hello_timeout, identity=self.config.identity, mesh=True
        )
        link = LinkConfig(session, tls=Tls(tls, server_side=False) if tls else None, tls_name=tls_name)
        self._mesh = Mesh(mesh or MeshConfig(), link, self)
        self._peers: dict[int, AcceptedPeer] = {}
        self._handshakes: set[asyncio.Task[None]] = set()
        self._recent: deque[PeerView] = deque(maxlen=RECENT)
        self._numbers = count(1)
        self._holds: dict[int, asyncio.TimerHandle] = {}
        self._held: dict[int, PeerView] = {}
        self._retiring: dict[int, str] = {}
        self._slice: asyncio.Handle | None = None
        self._sockets: list[socket.socket] = []
        self._acceptors: list[asyncio.Task[None]] = []

    @property
    def addresses(self) -> list[str]:
        """Where it listens, "host:port" with real port numbers."""
        return [endpoint_text(sock.getsockname()) for sock in self._sockets]

    async def start(self, listen: Iterable[str], tls_listen: Iterable[str] = ()) -> None:
        """Listen on "host:port" addresses, without and with TLS; port 0 picks one. Raises ValueError, OSError, and then
        listens nowhere.
        """
        secure: set[socket.socket] = set()
        try:
            for tls, texts in ((None, listen), (self._tls, tls_listen)):
                for text in texts:
                    host, port = parse_endpoint(text)
                    for address in await _resolve(host, port):
                        self._sockets.append(_listening_socket(*address))
                        if texts is tls_listen:
                            if tls is None:
                                raise ValueError("listening with TLS needs certificate, key and CA")
                            secure.add(self._sockets[-1])
        except BaseException:
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()
            raise
        self._acceptors = [asyncio.create_task(self._accept(sock, sock in secure)) for sock in self._sockets]
        self._mesh.start()
        log.info("listening", addresses=self.addresses)

    async def close(self) -> None:
        """Stop listening and end all sessions. Clients notice at once and keep their routes as they see fit."""
        ending = [*self._acceptors, *self._handshakes]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._mesh.close()
        for sock in self._sockets:
            sock.close()
        for peer in list(self._peers.values()):
            peer.peer.close()
        for timer in self._holds.values():
            timer.cancel()
        if self._slice is not None:
            self._slice.cancel()
        self._acceptors, self._sockets = [], []
        self._holds.clear()

    def sessions(self) -> Counter[SessionState]:
        return Counter(peer.peer.session.state for peer in self._peers.values())

    @property
    def held_peers(self) -> int:
        """Lost peers whose routes are kept."""
        return len(self._holds)

    def set_policy(self, policy: Policy | None) -> None:
        """Takes effect at once, for live sessions too; held routes of lost peers stay as they are."""
        self.policy = policy
        for peer in list(self._peers.values()):
            peer.apply_policy()

    # What it shows of itself: metalbond.inspect.Inspectable

    @property
    def role(self) -> str:
        return "server"

    def peers(self) -> list[PeerView]:
        count_of = self.distributor.count_of
        held = [replace(view, routes=count_of(number), stale=count_of(number)) for number, view in self._held.items()]
        live = [peer.view() for peer in self._peers.values()] + self._mesh.views() + held
        names = {view.name for view in live}
        return live + [view for view in self._recent if view.name not in names]

    def vnis(self) -> dict[int, int]:
        return self.distributor.destination_counts()

    def route_count(self) -> int:
        return len(self.distributor)

    def scan(self, vni: int) -> Iterator[list[Row]]:
        slot: int | None = 0
        while slot is not None:
            rows, slot = self.distributor.scan(vni, slot, SCAN_SLOTS)
            yield [(route, tuple(map(self._name, sources))) for route, sources in rows]

    def hops(self, vni: int, destination: Destination) -> dict[NextHop, tuple[str, ...]]:
        hops = self.distributor.hops(vni, destination)
        return {hop: tuple(map(self._name, sources)) for hop, sources in hops.items()}

    def record_changes(self, on: bool) -> None:
        self.distributor.record_changes(on)

    def take_changes(self) -> set[Route]:
        return self.distributor.take_changes()

    def _name(self, number: int) -> str:
        if peer := self._peers.get(number):
            return peer.remote
        return self._mesh.name(number) or self._retiring.get(number) or self._held[number].name

    # What peers and mesh tell and ask

    def next_number(self) -> int:
        return next(self._numbers)

    def room(self, route: Route) -> bool:
        return len(self.distributor) < self.config.max_routes or route in self.distributor

    def wake_touched(self) -> None:
        for number in self.distributor.take_touched():
            self._peers[number].peer.wake()

    def peer_lost(self, peer: AcceptedPeer, reason: str, detail: str, *, hold: int) -> None:
        number = peer.number
        view = peer.view()
        del self._peers[number]
        self.stats.sessions_lost[reason] += 1
        self._remember(replace(view, routes=0, subscriptions=(), waiting=0), reason, detail)
        if not peer.established:
            return
        # Bounded like live peers are, or a client could leave its routes behind again and again.
        held = hold > 0 and reason != "shutdown" and len(self._holds) < self.config.max_peers
        held = held and self.distributor.count_of(number) > 0
        self.distributor.disconnect(number)
        if held:
            self._held[number] = replace(view, state=HELD, interval=0, subscriptions=(), waiting=0)
            self._holds[number] = asyncio.get_running_loop().call_later(hold, self._release, number)
        else:
            self.retire({number: view.name})

    def _release(self, number: int) -> None:
        del self._holds[number]
        log.info("hold ended", routes=self.distributor.count_of(number))
        self.retire({number: self._held.pop(number).name})

    def retire(self, sources: Mapping[int, str]) -> None:
        """Withdraw what these sources have announced, and forget them; many routes in slices, between which others have
        their turn.
        """
        self._retiring.update(sources)
        if self._slice is None:
            self._retire_slice()

    def _retire_slice(self) -> None:
        self._slice = None
        room = RETIRED_PER_SLICE
        while self._retiring and room > 0:
            source = next(iter(self._retiring))
            before = self.distributor.count_of(source)
            left = self.distributor.release(source, room)
            room -= max(1, before - left)
            if left == 0:
                del self._retiring[source]
        self.wake_touched()
        if self._retiring and self._slice is None:
            self._slice = asyncio.get_running_loop().call_soon(self._retire_slice)

    def _remember(self, view: PeerView, reason: str, detail: str) -> None:
        if reason in _NO_REFUSAL:
            return
        ended = replace(view, state=SessionState.CLOSED.name, reason=f"{reason}: {detail}" if detail else reason)
        self._recent = deque((old for old in self._recent if old.name != view.name), maxlen=RECENT)
        self._recent.append(ended)

    async def _accept(self, listener: socket.socket, secure: bool) -> None:
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
            if len(self._peers) + len(self._handshakes) >= self.config.max_peers:
                self.stats.accepts_refused += 1
                sock.close()
            elif secure:
                task = asyncio.create_task(self._secure(sock))
                self._handshakes.add(task)
                task.add_done_callback(self._handshakes.discard)
            else:
                self._adopt(sock)

    async def _secure(self, sock: socket.socket) -> None:
        assert self._tls is not None
        remote = _remote(sock)
        try:
            async with asyncio.timeout(self.config.hello_timeout):
                secure = await handshake(sock, self._tls.context())
        except OSError as error:
            detail = str(error) or f"no handshake within {self.config.hello_timeout:g} s"
            self.stats.sessions_lost["tls"] += 1
            self._remember(PeerView(remote, SessionState.CLOSED.name), "tls", detail)
            log.info("TLS handshake failed", peer=remote, error=detail)
            return
        self._adopt(secure)

    def _adopt(self, sock: socket.socket) -> None:
        try:
            peer = AcceptedPeer(self, self.next_number(), sock)
        except OSError as error:
            log.info("connection lost at once", error=str(error))
            sock.close()
            return
        self._peers[peer.number] = peer
        peer.peer.start()


def _remote(sock: socket.socket) -> str:
    try:
        return endpoint_text(sock.getpeername())
    except OSError:
        return "unknown"


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
