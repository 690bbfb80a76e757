"""The tenant bridge inside the server process: manifests, many objects at once, and kills in the middle of the work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from google.protobuf.message import Message
from ironcore.apinet.v1 import ip_address_pb2, ip_pb2, network_id_pb2
from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.networking.v1 import network_interface_pb2, network_pb2, virtual_ip_pb2

from apimachinery.client import Client
from apimachinery.errors import AlreadyExists, ApiError, Unavailable
from apimachinery.manifest import parse
from apimachinery.scheme import Scheme
from apimachinery.store import Store
from tests.support.apinet import wait_empty
from tests.support.etcd import EtcdCluster, etcd_cluster, etcd_store
from tests.support.process import ServerProcess, server_process
from tests.support.waiting import eventually, eventually_all

TENANT, FABRIC = "team-a", "fabric"
MANY = 200
MANIFESTS = """
apiVersion: networking.ironcore.dev/v1alpha1
kind: Network
metadata: {name: blue, namespace: team-a}
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: VirtualIP
metadata: {name: front, namespace: team-a}
spec: {type: Public, ipFamily: IPv4}
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: VirtualIP
metadata: {name: front-v6, namespace: team-a}
spec: {type: Public, ipFamily: IPv6}
"""


@pytest.fixture
async def cluster() -> AsyncIterator[EtcdCluster]:
    async with etcd_cluster() as cluster:
        yield cluster


@pytest.fixture
async def server(tmp_path: Path, cluster: EtcdCluster) -> AsyncIterator[ServerProcess]:
    async with server_process(
        tmp_path,
        "server",
        cluster.endpoints,
        "--controllers=apinetlet",
        f"--api-net-namespace={FABRIC}",
        "--public-prefix=198.51.100.0/24,2001:db8::/120",
        "--quarantine=0",
    ) as server:
        yield server


@pytest.fixture
async def store(cluster: EtcdCluster) -> AsyncIterator[Store]:
    async with etcd_store(cluster) as store:
        yield store


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[Client]:
    async with Client(server.target, timeout=60.0) as client:
        yield client


def network(name: str) -> network_pb2.Network:
    return network_pb2.Network(metadata=meta_pb2.ObjectMeta(name=name, namespace=TENANT))


def virtual_ip(name: str) -> virtual_ip_pb2.VirtualIP:
    return virtual_ip_pb2.VirtualIP(
        metadata=meta_pb2.ObjectMeta(name=name, namespace=TENANT),
        spec=virtual_ip_pb2.VirtualIPSpec(type=types_pb2.IP_TYPE_PUBLIC, ip_family=types_pb2.IP_FAMILY_IPV4),
    )


def fabric_interface(name: str) -> apinet_nic.NetworkInterface:
    nic = apinet_nic.NetworkInterface(metadata=meta_pb2.ObjectMeta(name=name, namespace=FABRIC))
    nic.spec.node_ref.name, nic.spec.network_ref.name = "p1.h1", "any"
    return nic


def interface(realized: apinet_nic.NetworkInterface) -> network_interface_pb2.NetworkInterface:
    """A tenant's interface for one of the fabric; it wants the virtual IP of the same name."""
    name = realized.metadata.name
    nic = network_interface_pb2.NetworkInterface(metadata=meta_pb2.ObjectMeta(name=name, namespace=TENANT))
    nic.spec.network_ref.name = "n0"
    nic.spec.ips.add(value="10.0.0.1")
    nic.spec.virtual_ip.virtual_ip_ref.name = name
    nic.spec.provider_id = f"ironcore-net://{FABRIC}/{name}/p1.h1/{realized.metadata.uid}"
    return nic


def has_addresses(count: int) -> Callable[[Sequence[apinet_nic.NetworkInterface]], bool]:
    """Condition on the fabric's interfaces: this many have a public address and a tenant, and no others have either."""
    return lambda found: (
        sum(bool(nic.spec.public_ips) for nic in found) == sum(bool(nic.metadata.labels) for nic in found) == count
    )


