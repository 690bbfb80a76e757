"""Look-ups, pages and feeds over a table that changes meanwhile."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metalbond.inspect import PeerView, Recorder, Row
from metalbond.inspection.feed import MAX_PENDING, MAX_WATCHERS, Feed, LaggingError, TooManyWatchersError
from metalbond.inspection.listing import LIFETIME, MAX_LISTINGS, ExpiredError, Filter, Listings
from metalbond.inspection.lookup import covering, longest_match, rows
from metalbond.rib import RouteTable
from metalbond.stats import Stats
from metalbond.types import Destination, NextHop, Route

HOPS = [NextHop.to(f"fd00::{number}") for number in range(1, 4)]


@dataclass
class Table:
    """Inspectable, without sessions."""

    table: RouteTable[str] = field(default_factory=RouteTable)
    stats: Stats = field(default_factory=Stats)
    recorder: Recorder = field(default_factory=Recorder)
    role: str = "server"

    def add(self, *routes: Route, source: str = "one") -> None:
        for route in routes:
            self.table.add(source, route)
            self._note(route)

    def remove(self, *routes: Route, source: str = "one") -> None:
        for route in routes:
            self.table.remove(source, route)
            self._note(route)

    def _note(self, route: Route) -> None:
        if self.recorder.routes is not None:
            self.recorder.routes.add(route)

    def peers(self) -> list[PeerView]:
        return []

    def vnis(self) -> dict[int, int]:
        return self.table.destination_counts()

    def route_count(self) -> int:
        return len(self.table)

    def scan(self, vni: int) -> Iterator[list[Row]]:
        for destination in self.table.destinations(vni):
            yield [(Route(vni, destination, hop), names) for hop, names in self.hops(vni, destination).items()]

    def hops(self, vni: int, destination: Destination) -> Mapping[NextHop, tuple[str, ...]]:
        return self.table.hops(vni, destination)

    def record_changes(self, on: bool) -> None:
        self.recorder.record(on)

    def take_changes(self) -> set[Route]:
        return self.recorder.take()


networks = st.builds(
    lambda bits, length: ipaddress.ip_network((bits << 24, length), strict=False),
    st.integers(0, 255),
    st.sampled_from([0, 1, 4, 6, 7, 8, 32]),
)
routes = st.builds(
    lambda vni, network, hop: Route(vni, Destination.of(network), hop),
    st.sampled_from([1, 2, 3]),
    networks,
    st.sampled_from(HOPS),
)


@given(st.lists(routes, max_size=20), st.integers(0, 255))
def test_the_longest_match_is_the_longest_prefix_that_contains_the_address(found: list[Route], bits: int) -> None:
    table = Table()
    table.add(*found)
    address = ipaddress.IPv4Address(bits << 24)
    for vni in (1, 2, 3):
        containing = {
            route.destination
            for route in found
            if route.vni == vni and address in ipaddress.ip_network(str(route.destination))
        }
        expected = sorted(containing, key=lambda destination: -destination.length)
        assert list(covering(table, vni, address)) == expected
        assert longest_match(table, vni, address) == (expected[0] if expected else None)


def test_addresses_of_one_version_do_not_match_the_other() -> None:
    table = Table()
    table.add(Route(1, Destination.parse("0.0.0.0/0"), HOPS[0]))
    assert longest_match(table, 1, ipaddress.ip_address("::")) is None


async def test_order_is_by_version_and_number() -> None:
    texts = ["0.0.0.0/0", "9.0.0.0/8", "10.0.0.0/8", "10.0.0.0/24", "::/0", "fd00::/8"]
    table = Table()
    table.add(*(Route(1, Destination.parse(text), hop) for text in reversed(texts) for hop in reversed(HOPS[:2])))
    found = [route async for route, _ in rows(table, 1)]
    assert [(str(route.destination), route.hop) for route in found] == [(text, h) for text in texts for h in HOPS[:2]]


async def test_more_than_can_be_sorted_at_once_comes_unsorted_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metalbond.inspection.lookup.SORTED", 3)
    table = Table()
    found = [Route(1, Destination(bytes([9 - n, 0, 0, 0]), 8), HOPS[0]) for n in range(9)]
    table.add(*found)
    assert [route async for route, _ in rows(table, 1)] == found


async def pages(listings: Listings, wanted: Filter, size: int) -> list[list[Route]]:
    found, token = [], ""
    while True:
        page, token = await listings.page(wanted, size, token)
        found.append([route for route, _ in page])
        if not token:
            return found


@settings(max_examples=60)
@given(
    st.sets(routes, max_size=30),
    st.sets(routes, max_size=8),
    st.sets(routes, max_size=8),
    st.integers(1, 5),
    st.integers(0, 6),
)
async def test_routes_that_stay_are_shown_once_whatever_comes_and_goes(
    first: set[Route], leaving: set[Route], coming: set[Route], size: int, when: int
) -> None:
    table = Table()
    table.add(*first)
    listings = Listings(table)
    shown: list[Route] = []
    token, number = "", 0
    while True:
        page, token = await listings.page(Filter(), size, token)
        assert len(page) <= size
        shown += [route for route, _ in page]
        if number == when:
            table.remove(*leaving)
            table.add(*coming)
        number += 1
        if not token:
            break
    assert len(shown) == len(set(shown))
    assert first - leaving <= set(shown) <= first | coming


async def test_filters() -> None:
    table = Table()
    a = Route(1, Destination.parse("10.0.0.0/8"), HOPS[0])
    b = Route(1, Destination.parse("10.1.0.0/16"), HOPS[1])
    c = Route(2, Destination.parse("10.0.0.0/8"), HOPS[1])
    table.add(a, b, c)
    listings = Listings(table)
    for wanted, expected in (
        (Filter.parse((), "", ""), [a, b, c]),
        (Filter.parse((2, 2, 7), "", ""), [c]),
        (Filter.parse((), "10.1.2.3", ""), [b, c]),
        (Filter.parse((1,), "10.2.0.1", ""), [a]),
        (Filter.parse((), "", "fd00::2"), [b, c]),
        (Filter.parse((1,), "10.1.2.3", "fd00::1"), []),
        (Filter.parse((), "fd00::1", ""), []),
    ):
        assert await pages(listings, wanted, 100) == [expected]
        assert sum(await pages(listings, wanted, 1), []) == expected  # noqa: RUF017 # few
    for wrong in (("x", ""), ("10.0.0.0/8", ""), ("", "fd00::/8")):
        with pytest.raises(ValueError, match=r"^filter\."):
            Filter.parse((), *wrong)


async def test_tokens_are_checked_and_forgotten() -> None:
    now = 0.0
    table = Table()
    table.add(*(Route(1, Destination(bytes([10, 0, 0, n]), 32), HOPS[0]) for n in range(9)))
    listings = Listings(table, clock=lambda: now)
    for wrong in ("x", "x.y.z", "....", "a.-", "\x00.1", "unknown.1"):
        with pytest.raises(ExpiredError):
            await listings.page(Filter(), 2, wrong)
    _, token = await listings.page(Filter(), 2, "")
    with pytest.raises(ValueError, match="another filter"):
        await listings.page(Filter((1,)), 2, token)
    _, second = await listings.page(Filter(), 2, token)
    with pytest.raises(ExpiredError):
        await listings.page(Filter(), 2, token)
    token = second
    for _ in range(MAX_LISTINGS):
        await listings.page(Filter(), 2, "")
    with pytest.raises(ExpiredError):
        await listings.page(Filter(), 2, token)
    _, token = await listings.page(Filter(), 2, "")
    now += LIFETIME + 1
    with pytest.raises(ExpiredError):
        await listings.page(Filter(), 2, token)


A, B = Route(1, Destination(bytes(4), 0), HOPS[0]), Route(2, Destination(bytes(4), 0), HOPS[0])


async def test_watchers_see_their_vnis_and_nothing_is_recorded_without_them() -> None:
    table = Table()
    feed = Feed(table)
    table.add(A)
    with feed.watch() as every, feed.watch(frozenset({2})) as second:
        table.add(B)
        table.remove(A)
        async with asyncio.timeout(15):
            assert await second.next() == {B}
            assert await every.next() == {A, B}
        assert every.take() == second.take() == set()
    assert table.recorder.routes is None
    table.add(A)
    with feed.watch() as again:
        assert again.take() == set()


async def test_a_watcher_that_lags_is_told_and_costs_no_memory() -> None:
    table = Table()
    with Feed(table).watch() as watch:
        assert table.recorder.routes is not None
        table.recorder.routes |= {Route(n, Destination(bytes(4), 0), HOPS[0]) for n in range(MAX_PENDING + 1)}
        with pytest.raises(LaggingError):
            watch.take()
        assert not watch._pending
        with pytest.raises(LaggingError):
            await watch.next()


async def test_watchers_are_bounded() -> None:
    feed = Feed(Table())
    watches = [feed.watch() for _ in range(MAX_WATCHERS)]
    with pytest.raises(TooManyWatchersError):
        feed.watch()
    with watches[0]:
        pass
    with feed.watch():
        pass
    for watch in watches[1:]:
        feed.leave(watch)
