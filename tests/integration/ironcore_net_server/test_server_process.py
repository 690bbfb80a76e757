"""The server as a process: one command, killed and restarted, with etcd away, and with wrong flags."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2
from ironcore.apinet.v1 import ip_address_pb2, ip_pb2, network_pb2, node_pb2
from ironcore.meta.v1 import meta_pb2, types_pb2

from apimachinery.client import Client
from apimachinery.conditions import is_true
from apimachinery.errors import ApiError, Unavailable
from apimachinery.etcd.client import EtcdClient
from apimachinery.store import LeaseNotFound, Store
from ironcore_net_server.main import main
from tests.support.etcd import EtcdCluster, etcd_cluster, etcd_store

TIMEOUT = 60.0
CONTROLLERS = ("--controllers", "garbage,nodes")


class Server:
    """One process, its log, and its messages to the service manager."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.address = f"unix:{directory / 'listen.sock'}"
        self._log = directory / "log"
        self._notify = directory / "notify"
        program = str(Path(sys.executable).with_name("ironcore-net-server"))
        self._command = [program, "--listen", self.address, *CONTROLLERS, *arguments]
        self._process: asyncio.subprocess.Process | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self._notify))

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdout=log, stderr=log, env={**os.environ, "NOTIFY_SOCKET": str(self._notify)}
            )

    async def ready(self) -> None:
        """Returns with READY=1; a process that ends instead, or says nothing, fails the test."""
        assert self._process is not None
        ended = asyncio.ensure_future(self._process.wait())
        told = asyncio.ensure_future(self._told())
        try:
            await asyncio.wait((ended, told), timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            assert told.done(), f"not ready; log:\n{self.log}"
        finally:
            ended.cancel()
            told.cancel()

    async def _told(self) -> None:
        loop = asyncio.get_running_loop()
        while b"READY=1" not in await loop.sock_recv(self._socket, 65536):
            pass

    async def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), TIMEOUT)

    async def close(self) -> None:
        if self._process is not None:
            await self.end(signal.SIGTERM)
        self._socket.close()


@contextlib.asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@pytest.fixture
async def cluster() -> AsyncIterator[EtcdCluster]:
    async with etcd_cluster() as cluster:
        yield cluster


def network(name: str) -> network_pb2.Network:
    return network_pb2.Network(metadata=meta_pb2.ObjectMeta(name=name))


def public_ip(name: str) -> ip_pb2.IP:
    return ip_pb2.IP(
        metadata=meta_pb2.ObjectMeta(name=name),
        spec=ip_pb2.IPSpec(type=types_pb2.IP_TYPE_PUBLIC, ip_family=types_pb2.IP_FAMILY_IPV4),
    )


