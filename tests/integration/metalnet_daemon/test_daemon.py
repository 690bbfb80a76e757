"""The real daemon as a process between a real API, a real route server and a fake engine, killed and restarted."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.metalnet.v1 import network_interface_pb2, network_pb2, node_pb2

from apimachinery.client import Client
from apimachinery.errors import NotFound
from apimachinery.informer import Informer
from apimachinery.liveness import HeartbeatHooks
from metalbond.client import MetalbondClient
from metalbond.server import MetalbondServer
from metalbond.types import Destination, NextHop
from metalnet_daemon.kinds.network import NetworkHooks
from metalnet_daemon.kinds.network_interface import NetworkInterfaceHooks
from metalnet_daemon.plan.objects import INTERFACE_FINALIZER
from tests.support.api import api_server
from tests.support.etcd import etcd_cluster, etcd_store
from tests.support.fake_dpservice import FakeDpservice

DEVICES = frozenset(f"net_tap{number}" for number in range(2, 6))
NETWORK = network_pb2.Network
NIC = network_interface_pb2.NetworkInterface
NODE = node_pb2.Node
SECONDS = 20.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
VNI, PUBLIC = 100, 99
HOOKS = {NETWORK: NetworkHooks(), NIC: NetworkInterfaceHooks(), NODE: HeartbeatHooks()}


class Peer:
    """Another host: announces routes, and sees what the daemon announces."""

    def __init__(self, servers: list[str]) -> None:
        self.changed = asyncio.Condition()
        self.removals: list[str] = []
        self.client = MetalbondClient(servers, 1, backend=self, identity="peer")
        self._tasks: set[asyncio.Task[None]] = set()

    def route_added(self, vni: int, destination: Destination, hop: NextHop) -> None:
        self._notify()

    def route_removed(self, vni: int, destination: Destination, hop: NextHop) -> None:
        self.removals.append(str(destination))
        self._notify()

    def learned(self, vni: int) -> dict[str, str]:
        return {str(destination): str(hop) for destination, hop in self.client.routes(vni)}

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self.changed:
            await self.changed.wait_for(condition)

    def _notify(self) -> None:
        async def notify() -> None:
            async with self.changed:
                self.changed.notify_all()

        task = asyncio.get_running_loop().create_task(notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@dataclass
class Site:
    """Everything around one daemon."""

    directory: Path
    client: Client
    api: str
    dpservice: FakeDpservice
    server: MetalbondServer
    peer: Peer
    nics: Informer[NIC]

    async def start_daemon(self, *, api: str = "", learns: bool = True) -> asyncio.subprocess.Process:
        log = (self.directory / "daemon.log").open("ab")
        with log:
            return await asyncio.create_subprocess_exec(
                str(Path(sys.executable).parent / "metalnet-daemon"),
                "--node-name=h1",
                f"--api-server={api or self.api}",
                f"--listen=unix:{self.directory / 'health.sock'}",
                f"--dpservice={self.dpservice.target}",
                *(f"--metalbond-server={address}" for address in self.server.addresses if learns),
                "--metalbond-keepalive=1",
                f"--public-vni={PUBLIC}",
                "--underlay-prefix=fc00:1::/64",
                "--device-pool=dtapvf_{0..3}=net_tap{2..5}",
                f"--state-dir={self.directory / 'state'}",
                "--route-settle-time=0",
                "--heartbeat-ttl=2",
                stdout=log,
                stderr=log,
            )

    async def nic_is(self, name: str, condition: Callable[[NIC | None], bool]) -> NIC | None:
        """The interface once the condition holds."""
        changed = asyncio.Event()
        self.nics.add_handler(lambda _: changed.set())
        async with asyncio.timeout(SECONDS):
            while not condition(found := self.nics.get("default", name)):
                changed.clear()
                await changed.wait()
        return found

    async def health_becomes(self, part: str, status: int) -> None:
        async with asyncio.timeout(SECONDS):
            async with grpc.aio.insecure_channel(f"unix:{self.directory / 'health.sock'}") as channel:
                request = health_pb2.HealthCheckRequest(service=part)
                async for answer in health_pb2_grpc.HealthStub(channel).Watch(request, wait_for_ready=True):
                    if answer.status == status:
                        return

    def log(self) -> str:
        return (self.directory / "daemon.log").read_text()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(etcd_cluster())
        store = await stack.enter_async_context(etcd_store(cluster))
        _, client = await stack.enter_async_context(api_server(store, NETWORK, NIC, NODE, hooks=HOOKS))
        dpservice = await stack.enter_async_context(FakeDpservice(tmp_path / "engine.sock", DEVICES))
        server = MetalbondServer()
        await server.start(["127.0.0.1:0"])
        stack.push_async_callback(server.close)
        peer = Peer(server.addresses)
        peer.client.subscribe(VNI)
        peer.client.announce(VNI, Destination.parse("10.0.0.9/32"), NextHop.to("fc00:2::9"))
        await peer.client.start()
        stack.push_async_callback(peer.client.close)
        nics = await stack.enter_async_context(Informer(client.kind(NIC)))
        yield Site(tmp_path, client, str(client.target), dpservice, server, peer, nics)


@contextlib.asynccontextmanager
async def running(site: Site, *, api: str = "", learns: bool = True) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await site.start_daemon(api=api, learns=learns)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def create_objects(client: Client, *names: str) -> None:
    networks, nics = client.kind(NETWORK), client.kind(NIC)
    await networks.create(NETWORK(metadata=meta_pb2.ObjectMeta(name="blue"), spec=network_pb2.NetworkSpec(id=VNI)))
    for number, name in enumerate(names, 1):
        spec = network_interface_pb2.NetworkInterfaceSpec(
            network_ref=meta_pb2.LocalObjectReference(name="blue"),
            ip_families=[types_pb2.IP_FAMILY_IPV4, types_pb2.IP_FAMILY_IPV6],
            ips=[f"10.0.0.{number}", f"fd00::{number}"],
            prefixes=[f"10.{number}.0.0/16"],
            node_name="h1",
        )
        await nics.create(NIC(metadata=meta_pb2.ObjectMeta(name=name), spec=spec))


def is_ready(nic: NIC | None) -> bool:
    return nic is not None and nic.status.state == types_pb2.REALIZATION_STATE_READY and bool(nic.status.prefixes)


async def test_life_of_an_interface_through_the_real_api(site: Site) -> None:
    async with running(site) as process:
        await create_objects(site.client, "web")
        nic = await site.nic_is("web", is_ready)
        assert nic is not None
        assert nic.status.tap_device.name == "dtapvf_0"
        assert INTERFACE_FINALIZER in nic.metadata.finalizers
        assert nic.status.observed_generation == nic.metadata.generation
        assert {condition.type: condition.reason for condition in nic.status.conditions} == {
            "Ready": "Programmed",
            "Complete": "Programmed",
        }
        await site.peer.wait(lambda: site.peer.learned(VNI).keys() == {"10.0.0.1/32", "fd00::1/128", "10.1.0.0/16"})
        assert site.peer.learned(VNI)["10.0.0.1/32"] == nic.status.underlay_ip
        remote = IPv6Address("fc00:2::9")
        await site.dpservice.wait_until(
            lambda engine: remote in {hop.address for hop in engine.routes.values() if hop is not None}
        )

        await site.client.kind(NIC).delete("default", "web")
        await site.nic_is("web", lambda nic: nic is None)
        assert not site.dpservice.engine.interfaces
        assert not site.dpservice.engine.prefixes
        await site.peer.wait(lambda: not site.peer.learned(VNI))
        with pytest.raises(NotFound):
            await site.client.kind(NIC).get("default", "web")

        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), SECONDS) == 0


async def test_a_daemon_of_an_empty_node_is_well_as_soon_as_it_has_seen_that_there_is_nothing(site: Site) -> None:
    late = site.directory / "late.sock"
    async with running(site, api=f"unix:{late}", learns=False):
        # The engine was met without the API. Now neither objects nor routes come: only the end of the snapshots tells.
        await site.health_becomes("engine", SERVING)
        late.symlink_to(site.api.removeprefix("unix:"))
        await site.health_becomes("", SERVING)


async def test_killing_the_daemon_twice_withdraws_and_deletes_nothing(site: Site) -> None:
    async with running(site):
        await create_objects(site.client, "a", "b")
        for name in ("a", "b"):
            await site.nic_is(name, is_ready)
        await site.peer.wait(lambda: len(site.peer.learned(VNI)) == 6)
        await site.dpservice.wait_until(lambda engine: any(hop is not None for hop in engine.routes.values()))
    announced, before = site.peer.learned(VNI), site.dpservice.changes()
    versions = {nic.metadata.name: nic.metadata.resource_version for nic in site.nics.list()}
    for life in (2, 3):
        async with running(site):
            async with asyncio.timeout(SECONDS):
                while site.log().count("daemon is synced") < life:  # noqa: ASYNC110 - a process tells by its log only
                    await asyncio.sleep(0.05)
    assert site.dpservice.changes() == before
    assert site.peer.removals == []
    assert site.peer.learned(VNI) == announced
    assert {nic.metadata.name: nic.metadata.resource_version for nic in site.nics.list()} == versions


async def test_a_killed_engine_is_programmed_again_at_once_with_equal_addresses(site: Site) -> None:
    async with running(site):
        await create_objects(site.client, "a")
        await site.nic_is("a", is_ready)
        await site.dpservice.wait_until(lambda engine: any(hop is not None for hop in engine.routes.values()))
        before = site.dpservice.engine
        await site.dpservice.crash_and_restart()
        await site.dpservice.wait_until(
            lambda engine: engine.interfaces.keys() == before.interfaces.keys() and engine.routes == before.routes
        )
        assert site.dpservice.engine.interfaces == before.interfaces
        assert site.dpservice.engine.prefixes == before.prefixes
        assert site.peer.removals == []


async def test_without_api_a_new_daemon_programs_a_new_engine_and_says_that_it_is_not_well(site: Site) -> None:
    async with running(site):
        await create_objects(site.client, "a")
        await site.nic_is("a", is_ready)
        await site.dpservice.wait_until(lambda engine: any(hop is not None for hop in engine.routes.values()))
        await site.health_becomes("", SERVING)
    before = site.dpservice.engine
    await site.dpservice.crash_and_restart()
    async with running(site, api=f"unix:{site.directory / 'nobody'}") as process:
        await site.dpservice.wait_until(lambda engine: engine.routes == before.routes)
        assert site.dpservice.engine.interfaces == before.interfaces
        await site.peer.wait(lambda: "10.0.0.1/32" in site.peer.learned(VNI))
        await site.health_becomes("engine", SERVING)
        await site.health_becomes("routes", SERVING)
        await site.health_becomes("api", NOT_SERVING)
        await site.health_becomes("", NOT_SERVING)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), SECONDS) == 0
    async with running(site):
        await site.health_becomes("", SERVING)
    assert "DeleteInterface" not in site.dpservice.changes()
    assert site.peer.removals == []


async def test_an_interface_of_another_node_is_left_alone_and_the_node_is_registered(site: Site) -> None:
    async with running(site):
        await create_objects(site.client, "mine")
        spec = network_interface_pb2.NetworkInterfaceSpec(
            network_ref=meta_pb2.LocalObjectReference(name="blue"),
            ip_families=[types_pb2.IP_FAMILY_IPV4],
            ips=["10.0.0.77"],
            node_name="h2",
        )
        await site.client.kind(NIC).create(NIC(metadata=meta_pb2.ObjectMeta(name="theirs"), spec=spec))
        await site.nic_is("mine", is_ready)
        theirs = await site.client.kind(NIC).get("default", "theirs")
        assert not theirs.metadata.finalizers
        assert len(site.dpservice.engine.interfaces) == 1
        node = await site.client.kind(NODE).get("", "h1")
        assert node.metadata.uid


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--device-pool=x"], "has no '=' between"),
        ([], "Missing option '--device-pool'"),
        (["--device-pool=a=b", "--device-pool=a=c"], "in the pool twice"),
        (["--device-pool=a=b", "--router-address=10.0.0.1"], "router-address"),
        (["--device-pool=a=b", "--underlay-prefix=fc00::/48"], "share a /64"),
        (["--device-pool=a=b", "--public-vni=0"], "public-vni"),
        (["--device-pool=a=b", "--metalbond-server=unix:/x"], "is not host:port"),
        (["--device-pool=a=b", "--metalbond-ca=/x"], "needs --metalbond-ca, --metalbond-cert and --metalbond-key"),
        (
            ["--device-pool=a=b", "--metalbond-ca=/x", "--metalbond-cert=/x", "--metalbond-key=/x"],
            "--metalbond-ca, -cert, -key: /x: No such file",
        ),
        (["--device-pool=a=b", "--dpservice=nowhere"], "dpservice"),
        (["--device-pool=pci", "--pf-pci-base-addr=zz"], "is not a PCI address"),
    ],
)
async def test_bad_flags_are_refused_before_anything_starts(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "metalnet-daemon"),
        f"--state-dir={tmp_path / 'state'}",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode == 2
    assert complaint in re.sub(r"\s+", " ", output.decode())
    assert not (tmp_path / "state").exists()
