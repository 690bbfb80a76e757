"""One accepted connection of a server: who it is, what it may, what it says, what it is told."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Protocol

import structlog

from metalbond import _core, codec
from metalbond._core import Distributor
from metalbond.codec import BadPayloadError, Hello, MessageType, ProtocolError
from metalbond.inspect import PeerView
from metalbond.peer import FloodError, Peer
from metalbond.policy import OPEN, Policy, Rule
from metalbond.session import Role, SessionConfig
from metalbond.stats import Stats
from metalbond.tls import peer_name
from metalbond.wire import Pace

log = structlog.get_logger(__name__)

ORIGINAL_CLIENT_PACE = Pace(rate=18_000, burst=30_000)
"""A client of the original protocol breaks with 64 KiB unread and may need more than 1 ms per route: 500 a second."""
DEFAULT_MAX_HOLD = 300
MAX_WAITING_ANSWERS = 1024


@dataclass(frozen=True, slots=True)
class ServerConfig:
    keepalive: int = 5
    """Seconds, 1 to 3600."""
    hello_timeout: float = 10.0
    """Seconds for a TLS handshake, and again for the HELLO."""
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
    identity: bytes = b""
    """Name of this server in its mesh, at most 64 bytes; empty: that of its certificate, or one is made up."""


class Host(Protocol):
    """The server that has accepted the connection."""

    config: ServerConfig
    stats: Stats
    distributor: Distributor
    policy: Policy | None

    def wake_touched(self) -> None: ...

    def peer_lost(self, peer: AcceptedPeer, reason: str, detail: str, *, hold: int) -> None: ...


class NotAllowedError(ProtocolError):
    reason = "policy"


class WrongIdentityError(ProtocolError):
    reason = "identity"


class WrongRoleError(ProtocolError):
    reason = "wrong_role"


class AcceptedPeer:
    """Lives as long as its connection. `number` is its source in the table."""

    def __init__(self, host: Host, number: int, sock: socket.socket) -> None:
        self._host = host
        self.number = number
        self._proven = peer_name(sock)
        """Name in the certificate, empty without TLS."""
        self._address = ip_address(sock.getpeername()[0].partition("%")[0])
        self._rule: Rule | None = None
        self._filter: _core.Filter | None = None
        """None: everything is allowed."""
        self._hello: Hello | None = None
        self._original = False
        self._mirrors = False
        """Whether it is a server of the mesh that has asked for what is announced here."""
        self._vnis: set[int] = set()
        self._refused: Counter[str] = Counter()
        self._started = asyncio.get_running_loop().time()
        config = host.config
        self.peer = Peer(
            sock,
            SessionConfig(
                Role.SERVER, config.keepalive, config.hello_timeout, config.max_hold, identity=config.identity
            ),
            self,
            stall_timeout=config.stall_timeout,
            original_pace=config.original_pace,
        )
        self.remote = self.peer.connection.remote
        self._log = log.bind(peer=self.remote)

    @property
    def established(self) -> bool:
        return self._hello is not None

    # Session

    def on_established(self) -> None:
        hello = self.peer.session.peer
        assert hello is not None
        hello = self._proven_hello(hello)
        self._use_rule(self._find_rule(hello.is_server))
        self._hello = hello
        distributor = self._host.distributor
        if not hello.is_server:
            self._original = not self.peer.session.extended
            distributor.connect(self.number, hello.identity, original=self._original)
            if hello.identity and distributor.connections(hello.identity) > 1:
                self._log.warning(
                    "identity used twice, these peers do not get each other's routes", identity=_text(hello.identity)
                )
        self._host.stats.sessions_established += 1
        self._log.info(
            "server of the mesh established" if hello.is_server else "peer established",
            interval=self.peer.session.interval,
            revision=hello.revision,
            identity=_text(hello.identity),
            hold=hello.hold,
            rule=self._rule.name if self._rule else "",
        )

    def on_message(self, kind: MessageType, payload: bytes) -> None:
        assert self._hello is not None
        try:
            if not self._hello.is_server:
                if kind is MessageType.UPDATE:
                    self._update(payload)
                else:
                    self._subscribe(codec.decode_subscription(payload), kind is MessageType.SUBSCRIBE)
            elif kind is MessageType.UPDATE:
                raise WrongRoleError("UPDATE from a server that has dialled this one")
            elif kind is MessageType.SUBSCRIBE and not self._mirrors:
                self._mirrors = True
                self._host.distributor.mirror(self.number)
        finally:
            self._host.wake_touched()

    def on_keepalive(self) -> None:
        assert self._hello is not None
        distributor = self._host.distributor
        if self._original or (self._hello.is_server and not self._mirrors):
            self.peer.send_control(codec.KEEPALIVE)
            return
        if distributor.marks(self.number) >= MAX_WAITING_ANSWERS:
            raise FloodError(f"{MAX_WAITING_ANSWERS} answers wait for a peer that does not read")
        distributor.mark(self.number)
        self.peer.wake()

    def on_answer(self) -> None:
        """A server sends no KEEPALIVE of its own."""

    def next_frames(self, limit: int) -> tuple[list[bytes], bool]:
        frames, updates, more = self._host.distributor.take(self.number, limit, self._original)
        self._host.stats.updates_sent += updates
        return frames, more

    def on_lost(self, reason: str, detail: str) -> None:
        hold = self._hello.hold if self._hello else 0
        routes = self._host.distributor.count_of(self.number)
        self._log.info(
            "peer lost", reason=reason, detail=detail, established=self.established, routes=routes, hold=hold
        )
        self._host.peer_lost(self, reason, detail, hold=hold)

    # What the server asks

    def view(self) -> PeerView:
        session = self.peer.session
        identity = _text(self._hello.identity) if self._hello else self._proven
        return PeerView(
            self.remote,
            session.state.name,
            identity,
            asyncio.get_running_loop().time() - self._started,
            session.interval,
            self._hello.revision if self._hello else 0,
            self._hello.hold if self._hello else 0,
            tuple(sorted(self._vnis)),
            self._host.distributor.count_of(self.number),
            0,
            self._host.distributor.waiting(self.number),
            dict(self._refused),
            mesh=self._hello is not None and self._hello.is_server,
            rule=self._rule.name if self._rule else "",
            proven=bool(self._proven),
        )

    def apply_policy(self) -> None:
        """The policy is another one. What it forbids ends; where it may allow more, the session ends too, because only
        the peer knows what was refused.
        """
        if self._hello is None:
            return
        before = self._rule
        try:
            rule = self._find_rule(self._hello.is_server)
        except NotAllowedError as error:
            self._withdraw_refused(_core.Filter())
            self.peer.reset(error.reason, str(error))
            return
        if rule == before:
            return
        self._use_rule(rule)
        self._withdraw_refused(rule.filter())
        if self._refused or not all(map(rule.may_subscribe, self._vnis)):
            self.peer.reset("policy_changed", f"rule {rule.name!r} says something else now")

    # Inside

    def _proven_hello(self, hello: Hello) -> Hello:
        """A peer with a certificate is who that says; several processes of one host may add "/" and a name."""
        if not self._proven:
            return hello
        proven = self._proven.encode()
        if not hello.identity:
            return replace(hello, identity=proven[: codec.MAX_IDENTITY])
        if hello.identity != proven and not hello.identity.startswith(proven + b"/"):
            raise WrongIdentityError(f"says {_text(hello.identity)!r}, its certificate says {self._proven!r}")
        return hello

    def _use_rule(self, rule: Rule) -> None:
        self._rule = rule
        self._filter = None if rule is OPEN else rule.filter()

    def _find_rule(self, is_server: bool) -> Rule:
        if self._host.policy is None:
            return OPEN
        rule = self._host.policy.rule_for(self._proven, self._address)
        if rule is None:
            raise NotAllowedError(f"no rule for {self._proven or 'a peer without certificate'!r} at {self._address}")
        if is_server and not rule.mesh:
            raise NotAllowedError(f"rule {rule.name!r} is not for servers of the mesh")
        return rule

    def _subscribe(self, vni: int, subscribe: bool) -> None:
        assert self._rule is not None
        if not subscribe:
            self._vnis.discard(vni)
            self._host.distributor.unsubscribe(self.number, vni)
        elif not self._rule.may_subscribe(vni):
            self._refuse("policy_subscribe", f"subscription of VNI {vni}")
        elif len(self._vnis) < self._host.config.max_subscriptions:
            self._vnis.add(vni)
            self._host.distributor.subscribe(self.number, vni)
        else:
            self._refuse("max_subscriptions", f"subscription of VNI {vni}")

    def _update(self, frames: bytes) -> None:
        config = self._host.config
        updates, refusals, broken = self._host.distributor.receive(
            self.number, frames, config.max_peer_routes, config.max_routes, self._filter
        )
        self._host.stats.updates_received += updates
        for reason, count, what in refusals:
            self._refuse(reason, what, count)
        if broken is not None:
            raise BadPayloadError(broken)

    def _withdraw_refused(self, allowed: _core.Filter) -> None:
        distributor = self._host.distributor
        for route in distributor.of_source(self.number):
            if refusal := allowed.refusal(route):
                distributor.update(self.number, False, route)
                self._refuse(refusal, str(route))
        self._host.wake_touched()

    def _refuse(self, reason: str, what: str, count: int = 1) -> None:
        self._host.stats.updates_refused[reason] += count
        first = reason not in self._refused
        self._refused[reason] += count
        if first:
            self._log.warning("message refused, more like it are only counted", reason=reason, message=what)


def _text(identity: bytes) -> str:
    return identity.decode(errors="backslashreplace")
