"""Telemetry answers as values; the socket is tested with the process."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpservice.telemetry import COMMANDS, MAX_OUTPUT, answer
from tests.support.observation import observation


def ask(request: str, ports: int = 3) -> Any:
    encoded = answer(lambda: observation(ports), request.encode())
    assert len(encoded) <= MAX_OUTPUT
    [(_, value)] = json.loads(encoded).items()
    return value


def test_graph_nodes_come_in_blocks() -> None:
    nodes = ask("/dp_service/graph/obj_count", ports=200)
    assert [len(block) for block in nodes.values()] == [256, 146]
    assert list(nodes) == ["Node_0_to_255", "Node_256_to_511"]
    assert nodes["Node_0_to_255"]["rx-5-0"] == 15
    assert nodes["Node_256_to_511"]["cls"] == 100


def test_cycles_are_told_by_worker() -> None:
    assert ask("/dp_service/graph/cycle_count,0") == {"Node_0_to_255": {"worker-1": 3}}


@pytest.mark.parametrize(
    ("request_text", "value"),
    [
        ("/dp_service/nat/used_port_count,0", {"vm": 3}),
        ("/dp_service/firewall/rule_count", {"vm": 2}),
        ("/dp_service/virtsvc/used_port_count,0", {"UDP:169.254.1.1:53": 4}),
        ("/ethdev/link_status,1", {"status": "DOWN"}),
        ("/ethdev/xstats,2,hide_zero=true", {"rx_good_packets": 12, "tx_good_packets": 32, "rx_good_bytes": 22,
                                             "tx_good_bytes": 42, "rx_dropped": 3}),
        ("/eal/heap_list", [0]),
        ("/eal/heap_info,1", None),
        ("/help,/ethdev/list", {"/ethdev/list": "Numbers of ports"}),
        ("/ethdev/list\0", [0, 1, 2]),
    ],
)  # fmt: skip
def test_answers(request_text: str, value: Any) -> None:
    assert ask(request_text) == value


def test_tables_have_the_names_of_the_reference() -> None:
    tables = ask("/dp_service/table/saturation")
    assert tables["conntrack_table"] == {"capacity": 0, "entries": 0}
    assert tables["nat_portmap_table"] == tables["nat_portoverload_table"] == {"capacity": 40, "entries": 4}


def test_what_does_not_fit_is_null() -> None:
    assert ask("/dp_service/graph/obj_count", ports=9000) is None


@given(st.one_of(st.binary(max_size=1024), st.tuples(st.sampled_from(sorted(COMMANDS)), st.binary(max_size=30)).map(
    lambda parts: parts[0].encode() + b"," + parts[1])))  # fmt: skip
def test_any_request_gets_one_answer(request_bytes: bytes) -> None:
    encoded = answer(observation, request_bytes)
    assert len(json.loads(encoded)) == 1
    assert len(encoded) <= MAX_OUTPUT
