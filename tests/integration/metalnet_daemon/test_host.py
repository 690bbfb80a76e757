"""The host's loop against a fake engine behind real gRPC: convergence, restarts, outages, state on disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.metalnet.v1 import network_interface_pb2, network_pb2

from metalbond.types import Destination, NextHop
from metalnet_daemon.device.claims import ClaimStore
from metalnet_daemon.device.pool import parse_pool
from metalnet_daemon.plan.objects import INTERFACE_FINALIZER, HostObjects
from metalnet_daemon.plan.status import HostReport, interface_status
from metalnet_daemon.plan.types import Hop, Prefix, PrefixKey, PrefixKind, Rib, RouteType
from metalnet_daemon.plan.types import NextHop as EngineHop
from metalnet_daemon.rim.engine import EngineClient
from metalnet_daemon.rim.host import Host, HostConfig, HostMemory
from metalnet_daemon.rim.ledger import RouteLedger
from metalnet_daemon.rim.routes import RouteSource
from metalnet_daemon.snapshot import ObjectSnapshot, SnapshotStore
from tests.support.fake_dpservice import FakeDpservice
from tests.support.fake_engine import FakeEngine

DEVICES = frozenset(f"net_tap{number}" for number in range(2, 6))
POOL = parse_pool("dtapvf_{0..3}=net_tap{2..5}")
UNDERLAY = IPv6Network("fc00:1::/64")
REMOTE, OTHER = IPv6Address("fc00:2::1"), IPv6Address("fc00:3::1")
PUBLIC = 1


class FakeRoutes:
    """A route client whose server is this test."""

    def __init__(self) -> None:
        self.source: RouteSource | None = None
        self.tables: dict[int, set[tuple[Destination, NextHop]]] = {}
        self.announced: dict[int, frozenset[tuple[Destination, NextHop]]] = {}
        self.subscribed: set[int] = set()
        self.replayed = asyncio.Event()

    def learn(self, vni: int, prefix: str, target: IPv6Address) -> None:
        route = (Destination.parse(prefix), NextHop.to(target))
        self.tables.setdefault(vni, set()).add(route)
        if self.source is not None:
            self.source.route_added(vni, *route)

    def unlearn(self, vni: int, prefix: str, target: IPv6Address) -> None:
        route = (Destination.parse(prefix), NextHop.to(target))
        self.tables[vni].discard(route)
        if self.source is not None:
            self.source.route_removed(vni, *route)

    def subscribe(self, vni: int) -> bool:
        self.subscribed.add(vni)
        for route in self.tables.get(vni, ()):
            assert self.source is not None
            self.source.route_added(vni, *route)
        return True

    def unsubscribe(self, vni: int) -> bool:
        self.subscribed.discard(vni)
        return True

    def set_announcements(self, vni: int, wanted: object) -> bool:
        self.announced[vni] = frozenset(wanted)  # type: ignore[call-overload]
        return True

    def routes(self, vni: int) -> frozenset[tuple[Destination, NextHop]]:
        return frozenset(self.tables.get(vni, ()))

    def synced(self, vni: int) -> bool:
        return self.replayed.is_set()

    async def wait_synced(self, vni: int, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as the client has it
        await self.replayed.wait()
        return True


@dataclass
class World:
    """One host. Its daemon can be killed and started again; the rest stays."""

    directory: Path
    dpservice: FakeDpservice
    routes: FakeRoutes
    objects: HostObjects = field(default_factory=HostObjects)
    report: HostReport = field(default_factory=HostReport)
    host: Host | None = None
    reports: asyncio.Condition = field(default_factory=asyncio.Condition)
    settle_seconds: float = 0.0
    underlay: IPv6Network | None = UNDERLAY

    @contextlib.asynccontextmanager
    async def daemon(self) -> AsyncIterator[Host]:
        engine = EngineClient(self.dpservice.target, timeout=2.0)
        source = RouteSource(lambda: self.host.wake() if self.host else None, settle_seconds=self.settle_seconds)
        self.routes.source = source
        source.attach(self.routes)
        memory = HostMemory(
            ClaimStore(self.directory / "claims"),
            SnapshotStore(self.directory, "h1"),
            RouteLedger(self.directory / "ledger.json"),
        )
        config = HostConfig(public_vni=PUBLIC, underlay=self.underlay, poll_seconds=0.05)
        host = Host(config, engine, source, POOL, memory, lambda: self.objects, self._reported)
        self.host = host
        task = asyncio.create_task(host.run())
        try:
            yield host
            assert not task.done(), "the host's loop ended"
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.host = None
            await source.close()
            await engine.close()

    def set(self, objects: HostObjects) -> None:
        self.objects = objects
        if self.host is not None:
            self.host.wake()

    async def engine_has(self, condition: Callable[[FakeEngine], bool]) -> None:
        await self.dpservice.wait_until(condition)

    async def reported(self, condition: Callable[[HostReport], bool]) -> HostReport:
        async with asyncio.timeout(10), self.reports:
            await self.reports.wait_for(lambda: condition(self.report))
        return self.report

    def _reported(self, report: HostReport) -> None:
        self.report = report
        self._notifying = asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self.reports:
            self.reports.notify_all()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with FakeDpservice(tmp_path / "engine.sock", DEVICES) as dpservice:
        yield World(tmp_path / "state", dpservice, FakeRoutes())


def nic(
    name: str, *ips: str, network: str = "blue", prefixes: tuple[str, ...] = (), deleting: bool = False
) -> network_interface_pb2.NetworkInterface:
    meta = meta_pb2.ObjectMeta(
        name=name, namespace="default", uid=f"uid-{name}", finalizers=[INTERFACE_FINALIZER], generation=1
    )
    if deleting:
        meta.deletion_timestamp.CopyFrom(Timestamp(seconds=1))
    spec = network_interface_pb2.NetworkInterfaceSpec(
        network_ref=meta_pb2.LocalObjectReference(name=network),
        ips=ips or ("10.0.0.1", "fd00::1"),
        prefixes=prefixes,
        node_name="h1",
    )
    return network_interface_pb2.NetworkInterface(metadata=meta, spec=spec)


def network(name: str, vni: int) -> network_pb2.Network:
    meta = meta_pb2.ObjectMeta(name=name, namespace="default", uid=f"uid-{name}")
    return network_pb2.Network(metadata=meta, spec=network_pb2.NetworkSpec(id=vni))


NETWORKS = {("default", "blue"): network("blue", 100), ("default", "red"): network("red", 200)}


def objects(*nics: network_interface_pb2.NetworkInterface, complete: bool = True) -> HostObjects:
    return HostObjects(NETWORKS, nics, complete)


def has_interfaces(*uids: str) -> Callable[[FakeEngine], bool]:
    return lambda engine: engine.interfaces.keys() == set(uids)


def remote_routes(engine: FakeEngine) -> dict[tuple[int, str], EngineHop]:
    return {(vni, str(prefix)): hop for (vni, prefix), hop in engine.routes.items() if hop is not None}


async def test_an_interface_is_programmed_announced_reported_and_removed(world: World) -> None:
    world.routes.replayed.set()
    world.routes.learn(100, "10.0.0.9/32", REMOTE)
    web = nic("web", prefixes=("10.9.0.0/16",))
    async with world.daemon() as host:
        world.set(objects(web))
        report = await world.reported(lambda report: any(key.prefix.version == 4 for key in report.actual.routes))
        await asyncio.wait_for(host.ready.wait(), 5)
        engine = world.dpservice.engine
        assert engine.interfaces["uid-web"].device == "net_tap2"
        assert remote_routes(engine) == {(100, "10.0.0.9/32"): EngineHop(100, REMOTE)}
        underlay = engine.interfaces["uid-web"].underlay
        (prefix_underlay,) = engine.prefixes.values()
        assert world.routes.announced[100] == {
            (Destination.parse("10.0.0.1/32"), NextHop.to(underlay)),
            (Destination.parse("fd00::1/128"), NextHop.to(underlay)),
            (Destination.parse("10.9.0.0/16"), NextHop.to(prefix_underlay)),
        }
        assert world.routes.announced[PUBLIC] == {(Destination.parse("fd00::1/128"), NextHop.to(underlay))}
        assert world.routes.subscribed == {PUBLIC, 100}
        status = interface_status(web, report, Timestamp(seconds=1).ToDatetime())
        assert status.state == types_pb2.REALIZATION_STATE_READY
        assert (status.tap_device.name, status.underlay_ip) == ("dtapvf_0", str(underlay))
        assert list(status.prefixes) == ["10.9.0.0/16"]

        world.set(objects(nic("web", deleting=True)))
        report = await world.reported(lambda report: report.is_gone("uid-web"))
        assert not engine.interfaces
        assert not engine.prefixes
        assert not engine.underlays
        assert world.routes.announced[100] == frozenset()
        assert ClaimStore(world.directory / "claims").claims == {}
        assert world.routes.subscribed == {PUBLIC}


async def test_killing_the_daemon_twice_changes_nothing_for_surviving_objects(world: World) -> None:
    world.routes.replayed.set()
    world.routes.learn(100, "10.0.0.9/32", REMOTE)
    wanted = objects(nic("a", prefixes=("10.9.0.0/16",)), nic("b", "10.0.0.2"), nic("c", "10.0.0.1", network="red"))
    world.set(wanted)
    async with world.daemon():
        await world.reported(lambda report: len(report.actual.routes) == 1)
    before = list(world.dpservice.changes())
    announced = dict(world.routes.announced)
    for _ in range(2):
        # The API is slow: the daemon begins without objects, then with incomplete ones.
        world.set(HostObjects())
        world.routes.announced.clear()
        async with world.daemon() as host:
            await world.reported(lambda report: bool(report.actual.interfaces))
            world.set(objects(*wanted.interfaces[:1], complete=False))
            await world.reported(lambda report: report.reachable)
            world.set(wanted)
            await asyncio.wait_for(host.ready.wait(), 5)
            assert {vni: routes for vni, routes in world.routes.announced.items() if routes} == announced
    assert world.dpservice.changes() == before


async def test_a_restarted_engine_is_programmed_again_with_the_same_underlay_addresses(world: World) -> None:
    world.routes.replayed.set()
    world.routes.learn(100, "10.0.0.9/32", REMOTE)
    world.set(objects(nic("a", prefixes=("10.9.0.0/16",)), nic("b", "10.0.0.2")))
    async with world.daemon():
        await world.reported(lambda report: len(report.actual.routes) == 1 and len(report.actual.prefixes) == 1)
        before = world.dpservice.engine
        announced = dict(world.routes.announced)
        await world.dpservice.crash_and_restart()
        await world.engine_has(lambda engine: bool(remote_routes(engine)) and bool(engine.prefixes))
        after = world.dpservice.engine
        assert after is not before
        assert after.uuid != before.uuid
        assert after.interfaces == before.interfaces
        assert after.prefixes == before.prefixes
        assert after.routes == before.routes
        assert world.routes.announced == announced


async def test_without_api_and_route_servers_a_new_daemon_programs_a_new_engine_from_its_snapshot(
    world: World,
) -> None:
    world.routes.replayed.set()
    world.routes.learn(100, "10.0.0.9/32", REMOTE)
    world.set(objects(nic("a", prefixes=("10.9.0.0/16",))))
    async with world.daemon():
        await world.reported(lambda report: len(report.actual.routes) == 1)
    before = world.dpservice.engine
    await world.dpservice.crash_and_restart()
    world.objects = HostObjects()
    world.routes.tables.clear()
    world.routes.replayed.clear()
    async with world.daemon() as host:
        await world.engine_has(lambda engine: bool(remote_routes(engine)) and bool(engine.prefixes))
        after = world.dpservice.engine
        assert (after.interfaces, after.prefixes, after.routes) == (before.interfaces, before.prefixes, before.routes)
        assert not host.ready.is_set()


async def test_moving_a_route_falls_back_and_replaces_without_a_gap_in_order(world: World) -> None:
    world.routes.replayed.set()
    world.set(objects(nic("a")))
    world.routes.learn(100, "10.0.0.9/32", OTHER)
    async with world.daemon():
        await world.reported(lambda report: len(report.actual.routes) == 1)
        # The new host announces before the old one withdraws.
        world.routes.learn(100, "10.0.0.9/32", REMOTE)
        await world.engine_has(lambda engine: remote_routes(engine).get((100, "10.0.0.9/32")) == EngineHop(100, REMOTE))
        world.routes.unlearn(100, "10.0.0.9/32", REMOTE)
        await world.engine_has(lambda engine: remote_routes(engine).get((100, "10.0.0.9/32")) == EngineHop(100, OTHER))
        world.routes.unlearn(100, "10.0.0.9/32", OTHER)
        await world.engine_has(lambda engine: not remote_routes(engine))


async def test_stale_routes_of_an_earlier_life_go_only_when_routes_are_settled(world: World) -> None:
    world.routes.replayed.set()
    world.set(objects(nic("a")))
    world.routes.learn(100, "10.0.0.9/32", REMOTE)
    async with world.daemon():
        await world.reported(lambda report: len(report.actual.routes) == 1)
    world.routes.tables.clear()
    world.routes.replayed.clear()
    world.settle_seconds = 0.2
    async with world.daemon() as host:
        await asyncio.wait_for(host.ready.wait(), 5)
        assert remote_routes(world.dpservice.engine)
        world.routes.replayed.set()
        await world.engine_has(lambda engine: not remote_routes(engine))


async def test_an_engine_that_lists_no_ipv6_routes_is_kept_in_order_over_restarts(tmp_path: Path) -> None:
    async with FakeDpservice(tmp_path / "engine.sock", DEVICES, list_ipv6=False) as dpservice:
        world = World(tmp_path / "state", dpservice, FakeRoutes())
        world.routes.replayed.set()
        world.set(objects(nic("a")))
        world.routes.learn(100, "fd00::9/128", REMOTE)
        async with world.daemon():
            await world.reported(lambda report: len(report.actual.routes) == 1)
        before = dpservice.changes()
        async with world.daemon() as host:
            await asyncio.wait_for(host.ready.wait(), 5)
        assert dpservice.changes() == before
        world.routes.tables.clear()
        async with world.daemon():
            await world.engine_has(lambda engine: not remote_routes(engine))


async def test_an_engine_that_is_down_at_start_is_waited_for(world: World) -> None:
    world.routes.replayed.set()
    await world.dpservice.stop()
    world.set(objects(nic("a")))
    async with world.daemon():
        assert not world.report.reachable
        await world.dpservice.start()
        await world.engine_has(has_interfaces("uid-a"))


async def test_problems_are_reported_and_touch_nothing(world: World) -> None:
    world.routes.replayed.set()
    world.set(objects(nic("a")))
    async with world.daemon():
        await world.engine_has(has_interfaces("uid-a"))
        lost = nic("a")
        lost.spec.network_ref.name = "unknown"
        broken = nic("b", "10.0.0.7", "10.0.0.8")
        crowd = [nic(f"n{number}", f"10.0.1.{number}") for number in range(1, 5)]
        world.set(objects(lost, broken, *crowd))
        report = await world.reported(lambda report: len(report.problems) == 3)
        assert report.problems["uid-a"].reason == "NetworkNotFound"
        assert report.problems["uid-a"].pending
        assert report.problems["uid-b"].message == "spec.ips[1]: a second IPv4 address"
        assert report.problems["uid-n4"].reason == "NoDevice"
        assert "uid-a" in world.dpservice.engine.interfaces
        assert "DeleteInterface" not in world.dpservice.changes()


async def test_a_refusal_is_reported_and_retried_until_it_ends(world: World) -> None:
    world.routes.replayed.set()
    world.dpservice.refuse["CreateInterface"] = 202
    web = nic("a")
    world.set(objects(web))
    async with world.daemon():
        report = await world.reported(lambda report: "uid-a" in report.failures)
        status = interface_status(web, report, Timestamp(seconds=1).ToDatetime())
        assert status.state == types_pb2.REALIZATION_STATE_ERROR
        assert status.conditions[0].message == "the engine refused: ALREADY_EXISTS (202)"
        world.dpservice.refuse.clear()
        await world.reported(lambda report: "uid-a" in report.actual.interfaces and not report.failures)


async def test_a_changed_interface_is_created_anew_on_its_device_with_its_underlay(world: World) -> None:
    world.routes.replayed.set()
    world.set(objects(nic("a", prefixes=("10.9.0.0/16",)), nic("b", "10.0.0.2")))
    async with world.daemon():
        await world.reported(lambda report: len(report.actual.prefixes) == 1)
        before = world.dpservice.engine.interfaces["uid-a"]
        world.set(objects(nic("a", "10.0.0.5", prefixes=("10.9.0.0/16",)), nic("b", "10.0.0.2")))
        await world.engine_has(
            lambda engine: (
                "uid-a" in engine.interfaces
                and bool(engine.prefixes)
                and str(engine.interfaces["uid-a"].ipv4) == "10.0.0.5"
            )
        )
        after = world.dpservice.engine.interfaces["uid-a"]
        assert (after.device, after.underlay) == (before.device, before.underlay)


async def test_a_local_interface_takes_the_place_of_a_remote_route(world: World) -> None:
    world.routes.replayed.set()
    world.set(objects(nic("a")))
    world.routes.learn(100, "10.0.0.9/32", REMOTE)
    async with world.daemon():
        await world.reported(lambda report: len(report.actual.routes) == 1)
        world.set(objects(nic("a"), nic("moved", "10.0.0.9")))
        await world.engine_has(has_interfaces("uid-a", "uid-moved"))
        assert not remote_routes(world.dpservice.engine)


async def test_without_a_configured_prefix_it_is_learned_from_the_engine(world: World) -> None:
    world.underlay = None
    world.routes.replayed.set()
    world.set(objects(nic("a")))
    async with world.daemon():
        await world.engine_has(has_interfaces("uid-a"))
        world.set(objects(nic("a"), nic("b", "10.0.0.2")))
        await world.engine_has(has_interfaces("uid-a", "uid-b"))
        assert world.dpservice.engine.interfaces["uid-b"].underlay.packed[10] == 0x80


async def test_old_records_of_a_device_are_swept(world: World) -> None:
    world.routes.replayed.set()
    world.set(objects(nic("a", prefixes=("10.9.0.0/16",))))
    async with world.daemon():
        await world.reported(lambda report: len(report.actual.prefixes) == 1)
    # Somebody deletes the interface behind the daemon's back: its prefix records stay on the device.
    world.dpservice.engine.delete_interface("uid-a")
    world.set(objects(nic("a")))
    async with world.daemon():
        await world.engine_has(lambda engine: "uid-a" in engine.interfaces and not engine.prefixes)


async def test_default_routes_follow_the_routers_that_are_announced(world: World) -> None:
    world.routes.replayed.set()
    world.set(objects(nic("a")))
    default = (100, "0.0.0.0/0")
    world.routes.learn(PUBLIC, "0.0.0.0/0", OTHER)
    async with world.daemon():
        await world.engine_has(lambda engine: remote_routes(engine).get(default) == EngineHop(100, OTHER))
        world.routes.learn(PUBLIC, "0.0.0.0/0", REMOTE)
        await world.engine_has(lambda engine: remote_routes(engine).get(default) == EngineHop(100, REMOTE))
        world.routes.unlearn(PUBLIC, "0.0.0.0/0", REMOTE)
        await world.engine_has(lambda engine: remote_routes(engine).get(default) == EngineHop(100, OTHER))


def test_snapshots_round_trip_and_bad_ones_are_ignored(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, "h1")
    assert store.load_routes() == {}
    assert store.load_objects() == ObjectSnapshot()
    prefix = PrefixKey(PrefixKind.ALIAS, "uid-a", Prefix.parse("10.9.0.0/16"))
    saved = ObjectSnapshot(HostObjects(NETWORKS, (nic("a"),)), {"uid-a": REMOTE, prefix: OTHER})
    rib: Rib = {100: {Prefix.parse("10.0.0.9"): frozenset({Hop(REMOTE), Hop(OTHER, RouteType.NAT, 1024, 2048)})}}
    store.save_objects(saved)
    store.save_routes(rib)
    again = SnapshotStore(tmp_path, "h1")
    assert again.load_objects() == saved
    assert again.load_routes() == rib
    assert SnapshotStore(tmp_path, "h2").load_objects() == ObjectSnapshot()
    for text in ("", "[]", "{", '{"version": 1, "node": "h2"}', '{"version": 1, "node": "h1", "interfaces": 7}'):
        (tmp_path / "objects.json").write_text(text)
        assert store.load_objects().objects == HostObjects()
    (tmp_path / "routes.json").write_text('{"version": 1, "node": "h1", "routes": {"x": 1}}')
    assert store.load_routes() == {}
