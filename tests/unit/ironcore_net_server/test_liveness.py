"""What a lease says about a node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ironcore.apinet.v1 import node_pb2
from ironcore.meta.v1 import meta_pb2

from apimachinery.conditions import FALSE, TRUE, UNKNOWN
from apimachinery.liveness import Beat, assess

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def node(uid: str = "u1") -> node_pb2.Node:
    return node_pb2.Node(metadata=meta_pb2.ObjectMeta(name="p.n", uid=uid))


def ready(of: node_pb2.Node) -> tuple[int, str]:
    (condition,) = of.status.conditions
    return condition.status, condition.reason


def test_a_node_becomes_ready_with_its_first_beat_and_not_with_the_next() -> None:
    subject = node()
    assert assess(subject, Beat("u1", "daemon", 10), NOW)
    assert ready(subject) == (TRUE, "HeartbeatReceived")
    assert subject.status.last_heartbeat.ToDatetime(UTC) == NOW
    assert not assess(subject, Beat("u1", "daemon", 10), LATER)
    assert assess(subject, Beat("u1", "other daemon", 10), LATER)
    assert subject.status.heartbeat_identity == "other daemon"


def test_a_lost_lease_is_a_lost_node_until_it_beats_again() -> None:
    subject = node()
    assess(subject, Beat("u1", "daemon", 10), NOW)
    assert assess(subject, None, LATER)
    assert ready(subject) == (FALSE, "HeartbeatLost")
    assert subject.status.last_heartbeat.ToDatetime(UTC) == NOW
    assert subject.status.conditions[0].last_transition_time.ToDatetime(UTC) == LATER
    assert not assess(subject, None, LATER + timedelta(minutes=1))
    assert assess(subject, Beat("u1", "daemon", 10), LATER)
    assert ready(subject) == (TRUE, "HeartbeatReceived")


def test_a_node_that_never_beat_is_not_lost() -> None:
    subject = node()
    assert assess(subject, None, NOW)
    assert ready(subject) == (UNKNOWN, "HeartbeatPending")


def test_beats_of_a_former_incarnation_do_not_count() -> None:
    subject = node("u2")
    assess(subject, Beat("u1", "daemon", 10), NOW)
    assert ready(subject) == (UNKNOWN, "HeartbeatPending")


def test_beats_survive_their_encoding() -> None:
    beat = Beat("u1", 'a "name"', 10)
    assert Beat.decode(beat.encode()) == beat


@pytest.mark.parametrize(
    "value", [b"", b"\xff", b"[]", b"{}", b'{"uid": "u"}', b'{"uid":"u","identity":"i","ttl":"x"}']
)
def test_a_foreign_value_is_no_beat(value: bytes) -> None:
    assert Beat.decode(value) is None
