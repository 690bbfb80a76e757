"""State machine of one connection, as a function: `step(session, event, config)` gives the next session and what to do.

Events carry the time; nothing here reads a clock. States are those of the original protocol:

    client  CONNECTING ──Connected──► HELLO_SENT ──HELLO──► HELLO_RECEIVED ──KEEPALIVE──► ESTABLISHED
    server  CONNECTING ──HELLO──► HELLO_SENT ──KEEPALIVE──► ESTABLISHED
    both    any ──loss, silence, protocol error──► RETRY (client; Redial leads back to CONNECTING) or CLOSED (server)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum, IntEnum

from metalbond.codec import Hello, MessageType

REVISION = 1
TIMEOUT_INTERVALS = 2.5
MAX_KEEPALIVE = 3600


class Role(Enum):
    CLIENT = "client"
    SERVER = "server"


class SessionState(IntEnum):
    CONNECTING = 0
    HELLO_SENT = 1
    HELLO_RECEIVED = 2
    ESTABLISHED = 3
    RETRY = 4
    CLOSED = 5


@dataclass(frozen=True, slots=True)
class SessionConfig:
    role: Role
    keepalive: int = 5
    """Seconds, 1 to 3600; both sides use the smaller value of the two."""
    hello_timeout: float = 10.0
    """Seconds that the other side has for its HELLO."""
    hold: int = 0
    """Seconds: what a client asks for, the most that a server grants."""
    identity: bytes = b""
    """Name of this client; of a server: told to servers of its mesh only."""
    mesh: bool = False
    """Client: a server that dials another one of its mesh."""
    keepalive_factor: float = 0.9
    """A client's keepalives are this part of an interval apart: above 0, at most 1. Differs by connection."""
    extensions: bool = True
    """Offer revision 1. Without it this side speaks the original protocol."""


@dataclass(frozen=True, slots=True)
class Session:
    state: SessionState = SessionState.CONNECTING
    interval: int = 0
    """Seconds between keepalives, 0 before both sides have said theirs."""
    peer: Hello | None = None
    deadline: float = math.inf
    """Time at which silence ends the session."""
    keepalive_at: float = math.inf
    """Time of a client's next KEEPALIVE."""
    probes: int = 0
    """KEEPALIVEs sent by a client on this connection."""
    answers: int = 0
    """KEEPALIVEs that came back: the n-th answers the n-th probe."""

    @property
    def extended(self) -> bool:
        """The other side executes in order, and so on: see Hello.revision in the contract."""
        return self.peer is not None and self.peer.revision >= REVISION

    @property
    def wake_at(self) -> float:
        """Time at which a Tick is due, infinite if never."""
        return min(self.deadline, self.keepalive_at)


@dataclass(frozen=True, slots=True)
class Connected:
    """TCP is up."""

    now: float


@dataclass(frozen=True, slots=True)
class Received:
    """One message, or a run of UPDATEs that arrived together. `hello` is the payload of a HELLO."""

    now: float
    type: MessageType
    hello: Hello | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    now: float


@dataclass(frozen=True, slots=True)
class Probe:
    """A client wants a KEEPALIVE to be sent now, as a mark in the stream."""

    now: float


@dataclass(frozen=True, slots=True)
class Lost:
    """TCP is down, could not be set up, or its content is broken."""

    now: float
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Redial:
    now: float


@dataclass(frozen=True, slots=True)
class Shutdown:
    now: float


Event = Connected | Received | Tick | Probe | Lost | Redial | Shutdown


@dataclass(frozen=True, slots=True)
class SendHello:
    hello: Hello


@dataclass(frozen=True, slots=True)
class SendKeepalive:
    """A client's own KEEPALIVE."""


@dataclass(frozen=True, slots=True)
class AnswerKeepalive:
    """A server's echo. To an extended peer it must follow everything that is queued; to others it must not wait."""


@dataclass(frozen=True, slots=True)
class Establish:
    """Messages of the table may flow from now on."""


@dataclass(frozen=True, slots=True)
class Process:
    """Execute the received SUBSCRIBE, UNSUBSCRIBE or UPDATE."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Close the connection and drop what was learned through it."""

    reason: str
    """Short stable name, for metrics."""
    detail: str = ""


Action = SendHello | SendKeepalive | AnswerKeepalive | Establish | Process | Reset
Step = tuple[Session, tuple[Action, ...]]

_ENDED = (SessionState.RETRY, SessionState.CLOSED)


def step(session: Session, event: Event, config: SessionConfig) -> Step:
    """Next session and actions in order. Events that mean nothing in a state change nothing."""
    state = session.state
    match event:
        case Shutdown():
            closed = Session(SessionState.CLOSED)
            return closed, (Reset("shutdown"),) if state not in _ENDED else ()
        case Redial():
            return (Session(), ()) if state is SessionState.RETRY else (session, ())
        case _ if state in _ENDED:
            return session, ()
        case Lost(reason=reason, detail=detail):
            return _reset(config, reason, detail)
        case Connected(now=now):
            return _connected(session, now, config)
        case Tick(now=now):
            return _tick(session, now, config)
        case Probe(now=now):
            return _send_keepalive(session, now, config) if state is SessionState.ESTABLISHED else (session, ())
        case Received(type=MessageType.HELLO, hello=hello, now=now) if hello is not None:
            return _hello(session, hello, now, config)
        case Received(type=MessageType.KEEPALIVE, now=now):
            return _keepalive(session, now, config)
        case Received(type=kind, now=now):
            return _table_message(session, kind, now, config)