def available(networks: Sequence[network_pb2.Network]) -> int:
    return sum(found.status.state == network_pb2.NETWORK_STATE_AVAILABLE for found in networks)


def addresses(virtual_ips: Sequence[virtual_ip_pb2.VirtualIP]) -> dict[str, str]:
    return {found.metadata.name: found.status.ip for found in virtual_ips if found.status.ip}


async def create_all(client: Client, objects: Sequence[Message]) -> None:
    """What exists is a success; what a dead server leaves open stays open."""

    async def create(obj: Message) -> None:
        try:
            await client.kind(type(obj)).create(obj)
        except (AlreadyExists, Unavailable):
            return

    await asyncio.gather(*map(create, objects))


async def delete_all(client: Client, kind: type[Message], names: Sequence[str]) -> None:
    """Errors as in create_all."""

    async def delete(name: str) -> None:
        try:
            await client.kind(kind).delete(TENANT, name)
        except ApiError as error:
            assert error.code.name in ("NOT_FOUND", "UNAVAILABLE"), error

    await asyncio.gather(*map(delete, names))


async def check_agreement(client: Client, store: Store, names: Sequence[str]) -> None:
    """Tenants, fabric, records and claims name the same ids and addresses, each of them once."""
    networks, vips = client.kind(network_pb2.Network), client.kind(virtual_ip_pb2.VirtualIP)
    found = await networks.list()
    assert {network.metadata.name for network in found} == set(names)
    targets = {target.metadata.name: target for target in await client.kind(apinet_network.Network).list()}
    assert {network.metadata.uid for network in found} == targets.keys()
    for network in found:
        target = targets[network.metadata.uid]
        assert network.spec.provider_id == (
            f"ironcore-net://{FABRIC}/{target.metadata.name}/{target.spec.id}/{target.metadata.uid}"
        )
    ids = [target.spec.id for target in targets.values()]
    assert len(set(ids)) == len(ids)
    assert {record.metadata.name for record in await client.kind(network_id_pb2.NetworkID).list()} == set(ids)

    told = [(vip.metadata.uid, vip.status.ip) for vip in await vips.list()]
    handles = [(ip.metadata.name, ip.spec.ip) for ip in await client.kind(ip_pb2.IP).list()]
    assert sorted(told) == sorted(handles)
    assert len(told) == len(names)
    given = [address for _, address in handles]
    assert len(set(given)) == len(given)
    assert {record.metadata.name for record in await client.kind(ip_address_pb2.IPAddress).list()} == set(given)
    claims = sorted(item.key.rpartition("/")[2] for item in (await store.list("/claims/")).items)
    assert claims == sorted([*ids, *given])


async def check_interfaces(client: Client, bound: Sequence[str], free: Sequence[str]) -> None:
    """Bound ones have the virtual IP of their name, on both sides and nowhere else; free ones have nothing left."""
    vips = {vip.metadata.name: vip for vip in await client.kind(virtual_ip_pb2.VirtualIP).list()}
    handles = {ip.spec.ip: ip for ip in await client.kind(ip_pb2.IP).list()}
    nics = {nic.metadata.name: nic for nic in await client.kind(apinet_nic.NetworkInterface).list()}
    assert nics.keys() == {*bound, *free}
    for name in bound:
        assert [entry.ip for entry in nics[name].spec.public_ips] == [vips[name].status.ip]
        assert handles[vips[name].status.ip].spec.claim_ref.uid == nics[name].metadata.uid
        assert vips[name].spec.target_ref.name == name
    for name in free:
        assert not nics[name].spec.public_ips and not nics[name].metadata.labels
    claimers = [ip.spec.claim_ref.name for ip in handles.values() if ip.spec.HasField("claim_ref")]
    assert sorted(claimers) == sorted(bound)


