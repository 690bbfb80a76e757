"""Conditions in status: find, compare, set. Pure; the time is an argument."""

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from ironcore.meta.v1 import meta_pb2

TRUE = meta_pb2.CONDITION_STATUS_TRUE
FALSE = meta_pb2.CONDITION_STATUS_FALSE
UNKNOWN = meta_pb2.CONDITION_STATUS_UNKNOWN


def find_condition(conditions: Iterable[meta_pb2.Condition], condition_type: str) -> meta_pb2.Condition | None:
    """The condition of this type, or None."""
    return next((condition for condition in conditions if condition.type == condition_type), None)


def is_true(conditions: Iterable[meta_pb2.Condition], condition_type: str) -> bool:
    """True if the condition exists and its status is True."""
    condition = find_condition(conditions, condition_type)
    return condition is not None and condition.status == TRUE


def set_condition(
    conditions: "RepeatedCompositeFieldContainer[meta_pb2.Condition]",
    condition_type: str,
    status: "meta_pb2.ConditionStatus.ValueType",
    *,
    reason: str,
    message: str = "",
    observed_generation: int = 0,
    now: datetime,
) -> bool:
    """Sets the condition of this type in place; returns whether anything changed.

    `last_transition_time` becomes `now` (timezone-aware) only when `status` changes, so that a controller which
    computes the same answer again writes nothing.
    """
    current = find_condition(conditions, condition_type)
    if current is None:
        current = conditions.add(type=condition_type)
    elif (current.status, current.reason, current.message, current.observed_generation) == (
        status,
        reason,
        message,
        observed_generation,
    ):
        return False
    if current.status != status:
        current.last_transition_time.FromDatetime(now)
    current.status = status
    current.reason = reason
    current.message = message
    current.observed_generation = observed_generation
    return True
