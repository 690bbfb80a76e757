"""Server-side apply as laws that hold for all objects and appliers, and the cases that operators meet."""

from collections.abc import Iterable
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ironcore.apinet.v1 import load_balancer_pb2
from ironcore.meta.v1 import types_pb2
from ironcore.networking.v1 import network_pb2

from apimachinery.apply import disown_changed, find_conflicts, format_path, leaves, merge_applied, owners, parse_path
from apimachinery.errors import Conflict
from apimachinery.scheme import kind_info, metadata_of
from apimachinery.validation import message_plan
from tests.support.messages import messages

NETWORK = kind_info(network_pb2.Network)
BALANCER = kind_info(load_balancer_pb2.LoadBalancer)
FEW = st.sampled_from(["a", "b", "c", "q]r", "s\\t"])


def _unique_keys(message: Any) -> bool:
    """Whether keyed lists have unique keys, as validation demands of every object."""
    for plan in message_plan(message.DESCRIPTOR).fields:
        value = getattr(message, plan.name)
        if plan.repeated:
            keys = [getattr(e, plan.rule.list_key) for e in value] if plan.rule.list_key else []
            if plan.name == "finalizers":
                keys = list(value)
            if len(keys) != len(set(keys)):
                return False
        if plan.message is not None:
            children: Iterable[Message] = (
                value.values()
                if plan.is_map
                else value
                if plan.repeated
                else [value]
                if message.HasField(plan.name)
                else ()
            )
            if not all(_unique_keys(child) for child in children):
                return False
    return True


def objects(kind: Any = NETWORK) -> st.SearchStrategy[Any]:
    return messages(kind.descriptor, FEW).filter(_unique_keys)


def fresh() -> network_pb2.Network:
    return network_pb2.Network(metadata={"name": "n", "namespace": "default"})


relaxed = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    deadline=None,
    max_examples=80,
)


@given(
    st.lists(
        st.one_of(st.sampled_from(["spec", "ips", "x_y"]), st.text(min_size=0).map(lambda key: f"[{key}")), min_size=1
    )
)
def test_paths_survive_their_text_form(parts: list[str]) -> None:
    escaped = tuple(
        "[" + part[1:].replace("\\", "\\\\").replace("]", "\\]") + "]" if part.startswith("[") else part
        for part in parts
    )
    assert parse_path(format_path(escaped)) == escaped


@relaxed
@given(objects())
def test_applying_the_same_again_changes_nothing(wanted: Any) -> None:
    once = merge_applied(NETWORK, fresh(), wanted, "m")
    assert merge_applied(NETWORK, once, wanted, "m") == once


@relaxed
@given(objects(), objects())
def test_what_was_applied_is_there(live: Any, wanted: Any) -> None:
    live.metadata.ClearField("managed_fields")
    merged = merge_applied(NETWORK, live, wanted, "m")
    found = leaves(NETWORK, merged)
    for path, value in leaves(NETWORK, wanted).items():
        # An empty message that is applied may have been filled by others.
        assert found.get(path) == value or any(other[: len(path)] == path for other in found)
    assert owners(metadata_of(merged)).get("m", set()) == set(leaves(NETWORK, wanted))


@relaxed
@given(objects(), objects())
def test_the_last_of_two_versions_by_one_applier_counts(first: Any, second: Any) -> None:
    direct = merge_applied(NETWORK, fresh(), second, "m")
    stepwise = merge_applied(NETWORK, merge_applied(NETWORK, fresh(), first, "m"), second, "m")
    assert leaves_of_value(stepwise) == leaves_of_value(direct)


def leaves_of_value(obj: Any) -> dict[Any, Any]:
    """Owned things without the presence of empty messages, which a former version may leave behind for the spec."""
    return {path: value for path, value in leaves(NETWORK, obj).items() if path != ("spec",)}


@relaxed
@given(objects(), objects())
def test_two_appliers_conflict_exactly_where_they_disagree(mine: Any, theirs: Any) -> None:
    live = merge_applied(NETWORK, fresh(), theirs, "them")
    before, wanted = leaves(NETWORK, live), leaves(NETWORK, mine)
    disputed = {path for path in before.keys() & wanted.keys() if before[path] != wanted[path]}
    assert {path for path, _ in find_conflicts(before, wanted, owners(live.metadata), "me")} == disputed
    if disputed:
        with pytest.raises(Conflict) as caught:
            merge_applied(NETWORK, live, mine, "me")
        assert {violation.field for violation in caught.value.violations} == {format_path(path) for path in disputed}
    forced = merge_applied(NETWORK, live, mine, "me", force=True)
    managed = owners(forced.metadata)
    assert managed.get("them", set()) == set(before) - disputed
    found = leaves(NETWORK, forced)
    assert all(found.get(path, True) == before[path] for path in before if path not in disputed)


