"""Choice of routes, subscriptions and completeness."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from metalnet_daemon.plan.routes import (
    Exposure,
    RoutingPolicy,
    choose,
    complete_vnis,
    completed,
    default_routers,
    routes_for,
    subscriptions,
    synced,
)
from metalnet_daemon.plan.types import Hop, NextHop, Prefix, Rib, RouteKey, RouteType

PUBLIC = 1
ROUTER, LEARNED, OTHER = IPv6Address("fc00:f::1"), IPv6Address("fc00:f::2"), IPv6Address("fc00:f::3")
HOST_A, HOST_B, OWN = IPv6Address("fc00:a::1"), IPv6Address("fc00:b::1"), IPv6Address("fc00:c::1")
VM = Prefix.parse("10.0.0.1/32")
V4_DEFAULT, V6_DEFAULT = Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0")
POLICY = RoutingPolicy(PUBLIC)


def rib(**hops: frozenset[Hop]) -> Rib:
    return {int(name[1:]): {VM: found} for name, found in hops.items()}


@given(st.lists(st.sampled_from([HOST_A, HOST_B, OWN, ROUTER]), min_size=1))
def test_the_choice_depends_on_the_set_of_hops_only(addresses: list[IPv6Address]) -> None:
    hops = [Hop(address) for address in addresses]
    assert choose(hops, frozenset()) == choose(frozenset(reversed(hops)), frozenset()) == min(addresses)


def test_withdrawing_one_of_two_hops_falls_back_to_the_other() -> None:
    both = routes_for([100], rib(v100=frozenset({Hop(HOST_A), Hop(HOST_B)})), {}, POLICY, frozenset())
    one = routes_for([100], rib(v100=frozenset({Hop(HOST_B)})), {}, POLICY, frozenset())
    assert both == {RouteKey(100, VM): NextHop(100, HOST_A)}
    assert one == {RouteKey(100, VM): NextHop(100, HOST_B)}


def test_own_addresses_and_special_hops_are_no_routes() -> None:
    hops = frozenset({Hop(OWN), Hop(HOST_A, RouteType.LOAD_BALANCER_TARGET), Hop(HOST_B, RouteType.NAT, 1024, 2048)})
    assert routes_for([100], rib(v100=hops), {}, POLICY, frozenset({OWN})) == {}


def test_vnis_without_interfaces_and_the_public_vni_get_no_routes() -> None:
    table = rib(v1=frozenset({Hop(HOST_A)}), v200=frozenset({Hop(HOST_A)}))
    assert routes_for([PUBLIC, 100], table, {}, RoutingPolicy(PUBLIC), frozenset()) == {}


def test_default_routes_prefer_learned_routers_and_fall_back() -> None:
    policy = RoutingPolicy(PUBLIC, ROUTER)
    assert default_routers({}, POLICY) == {}
    assert default_routers({}, policy) == {V4_DEFAULT: ROUTER, V6_DEFAULT: ROUTER}
    only6: Rib = {PUBLIC: {V6_DEFAULT: frozenset({Hop(LEARNED)})}}
    assert default_routers(only6, policy) == {V4_DEFAULT: LEARNED, V6_DEFAULT: LEARNED}
    both: Rib = {PUBLIC: {V6_DEFAULT: frozenset({Hop(LEARNED), Hop(OTHER)}), V4_DEFAULT: frozenset({Hop(OTHER)})}}
    assert default_routers(both, policy) == {V4_DEFAULT: OTHER, V6_DEFAULT: LEARNED}


def test_default_routes_are_installed_in_every_used_vni_and_win_over_tenant_defaults() -> None:
    tenant: Rib = {100: {V4_DEFAULT: frozenset({Hop(HOST_A)})}}
    with_router = routes_for([100], tenant, {}, RoutingPolicy(PUBLIC, ROUTER), frozenset())
    assert with_router == {
        RouteKey(100, V4_DEFAULT): NextHop(100, ROUTER),
        RouteKey(100, V6_DEFAULT): NextHop(100, ROUTER),
    }
    assert routes_for([100], tenant, {}, POLICY, frozenset()) == {RouteKey(100, V4_DEFAULT): NextHop(100, HOST_A)}


def peered(left: Exposure, right: Exposure) -> RoutingPolicy:
    return RoutingPolicy(PUBLIC, exposures={100: left, 200: right})


WANTS_100, WANTS_200 = Exposure(frozenset({100})), Exposure(frozenset({200}))


def test_peering_needs_both_sides() -> None:
    table = rib(v200=frozenset({Hop(HOST_A)}))
    for policy in (peered(WANTS_200, Exposure()), peered(Exposure(), WANTS_100)):
        assert routes_for([100], table, {}, policy, frozenset()) == {}
    assert routes_for([100], table, {}, peered(WANTS_200, WANTS_100), frozenset()) == {
        RouteKey(100, VM): NextHop(200, HOST_A)
    }


def test_own_interfaces_of_a_peer_are_imported_too_and_the_own_network_wins_over_peers() -> None:
    policy = peered(WANTS_200, WANTS_100)
    own = rib(v200=frozenset({Hop(OWN)}))
    assert routes_for([100, 200], {}, own, policy, frozenset({OWN})) == {RouteKey(100, VM): NextHop(200, OWN)}
    table = rib(v100=frozenset({Hop(HOST_B)}))
    assert routes_for([100, 200], table, own, policy, frozenset({OWN}))[RouteKey(100, VM)] == NextHop(100, HOST_B)


def test_a_filter_lets_only_prefixes_through_that_lie_in_it_wholly() -> None:
    wide = Exposure(frozenset({100}), {100: (Prefix.parse("10.0.0.0/24"),)})
    assert wide.shows(VM, 100)
    assert not wide.shows(Prefix.parse("10.0.0.0/8"), 100)
    assert not wide.shows(Prefix.parse("::/128"), 100)
    assert wide.shows(Prefix.parse("192.168.0.0/24"), 300)
    nothing = Exposure(frozenset({100}), {100: ()})
    table = rib(v200=frozenset({Hop(HOST_A)}))
    assert routes_for([100], table, {}, peered(WANTS_200, nothing), frozenset()) == {}


def test_subscriptions_cover_used_vnis_their_peers_and_the_public_one() -> None:
    assert subscriptions([], POLICY) == {PUBLIC}
    assert subscriptions([100], peered(WANTS_200, WANTS_100)) == {PUBLIC, 100, 200}
    assert subscriptions([100], peered(WANTS_200, Exposure())) == {PUBLIC, 100}


def test_routes_of_a_vni_are_complete_with_those_of_its_peers_and_routers() -> None:
    policy = peered(WANTS_200, WANTS_100)
    assert complete_vnis([100], policy, {100, 200}) == frozenset()
    assert complete_vnis([100], policy, {PUBLIC, 100}) == frozenset()
    assert complete_vnis([100], policy, {PUBLIC, 100, 200}) == {100}
    result = synced(True, [100, 200], POLICY, {PUBLIC, 100, 200}, {PUBLIC, 100})
    assert (result.objects, result.hops, result.routes) == (True, {100, 200}, {100})


def test_remembered_routes_complete_learned_ones_until_the_vni_is_settled() -> None:
    live, saved = rib(v100=frozenset({Hop(HOST_B)})), {100: {VM: frozenset({Hop(HOST_A)}), V6_DEFAULT: frozenset()}}
    assert completed(live, saved, set(), set())[100][VM] == {Hop(HOST_A), Hop(HOST_B)}
    assert completed(live, saved, {100}, set()) == {100: {VM: frozenset({Hop(HOST_B)}), V6_DEFAULT: frozenset()}}
    assert completed({}, saved, {100}, set()) == saved
    assert completed(live, saved, {100}, {100}) == live
