"""Stable underlay addresses, and what is announced with them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from metalnet_daemon.plan.announce import announcements, underlay_addresses
from metalnet_daemon.plan.types import (
    Actual,
    ActualInterface,
    Desired,
    Hop,
    Interface,
    Prefix,
    PrefixKey,
    PrefixKind,
    RouteType,
)
from metalnet_daemon.plan.underlay import Owner, choose_underlays, derive, host_network, is_chosen, owners

HOST = IPv6Network("fc00:1::/64")
PREFIX = PrefixKey(PrefixKind.ALIAS, "nic", Prefix.parse("10.1.0.0/16"))
LB_PREFIX = PrefixKey(PrefixKind.LOAD_BALANCER, "nic", Prefix.parse("10.2.0.1/32"))


@given(st.sets(st.text(min_size=1), max_size=50))
def test_chosen_addresses_are_distinct_acceptable_and_independent_of_the_others(names: set[str]) -> None:
    chosen = choose_underlays(HOST, names, {})
    assert len(set(chosen.values())) == len(names)
    for name, address in chosen.items():
        assert address in HOST
        assert is_chosen(address)
        assert choose_underlays(HOST, [name], {}) == {name: address}


def test_layout_of_a_chosen_address() -> None:
    for owner, subtype in (("nic", 1), (LB_PREFIX, 5), (PREFIX, 6)):
        packed = derive(HOST, owner).packed
        assert packed[:8] == HOST.network_address.packed[:8]
        assert packed[8:11] == bytes((0xD0, subtype, 0x80))


def test_a_taken_address_is_avoided_and_an_own_one_kept() -> None:
    first = derive(HOST, "nic")
    assert choose_underlays(HOST, ["nic"], {"other": first}) == {"nic": derive(HOST, "nic", salt=1)}
    kept = derive(HOST, "whatever")
    assert choose_underlays(HOST, ["nic"], {"nic": kept}) == {"nic": kept}


def test_a_generated_or_foreign_address_is_not_asked_for_again() -> None:
    generated = IPv6Address("fc00:1::d000:7a:0:1")
    elsewhere = derive(IPv6Network("fc00:2::/64"), "nic")
    for current in (generated, elsewhere):
        in_use: dict[Owner, IPv6Address] = {"nic": current}
        assert choose_underlays(HOST, ["nic"], in_use) == {"nic": derive(HOST, "nic")}


def test_without_the_host_prefix_the_engine_chooses() -> None:
    assert choose_underlays(None, ["nic"], {}) == {}
    assert host_network(IPv6Address("fc00:1::d000:7a:0:1")) == HOST


NIC = Interface("nic", 100, "net_tap0", IPv4Address("10.0.0.1"), IPv6Address("2001:db8::1"))
UNDERLAY, PREFIX_UNDERLAY, LB_UNDERLAY = (IPv6Address(f"fc00:1::d000:0:0:{number}") for number in (1, 2, 3))
ACTUAL = Actual({"nic": ActualInterface(NIC, UNDERLAY)}, {PREFIX: PREFIX_UNDERLAY, LB_PREFIX: LB_UNDERLAY})


def test_everything_that_is_programmed_and_wanted_is_announced() -> None:
    desired = Desired({"nic": NIC}, prefixes={PREFIX: None, LB_PREFIX: None})
    expected = {
        100: {
            Prefix.parse("10.0.0.1/32"): {Hop(UNDERLAY)},
            Prefix.parse("2001:db8::1/128"): {Hop(UNDERLAY)},
            Prefix.parse("10.1.0.0/16"): {Hop(PREFIX_UNDERLAY)},
            Prefix.parse("10.2.0.1/32"): {Hop(LB_UNDERLAY, RouteType.LOAD_BALANCER_TARGET)},
        },
        1: {Prefix.parse("2001:db8::1/128"): {Hop(UNDERLAY)}},
    }
    assert announcements(desired, ACTUAL, 1) == expected
    assert announcements(Desired(hold=frozenset({"nic"})), ACTUAL, 1) == expected
    assert underlay_addresses(ACTUAL) == {UNDERLAY, PREFIX_UNDERLAY, LB_UNDERLAY}
    assert set(owners(desired)) == {"nic", PREFIX, LB_PREFIX}


def test_unwanted_and_missing_things_are_not_announced() -> None:
    assert announcements(Desired(), ACTUAL, 1) == {}
    assert announcements(Desired(removed=frozenset({"nic"})), ACTUAL, 1) == {}
    assert announcements(Desired({"nic": NIC}, prefixes={PREFIX: None}), Actual(), 1) == {}
    only_nic = announcements(Desired({"nic": NIC}), ACTUAL, 1)
    assert Prefix.parse("10.1.0.0/16") not in only_nic[100]
