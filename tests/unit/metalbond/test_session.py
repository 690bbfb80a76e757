"""The state machine: every transition of the protocol, and what must hold for any sequence of events."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metalbond.codec import Hello, MessageType
from metalbond.session import (
    AnswerKeepalive,
    Connected,
    Establish,
    Event,
    Lost,
    Probe,
    Process,
    Received,
    Redial,
    Reset,
    Role,
    SendHello,
    SendKeepalive,
    Session,
    SessionConfig,
    SessionState,
    Shutdown,
    Tick,
    step,
)

S = SessionState
CLIENT = SessionConfig(Role.CLIENT, keepalive=5, hold=30, identity=b"node", keepalive_factor=0.9)
SERVER = SessionConfig(Role.SERVER, keepalive=3, hold=20)
FROM_SERVER = Hello(3, is_server=True, revision=1, hold=20)
FROM_CLIENT = Hello(5, revision=1, hold=30, identity=b"node")


def after(config: SessionConfig, *events: Event) -> Session:
    session = Session()
    for event in events:
        session, _ = step(session, event, config)
    return session


def hello(now: float, value: Hello) -> Received:
    return Received(now, MessageType.HELLO, value)


def keepalive(now: float) -> Received:
    return Received(now, MessageType.KEEPALIVE)


CLIENT_UP = after(CLIENT, Connected(0), hello(1, FROM_SERVER), keepalive(2))
SERVER_UP = after(SERVER, Connected(0), hello(1, FROM_CLIENT), keepalive(2))


def test_client_walks_to_established() -> None:
    session, actions = step(Session(), Connected(100), CLIENT)
    assert (session.state, actions) == (S.HELLO_SENT, (SendHello(FROM_CLIENT),))
    session, actions = step(session, hello(101, FROM_SERVER), CLIENT)
    assert (session.state, session.interval, actions) == (S.HELLO_RECEIVED, 3, (SendKeepalive(),))
    assert (session.deadline, session.keepalive_at, session.probes) == (108.5, pytest.approx(103.7), 1)
    session, actions = step(session, keepalive(102), CLIENT)
    assert (session.state, session.answers, actions) == (S.ESTABLISHED, 1, (Establish(),))
    assert session.deadline == 109.5


def test_server_walks_to_established() -> None:
    session, actions = step(Session(), Connected(100), SERVER)
    assert (session.state, session.deadline, actions) == (S.CONNECTING, 110, ())
    session, actions = step(session, hello(101, FROM_CLIENT), SERVER)
    assert (session.state, session.interval) == (S.HELLO_SENT, 3)
    assert actions == (SendHello(Hello(3, is_server=True, revision=1, hold=20)),)
    session, actions = step(session, keepalive(102), SERVER)
    assert (session.state, actions) == (S.ESTABLISHED, (Establish(), AnswerKeepalive()))


def test_the_original_protocol_sees_none_of_the_extensions() -> None:
    _, actions = step(Session(), Connected(0), replace(CLIENT, extensions=False))
    assert actions == (SendHello(Hello(5)),)
    plain = replace(SERVER, extensions=False)
    session, actions = step(after(plain, Connected(0)), hello(1, FROM_CLIENT), plain)
    assert actions == (SendHello(Hello(3, is_server=True)),)
    assert not session.extended
    assert not after(SERVER, Connected(0), hello(1, Hello(5))).extended


def test_without_a_name_nothing_is_held() -> None:
    session = after(SERVER, Connected(0), hello(1, replace(FROM_CLIENT, identity=b"")))
    assert session.peer is not None
    assert session.peer.hold == 0


@pytest.mark.parametrize(("ours", "theirs"), [(1, 9), (9, 1), (5, 5)])
def test_both_sides_use_the_smaller_interval(ours: int, theirs: int) -> None:
    client = after(replace(CLIENT, keepalive=ours), Connected(0), hello(0, Hello(theirs, is_server=True)))
    server = after(replace(SERVER, keepalive=ours), Connected(0), hello(0, Hello(theirs)))
    smaller = min(ours, theirs)
    assert client.interval == server.interval == smaller
    assert client.deadline == server.deadline == 2.5 * smaller
    assert client.keepalive_at <= smaller


@pytest.mark.parametrize("config", [CLIENT, SERVER])
def test_any_traffic_is_a_sign_of_life(config: SessionConfig) -> None:
    up = CLIENT_UP if config is CLIENT else SERVER_UP
    session, actions = step(up, Received(6, MessageType.UPDATE), config)
    assert (session.deadline, actions) == (13.5, (Process(),))


def test_silence_ends_a_session_after_two_and_a_half_intervals() -> None:
    session, actions = step(SERVER_UP, Tick(9.4), SERVER)
    assert (session.state, actions) == (S.ESTABLISHED, ())
    session, actions = step(SERVER_UP, Tick(9.5), SERVER)
    assert (session.state, actions) == (S.CLOSED, (Reset("keepalive_timeout"),))
    session, actions = step(after(CLIENT, Connected(0)), Tick(10), CLIENT)
    assert (session.state, actions) == (S.RETRY, (Reset("hello_timeout"),))
    session, actions = step(after(SERVER, Connected(0)), Tick(10), SERVER)
    assert (session.state, actions) == (S.CLOSED, (Reset("hello_timeout"),))


def test_clients_send_keepalives_in_time_and_servers_only_answer() -> None:
    session, actions = step(CLIENT_UP, Tick(CLIENT_UP.keepalive_at), CLIENT)
    assert actions == (SendKeepalive(),)
    assert session.keepalive_at - CLIENT_UP.keepalive_at <= session.interval
    assert session.probes == CLIENT_UP.probes + 1
    assert SERVER_UP.keepalive_at == math.inf


def test_a_probe_is_a_keepalive_out_of_turn() -> None:
    session, actions = step(CLIENT_UP, Probe(3), CLIENT)
    assert (session.probes, actions) == (2, (SendKeepalive(),))
    assert step(after(CLIENT, Connected(0)), Probe(3), CLIENT)[1] == ()


def test_a_second_hello_renegotiates_and_keeps_the_session() -> None:
    session, actions = step(SERVER_UP, hello(3, Hello(1)), SERVER)
    assert (session.state, session.interval, session.deadline) == (S.ESTABLISHED, 1, 5.5)
    assert isinstance(actions[0], SendHello) and len(actions) == 1
    session, actions = step(CLIENT_UP, hello(3, Hello(1, is_server=True)), CLIENT)
    assert CLIENT_UP.keepalive_at < 4
    assert (session.state, session.interval, session.keepalive_at, actions) == (
        S.ESTABLISHED,
        1,
        CLIENT_UP.keepalive_at,
        (),
    )


def test_unsubscribe_before_hello_is_tolerated_by_servers() -> None:
    session = after(SERVER, Connected(0))
    assert step(session, Received(1, MessageType.UNSUBSCRIBE), SERVER) == (session, ())


@pytest.mark.parametrize(
    ("config", "session", "event", "reason"),
    [
        (SERVER, after(SERVER, Connected(0)), keepalive(1), "unexpected_keepalive"),
        (SERVER, after(SERVER, Connected(0)), Received(1, MessageType.UPDATE), "not_established"),
        (SERVER, after(SERVER, Connected(0)), Received(1, MessageType.SUBSCRIBE), "not_established"),
        (SERVER, after(SERVER, Connected(0)), hello(1, Hello(5, is_server=True)), "wrong_role"),
        (CLIENT, after(CLIENT, Connected(0)), hello(1, Hello(5)), "wrong_role"),
        (CLIENT, after(CLIENT, Connected(0)), keepalive(1), "unexpected_keepalive"),
        (CLIENT, after(CLIENT, Connected(0)), Received(1, MessageType.UPDATE), "not_established"),
        (CLIENT, CLIENT_UP, Received(3, MessageType.SUBSCRIBE), "wrong_role"),
        (CLIENT, CLIENT_UP, Lost(3, "eof"), "eof"),
        (SERVER, SERVER_UP, Lost(3, "eof"), "eof"),
    ],
)
def test_what_ends_a_session(config: SessionConfig, session: Session, event: Event, reason: str) -> None:
    ended, actions = step(session, event, config)
    assert ended == Session(S.RETRY if config.role is Role.CLIENT else S.CLOSED)
    assert [type(action) for action in actions] == [Reset]
    assert isinstance(actions[0], Reset) and actions[0].reason == reason


def test_only_clients_dial_again() -> None:
    assert after(CLIENT, Connected(0), Lost(1, "eof"), Redial(2)) == Session(S.CONNECTING)
    assert after(SERVER, Connected(0), Lost(1, "eof"), Redial(2)).state is S.CLOSED
    assert after(CLIENT, Connected(0), Shutdown(1), Redial(2)).state is S.CLOSED


some_hellos = st.builds(
    Hello, st.integers(1, 9), st.booleans(), st.integers(0, 2), st.integers(0, 99), st.binary(max_size=2)
)


@st.composite
def timelines(draw: st.DrawFn) -> list[Event]:
    now, events = 0.0, list[Event]()
    for _ in range(draw(st.integers(0, 40))):
        now += draw(st.floats(0, 4))
        at = st.just(now)
        events.append(
            draw(
                st.one_of(
                    st.builds(Connected, at),
                    st.builds(Tick, at),
                    st.builds(Probe, at),
                    st.builds(Redial, at),
                    st.builds(Lost, at, st.just("eof")),
                    st.builds(hello, at, some_hellos),
                    st.builds(Received, at, st.sampled_from([t for t in MessageType if t is not MessageType.HELLO])),
                )
            )
        )
    return events


@given(st.sampled_from([CLIENT, SERVER]), timelines())
def test_invariants_of_any_history(config: SessionConfig, events: list[Event]) -> None:
    session = Session()
    ended = False
    for event in events:
        before = session
        session, actions = step(session, event, config)
        kinds = [type(action) for action in actions]
        if ended and not isinstance(event, Redial):
            assert session == before and not actions, "nothing happens after the end"
        ended = session.state in (S.RETRY, S.CLOSED)
        assert (Reset in kinds) == (ended and before.state not in (S.RETRY, S.CLOSED)), "one reset per end"
        assert Reset not in kinds or kinds[-1] is Reset
        if Process in kinds:
            assert before.state is S.ESTABLISHED, "tables are touched by established sessions only"
        if Establish in kinds:
            assert (before.state is not S.ESTABLISHED) and session.state is S.ESTABLISHED
        if session.state is S.ESTABLISHED:
            assert session.peer is not None and 1 <= session.interval <= config.keepalive
            assert event.now <= session.deadline <= event.now + 2.5 * session.interval or isinstance(
                event, Probe | Tick
            )
            assert math.isfinite(session.wake_at)
        if session.state in (S.HELLO_SENT, S.HELLO_RECEIVED):
            assert math.isfinite(session.deadline), "no state waits for ever"
        assert session.answers <= session.probes
        if config.role is Role.SERVER:
            assert SendKeepalive not in kinds
        else:
            assert AnswerKeepalive not in kinds


@given(st.floats(0.5, 1.0), st.integers(1, 30), st.floats(0, 100))
def test_a_live_pair_never_times_out(factor: float, interval: int, start: float) -> None:
    client_config = replace(CLIENT, keepalive=interval, keepalive_factor=factor)
    server = after(SERVER, Connected(start), hello(start, Hello(interval)), keepalive(start))
    answer = Hello(server.interval, is_server=True)
    client = after(client_config, Connected(start), hello(start, answer), keepalive(start))
    for _ in range(50):
        now = client.wake_at
        assert now < server.deadline and now < client.deadline
        client, actions = step(client, Tick(now), client_config)
        assert actions == (SendKeepalive(),)
        server, answers = step(server, keepalive(now), SERVER)
        assert answers == (AnswerKeepalive(),)
        client, _ = step(client, keepalive(now), client_config)
    assert client.state is server.state is S.ESTABLISHED
