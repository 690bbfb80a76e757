"""The host planner against a model of the engine."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metalnet_daemon.plan.planner import bounded, evolve, plan, recalled
from metalnet_daemon.plan.types import (
    Actual,
    ActualInterface,
    CreateInterface,
    CreatePrefix,
    CreateRoute,
    DeleteInterface,
    DeletePrefix,
    DeleteRoute,
    Desired,
    Interface,
    NextHop,
    Operation,
    Prefix,
    PrefixKey,
    PrefixKind,
    RouteKey,
    Synced,
    YieldRoute,
)
from tests.support.fake_engine import FakeEngine, FakeInterface

VNIS = (100, 200)
DEVICES = tuple(f"net_tap{number}" for number in range(5))
ALL = Synced(objects=True, hops=frozenset(VNIS), routes=frozenset(VNIS))
HOP_A, HOP_B = IPv6Address("fc00:a::1"), IPv6Address("fc00:b::1")


def apply(engine: FakeEngine, operation: Operation) -> IPv6Address | None:
    """Run one operation; raises what the engine answers."""
    match operation:
        case CreateInterface(wanted, underlay):
            return engine.create_interface(
                FakeInterface(
                    wanted.id,
                    wanted.vni,
                    wanted.device,
                    wanted.ipv4 or IPv4Address(0),
                    wanted.ipv6 or IPv6Address(0),
                    wanted.hostname,
                    IPv6Address(0),
                ),
                underlay,
            )
        case DeleteInterface(uid):
            engine.delete_interface(uid)
        case CreatePrefix(key, underlay):
            return engine.create_prefix(key.kind, key.interface_id, key.prefix, underlay)
        case DeletePrefix(key):
            engine.delete_prefix(key.kind, key.interface_id, key.prefix)
        case CreateRoute(key, hop):
            engine.create_route(key.vni, key.prefix, hop)
        case DeleteRoute(key) | YieldRoute(key):
            engine.delete_route(key.vni, key.prefix)
    return None


def read(engine: FakeEngine) -> Actual:
    """What the engine would list."""
    interfaces = {
        found.id: ActualInterface(
            Interface(
                found.id,
                found.vni,
                found.device,
                found.ipv4 if int(found.ipv4) else None,
                found.ipv6 if int(found.ipv6) else None,
                found.hostname,
            ),
            found.underlay,
        )
        for found in engine.interfaces.values()
    }
    prefixes = {
        PrefixKey(kind, uid, prefix): underlay
        for uid in interfaces
        for kind in PrefixKind
        for prefix, underlay in engine.list_prefixes(kind, uid)
    }
    routes = {
        RouteKey(vni, prefix): hop for vni in VNIS if engine.vni_in_use(vni) for prefix, hop in engine.list_routes(vni)
    }
    return Actual(interfaces, prefixes, routes)


addresses4 = st.integers(1, 6).map(lambda number: IPv4Address(f"10.0.0.{number}"))
addresses6 = st.integers(1, 6).map(lambda number: IPv6Address(f"2001:db8::{number}"))
raw_prefixes = st.one_of(
    st.integers(1, 4).map(lambda number: Prefix.parse(f"10.{number}.0.0/16")),
    st.integers(1, 4).map(lambda number: Prefix.parse(f"2001:db8:{number}::/48")),
)
route_prefixes = st.one_of(
    addresses4.map(Prefix.host),
    addresses6.map(Prefix.host),
    raw_prefixes.map(lambda prefix: prefix.masked),
    st.just(Prefix.parse("0.0.0.0/0")),
)


@st.composite
def desired_states(draw: st.DrawFn) -> Desired:
    """A state the engine can hold: devices and addresses are exclusive, local prefixes and routes too."""
    interfaces: dict[str, Interface] = {}
    local: set[RouteKey] = set()
    devices = draw(st.permutations(DEVICES))
    for number in draw(st.sets(st.integers(0, 4), max_size=4)):
        vni = draw(st.sampled_from(VNIS))
        ipv4, ipv6 = draw(st.one_of(st.none(), addresses4)), draw(st.one_of(st.none(), addresses6))
        own = {RouteKey(vni, Prefix.host(address)) for address in (ipv4, ipv6) if address is not None}
        if not own or own & local:
            continue
        local |= own
        hostname = draw(st.sampled_from(("", "web")))
        interfaces[f"nic{number}"] = Interface(f"nic{number}", vni, devices[number], ipv4, ipv6, hostname)
    prefixes: dict[PrefixKey, IPv6Address | None] = {}
    for uid, interface in interfaces.items():
        for prefix in draw(st.sets(raw_prefixes, max_size=2)):
            kind = draw(st.sampled_from(PrefixKind))
            route = RouteKey(interface.vni, prefix.masked)
            if kind is PrefixKind.ALIAS:
                if route in local:
                    continue
                local.add(route)
            prefixes[PrefixKey(kind, uid, prefix)] = None
    used = {interface.vni for interface in interfaces.values()}
    wanted_routes = draw(
        st.dictionaries(
            st.builds(RouteKey, st.sampled_from(VNIS), route_prefixes),
            st.builds(NextHop, st.sampled_from(VNIS), st.sampled_from((HOP_A, HOP_B))),
            max_size=6,
        )
    )
    routes = {key: hop for key, hop in wanted_routes.items() if key.vni in used and key not in local}
    return Desired(interfaces=interfaces, prefixes=prefixes, routes=routes)


def build(desired: Desired) -> FakeEngine:
    engine = FakeEngine(frozenset(DEVICES))
    engine.initialize()
    for operation in plan(desired, read(engine), ALL):
        apply(engine, operation)
    return engine


def assert_equal(desired: Desired, actual: Actual) -> None:
    assert {uid: found.spec for uid, found in actual.interfaces.items()} == desired.interfaces
    assert actual.prefixes.keys() == desired.prefixes.keys()
    assert actual.routes == desired.routes


@given(desired_states(), desired_states())
@settings(max_examples=400, deadline=None)
def test_applying_the_plan_reaches_the_desired_state(before: Desired, after: Desired) -> None:
    engine = build(before)
    assert_equal(before, read(engine))
    actual = read(engine)
    operations = plan(after, actual, ALL)
    done = [(operation, apply(engine, operation)) for operation in operations]
    assert_equal(after, read(engine))
    assert plan(after, read(engine), ALL) == []
    predicted = evolve(actual, done)
    assert predicted.prefixes == read(engine).prefixes
    assert predicted.routes == read(engine).routes
    assert {uid: found.underlay for uid, found in predicted.interfaces.items()} == {
        uid: found.underlay for uid, found in read(engine).interfaces.items()
    }


@given(desired_states(), desired_states())
@settings(max_examples=200, deadline=None)
def test_a_plan_cut_short_anywhere_is_completed_by_the_next_one(before: Desired, after: Desired) -> None:
    engine = build(before)
    operations = plan(after, read(engine), ALL)
    for operation in operations[: len(operations) // 2]:
        apply(engine, operation)
    for operation in plan(after, read(engine), ALL):
        apply(engine, operation)
    assert_equal(after, read(engine))


@given(desired_states(), desired_states(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_nothing_is_removed_or_replaced_while_inputs_are_incomplete(
    before: Desired, after: Desired, routes_known: bool
) -> None:
    known = frozenset(VNIS) if routes_known else frozenset[int]()
    synced = Synced(objects=False, hops=known, routes=known)
    for operation in plan(after, read(build(before)), synced):
        assert isinstance(operation, CreateInterface | CreatePrefix | CreateRoute | YieldRoute)


@given(desired_states())
@settings(max_examples=100, deadline=None)
def test_planning_a_reached_state_is_empty_whatever_is_synced(state: Desired) -> None:
    actual = read(build(state))
    for synced in (ALL, Synced(), Synced(objects=True)):
        assert plan(state, actual, synced) == []


NIC = Interface("nic", 100, "net_tap0", IPv4Address("10.0.0.1"), None)
ACTUAL_NIC = ActualInterface(NIC, IPv6Address("fc00:1::d000:0:0:1"))
ROUTE = RouteKey(100, Prefix.parse("10.0.0.9"))


def test_incomplete_routes_of_a_vni_are_kept_but_new_ones_are_added() -> None:
    actual = Actual({"nic": ACTUAL_NIC}, {}, {ROUTE: NextHop(100, HOP_A)})
    added = RouteKey(100, Prefix.parse("10.0.0.8"))
    desired = Desired({"nic": NIC}, routes={ROUTE: NextHop(100, HOP_B), added: NextHop(100, HOP_A)})
    assert plan(desired, actual, Synced(objects=True, hops=frozenset({200}), routes=frozenset({200}))) == [
        CreateRoute(added, NextHop(100, HOP_A))
    ]


def test_a_changed_next_hop_is_replaced_without_anything_in_between() -> None:
    actual = Actual({"nic": ACTUAL_NIC}, {}, {ROUTE: NextHop(100, HOP_A)})
    desired = Desired({"nic": NIC}, routes={ROUTE: NextHop(100, HOP_B)})
    assert plan(desired, actual, ALL) == [DeleteRoute(ROUTE), CreateRoute(ROUTE, NextHop(100, HOP_B))]


def test_while_other_hosts_may_still_come_back_hops_are_replaced_but_nothing_is_removed() -> None:
    forgotten = RouteKey(100, Prefix.parse("10.0.0.8"))
    actual = Actual({"nic": ACTUAL_NIC}, {}, {ROUTE: NextHop(100, HOP_A), forgotten: NextHop(100, HOP_A)})
    desired = Desired({"nic": NIC}, routes={ROUTE: NextHop(100, HOP_B)})
    assert plan(desired, actual, Synced(objects=True, hops=frozenset({100}))) == [
        DeleteRoute(ROUTE),
        CreateRoute(ROUTE, NextHop(100, HOP_B)),
    ]


def test_a_remote_route_yields_to_a_local_interface_of_the_same_address() -> None:
    actual = Actual({"nic": ACTUAL_NIC}, {}, {ROUTE: NextHop(100, HOP_A)})
    moved = Interface("moved", 100, "net_tap1", IPv4Address("10.0.0.9"), None)
    desired = Desired({"nic": NIC, "moved": moved}, routes={ROUTE: NextHop(100, HOP_A)})
    assert plan(desired, actual, Synced()) == [YieldRoute(ROUTE), CreateInterface(moved)]


def test_held_interfaces_their_prefixes_and_routes_stay() -> None:
    prefix = PrefixKey(PrefixKind.ALIAS, "nic", Prefix.parse("10.9.0.0/16"))
    actual = Actual({"nic": ACTUAL_NIC}, {prefix: HOP_A}, {ROUTE: NextHop(100, HOP_A)})
    assert plan(Desired(hold=frozenset({"nic"})), actual, ALL) == []
    assert plan(Desired(), actual, ALL) == [DeletePrefix(prefix), DeleteInterface("nic")]


def test_an_explicitly_deleted_interface_goes_before_everything_is_synced() -> None:
    actual = Actual({"nic": ACTUAL_NIC})
    assert plan(Desired(removed=frozenset({"nic"})), actual, Synced()) == [DeleteInterface("nic")]
    assert plan(Desired(), actual, Synced()) == []


@pytest.mark.parametrize(("known", "expected"), [(True, 2), (False, 0)])
def test_rates_are_compared_only_if_the_engine_tells_them(known: bool, expected: int) -> None:
    limited = Interface("nic", 100, "net_tap0", IPv4Address("10.0.0.1"), None, total_rate=100)
    actual = Actual({"nic": ActualInterface(NIC, HOP_A, rates_known=known)})
    assert len(plan(Desired({"nic": limited}), actual, ALL)) == expected


def test_what_was_asked_for_counts_where_the_engine_reports_less() -> None:
    asked = Interface("nic", 100, "net_tap0", IPv4Address("10.0.0.1"), None, "Web", total_rate=100)
    listed = Actual({"nic": ActualInterface(replace(asked, hostname="web", total_rate=0), HOP_A), "other": ACTUAL_NIC})
    known = recalled(listed, {"nic": asked, "gone": NIC})
    assert known.interfaces == {"nic": ActualInterface(asked, HOP_A, rates_known=True), "other": ACTUAL_NIC}
    assert plan(Desired({"nic": asked}, hold=frozenset({"other"})), known, ALL) == []
    slower = replace(asked, total_rate=50)
    assert len(plan(Desired({"nic": slower}, hold=frozenset({"other"})), known, ALL)) == 2
    moved = Actual({"nic": ActualInterface(replace(asked, vni=200), HOP_A)})
    assert recalled(moved, {"nic": asked}).interfaces["nic"].spec.vni == 200


def test_a_long_plan_is_cut_between_routes_but_not_within_a_replacement() -> None:
    replacement: list[Operation] = [DeleteRoute(ROUTE), CreateRoute(ROUTE, NextHop(100, HOP_A))]
    operations = [YieldRoute(ROUTE), *replacement, DeleteRoute(RouteKey(200, Prefix.parse("10.0.0.9")))]
    assert bounded(operations, 4) == operations
    assert bounded(operations, 3) == operations[:3]
    assert bounded(operations, 2) == operations[:3]
    assert bounded(operations, 1) == operations[:1]


def test_evolve_forgets_the_routes_of_a_vni_with_its_last_interface() -> None:
    actual = Actual({"nic": ACTUAL_NIC}, {}, {ROUTE: NextHop(100, HOP_A)})
    assert evolve(actual, [(DeleteInterface("nic"), None)]) == Actual()
