"""Choosing free numbers: never a taken one, never none while one is free."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from apimachinery.errors import InvalidArgument
from ironcore_net_server.allocation.pool import Pool, address_pools, pick_free, to_address
from ironcore_net_server.allocation.taken import RESERVATION_SECONDS, TakenNumbers
from ironcore_net_server.apinet.settings import ApinetSettings

POOLS = [Pool("a", 10, 14), Pool("b", 20, 20), Pool("c", 30, 49)]
NUMBERS = [number for pool in POOLS for number in range(pool.first, pool.last + 1)]


@given(taken=st.sets(st.sampled_from(NUMBERS)), seed=st.integers())
def test_the_first_pool_with_a_free_number_gives_one(taken: set[int], seed: int) -> None:
    def used(pool: Pool) -> int:
        return sum(number in pool for number in taken)

    number = pick_free(POOLS, taken, used, random.Random(seed))
    free = [pool for pool in POOLS if used(pool) < pool.size]
    if not free:
        assert number is None
    else:
        assert number is not None
        assert number in free[0]
        assert number not in taken


def test_huge_pools_are_not_walked() -> None:
    (pool,) = address_pools(["2001:db8::/32"])[6]
    taken = TakenNumbers([pool])
    rng = random.Random(1)
    for _ in range(1000):
        number = pick_free([pool], taken, taken.used, rng)
        assert number is not None
        taken.commit(number)
    assert taken.used(pool) == 1000


def test_a_pool_of_one_address() -> None:
    (pool,) = address_pools(["192.0.2.7/32"])[4]
    assert pick_free([pool], set(), lambda _: 0, random.Random(0)) == pool.first
    assert str(to_address(pool.first, 4)) == "192.0.2.7"
    assert pick_free([pool], {pool.first}, lambda _: 1, random.Random(0)) is None


def test_prefixes_are_grouped_by_family_in_their_order() -> None:
    pools = address_pools(["198.51.100.0/24", "2001:db8::/64", "192.0.2.0/30"])
    assert [pool.name for pool in pools[4]] == ["198.51.100.0/24", "192.0.2.0/30"]
    assert [pool.size for pool in pools[6]] == [1 << 64]


@pytest.mark.parametrize(
    ("prefixes", "message"),
    [
        (["192.0.2.0"], "is not <address>"),
        (["nonsense/8"], "is not <address>"),
        (["192.0.2.1/24"], "host bits set; the network is 192.0.2.0/24"),
        (["192.0.2.0/24", "192.0.0.0/16"], "overlaps"),
        (["192.0.2.0/24", "192.0.2.0/24"], "overlaps"),
    ],
)
def test_bad_prefixes_are_named(prefixes: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        address_pools(prefixes)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"public_prefixes": "192.0.2.0/24"}, "public_prefixes"),
        ({"public_prefixes": ["192.0.2.0/33"]}, "public_prefixes"),
        ({"min_vni": 0}, "min_vni"),
        ({"max_vni": 1 << 24}, "max_vni"),
        ({"min_vni": 5, "max_vni": 4}, "min_vni"),
        ({"min_vni": True}, "min_vni"),
        ({"quarantine_seconds": -1}, "quarantine_seconds"),
    ],
)
def test_bad_settings_are_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ApinetSettings.from_options(options)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_settings_have_defaults() -> None:
    settings = ApinetSettings.from_options({})
    assert (settings.network_ids.first, settings.network_ids.last) == (200, 16_777_215)
    assert settings.ipv4 == settings.ipv6 == ()


class Bookkeeping(RuleBasedStateMachine):
    """TakenNumbers against a model of two sets."""

    @initialize()
    def start(self) -> None:
        self.taken = TakenNumbers(POOLS)
        self.now = 0.0
        self.committed: set[int] = set()
        self.reserved: dict[int, float] = {}

    @rule(number=st.sampled_from([*NUMBERS, 99]))
    def commit(self, number: int) -> None:
        self.taken.commit(number)
        self.committed.add(number)
        self.reserved.pop(number, None)

    @rule(number=st.sampled_from([*NUMBERS, 99]))
    def release(self, number: int) -> None:
        self.taken.release(number)
        self.committed.discard(number)

    @rule(number=st.sampled_from(NUMBERS))
    def reserve(self, number: int) -> None:
        self.taken.reserve(number, self.now)
        if number not in self.committed:
            self.reserved.setdefault(number, self.now + RESERVATION_SECONDS)

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.taken.expire(self.now)
        self.reserved = {number: end for number, end in self.reserved.items() if end > self.now}

    @precondition(lambda self: hasattr(self, "taken"))
    @rule(numbers=st.sets(st.sampled_from(NUMBERS)))
    def replace(self, numbers: set[int]) -> None:
        self.taken.replace(numbers)
        self.committed = set(numbers)
        self.reserved = {number: end for number, end in self.reserved.items() if number not in numbers}

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "taken"):
            return
        both = self.committed | self.reserved.keys()
        assert {number for number in [*NUMBERS, 99] if number in self.taken} == both
        for pool in POOLS:
            assert self.taken.used(pool) == sum(number in pool for number in both)
        assert self.taken.next_expiry == min(self.reserved.values(), default=None)


TestBookkeeping = Bookkeeping.TestCase
