"""Logs: one stream for all loggers, outages told once, storms bounded."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from apimachinery.logs import LogLimiter, Outage, configure_logging


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_json_lines_carry_both_kinds_of_loggers() -> None:
    out = io.StringIO()
    configure_logging("info", "json", stream=out)
    structlog.get_logger("room").info("began", address="10.0.0.1")
    logging.getLogger("library").warning("odd %s", "thing")
    structlog.get_logger("room").debug("hidden")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line["level"], line["logger"]) for line in lines] == [
        ("began", "info", "room"),
        ("odd thing", "warning", "library"),
    ]
    assert lines[0]["address"] == "10.0.0.1"
    assert lines[0]["timestamp"].endswith("Z")


def test_json_tracebacks_stay_on_their_line() -> None:
    out = io.StringIO()
    configure_logging("info", "json", stream=out)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("room").exception("failed")
    (line,) = out.getvalue().splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_journal_lines_have_a_priority_and_no_time() -> None:
    out = io.StringIO()
    configure_logging("debug", "text", stream=out, journal=True)
    log = structlog.get_logger("room")
    log.warning("odd", key=1)
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed")
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("<4>[warning")
    assert "key=1" in lines[0]
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines[1:])


def test_text_lines_have_a_time() -> None:
    out = io.StringIO()
    configure_logging("info", "text", stream=out, journal=False)
    structlog.get_logger("room").info("began")
    assert out.getvalue()[:2] == "20"
    assert "began" in out.getvalue()


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="loud"):
        configure_logging("loud")


def test_an_outage_is_told_once_and_its_end_once() -> None:
    out = io.StringIO()
    configure_logging("info", "json", stream=out)
    now = [100.0]
    outage = Outage("etcd", clock=lambda: now[0], endpoint="e1")
    outage.recovered()
    for _ in range(5):
        outage.lost(OSError("refused"))
        now[0] += 2
    assert outage.active
    outage.recovered()
    outage.recovered()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["etcd lost, retrying", "etcd is back"]
    assert lines[0]["error"] == "refused"
    assert lines[0]["endpoint"] == "e1"
    assert (lines[1]["after_seconds"], lines[1]["failures"]) == (10.0, 5)
    assert not outage.active


def test_a_dependency_is_back_when_all_its_parts_are() -> None:
    out = io.StringIO()
    configure_logging("info", "json", stream=out)
    now = [100.0]
    outage = Outage("etcd", clock=lambda: now[0])
    first, second, ended = outage.part("watch a"), outage.part("watch b"), outage.part("watch c")

    def events() -> list[str]:
        return [json.loads(line)["event"] for line in out.getvalue().splitlines()]

    first.recovered()
    first.lost("closed")
    second.lost("closed")
    ended.lost("closed")
    outage.lost("refused")
    assert events() == ["etcd lost, retrying"]
    # A call that succeeds says nothing about the watches.
    outage.recovered()
    now[0] += 3
    first.recovered()
    assert (first.active, second.active, outage.active) == (False, True, True)
    ended.close()
    assert events() == ["etcd lost, retrying"]
    second.recovered()
    assert events() == ["etcd lost, retrying", "etcd is back"]
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (lines[0]["error"], lines[0]["part"]) == ("closed", "watch a")
    assert (lines[1]["after_seconds"], lines[1]["failures"]) == (3.0, 4)

    # The end of the last part that is lost proves nothing; the next success does.
    first.lost("closed")
    first.close()
    assert outage.active
    outage.recovered()
    assert events() == ["etcd lost, retrying", "etcd is back"] * 2


def test_the_limiter_lets_a_burst_through_and_counts_the_rest() -> None:
    now = [0.0]
    limiter = LogLimiter(burst=3, per_second=1.0, clock=lambda: now[0])
    assert [limiter.allow() for _ in range(6)] == [0, 0, 0, None, None, None]
    now[0] = 1.0
    assert [limiter.allow(), limiter.allow()] == [3, None]
    now[0] = 100.0
    assert [limiter.allow() for _ in range(4)] == [1, 0, 0, None]