def timeout(interval: int) -> float:
    """Seconds of silence after which a session ends."""
    return TIMEOUT_INTERVALS * interval


def _reset(config: SessionConfig, reason: str, detail: str = "") -> Step:
    state = SessionState.RETRY if config.role is Role.CLIENT else SessionState.CLOSED
    return Session(state), (Reset(reason, detail),)


def _connected(session: Session, now: float, config: SessionConfig) -> Step:
    if session.state is not SessionState.CONNECTING:
        return session, ()
    session = replace(session, deadline=now + config.hello_timeout)
    if config.role is Role.SERVER:
        return session, ()
    return replace(session, state=SessionState.HELLO_SENT), (SendHello(_client_hello(config)),)


def _client_hello(config: SessionConfig) -> Hello:
    if not config.extensions:
        return Hello(config.keepalive)
    return Hello(config.keepalive, config.mesh, REVISION, config.hold, config.identity)


def _hello(session: Session, hello: Hello, now: float, config: SessionConfig) -> Step:
    from_server = config.role is Role.CLIENT
    if fault := _role_fault(hello, config):
        return _reset(config, "wrong_role", fault)
    if from_server and session.state is SessionState.CONNECTING:
        return _reset(config, "unexpected_hello")
    if not config.extensions:
        hello = Hello(hello.keepalive, hello.is_server)
    interval = min(config.keepalive, hello.keepalive)
    # A repeated HELLO renegotiates the interval; the tables of an established session are not touched by it.
    again = session.peer is not None
    session = replace(session, interval=interval, deadline=now + timeout(interval))
    if from_server:
        if again:
            return replace(session, keepalive_at=min(session.keepalive_at, now + interval)), ()
        session = replace(session, state=SessionState.HELLO_RECEIVED, peer=hello)
        return _send_keepalive(session, now, config)
    if not again:
        hold = min(hello.hold, config.hold) if hello.identity else 0
        session = replace(session, state=SessionState.HELLO_SENT, peer=replace(hello, hold=hold))
    assert session.peer is not None
    answer = Hello(interval, is_server=True)
    if config.extensions:
        answer = replace(answer, revision=REVISION, hold=session.peer.hold)
    if session.peer.is_server:
        answer = replace(answer, identity=config.identity)
    return session, (SendHello(answer),)


def _role_fault(hello: Hello, config: SessionConfig) -> str:
    """Servers of a mesh know each other by name; in all other sessions one side is a client."""
    named = hello.revision >= REVISION and hello.identity != b""
    if config.role is Role.CLIENT:
        if not hello.is_server:
            return "answered by a client"
        if config.mesh and not named:
            return "not a server that can be meshed"
    elif hello.is_server and not named:
        return "a server dialled that has no name"
    if hello.is_server and hello.identity == config.identity != b"" and (config.mesh or config.role is Role.SERVER):
        return "a server dialled itself"
    return ""


def _send_keepalive(session: Session, now: float, config: SessionConfig) -> Step:
    at = now + session.interval * config.keepalive_factor
    return replace(session, keepalive_at=at, probes=session.probes + 1), (SendKeepalive(),)


def _keepalive(session: Session, now: float, config: SessionConfig) -> Step:
    alive = replace(session, deadline=now + timeout(session.interval))
    if config.role is Role.CLIENT:
        if session.probes == 0:
            return _reset(config, "unexpected_keepalive")
        alive = replace(alive, answers=min(session.answers + 1, session.probes))
        if session.state is SessionState.HELLO_RECEIVED:
            return replace(alive, state=SessionState.ESTABLISHED), (Establish(),)
        return alive, ()
    if session.state is SessionState.HELLO_SENT:
        # Established before the answer leaves, because the client's next messages may be under way already.
        return replace(alive, state=SessionState.ESTABLISHED), (Establish(), AnswerKeepalive())
    if session.state is SessionState.ESTABLISHED:
        return alive, (AnswerKeepalive(),)
    return _reset(config, "unexpected_keepalive")


def _table_message(session: Session, kind: MessageType, now: float, config: SessionConfig) -> Step:
    if config.role is Role.CLIENT and kind is not MessageType.UPDATE:
        return _reset(config, "wrong_role", f"{kind.name} from a server")
    if session.state is SessionState.ESTABLISHED:
        return replace(session, deadline=now + timeout(session.interval)), (Process(),)
    if kind is MessageType.UNSUBSCRIBE:
        # Clients of the original protocol send one before their HELLO if they unsubscribe while they dial.
        return session, ()
    return _reset(config, "not_established", f"{kind.name} in state {session.state.name}")


def _tick(session: Session, now: float, config: SessionConfig) -> Step:
    if now >= session.deadline:
        silent = "hello_timeout" if session.peer is None else "keepalive_timeout"
        return _reset(config, silent)
    if now >= session.keepalive_at:
        return _send_keepalive(session, now, config)
    return session, ()
