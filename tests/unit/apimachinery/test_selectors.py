from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ironcore.apinet.v1 import network_interface_pb2
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_policy_pb2

from apimachinery.errors import InvalidArgument
from apimachinery.scheme import kind_info
from apimachinery.selectors import (
    check_field_selector,
    check_label_selector,
    compile_labels,
    field_reader,
    format_label_selector,
    matches_field,
    parse_field_selector,
    parse_label_selector,
    selects,
)

NIC = kind_info(network_interface_pb2.NetworkInterface)
KEYS = st.sampled_from(["a", "b", "in", "notin", "x.io/c"])
VALUES = st.sampled_from(["", "x", "y", "5", "-7"])
LABELS = st.dictionaries(KEYS, VALUES)


@st.composite
def requirements(draw: st.DrawFn) -> meta_pb2.LabelSelectorRequirement:
    operator = draw(st.sampled_from([number for number in meta_pb2.SelectorOperator.values() if number]))
    key = draw(KEYS)
    if operator in (meta_pb2.SELECTOR_OPERATOR_IN, meta_pb2.SELECTOR_OPERATOR_NOT_IN):
        values = draw(st.lists(VALUES, min_size=1, max_size=3))
    elif operator in (meta_pb2.SELECTOR_OPERATOR_GT, meta_pb2.SELECTOR_OPERATOR_LT):
        values = [draw(st.integers(-9, 9).map(str))]
    else:
        values = []
    return meta_pb2.LabelSelectorRequirement(key=key, operator=operator, values=values)


@st.composite
def selectors(draw: st.DrawFn) -> meta_pb2.LabelSelector:
    return meta_pb2.LabelSelector(
        match_labels=draw(LABELS), match_expressions=draw(st.lists(requirements(), max_size=3))
    )


@given(selectors(), LABELS)
def test_text_form_selects_the_same(selector: meta_pb2.LabelSelector, labels: dict[str, str]) -> None:
    assert not list(check_label_selector(selector, ""))
    parsed = parse_label_selector(format_label_selector(selector))
    assert compile_labels(parsed)(labels) == compile_labels(selector)(labels)


@given(selectors(), selectors(), LABELS)
def test_a_selector_is_the_conjunction_of_its_parts(one: Any, two: Any, labels: dict[str, str]) -> None:
    both = meta_pb2.LabelSelector(match_expressions=[*one.match_expressions, *two.match_expressions])
    parts = [meta_pb2.LabelSelector(match_expressions=[part]) for part in both.match_expressions]
    assert compile_labels(both)(labels) == all(compile_labels(part)(labels) for part in parts)


@given(KEYS, st.lists(VALUES, min_size=1, max_size=3), LABELS)
def test_not_in_and_absence_are_the_complements(key: str, values: list[str], labels: dict[str, str]) -> None:
    def holds(operator: Any, wanted: list[str]) -> bool:
        part = meta_pb2.LabelSelectorRequirement(key=key, operator=operator, values=wanted)
        return selects(meta_pb2.LabelSelector(match_expressions=[part]), labels)

    assert holds(meta_pb2.SELECTOR_OPERATOR_NOT_IN, values) != holds(meta_pb2.SELECTOR_OPERATOR_IN, values)
    assert holds(meta_pb2.SELECTOR_OPERATOR_EXISTS, []) != holds(meta_pb2.SELECTOR_OPERATOR_DOES_NOT_EXIST, [])


def test_absent_selects_nothing_and_empty_everything() -> None:
    assert not selects(None, {"a": "b"})
    assert selects(meta_pb2.LabelSelector(), {})


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("a=b,c!=d,e in (x, y),!f", {"a": "b", "e": "y"}, True),
        ("a=b,c!=d,e in (x, y),!f", {"a": "b", "e": "y", "c": "d"}, False),
        ("a=b,c!=d,e in (x, y),!f", {"a": "b", "e": "y", "f": ""}, False),
        ("a == b , e notin (x)", {"a": "b"}, True),
        ("n>5", {"n": "6"}, True),
        ("n>5", {"n": "x"}, False),
        ("n<5", {}, False),
        ("a=", {"a": ""}, True),
        ("a=b,a=c", {"a": "c"}, False),
        ("in in (in)", {"in": "in"}, True),
    ],
)
def test_command_line_form(text: str, labels: dict[str, str], expected: bool) -> None:
    assert selects(parse_label_selector(text), labels) == expected


@pytest.mark.parametrize("text", ["a=b,", ",a", "a in x", "a in ()b", "=b", "a>x", "a b", "!", "a=b c"])
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_label_selector(text)


@given(st.text(max_size=30))
def test_no_text_crashes_the_parser(text: str) -> None:
    try:
        parse_label_selector(text)
    except InvalidArgument as error:
        assert error.message


def test_bad_selectors_in_requests_have_paths() -> None:
    selector = meta_pb2.LabelSelector()
    selector.match_expressions.add(key="a", operator=meta_pb2.SELECTOR_OPERATOR_IN)
    selector.match_expressions.add(operator=meta_pb2.SELECTOR_OPERATOR_EXISTS, values=["x"])
    selector.match_expressions.add(key="a", operator=meta_pb2.SELECTOR_OPERATOR_GT, values=["9" * 30])
    selector.match_expressions.add(key="a", operator=99)
    assert [violation.field for violation in check_label_selector(selector, "s")] == [
        "s.match_expressions[0].values",
        "s.match_expressions[1].key",
        "s.match_expressions[1].values",
        "s.match_expressions[2].values",
        "s.match_expressions[3].operator",
    ]
    requirement = meta_pb2.FieldRequirement(field="spec.hostname", value="x")
    assert [violation.field for violation in check_field_selector(NIC, [requirement])] == ["field_selector[0].field"]


def test_field_values_and_requirements() -> None:
    nic = network_interface_pb2.NetworkInterface(
        metadata={"name": "n", "owner_references": [{"uid": "u"}, {"uid": "v"}]}
    )
    assert field_reader(nic.DESCRIPTOR, "metadata.owner_references.uid")(nic) == ("u", "v")
    assert field_reader(nic.DESCRIPTOR, "spec.node_ref.name")(nic) == ("",)
    assert field_reader(nic.DESCRIPTOR, "status.state")(nic) == ("",)
    nic.status.state = 2
    assert field_reader(nic.DESCRIPTOR, "status.state")(nic) == ("Ready",)
    policy = network_policy_pb2.NetworkPolicy(spec={"policy_types": [1, 2]})
    assert field_reader(policy.DESCRIPTOR, "spec.policy_types")(policy) == ("Ingress", "Egress")
    assert matches_field(meta_pb2.FieldRequirement(value="v"), ("u", "v"))
    assert not matches_field(meta_pb2.FieldRequirement(value="v", negate=True), ("u", "v"))
    assert matches_field(meta_pb2.FieldRequirement(value=""), ("",))
    assert matches_field(meta_pb2.FieldRequirement(value=""), ())
    assert not matches_field(meta_pb2.FieldRequirement(value=""), ("u",))


def test_field_selectors_on_the_command_line() -> None:
    parsed = parse_field_selector("spec.nodeRef.name=a, spec.node_ref.name != b,metadata.name==c", NIC)
    assert [(r.field, r.value, r.negate) for r in parsed] == [
        ("spec.node_ref.name", "a", False),
        ("spec.node_ref.name", "b", True),
        ("metadata.name", "c", False),
    ]
    for bad in ("spec.hostname=x", "metadata.name", "=x"):
        with pytest.raises(InvalidArgument):
            parse_field_selector(bad, NIC)
