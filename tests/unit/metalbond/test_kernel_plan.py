"""The planner of the kernel's routes against a model of the kernel."""

import ipaddress
import re

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from metalbond.kernel.options import KernelConfig, kernel_options
from metalbond.kernel.plan import (
    MAX_HOPS,
    Hops,
    Installed,
    Key,
    Operation,
    Remove,
    Replace,
    choose,
    fault,
    key_of,
    plan,
)
from metalbond.types import Destination, HopType, NextHop

TABLES = (10, 20)
addresses = st.integers(0, 7).map(lambda n: bytes([0xFD, *bytes(14), n]))
destinations = st.builds(
    lambda size, bits, length: Destination(bits.to_bytes(1) + bytes(size - 1), min(length, 8 * size)),
    st.sampled_from([4, 16]),
    st.integers(0, 255),
    st.sampled_from([0, 1, 7, 8, 32, 128]),
)
keys = st.builds(key_of, st.sampled_from(TABLES), destinations)
hops = st.sets(addresses, min_size=1, max_size=4).map(choose)
desired_routes = st.dictionaries(keys, hops, max_size=8)
actual_routes = st.dictionaries(
    st.one_of(keys, keys.map(lambda key: key._replace(metric=key.metric + 1))),
    st.builds(Installed, st.sets(addresses, max_size=4).map(choose), st.booleans()),
    max_size=8,
)


def carry_out(operations: list[Operation], actual: dict[Key, Installed]) -> dict[Key, Installed]:
    """What the kernel has afterwards."""
    result = dict(actual)
    for operation in operations:
        if isinstance(operation, Replace):
            result[operation.key] = Installed(operation.hops)
        else:
            del result[operation.key]
    return result


def as_installed(desired: dict[Key, Hops]) -> dict[Key, Installed]:
    return {key: Installed(value) for key, value in desired.items()}


@given(desired_routes, actual_routes)
def test_a_complete_plan_leads_exactly_to_what_is_wanted(
    desired: dict[Key, Hops], actual: dict[Key, Installed]
) -> None:
    assert carry_out(plan(desired, actual, TABLES), actual) == as_installed(desired)


@given(desired_routes, actual_routes, st.sets(st.sampled_from(TABLES)))
def test_nothing_is_done_twice_or_without_need(
    desired: dict[Key, Hops], actual: dict[Key, Installed], complete: set[int]
) -> None:
    operations = plan(desired, actual, complete)
    assert len({operation.key for operation in operations}) == len(operations)
    assert plan(desired, carry_out(operations, actual), complete) == []
    assert plan(desired, as_installed(desired), complete) == []


@given(desired_routes, actual_routes)
def test_nothing_is_taken_away_before_everything_is_known(
    desired: dict[Key, Hops], actual: dict[Key, Installed]
) -> None:
    after = carry_out(plan(desired, actual, ()), actual)
    assert after.keys() == desired.keys() | actual.keys()
    for key, installed in actual.items():
        assert set(installed.hops) <= set(after[key].hops)
    for key, wanted in desired.items():
        assert set(wanted) <= set(after[key].hops) and after[key].proper


@given(desired_routes, actual_routes)
def test_tables_are_judged_one_by_one(desired: dict[Key, Hops], actual: dict[Key, Installed]) -> None:
    operations = plan(desired, actual, {10})
    assert {operation.key.table for operation in operations if isinstance(operation, Remove)} <= {10}
    after = carry_out(operations, actual)
    assert {key: value for key, value in after.items() if key.table == 10} == {
        key: value for key, value in as_installed(desired).items() if key.table == 10
    }


@given(destinations)
def test_keys_have_no_host_bits(destination: Destination) -> None:
    key = key_of(5, destination)
    network = ipaddress.ip_network((int.from_bytes(destination.prefix), destination.length), strict=False)
    if destination.version == 6:
        network = ipaddress.IPv6Network((int.from_bytes(destination.prefix), destination.length), strict=False)
    assert (key.destination.prefix, key.destination.length) == (network.network_address.packed, network.prefixlen)
    assert key.table == 5 and key.metric == {4: 0, 6: 1024}[destination.version]


def test_hops_are_sorted_unique_and_not_too_many() -> None:
    many = [bytes(14) + n.to_bytes(2) for n in range(300)]
    assert choose([many[3], many[1], many[3]]) == (many[1], many[3])
    assert choose(reversed(many)) == tuple(many[:MAX_HOPS])


def test_what_cannot_be_a_route_of_the_kernel() -> None:
    v4, v6 = Destination.parse("10.0.0.0/8"), Destination.parse("fd00::/8")
    hop = NextHop.to("fd00::1", HopType.NAT, nat_from=1, nat_to=2)
    assert fault(v4, hop) == fault(v6, hop) == fault(v4, hop, ipv4_only=True) == ""
    assert fault(v6, hop, ipv4_only=True) == "not_ipv4"
    assert fault(v4, NextHop.to("192.0.2.1")) == "target_not_ipv6"


def given_flags(*arguments: str) -> KernelConfig | None:
    seen: list[KernelConfig | None] = []

    @click.command()
    @kernel_options
    def command(kernel: KernelConfig | None) -> None:
        seen.append(kernel)

    result = CliRunner().invoke(command, list(arguments))
    if result.exit_code:
        raise ValueError(result.output)
    return seen[0]


def test_flags() -> None:
    assert given_flags() is None
    assert given_flags("--install-routes", "100#254,7#0xff".replace("0xff", "12"), "--tun", "t0") == KernelConfig(
        {100: 254, 7: 12}, "t0"
    )
    assert given_flags("--install-routes=9#0", "--tun=t0", "--ipv4-only", "--cleanup") == KernelConfig(
        {9: 254}, "t0", True, True
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--install-routes 5", "must be VNI#TABLE"),
        ("--install-routes 5#x --tun t", "table 'x': must be a number"),
        ("--install-routes 5#16777216 --tun t", "table 16777216: must be 0 to 16777215"),
        ("--install-routes 16777216#5 --tun t", "VNI 16777216: must be"),
        ("--install-routes 5#6 --install-routes 5#7 --tun t", "VNI 5 is given twice"),
        ("--install-routes 5#0,6#254 --tun t", "table 254 is given twice"),
        ("--install-routes 5#6", "--install-routes and --tun must be given together"),
        ("--tun t", "--install-routes and --tun must be given together"),
        ("--cleanup", "--cleanup needs --install-routes"),
        ("--ipv4-only", "--ipv4-only needs --install-routes"),
    ],
)
def test_wrong_flags_are_named(arguments: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        given_flags(*arguments.split())