async def test_manifests_end_with_addresses_that_survive_a_kill(server: ServerProcess, client: Client) -> None:
    kind = virtual_ip_pb2.VirtualIP
    for obj in parse(MANIFESTS, Scheme.from_packages("ironcore.networking.v1")):
        await client.kind(type(obj)).apply(obj, "tenant")
    front = await eventually(client, kind, TENANT, "front", lambda vip: bool(vip.status.ip))
    front_v6 = await eventually(client, kind, TENANT, "front-v6", lambda vip: bool(vip.status.ip))
    assert front.status.ip.startswith("198.51.100.")
    assert front_v6.status.ip.startswith("2001:db8::")
    blue = await eventually(client, network_pb2.Network, TENANT, "blue", lambda found: available([found]) == 1)

    await server.kill()
    await server.start()
    later = virtual_ip("later")
    await client.kind(kind).create(later)
    # The bridge is at work again and has seen everything.
    await eventually(client, kind, TENANT, "later", lambda vip: bool(vip.status.ip))
    for known in (front, front_v6):
        assert await client.kind(kind).get(TENANT, known.metadata.name) == known
    assert await client.kind(network_pb2.Network).get(TENANT, "blue") == blue


async def test_many_at_once(client: Client, store: Store) -> None:
    names = [f"n{number}" for number in range(MANY)]
    await create_all(client, [*map(network, names), *map(virtual_ip, names)])
    await eventually_all(client, network_pb2.Network, lambda found: available(found) == MANY)
    await eventually_all(client, virtual_ip_pb2.VirtualIP, lambda found: len(addresses(found)) == MANY)
    await check_agreement(client, store, names)
    await asyncio.gather(
        delete_all(client, network_pb2.Network, names), delete_all(client, virtual_ip_pb2.VirtualIP, names)
    )
    await eventually_all(client, network_pb2.Network, lambda found: not found)
    await eventually_all(client, virtual_ip_pb2.VirtualIP, lambda found: not found)
    await check_agreement(client, store, [])
    await wait_empty(store, "/claims/")


async def test_kills_in_the_middle_of_the_work(server: ServerProcess, client: Client, store: Store) -> None:
    """Killed while it mirrors new objects and again while it cleans up: nothing is lost, doubled or left behind."""
    names = [f"n{number}" for number in range(120)]
    attached = names[:40]
    fabric = [await client.kind(apinet_nic.NetworkInterface).create(fabric_interface(name)) for name in attached]
    objects = [*map(interface, fabric), *map(network, names), *map(virtual_ip, names)]
    creating = asyncio.create_task(create_all(client, objects))
    before = addresses(
        await eventually_all(client, virtual_ip_pb2.VirtualIP, lambda found: len(addresses(found)) >= 20)
    )
    await server.kill()
    await creating
    await server.start()
    await create_all(client, objects)
    await eventually_all(client, network_pb2.Network, lambda found: available(found) == len(names))
    vips = await eventually_all(client, virtual_ip_pb2.VirtualIP, lambda found: len(addresses(found)) == len(names))
    assert before.items() <= addresses(vips).items()
    await eventually_all(client, apinet_nic.NetworkInterface, has_addresses(len(attached)))
    await check_agreement(client, store, names)
    await check_interfaces(client, attached, [])

    kept, dropped = names[:20], names[20:]
    # Addresses are in use when their deletion is asked for.
    wanted: list[tuple[type[Message], Sequence[str]]] = [
        (virtual_ip_pb2.VirtualIP, dropped),
        (network_pb2.Network, dropped),
        (network_interface_pb2.NetworkInterface, attached[20:]),
    ]
    deleting = asyncio.gather(*(delete_all(client, kind, names) for kind, names in wanted))
    await eventually_all(client, virtual_ip_pb2.VirtualIP, lambda found: len(found) <= len(names) - 20)
    await server.kill()
    await deleting
    await server.start()
    await asyncio.gather(*(delete_all(client, kind, names) for kind, names in wanted))
    for kind, _ in wanted:
        await eventually_all(client, kind, lambda found: len(found) == len(kept))
    await eventually_all(client, apinet_nic.NetworkInterface, has_addresses(len(kept)))
    await check_agreement(client, store, kept)
    await check_interfaces(client, kept, attached[20:])
