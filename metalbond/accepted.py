"""One accepted connection of a server: who it is, what it may, what it says, what it is told."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, Protocol

import structlog

from metalbond import codec
from metalbond.codec import Hello, InvalidRouteError, MessageType, ProtocolError
from metalbond.distribution import Distributor, Outbox, Subscriber
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
FRAME_BYTES = 48
"""Typical size, for turning bytes into a number of routes."""
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
        self._hello: Hello | None = None
        self.subscriber: Subscriber | None = None
        self.outbox: Outbox[Any] | None = None
        """What it is told: routes, or what other servers are told."""
        self._encode: Callable[[bool, Any], bytes] = codec.encode_update
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
        self._rule = self._find_rule(hello.is_server)
        self._hello = hello
        distributor = self._host.distributor
        if hello.is_server:
            self._encode = codec.encode_reflected
        else:
            original = not self.peer.session.extended
            self.subscriber = distributor.connect(self.number, hello.identity, original=original)
            self.outbox = self.subscriber.outbox
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
            rule=self._rule.name,
        )

    def on_messages(self, kind: MessageType, payloads: list[bytes]) -> None:
        if self.subscriber is not None:
            if kind is MessageType.UPDATE:
                self._update(payloads)
            else:
                for payload in payloads:
                    self._subscribe(self.subscriber, codec.decode_subscription(payload), kind is MessageType.SUBSCRIBE)
        elif kind is MessageType.UPDATE:
            raise WrongRoleError("UPDATE from a server that has dialled this one")
        elif kind is MessageType.SUBSCRIBE and self.outbox is None:
            self.outbox = self._host.distributor.mirror(self.number)
        self._host.wake_touched()

    def on_keepalive(self) -> None:
        if self.outbox is None or (self.subscriber is not None and self.subscriber.original):
            self.peer.send_control(codec.KEEPALIVE)
            return
        if self.outbox.marks >= MAX_WAITING_ANSWERS:
            raise FloodError(f"{MAX_WAITING_ANSWERS} answers wait for a peer that does not read")
        self.outbox.mark()
        self.peer.wake()

    def on_answer(self) -> None:
        """A server sends no KEEPALIVE of its own."""

    def next_frames(self, limit: int) -> tuple[list[bytes], bool]:
        if self.outbox is None:
            return [], False
        entries = self.outbox.take(limit // FRAME_BYTES)
        encode = self._encode
        frames = [codec.KEEPALIVE if entry is None else encode(*entry) for entry in entries]
        self._host.stats.updates_sent += len(entries) - entries.count(None)
        return frames, bool(self.outbox)

    def on_lost(self, reason: str, detail: str) -> None:
        hold = self._hello.hold if self._hello else 0
        routes = self._host.distributor.table.count_of(self.number)
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
            tuple(sorted(self.subscriber.subscriptions)) if self.subscriber else (),
            self._host.distributor.table.count_of(self.number),
            0,
            len(self.outbox) if self.outbox else 0,
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
            rule = self._rule = self._find_rule(self._hello.is_server)
        except NotAllowedError as error:
            self._withdraw_refused(Rule(""))
            self.peer.reset(error.reason, str(error))
            return
        if rule == before:
            return
        self._withdraw_refused(rule)
        forbidden = self.subscriber and not all(map(rule.may_subscribe, self.subscriber.subscriptions))
        if forbidden or self._refused:
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

    def _find_rule(self, is_server: bool) -> Rule:
        if self._host.policy is None:
            return OPEN
        rule = self._host.policy.rule_for(self._proven, self._address)
        if rule is None:
            raise NotAllowedError(f"no rule for {self._proven or 'a peer without certificate'!r} at {self._address}")
        if is_server and not rule.mesh:
            raise NotAllowedError(f"rule {rule.name!r} is not for servers of the mesh")
        return rule

    def _subscribe(self, subscriber: Subscriber, vni: int, subscribe: bool) -> None:
        assert self._rule is not None
        if not subscribe:
            self._host.distributor.unsubscribe(self.number, vni)
        elif not self._rule.may_subscribe(vni):
            self._refuse("policy_subscribe", f"subscription of VNI {vni}")
        elif len(subscriber.subscriptions) < self._host.config.max_subscriptions:
            self._host.distributor.subscribe(self.number, vni)
        else:
            self._refuse("max_subscriptions", f"subscription of VNI {vni}")

    def _update(self, payloads: list[bytes]) -> None:
        distributor, number, rule = self._host.distributor, self.number, self._rule
        assert rule is not None
        announces = distributor.table.announces
        self._host.stats.updates_received += len(payloads)
        near_limit = self._full(rule, len(payloads))
        for payload in payloads:
            try:
                add, route = codec.decode_update(payload)
            except InvalidRouteError as error:
                self._refuse("invalid", str(error))
                continue
            refusal = ""
            if add and rule is not OPEN:
                refusal = rule.refusal(route)
            if add and near_limit and not refusal and not announces(number, route):
                refusal = self._full(rule, 1)
            if refusal:
                self._refuse(refusal, str(route))
            else:
                distributor.update(number, add, route)

    def _full(self, rule: Rule, more: int) -> str:
        """Name of the limit that so many more routes would break, or an empty string."""
        table, config = self._host.distributor.table, self._host.config
        count = table.count_of(self.number) + more
        if rule.announce is not None and rule.announce.max_routes is not None and count > rule.announce.max_routes:
            return "policy_max_routes"
        if count > config.max_peer_routes:
            return "max_peer_routes"
        return "max_routes" if len(table) + more > config.max_routes else ""

    def _withdraw_refused(self, rule: Rule) -> None:
        distributor = self._host.distributor
        for route in distributor.table.of_source(self.number):
            if refusal := rule.refusal(route):
                distributor.update(self.number, False, route)
                self._refuse(refusal, str(route))
        self._host.wake_touched()

    def _refuse(self, reason: str, what: str) -> None:
        self._host.stats.updates_refused[reason] += 1
        self._refused[reason] += 1
        if self._refused[reason] == 1:
            self._log.warning("message refused, more like it are only counted", reason=reason, message=what)


def _text(identity: bytes) -> str:
    return identity.decode(errors="backslashreplace")
