"""Two hypervisors under the real server: from an apinet interface to the other host's route, and through kills.

One of them dials the route server with TLS, the other without.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from pathlib import Path

import pytest
from ironcore.apinet.v1 import network_interface_pb2, network_pb2, node_pb2
from ironcore.meta.v1 import meta_pb2, types_pb2

from apimachinery.client import Client
from apimachinery.conditions import is_true
from apimachinery.errors import ApiError
from apimachinery.informer import Informer
from tests.support.certificates import Authority
from tests.support.fake_dpservice import FakeDpservice
from tests.support.fake_engine import FakeEngine

SECONDS = 60.0
DEVICES = frozenset({"net_tap2", "net_tap3"})
NIC = network_interface_pb2.NetworkInterface


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


@dataclass
class Region:
    """Server, route server and two hosts, each a process but for the engines."""

    directory: Path
    client: Client
    engines: dict[str, FakeDpservice]
    commands: dict[str, list[str]]
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self, name: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(*self.commands[name], stdout=log, stderr=log)

    async def kill(self, name: str) -> None:
        process = self.processes[name]
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()

    async def ready_nic(self, name: str) -> NIC:
        changed = asyncio.Event()
        async with Informer(self.client.kind(NIC)) as informer:
            informer.add_handler(lambda _: changed.set())
            async with asyncio.timeout(SECONDS):
                while True:
                    found = informer.get("default", name)
                    if found is not None and found.status.state == types_pb2.REALIZATION_STATE_READY:
                        return found
                    changed.clear()
                    await changed.wait()

    async def node_is_ready(self, name: str) -> None:
        changed = asyncio.Event()
        async with Informer(self.client.kind(node_pb2.Node)) as informer:
            informer.add_handler(lambda _: changed.set())
            async with asyncio.timeout(SECONDS):
                while True:
                    found = informer.get("", name)
                    if found is not None and is_true(found.status.conditions, "Ready"):
                        return
                    changed.clear()
                    await changed.wait()

    def routes(self) -> dict[str, dict[str, str]]:
        """Routes to other hosts, by host and prefix."""
        return {name: remote_routes(fake.engine) for name, fake in self.engines.items()}


def remote_routes(engine: FakeEngine) -> dict[str, str]:
    return {str(prefix): str(hop.address) for (_, prefix), hop in engine.routes.items() if hop is not None}


def daemon(directory: Path, api: str, metalbond: str, name: str, number: int, engine: str) -> list[str]:
    return [
        program("metalnet-daemon"),
        f"--node-name={name}",
        f"--api-server={api}",
        f"--dpservice={engine}",
        f"--metalbond-server={metalbond}",
        "--metalbond-keepalive=1",
        "--device-pool=dtapvf_{0..1}=net_tap{2..3}",
        f"--underlay-prefix=fc00:{number}::/64",
        f"--state-dir={directory / name}",
        "--route-settle-time=1",
        "--heartbeat-ttl=4",
    ]


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[Region]:
    api, plain, secure = f"unix:{tmp_path / 'api.sock'}", f"127.0.0.1:{free_port()}", f"localhost:{free_port()}"
    authority = Authority(tmp_path)
    own, node = authority.issue("metalbond"), authority.issue("h1")
    async with contextlib.AsyncExitStack() as stack:
        engines, commands = {}, {}
        commands["server"] = [
            program("ironcore-net-server"),
            f"--data-dir={tmp_path / 'etcd'}",
            f"--listen={api}",
            *(f"--groups={name}" for name in ("networking", "ipam", "apinet", "metalnet")),
            *(f"--controllers={name}" for name in ("nodes", "metalnetlet")),
            "--partition=lab",
        ]
        commands["metalbond"] = [
            *(program("metalbond"), "server", f"--listen={plain}", f"--listen-tls={secure}"),
            *(f"--tls-certificate={own.certificate}", f"--tls-key={own.key}", f"--tls-ca={authority.ca}"),
        ]
        for number, name in enumerate(("h1", "h2"), 1):
            fake = FakeDpservice(tmp_path / f"{name}.sock", DEVICES, host=IPv6Network(f"fc00:{number}::/64"))
            engines[name] = await stack.enter_async_context(fake)
            commands[name] = daemon(tmp_path, api, secure if name == "h1" else plain, name, number, fake.target)
        commands["h1"] += [
            *(f"--metalbond-ca={authority.ca}", f"--metalbond-cert={node.certificate}", f"--metalbond-key={node.key}")
        ]
        client = await stack.enter_async_context(Client(api))
        region = Region(tmp_path, client, engines, commands)
        stack.push_async_callback(stop_all, region)
        for name in commands:
            await region.start(name)
        yield region


async def stop_all(region: Region) -> None:
    for process in region.processes.values():
        if process.returncode is None:
            process.terminate()
    for process in region.processes.values():
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()


async def persistently(
    region: Region, kind: type[network_pb2.Network] | type[NIC], obj: network_pb2.Network | NIC
) -> None:
    """Create an object at a server that may be about to start."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await region.client.kind(kind).apply(obj, "test")  # type: ignore[arg-type] # one kind at a time
                return
            except ApiError:
                await asyncio.sleep(0.1)


async def create_nic(region: Region, name: str, number: int, host: str) -> None:
    spec = network_interface_pb2.NetworkInterfaceSpec(
        node_ref=meta_pb2.LocalObjectReference(name=f"lab.{host}"),
        network_ref=meta_pb2.LocalObjectReference(name="blue"),
        ips=[f"10.0.0.{number}", f"fd00::{number}"],
    )
    await persistently(region, NIC, NIC(metadata=meta_pb2.ObjectMeta(name=name), spec=spec))


async def two_connected_interfaces(region: Region) -> None:
    await persistently(region, network_pb2.Network, network_pb2.Network(metadata=meta_pb2.ObjectMeta(name="blue")))
    for number, host in enumerate(("h1", "h2"), 1):
        await region.node_is_ready(f"lab.{host}")
        await create_nic(region, f"vm{number}", number, host)
    for name in ("vm1", "vm2"):
        await region.ready_nic(name)
    for host, other in (("h1", 2), ("h2", 1)):
        await region.engines[host].wait_until(
            lambda engine, other=other: remote_routes(engine).keys() == {f"10.0.0.{other}/32", f"fd00::{other}/128"},
            SECONDS,
        )


async def test_interfaces_on_two_hosts_find_each_other(region: Region) -> None:
    await two_connected_interfaces(region)
    for host, other in (("h1", "h2"), ("h2", "h1")):
        (theirs,) = region.engines[other].engine.interfaces.values()
        assert set(remote_routes(region.engines[host].engine).values()) == {str(theirs.underlay)}


async def test_every_process_is_killed_twice_and_no_route_or_interface_is_touched(region: Region) -> None:
    await two_connected_interfaces(region)
    before = {name: fake.changes() for name, fake in region.engines.items()}
    for name in ("metalbond", "server", "h1", "h2"):
        for _ in range(2):
            await region.kill(name)
            await region.start(name)
    # Everything works again if a new interface reaches the other host.
    await create_nic(region, "vm3", 3, "h1")
    await region.ready_nic("vm3")
    new = {"10.0.0.3/32", "fd00::3/128"}
    await region.engines["h2"].wait_until(lambda engine: new <= remote_routes(engine).keys(), SECONDS)
    after = {name: fake.changes() for name, fake in region.engines.items()}
    assert after["h1"] == [*before["h1"], "CreateInterface"]
    assert after["h2"] == [*before["h2"], "CreateRoute", "CreateRoute"]
