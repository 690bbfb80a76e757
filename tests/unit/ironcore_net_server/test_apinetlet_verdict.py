"""Verdicts become conditions, and equal verdicts change nothing."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import virtual_ip_pb2

from apimachinery.conditions import FALSE, TRUE, is_true
from apimachinery.errors import FailedPrecondition, FieldViolation, ResourceExhausted
from apimachinery.finalizers import has_finalizer
from ironcore_net_server.apinetlet.config import MANAGED_BY_ANNOTATION, is_foreign
from ironcore_net_server.apinetlet.verdict import Verdict, judge

BEFORE, NOW = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
VERDICTS = st.dictionaries(
    st.sampled_from(["Ready", "VirtualIPBound"]),
    st.builds(Verdict, st.booleans(), st.sampled_from(["A", "B"]), st.sampled_from(["x", "y"])),
)


def told(source: virtual_ip_pb2.VirtualIP, verdicts: dict[str, Verdict], now: datetime) -> virtual_ip_pb2.VirtualIP:
    result = virtual_ip_pb2.VirtualIP()
    result.CopyFrom(source)
    result.status.Clear()
    judge(source, result.status, verdicts, now)
    return result


@given(VERDICTS, VERDICTS)
def test_conditions_are_the_verdicts_and_times_are_those_of_changes(
    first: dict[str, Verdict], second: dict[str, Verdict]
) -> None:
    source = virtual_ip_pb2.VirtualIP(metadata=meta_pb2.ObjectMeta(generation=3))
    old = told(source, first, BEFORE)
    assert told(old, first, NOW) == old, "the same again is nothing new"
    new = told(old, second, NOW)
    assert new.status.observed_generation == 3
    assert {condition.type for condition in new.status.conditions} == second.keys()
    for condition in new.status.conditions:
        verdict = second[condition.type]
        assert (condition.status, condition.reason, condition.message) == (
            TRUE if verdict.holds else FALSE,
            verdict.reason,
            verdict.message,
        )
        unchanged = condition.type in first and first[condition.type].holds == verdict.holds
        assert condition.last_transition_time.ToDatetime(UTC) == (BEFORE if unchanged else NOW)
    assert is_true(new.status.conditions, "Ready") == ("Ready" in second and second["Ready"].holds)


def test_a_refusal_says_what_is_wrong() -> None:
    full = Verdict.refused(ResourceExhausted("no free public IPv4 address in 192.0.2.0/24", reason="POOL_EXHAUSTED"))
    assert full == Verdict(False, "PoolExhausted", "no free public IPv4 address in 192.0.2.0/24")
    other = Verdict.refused(FailedPrecondition("refused", violations=[FieldViolation("spec.ip", "is taken")]))
    assert other.message == "refused: spec.ip: is taken"
    assert Verdict.refused(FailedPrecondition("no", reason="IP_IN_USE")).reason == "IpInUse"


def test_foreign_objects_are_left_alone_unless_the_bridge_has_to_let_them_go() -> None:
    obj = virtual_ip_pb2.VirtualIP()
    assert not is_foreign(obj, "f")
    obj.metadata.annotations[MANAGED_BY_ANNOTATION] = "somebody"
    assert is_foreign(obj, "f")
    obj.metadata.finalizers.append("f")
    assert has_finalizer(obj, "f")
    assert is_foreign(obj, "f")
    obj.metadata.deletion_timestamp.FromDatetime(NOW)
    assert not is_foreign(obj, "f")
    assert is_foreign(obj, "other")
