"""Conditions: transition times move with the status only."""

from datetime import UTC, datetime, timedelta

from apimachinery.conditions import FALSE, TRUE, find_condition, is_true, set_condition

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _conditions():
    # Any message with a repeated Condition does; a list container cannot be made on its own.
    from ironcore.apinet.v1 import node_pb2

    return node_pb2.Node().status.conditions


def test_time_moves_with_the_status_only() -> None:
    conditions = _conditions()
    assert set_condition(conditions, "Ready", TRUE, reason="Fine", observed_generation=1, now=NOW)
    later = NOW + timedelta(minutes=1)
    assert not set_condition(conditions, "Ready", TRUE, reason="Fine", observed_generation=1, now=later)
    assert set_condition(conditions, "Ready", TRUE, reason="Better", observed_generation=2, now=later)
    ready = find_condition(conditions, "Ready")
    assert ready is not None
    assert (ready.reason, ready.observed_generation) == ("Better", 2)
    assert ready.last_transition_time.ToDatetime(UTC) == NOW
    assert set_condition(conditions, "Ready", FALSE, reason="Gone", now=later)
    assert ready.last_transition_time.ToDatetime(UTC) == later
    assert len(conditions) == 1


def test_absent_and_false_are_not_true() -> None:
    conditions = _conditions()
    assert not is_true(conditions, "Ready")
    set_condition(conditions, "Ready", FALSE, reason="No", now=NOW)
    assert not is_true(conditions, "Ready")
    set_condition(conditions, "Ready", TRUE, reason="Yes", now=NOW)
    assert is_true(conditions, "Ready")
    assert not is_true(conditions, "Other")