async def health(client: Client, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    response = await client.unary("/grpc.health.v1.Health/Check", request, health_pb2.HealthCheckResponse, retry=True)
    return int(response.status)


async def keep_alive(store: Store, lease: int) -> None:
    """Renews a lease until somebody revokes it: it never ends by itself."""
    with contextlib.suppress(LeaseNotFound):
        while True:
            assert await store.renew_lease(lease) > 5
            await asyncio.sleep(0.1)


async def see_ready(client: Client, name: str) -> None:
    """A new node beats; returns when a controller has called it ready."""
    assert await health(client) == health_pb2.HealthCheckResponse.SERVING
    nodes = client.kind(node_pb2.Node)
    await nodes.create(node_pb2.Node(metadata=meta_pb2.ObjectMeta(name=name)))
    beat = meta_pb2.HeartbeatRequest(name=name, ttl_seconds=60)
    await nodes.invoke("Heartbeat", beat, meta_pb2.HeartbeatResponse)
    async with asyncio.timeout(TIMEOUT), contextlib.aclosing(nodes.watch()) as responses:
        async for response in responses:
            found: list[node_pb2.Node] = [event.object for event in response.events]  # type: ignore[attr-defined]
            if any(node.metadata.name == name and is_true(node.status.conditions, "Ready") for node in found):
                return
    raise AssertionError("the watch ended")


async def test_killed_and_started_again_it_knows_everything(tmp_path: Path) -> None:
    server = Server(tmp_path, "--data-dir", str(tmp_path / "d"), "--min-vni", "300")
    async with running(server), Client(server.address, timeout=TIMEOUT) as client:
        networks = client.kind(network_pb2.Network)
        ids = set()
        for life in range(3):
            await server.ready()
            assert await health(client) == health_pb2.HealthCheckResponse.SERVING
            assert await health(client, "ironcore.apinet.v1.NetworkService") == health_pb2.HealthCheckResponse.SERVING
            ids.add((await networks.create(network(f"n{life}"))).spec.id)
            await server.end(signal.SIGKILL)
            await server.start()
        await server.ready()
        assert {found.spec.id for found in await networks.list()} == ids
        assert len(ids) == 3
        assert min(int(number) for number in ids) >= 300
        assert await server.end(signal.SIGTERM) == 0


async def test_a_cluster_that_is_away_is_waited_for(tmp_path: Path, cluster: EtcdCluster) -> None:
    member = cluster.members[0]
    await member.kill()
    server = Server(tmp_path, "--etcd-endpoints", ",".join(cluster.endpoints))
    async with running(server), Client(server.address, timeout=TIMEOUT) as client:
        networks = client.kind(network_pb2.Network)
        async with asyncio.timeout(TIMEOUT):
            while True:
                with contextlib.suppress(Unavailable):
                    if await health(client) == health_pb2.HealthCheckResponse.NOT_SERVING:
                        break
        await member.start()
        await server.ready()
        await networks.create(network("before"))

        await member.kill()
        with pytest.raises(Unavailable):
            await networks.create(network("during"))
        await member.start()
        await member.ready()
        await networks.create(network("after"))
        names = {found.metadata.name for found in await networks.list()}
        assert {"before", "after"} <= names
    losses = [line for line in server.log.splitlines() if "etcd lost, retrying" in line]
    assert len(losses) == 2, f"two outages, two messages:\n{server.log}"


async def test_the_second_server_takes_over(tmp_path: Path, cluster: EtcdCluster) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    endpoints = ("--etcd-endpoints", ",".join(cluster.endpoints))
    async with running(Server(first, *endpoints)) as one, running(Server(second, *endpoints)) as two:
        await asyncio.gather(one.ready(), two.ready())
        async with Client(one.address) as at_one, Client(two.address) as at_two:
            made = await at_one.kind(network_pb2.Network).create(network("n"))
            assert await at_two.kind(network_pb2.Network).get("", "n") == made

            assert await one.end(signal.SIGTERM) == 0
            await see_ready(at_two, "p1.h1")


@pytest.mark.parametrize(
    ("private", "proof"),
    [(True, "its lock of the store's directory is free"), (False, "its process has ended")],
    ids=["private", "cluster"],
)
async def test_controllers_go_on_before_the_lease_of_their_killed_process_ends(
    tmp_path: Path, cluster: EtcdCluster, private: bool, proof: str
) -> None:
    if private:
        endpoints = [f"unix://{tmp_path / 'd/etcd/client:0'}"]
        server = Server(tmp_path, "--data-dir", str(tmp_path / "d"))
    else:
        endpoints = cluster.endpoints
        server = Server(tmp_path, "--etcd-endpoints", ",".join(endpoints))
    key = "/elections/controllers.nodes"
    async with (
        running(server),
        Client(server.address, timeout=TIMEOUT) as client,
        EtcdClient(endpoints, timeout=TIMEOUT) as etcd,
        Store(etcd) as store,
    ):
        await server.ready()
        await see_ready(client, "p1.before")
        former = await store.get(key)
        assert former is not None
        await server.end(signal.SIGKILL)
        await server.start()
        kept = asyncio.create_task(keep_alive(store, former.lease))
        await server.ready()
        await see_ready(client, "p1.after")
        present = await store.get(key)
        assert present is not None
        assert present.create_revision > former.create_revision
        # Only the new leader can have ended the lease.
        await asyncio.wait_for(kept, TIMEOUT)
        assert server.log.count("former leader is dead") == 2, server.log
        assert server.log.count(proof) == 2


async def test_a_kill_in_the_middle_of_writes_leaves_no_half_of_one(tmp_path: Path, cluster: EtcdCluster) -> None:
    """Creations and deletions are under way; afterwards claims, records and handles name the same addresses."""
    options = ("--public-prefix", "203.0.113.0/24", "--quarantine", "0")
    server = Server(tmp_path, "--etcd-endpoints", ",".join(cluster.endpoints), *options)
    async with running(server), Client(server.address, timeout=TIMEOUT) as client, etcd_store(cluster) as store:
        ips, records = client.kind(ip_pb2.IP), client.kind(ip_address_pb2.IPAddress)
        for life in range(3):
            await server.ready()
            left = [ip.metadata.name for ip in await ips.list()]
            writes = [
                *(asyncio.ensure_future(ips.delete("", name)) for name in left),
                *(asyncio.ensure_future(ips.create(public_ip(f"ip-{life}-{number}"))) for number in range(60)),
            ]
            # Some are answered, the others are anywhere.
            for done in itertools.islice(asyncio.as_completed(writes), 20):
                await done
            await server.end(signal.SIGKILL)
            results = await asyncio.gather(*writes, return_exceptions=True)
            assert any(isinstance(result, ApiError) for result in results), "the kill came too late"
            await server.start()
        await server.ready()
        handles = {ip.spec.ip: ip.metadata.uid for ip in await ips.list()}
        shown = {record.metadata.name: record.spec.claim_ref.uid for record in await records.list()}
        claims = {item.key.rpartition("/")[2] for item in (await store.list("/claims/ipv4/")).items}
        assert handles == shown
        assert claims == handles.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --data-dir"),
        (["--data-dir", "d", "--etcd-endpoints", "http://127.0.0.1:1"], "either --data-dir"),
        (["--data-dir", "d", "--etcd-user", "u"], "--etcd-user needs --etcd-endpoints"),
        (["--etcd-endpoints", "ftp://x"], "--etcd-endpoints"),
        (["--etcd-endpoints", "http://127.0.0.1:1", "--etcd-user", "u"], "must be given together"),
        (["--data-dir", "d", "--groups", "nothing"], "--groups: unknown nothing; known are apinet"),
        (["--data-dir", "d", "--controllers", "nothing"], "--controllers: unknown nothing"),
        (["--data-dir", "d", "--controllers", "apinetlet", "--groups", "apinet"], "apinetlet needs --groups ipam"),
        (["--data-dir", "d", "--controllers", "metalnetlet", "--groups", "apinet,metalnet"], "needs --partition"),
        (["--data-dir", "d", "--partition", "A.b"], "--partition: must be a DNS label"),
        (["--data-dir", "d", "--api-net-namespace", "A_b"], "--api-net-namespace: must be a DNS label"),
        (["--data-dir", "d", "--public-prefix", "203.0.113.1/24"], "--public-prefix: public prefix 203.0.113.1/24 has"),
        (["--data-dir", "d", "--public-prefix", "10.0.0.0/8,10.1.0.0/16"], "overlaps"),
        (["--data-dir", "d", "--min-vni", "9", "--max-vni", "8"], "--min-vni: must not exceed"),
        (["--data-dir", "d", "--max-vni", "16777216"], "--max-vni"),
        (["--data-dir", "d", "--listen", "0.0.0.0:1"], "--insecure"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_wrong_flags_are_named_and_nothing_is_started(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_a_config_file_gives_flags(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("data-dir: d\npublic-prefix: [203.0.113.1/24]\n")
    result = CliRunner().invoke(main, ["--config", str(config)])
    assert result.exit_code == 2
    assert "203.0.113.1/24 has host bits set" in result.output
