"""Paths into objects and the conditions of wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_interface_pb2

from ironcore_net_server.cli.jsonpath import evaluate, parse_path
from ironcore_net_server.cli.wait import parse_condition

DOCUMENT = {
    "metadata": {"labels": {"a.b/c": "x"}},
    "status": {"ips": [{"value": "10.0.0.1"}, {"value": "fd00::1"}], "ready": True, "vni": 7},
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("{.status.vni}", [7]),
        (".status.vni", [7]),
        ("status.vni", [7]),
        ("{$.status.vni}", [7]),
        ("{.status.ips[0].value}", ["10.0.0.1"]),
        ("{.status.ips[-1].value}", ["fd00::1"]),
        ("{.status.ips[*].value}", ["10.0.0.1", "fd00::1"]),
        ("{.metadata.labels['a.b/c']}", ["x"]),
        ('{.metadata.labels["a.b/c"]}', ["x"]),
        ("{.metadata.labels[*]}", ["x"]),
        ("{.status.ips[2].value}", []),
        ("{.status.none.deeper}", []),
        ("{.status.vni.deeper}", []),
        ("{.status[0]}", []),
    ],
)
def test_paths(path: str, values: list[object]) -> None:
    assert evaluate(DOCUMENT, parse_path(path)) == values


@pytest.mark.parametrize("path", ["", "{}", ".", ".a.", "a b", ".a[", ".a[x]", ".a[?(@.b)]", ".a[1:2]", "..a"])
def test_wrong_paths(path: str) -> None:
    with pytest.raises(ValueError, match="is no path"):
        parse_path(path)


@given(st.text(max_size=30))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        path = parse_path(text)
    except ValueError:
        return
    evaluate(DOCUMENT, path)


def nic() -> network_interface_pb2.NetworkInterface:
    obj = network_interface_pb2.NetworkInterface(metadata=meta_pb2.ObjectMeta(name="a", labels={"a.b/c": "x=y"}))
    obj.status.conditions.add(type="Ready", status=meta_pb2.CONDITION_STATUS_TRUE)
    obj.status.conditions.add(type="Attached", status=meta_pb2.CONDITION_STATUS_FALSE)
    obj.status.ips.append("10.0.0.1")
    return obj


@pytest.mark.parametrize(
    ("condition", "holds", "holds_for_none"),
    [
        ("delete", False, True),
        ("condition=Ready", True, False),
        ("condition=ready=true", True, False),
        ("condition=Ready=False", False, False),
        ("condition=Attached", False, False),
        ("condition=Attached=False", True, False),
        ("condition=Other", False, False),
        ("condition=Other=False", False, False),
        ("jsonpath={.status.ips[0]}=10.0.0.1", True, False),
        ("jsonpath={.status.ips[*]}", True, False),
        ("jsonpath={.status.ips[1]}", False, False),
        ("jsonpath={.metadata.labels['a.b/c']}=x=y", True, False),
        ("jsonpath=.metadata.name=a", True, False),
        ("jsonpath={.metadata.name}='a'", True, False),
        ("jsonpath={.metadata.name}=b", False, False),
    ],
)
def test_conditions(condition: str, holds: bool, holds_for_none: bool) -> None:
    predicate = parse_condition(condition)
    assert predicate(nic()) is holds
    assert predicate(None) is holds_for_none


@pytest.mark.parametrize(
    "condition",
    ["", "foo", "condition", "condition=", "condition=Ready=maybe", "jsonpath=", "jsonpath={.a[}", "jsonpath='{.a}'=b"],
)
def test_wrong_conditions(condition: str) -> None:
    with pytest.raises(ValueError, match=r"expected|is no"):
        parse_condition(condition)
