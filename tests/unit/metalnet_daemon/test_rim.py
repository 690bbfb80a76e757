"""Running a plan, remembering unlisted routes, learning and announcing, atomic files."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from ironcore.dpdk.v1 import dpdk_pb2

from metalbond.types import Destination, HopType
from metalbond.types import NextHop as WireHop
from metalnet_daemon.files import create_atomically, write_atomically
from metalnet_daemon.plan.types import (
    Actual,
    ActualInterface,
    CreateInterface,
    CreatePrefix,
    CreateRoute,
    DeleteInterface,
    DeletePrefix,
    DeleteRoute,
    Hop,
    Interface,
    NextHop,
    Operation,
    Prefix,
    PrefixKey,
    PrefixKind,
    RouteKey,
    RouteType,
)
from metalnet_daemon.rim import convert
from metalnet_daemon.rim.engine import EngineLostError, EngineRefusedError
from metalnet_daemon.rim.execute import execute
from metalnet_daemon.rim.ledger import RouteLedger
from metalnet_daemon.rim.routes import RouteSource

NIC = Interface("nic", 100, "net_tap0", IPv4Address("10.0.0.1"), None)
OTHER = Interface("other", 100, "net_tap1", IPv4Address("10.0.0.2"), None)
PREFIX = PrefixKey(PrefixKind.ALIAS, "nic", Prefix.parse("10.1.0.0/16"))
OTHER_PREFIX = PrefixKey(PrefixKind.ALIAS, "other", Prefix.parse("10.2.0.0/16"))
HOP = NextHop(100, IPv6Address("fc00:2::1"))
UNDERLAY = IPv6Address("fc00:1::1")


def route(number: int) -> RouteKey:
    return RouteKey(100, Prefix.parse(f"10.0.1.{number}"))


class Recorder:
    """Answers operations; refuses or loses some; knows how many ran at a time."""

    def __init__(self, refuse: Collection[Operation] = (), lose: Collection[Operation] = ()) -> None:
        self.refuse, self.lose = refuse, lose
        self.seen: list[Operation] = []
        self.running = 0
        self.peak = 0

    async def apply(self, operation: Operation) -> IPv6Address | None:
        self.running += 1
        self.peak = max(self.peak, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        self.seen.append(operation)
        if operation in self.refuse:
            raise EngineRefusedError(301, "ROUTE_EXISTS (301)")
        if operation in self.lose:
            raise EngineLostError("gone")
        return UNDERLAY if isinstance(operation, CreateInterface | CreatePrefix) else None


async def test_stages_run_in_order_and_bounded() -> None:
    routes: list[Operation] = [CreateRoute(route(number), HOP) for number in range(50)]
    plan: list[Operation] = [DeletePrefix(PREFIX), DeleteInterface("nic"), CreateInterface(NIC), CreatePrefix(PREFIX)]
    recorder = Recorder()
    outcome = await execute(recorder, plan + routes, concurrency=8)
    assert recorder.seen[:4] == plan
    assert set(recorder.seen[4:]) == set(routes)
    assert recorder.peak == 8
    assert len(outcome.done) == 54
    assert (CreateInterface(NIC), UNDERLAY) in outcome.done
    assert not outcome.failed


async def test_a_replacement_is_not_torn_apart_and_not_completed_after_a_refusal() -> None:
    replacement: list[Operation] = [DeleteRoute(route(1)), CreateRoute(route(1), HOP)]
    recorder = Recorder()
    await execute(recorder, [*replacement, CreateRoute(route(2), HOP)])
    assert recorder.seen.index(replacement[0]) < recorder.seen.index(replacement[1])
    refusing = Recorder(refuse=[replacement[0]])
    outcome = await execute(refusing, [*replacement, CreateRoute(route(2), HOP)])
    assert [operation for operation, _ in outcome.failed] == [replacement[0]]
    assert replacement[1] not in refusing.seen
    assert CreateRoute(route(2), HOP) in refusing.seen


async def test_prefixes_of_a_refused_interface_are_not_tried() -> None:
    recorder = Recorder(refuse=[CreateInterface(NIC)])
    plan = [CreateInterface(NIC), CreateInterface(OTHER), CreatePrefix(PREFIX), CreatePrefix(OTHER_PREFIX)]
    outcome = await execute(recorder, plan)
    assert CreatePrefix(PREFIX) not in recorder.seen
    assert (CreatePrefix(OTHER_PREFIX), UNDERLAY) in outcome.done


async def test_a_lost_engine_ends_the_run() -> None:
    recorder = Recorder(lose=[CreateInterface(NIC)])
    outcome = await execute(recorder, [CreateInterface(NIC), CreateInterface(OTHER), CreateRoute(route(1), HOP)])
    assert outcome.lost is not None
    assert recorder.seen == [CreateInterface(NIC)]
    assert not outcome.done


V6_ROUTE, V4_ROUTE = RouteKey(100, Prefix.parse("fd00::9/128")), route(9)
INTERFACES = {"nic": ActualInterface(NIC, UNDERLAY)}
BOTH = {V6_ROUTE: HOP, V4_ROUTE: HOP}


def test_the_ledger_completes_what_an_engine_does_not_list(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger = RouteLedger(path)
    listed = Actual(INTERFACES, {}, {V4_ROUTE: HOP})
    assert ledger.complete("A", listed) == listed
    ledger.enter(BOTH)
    again = RouteLedger(path)
    assert again.complete("A", listed).routes == BOTH
    assert again.complete("A", Actual()).routes == {}  # the VNI has ended
    assert RouteLedger(path).complete("B", listed) == listed


def test_the_ledger_strikes_before_and_never_claims_too_much(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger = RouteLedger(path)
    ledger.complete("A", Actual(INTERFACES))
    ledger.enter(BOTH)
    ledger.strike([DeleteRoute(V6_ROUTE)])
    assert RouteLedger(path).complete("A", Actual(INTERFACES)).routes == {}
    ledger.enter(BOTH)
    ledger.strike([DeleteInterface("nic")])
    assert RouteLedger(path).complete("A", Actual(INTERFACES)).routes == {}


def test_the_ledger_keeps_out_of_the_way_of_an_engine_that_lists_everything(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger = RouteLedger(path)
    actual = Actual(INTERFACES, {}, BOTH)
    assert ledger.complete("A", actual) == actual
    written = path.read_text()
    ledger.enter(BOTH)
    assert path.read_text() == written
    assert ledger.complete("A", Actual(INTERFACES)).routes == {}


def test_an_unreadable_ledger_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    for text in ("", "[]", '{"engine": "A", "routes": [[1, 2]]}', '{"engine": "A", "routes": [[1, "x", 1, "y"]]}'):
        path.write_text(text)
        assert RouteLedger(path).complete("A", Actual(INTERFACES)).routes == {}


class RouteServer:
    """A client whose replay this test decides."""

    def __init__(self) -> None:
        self.known: dict[int, set[tuple[Destination, WireHop]]] = {}
        self.announced: dict[int, Collection[tuple[Destination, WireHop]]] = {}
        self.subscribed: set[int] = set()
        self.replay = asyncio.Event()

    def subscribe(self, vni: int) -> bool:
        self.subscribed.add(vni)
        return True

    def unsubscribe(self, vni: int) -> bool:
        self.subscribed.remove(vni)
        return True

    def set_announcements(self, vni: int, wanted: Collection[tuple[Destination, WireHop]]) -> bool:
        self.announced[vni] = wanted
        return True

    def routes(self, vni: int) -> frozenset[tuple[Destination, WireHop]]:
        return frozenset(self.known.get(vni, ()))

    def synced(self, vni: int) -> bool:
        return self.replay.is_set()

    async def wait_synced(self, vni: int, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as the client's
        await self.replay.wait()
        return True


async def test_learning_and_settling() -> None:
    woken = asyncio.Event()
    source, server = RouteSource(woken.set, settle_seconds=0.01), RouteServer()
    source.attach(server)
    source.subscribe({1, 100})
    plain = (Destination.parse("10.0.0.9/32"), WireHop.to("fc00:2::1"))
    masked = (Destination.parse("10.1.2.3/16"), WireHop.to("fc00:2::1"))
    balanced = (Destination.parse("10.0.0.9/32"), WireHop.to("fc00:3::1", HopType.LOADBALANCER_TARGET))
    foreign = (Destination.parse("10.0.0.8/32"), WireHop.to("192.0.2.1"))
    newer = (Destination.parse("10.0.0.7/32"), WireHop(UNDERLAY.packed, 0, 9))
    server.known[100] = {plain, masked, balanced, foreign, newer}
    for learned in server.known[100]:
        source.route_added(100, *learned)
    assert woken.is_set()
    assert source.live() == {
        100: {
            Prefix.parse("10.0.0.9"): {
                Hop(IPv6Address("fc00:2::1")),
                Hop(IPv6Address("fc00:3::1"), RouteType.LOAD_BALANCER_TARGET),
            },
            Prefix.parse("10.1.0.0/16"): {Hop(IPv6Address("fc00:2::1"))},
        }
    }
    assert source.replayed({1, 100}) == frozenset()
    server.replay.set()
    assert source.replayed({1, 100}) == {1, 100}
    assert source.settled({1, 100}) == frozenset()
    async with asyncio.timeout(5):
        while source.settled({1, 100}) != {1, 100}:
            woken.clear()
            await woken.wait()
    source.subscribe({1})
    assert server.subscribed == {1}
    assert source.live() == {}
    assert source.settled({100}) == frozenset()
    await source.close()


def test_announcing_replaces_and_withdraws() -> None:
    source, server = RouteSource(lambda: None, settle_seconds=0), RouteServer()
    source.attach(server)
    source.announce({100: {Prefix.parse("10.0.0.1"): frozenset({Hop(UNDERLAY)})}})
    assert server.announced == {100: {(Destination.parse("10.0.0.1/32"), WireHop.to(UNDERLAY))}}
    source.announce({})
    assert server.announced == {100: set()}


def test_without_servers_everything_is_complete() -> None:
    source = RouteSource(lambda: None, settle_seconds=0)
    source.subscribe({1})
    source.announce({1: {}})
    assert (source.live(), source.replayed({1}), source.settled({1})) == ({}, {1}, {1})


def test_messages_of_the_engine() -> None:
    request = convert.create_interface_request(CreateInterface(NIC, UNDERLAY))
    assert (request.ipv4_config.primary_address, request.ipv6_config.primary_address) == (b"10.0.0.1", b"::")
    assert request.preferred_underlay_route == b"fc00:1::1"
    assert convert.create_interface_request(CreateInterface(NIC)).preferred_underlay_route == b""
    listed = dpdk_pb2.Interface(
        id=b"nic",
        vni=100,
        primary_ipv4=b"10.0.0.1",
        primary_ipv6=b"::",
        underlay_route=b"fc00:1::1",
        pci_name="net_tap0",
    )
    assert convert.actual_interface(listed) == ActualInterface(NIC, UNDERLAY)
    message = convert.route_message(V6_ROUTE, HOP)
    assert convert.actual_route(100, message) == (V6_ROUTE, HOP)
    message.nexthop_address.address = b"10.0.0.1"
    with pytest.raises(ValueError, match="not an IPv6 address"):
        convert.actual_route(100, message)
    prefix = convert.prefix_message(Prefix.parse("10.1.2.3/16"))
    prefix.underlay_route = b"fc00:1::1"
    assert convert.actual_prefix(PrefixKind.ALIAS, "nic", prefix) == (
        PrefixKey(PrefixKind.ALIAS, "nic", Prefix.parse("10.1.2.3/16")),
        UNDERLAY,
    )


def test_files_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two"
    with pytest.raises(FileExistsError):
        create_atomically(path, "three")
    assert path.read_text() == "two"
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "directory", "x")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["directory", "file"]
