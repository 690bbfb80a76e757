"""Policies: what the text may say, whose rule is found, what a rule refuses."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metalbond.policy import OPEN, Network, Policy, PolicyError, Rule, parse
from metalbond.types import Destination, HopType, NextHop, Route

TEXT = """
rules:
  - name: seven
    identities: [node-7]
    announce:
      vnis: [100, 200-299]
      prefixes: [10.7.0.0/16, "fd00:7::/64"]
      next-hops: ["fd00:1:7::/64"]
      max-routes: 5
    subscribe: {vnis: [100]}
  - name: nodes
    identities: ["node-*"]
    addresses: ["fd00::/16", 10.0.0.0/8]
    announce: {}
    subscribe: {}
  - name: listeners
    addresses: ["::1/128"]
    subscribe: {vnis: [7]}
  - name: servers
    identities: [metalbond-1]
    mesh: true
"""
POLICY = parse(TEXT)


def rule(identity: str, address: str) -> Rule:
    found = POLICY.rule_for(identity, ipaddress.ip_address(address))
    assert found is not None
    return found


def route(vni: int, prefix: str, hop: str = "fd00:1:7::1") -> Route:
    return Route(vni, Destination.parse(prefix), NextHop.to(hop))


@pytest.mark.parametrize(
    ("identity", "address", "name"),
    [
        ("node-7", "2001:db8::1", "seven"),
        ("node-8", "fd00::8", "nodes"),
        ("node-8", "10.1.1.1", "nodes"),
        ("node-8", "::ffff:10.1.1.1", "nodes"),
        ("", "::1", "listeners"),
        ("metalbond-1", "2001:db8::1", "servers"),
    ],
)
def test_the_first_rule_whose_conditions_hold_is_found(identity: str, address: str, name: str) -> None:
    assert rule(identity, address).name == name


@pytest.mark.parametrize(
    ("identity", "address"),
    [("node-8", "2001:db8::8"), ("", "fd00::8"), ("NODE-7", "fd00::7"), ("node-77x", "11.0.0.1")],
)
def test_without_a_rule_there_is_none(identity: str, address: str) -> None:
    assert POLICY.rule_for(identity, ipaddress.ip_address(address)) is None


@pytest.mark.parametrize(
    ("announced", "refusal"),
    [
        (route(100, "10.7.0.0/16"), ""),
        (route(299, "10.7.255.255"), ""),
        (route(200, "fd00:7::1"), ""),
        (route(199, "10.7.0.1"), "policy_vni"),
        (route(300, "10.7.0.1"), "policy_vni"),
        (route(100, "10.0.0.0/8"), "policy_prefix"),
        (route(100, "10.8.0.1"), "policy_prefix"),
        (route(100, "0.0.0.0/0"), "policy_prefix"),
        (route(100, "fd00:7:0:1::/64"), "policy_prefix"),
        (route(100, "10.7.0.1", "fd00:1:8::1"), "policy_next_hop"),
        (route(100, "10.7.0.1", "10.7.0.1"), "policy_next_hop"),
        (Route(100, Destination.parse("10.7.0.1"), NextHop.to("fd00:1:7::1", HopType.NAT, nat_from=1, nat_to=2)), ""),
    ],
    ids=str,
)
def test_announcements_are_compared_with_each_condition(announced: Route, refusal: str) -> None:
    assert rule("node-7", "::1").refusal(announced) == refusal


def test_a_missing_section_forbids_and_a_missing_key_does_not_restrict() -> None:
    seven, nodes, listeners, servers = POLICY.rules
    assert nodes.refusal(route(2**32 - 1, "::/0")) == ""
    assert nodes.may_subscribe(2**32 - 1)
    assert listeners.refusal(route(7, "::/0")) == "policy_announce"
    assert listeners.may_subscribe(7) and not listeners.may_subscribe(8)
    assert not servers.may_subscribe(0) and servers.mesh
    assert not (seven.mesh or nodes.mesh)
    assert seven.announce is not None and seven.announce.max_routes == 5
    assert OPEN.refusal(route(0, "::/0")) == "" and OPEN.may_subscribe(0) and OPEN.mesh


@given(st.ip_addresses(), st.integers(0, 128), st.ip_addresses(), st.integers(0, 128))
def test_containment_is_that_of_the_standard_library(outer: object, free: int, inner: object, length: int) -> None:
    big = ipaddress.ip_interface(f"{outer}/{min(free, 32 if '.' in str(outer) else 128)}").network
    small = ipaddress.ip_interface(f"{inner}/{min(length, 32 if '.' in str(inner) else 128)}").network
    expected = big.version == small.version and small.subnet_of(big)  # type: ignore[arg-type]
    assert Network.of(big).contains(small.network_address.packed, small.prefixlen) == expected


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "policy"),
        ("rules: []", "rules"),
        ("rules: {a: 1}", "rules"),
        ("other: 1", "unknown key 'other'"),
        ("rules: [{name: ''}]", "rules[0].name"),
        ("rules: [{identities: [a]}]", "rules[0].name"),
        ("rules: [{name: a}, {name: a}]", "same name"),
        ("rules: [{name: a, colour: red}]", "rules[0]: unknown key 'colour'"),
        ("rules: [{name: a, mesh: 1}]", "rules[0].mesh"),
        ("rules: [{name: a, identities: b}]", "rules[0].identities"),
        ("rules: [{name: a, identities: []}]", "rules[0].identities"),
        ("rules: [{name: a, addresses: [10.0.0.1/8]}]", "rules[0].addresses[0]"),
        ("rules: [{name: a, announce: [x]}]", "rules[0].announce"),
        ("rules: [{name: a, announce: {vnis: [1, x]}}]", "rules[0].announce.vnis[1]"),
        ("rules: [{name: a, announce: {vnis: [9-1]}}]", "rules[0].announce.vnis[0]"),
        ("rules: [{name: a, announce: {vnis: [4294967296]}}]", "rules[0].announce.vnis[0]"),
        ("rules: [{name: a, announce: {max-routes: -1}}]", "rules[0].announce.max-routes"),
        ("rules: [{name: a, announce: {max-routes: true}}]", "rules[0].announce.max-routes"),
        ("rules: [{name: a, subscribe: {vnis: []}}]", "rules[0].subscribe.vnis"),
        ("rules: [{name: a}", "not YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, place: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    assert place in str(caught.value)


def test_an_empty_policy_lets_nobody_in() -> None:
    assert Policy(()).rule_for("a", ipaddress.ip_address("::1")) is None