@relaxed
@given(objects(), objects())
def test_leaving_gives_back_what_was_there_before(mine: Any, theirs: Any) -> None:
    live = merge_applied(NETWORK, fresh(), theirs, "them")
    with_mine = merge_applied(NETWORK, live, mine, "me", force=True)
    assume(owners(with_mine.metadata).get("them", set()) == set(leaves(NETWORK, live)))
    left = merge_applied(NETWORK, with_mine, fresh(), "me")
    assert leaves_of_value(left) == leaves_of_value(live)
    assert owners(left.metadata) == owners(live.metadata)


@relaxed
@given(objects(), objects())
def test_inputs_stay_untouched(live: Any, wanted: Any) -> None:
    copies = [type(o).FromString(o.SerializeToString(deterministic=True)) for o in (live, wanted)]
    merge_applied(NETWORK, live, wanted, "m", force=True)
    assert [live, wanted] == copies


def balancer(*ips: tuple[str, str]) -> load_balancer_pb2.LoadBalancer:
    obj = load_balancer_pb2.LoadBalancer(metadata={"name": "lb", "namespace": "default"})
    for name, ip in ips:
        obj.spec.ips.add(name=name, ip_family=types_pb2.IP_FAMILY_IPV4, ip=ip)
    return obj


def test_an_address_that_the_server_allocated_stays_while_its_entry_is_applied() -> None:
    live = merge_applied(BALANCER, balancer(), balancer(("a", ""), ("b", "")), "let")
    live.spec.ips[0].ip, live.spec.ips[1].ip = "10.0.0.1", "10.0.0.2"
    again = merge_applied(BALANCER, live, balancer(("a", ""), ("b", "")), "let")
    assert again == live
    fewer = merge_applied(BALANCER, live, balancer(("b", ""), ("c", "")), "let")
    assert [(entry.name, entry.ip) for entry in fewer.spec.ips] == [("b", "10.0.0.2"), ("c", "")]


def test_an_element_stays_while_another_applier_has_it() -> None:
    live = merge_applied(BALANCER, balancer(), balancer(("a", "")), "one")
    live = merge_applied(BALANCER, live, balancer(("a", "10.0.0.9")), "two")
    live = merge_applied(BALANCER, live, balancer(), "two")
    assert [(entry.name, entry.ip) for entry in live.spec.ips] == [("a", "")]
    live = merge_applied(BALANCER, live, balancer(), "one")
    assert not live.spec.ips
    assert not live.metadata.managed_fields


def test_labels_and_finalizers_merge_by_entry() -> None:
    one = network_pb2.Network(metadata={"name": "n", "labels": {"a": "1"}, "finalizers": ["x/one"]})
    two = network_pb2.Network(metadata={"name": "n", "labels": {"b": "2"}, "finalizers": ["x/two"]})
    live = merge_applied(NETWORK, merge_applied(NETWORK, fresh(), one, "one"), two, "two")
    assert dict(live.metadata.labels) == {"a": "1", "b": "2"}
    assert list(live.metadata.finalizers) == ["x/one", "x/two"]
    live = merge_applied(NETWORK, live, fresh(), "one")
    assert dict(live.metadata.labels) == {"b": "2"}
    assert list(live.metadata.finalizers) == ["x/two"]


def test_identity_and_status_belong_to_no_applier() -> None:
    wanted = network_pb2.Network(
        metadata={"name": "n", "uid": "u", "generation": 9, "resource_version": 4},
        status={"state": network_pb2.NETWORK_STATE_AVAILABLE},
    )
    merged = merge_applied(NETWORK, fresh(), wanted, "m")
    assert merged == fresh()


def test_an_ordinary_write_takes_what_it_changes_from_its_appliers() -> None:
    wanted = network_pb2.Network(metadata={"name": "n", "labels": {"a": "1", "b": "2", "c": "3"}})
    old = merge_applied(NETWORK, fresh(), wanted, "m")
    new = network_pb2.Network.FromString(old.SerializeToString())
    new.metadata.labels["a"] = "changed"
    del new.metadata.labels["b"]
    disown_changed(NETWORK, new, old, "editor")
    assert [(entry.manager, list(entry.paths)) for entry in new.metadata.managed_fields] == [
        ("m", ["metadata.labels[c]"])
    ]
    # Without its claim on the label, the applier that leaves it out does not remove the editor's value.
    after = merge_applied(NETWORK, new, fresh(), "m")
    assert dict(after.metadata.labels) == {"a": "changed"}
    same = network_pb2.Network.FromString(new.SerializeToString())
    disown_changed(NETWORK, same, new, "m")
    assert same.metadata == new.metadata


def test_a_selector_is_one_value() -> None:
    one, two = balancer(), balancer()
    one.spec.selector.match_labels["a"] = "1"
    two.spec.selector.match_labels["b"] = "2"
    live = merge_applied(BALANCER, merge_applied(BALANCER, balancer(), one, "m"), two, "m")
    assert dict(live.spec.selector.match_labels) == {"b": "2"}
