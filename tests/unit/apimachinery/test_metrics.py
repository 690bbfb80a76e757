"""Gauges that are read when somebody looks."""

from collections.abc import Iterable
from typing import Any

from opentelemetry.metrics import CallbackOptions

from apimachinery.metrics import ObservedGauge


class Owner:
    """Anything that can be referred to weakly."""


def observed(gauge: ObservedGauge) -> dict[str, float]:
    observations: Iterable[Any] = gauge._observe(CallbackOptions())
    return {observation.attributes["kind"]: observation.value for observation in observations}


def test_sources_are_added_up_and_forgotten_with_their_owner() -> None:
    gauge = ObservedGauge("test.gauge", "test")
    first, second, third = Owner(), Owner(), Owner()
    values = {"first": 1.0}
    gauge.track(first, lambda owner: values["first"] if owner is first else -1, kind="a")
    gauge.track(second, lambda _: 2.0, kind="a")
    gauge.track(second, lambda _: 4.0, kind="b")
    gauge.track(third, lambda _: 5.0, kind="b")
    assert observed(gauge) == {"a": 3.0, "b": 9.0}
    values["first"] = 10.0
    del second, third
    assert observed(gauge) == {"a": 10.0}
