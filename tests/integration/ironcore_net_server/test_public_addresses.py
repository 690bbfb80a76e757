"""Addresses of interfaces, balancers and gateways: taken and given back with their users, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from ironcore.apinet.v1 import (
    ip_address_pb2,
    ip_pb2,
    load_balancer_pb2,
    nat_gateway_pb2,
    network_id_pb2,
    network_interface_pb2,
    network_pb2,
    types_pb2,
)
from ironcore.meta.v1 import meta_pb2
from ironcore.meta.v1 import types_pb2 as common

from apimachinery.client import Client
from apimachinery.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from apimachinery.store import Store
from tests.support.apinet import coordinator

IPV4 = common.IP_FAMILY_IPV4
IPV6 = common.IP_FAMILY_IPV6
# Eight addresses of one family and two of the other.
OPTIONS: dict[str, object] = {"public_prefixes": ["203.0.113.0/29", "2001:db8::/127"], "quarantine_seconds": 0}
UID = "11111111-0000-4000-8000-000000000001"


@pytest.fixture
async def client(store: Store) -> AsyncIterator[Client]:
    async with coordinator(store, OPTIONS) as client:
        yield client


def interface(name: str = "nic", *entries: types_pb2.NamedIP) -> network_interface_pb2.NetworkInterface:
    nic = network_interface_pb2.NetworkInterface(metadata=meta_pb2.ObjectMeta(name=name))
    nic.spec.node_ref.name = "p1.host1"
    nic.spec.network_ref.name = "n"
    nic.spec.public_ips.extend(entries)
    return nic


def entry(name: str, family: common.IPFamily.ValueType = IPV4, ip: str = "") -> types_pb2.NamedIP:
    return types_pb2.NamedIP(name=name, ip_family=family, ip=ip)


def handle(name: str, ip: str = "") -> ip_pb2.IP:
    spec = ip_pb2.IPSpec(type=common.IP_TYPE_PUBLIC, ip_family=IPV4, ip=ip)
    return ip_pb2.IP(metadata=meta_pb2.ObjectMeta(name=name), spec=spec)


async def taken(client: Client, store: Store) -> set[str]:
    """Addresses that are taken, after checking that claims, records and handles agree."""
    claims = {item.key.rpartition("/")[2] for item in (await store.list("/claims/ip")).items}
    records = {record.metadata.name for record in await client.kind(ip_address_pb2.IPAddress).list()}
    handles = {ip.spec.ip for ip in await client.kind(ip_pb2.IP).list()}
    assert claims == records == handles
    return claims


async def test_an_interface_brings_and_takes_its_own_addresses(client: Client, store: Store) -> None:
    nics = client.kind(network_interface_pb2.NetworkInterface)
    nic = await nics.create(interface("nic", entry("v4"), entry("v6", IPV6)))
    v4, v6 = (public.ip for public in nic.spec.public_ips)
    assert await taken(client, store) == {v4, v6}
    for ip in await client.kind(ip_pb2.IP).list():
        assert ip.spec.claim_ref.uid == ip.metadata.owner_references[0].uid == nic.metadata.uid
        assert ip.metadata.labels["apinet.ironcore.dev/ip-family"] in ("IPv4", "IPv6")

    nic.spec.public_ips[0].ClearField("ip")
    nic = await nics.update(nic)
    assert nic.spec.public_ips[0].ip == v4

    del nic.spec.public_ips[0]
    nic = await nics.update(nic)
    assert await taken(client, store) == {v6}

    await nics.delete("", "nic")
    assert await taken(client, store) == set()


async def test_a_static_address_outlives_its_users_and_has_one_at_a_time(client: Client, store: Store) -> None:
    ips, nics = client.kind(ip_pb2.IP), client.kind(network_interface_pb2.NetworkInterface)
    address = (await ips.create(handle("front"))).spec.ip
    nic = await nics.create(interface("a", entry("x", ip=address)))
    assert (await ips.get("", "front")).spec.claim_ref.uid == nic.metadata.uid

    with pytest.raises(FailedPrecondition) as refused:
        await nics.create(interface("b", entry("x", ip=address)))
    assert refused.value.reason == "IP_CLAIMED"
    assert refused.value.violations[0].field == "spec.public_ips[0].ip"
    with pytest.raises(NotFound):
        await nics.get("", "b")
    with pytest.raises(FailedPrecondition) as refused:
        await ips.delete("", "front")
    assert refused.value.reason == "IP_IN_USE"
    stolen = await ips.get("", "front")
    stolen.spec.ClearField("claim_ref")
    with pytest.raises(FailedPrecondition):
        await ips.update(stolen)
    with pytest.raises(FailedPrecondition) as refused:
        await client.kind(ip_address_pb2.IPAddress).delete("", address)
    assert refused.value.reason == "ADDRESS_IN_USE"

    await nics.delete("", "a")
    assert not (await ips.get("", "front")).spec.HasField("claim_ref")
    await nics.create(interface("b", entry("x", ip=address)))
    await nics.delete("", "b")
    await ips.delete("", "front")
    assert await taken(client, store) == set()


async def test_what_cannot_be_had_in_full_changes_nothing(client: Client, store: Store) -> None:
    nics = client.kind(network_interface_pb2.NetworkInterface)
    with pytest.raises(FailedPrecondition) as refused:
        await nics.create(interface("nic", entry("v6", IPV6), entry("v4", ip="203.0.113.1")))
    assert refused.value.reason == "IP_NOT_FOUND"
    assert await taken(client, store) == set()

    await nics.create(interface("one", entry("v6", IPV6)))
    await nics.create(interface("two", entry("v6", IPV6)))
    before = await taken(client, store)
    with pytest.raises(ResourceExhausted) as exhausted:
        await nics.create(interface("three", entry("v4"), entry("v6", IPV6)))
    assert exhausted.value.exhausted == "2001:db8::/127"
    assert await taken(client, store) == before

    stale = await nics.get("", "one")
    await nics.add_finalizer("", "one", "example.org/hold")
    stale.spec.public_ips.append(entry("v4"))
    with pytest.raises(Conflict):
        await nics.update(stale)
    assert await taken(client, store) == before


async def test_a_dry_run_shows_an_address_and_takes_none(client: Client, store: Store) -> None:
    shown = await client.kind(ip_pb2.IP).create(handle("front"), dry_run=True)
    assert shown.spec.ip.startswith("203.0.113.")
    assert await taken(client, store) == set()


async def test_given_addresses_must_be_free_and_in_a_pool(client: Client, store: Store) -> None:
    ips = client.kind(ip_pb2.IP)
    with pytest.raises(InvalidArgument) as refused:
        await ips.create(handle("outside", "203.0.113.8"))
    assert refused.value.violations[0].field == "spec.ip"
    assert (await ips.create(handle("front", "203.0.113.3"))).spec.ip == "203.0.113.3"
    with pytest.raises(FailedPrecondition) as taken_error:
        await ips.create(handle("again", "203.0.113.3"))
    assert taken_error.value.reason == "ADDRESS_TAKEN"
    assert await taken(client, store) == {"203.0.113.3"}


async def test_an_address_can_be_reserved_by_hand(client: Client, store: Store) -> None:
    records, ips = client.kind(ip_address_pb2.IPAddress), client.kind(ip_pb2.IP)
    record = ip_address_pb2.IPAddress(metadata=meta_pb2.ObjectMeta(name="203.0.113.0"))
    record.spec.claim_ref.MergeFrom(types_pb2.ClaimReference(resource="gateways", name="router", uid=UID))
    await records.create(record)
    addresses = {(await ips.create(handle(f"ip{n}"))).spec.ip for n in range(7)}
    assert "203.0.113.0" not in addresses
    with pytest.raises(ResourceExhausted):
        await ips.create(handle("eighth"))
    await records.delete("", "203.0.113.0")
    assert (await ips.create(handle("eighth"))).spec.ip == "203.0.113.0"


async def test_balancers_and_gateways_use_the_same_pool(client: Client, store: Store) -> None:
    lb = load_balancer_pb2.LoadBalancer(metadata=meta_pb2.ObjectMeta(name="lb"))
    lb.spec.type = common.LOAD_BALANCER_TYPE_PUBLIC
    lb.spec.network_ref.name = "n"
    lb.spec.ips.extend([entry("ipv4"), entry("ipv6", IPV6)])
    lb.spec.selector.match_labels["app"] = "lb"
    lb.spec.template.metadata.labels["app"] = "lb"
    lb = await client.kind(load_balancer_pb2.LoadBalancer).create(lb)

    gateway = nat_gateway_pb2.NATGateway(metadata=meta_pb2.ObjectMeta(name="gw"))
    gateway.spec.ip_family = IPV4
    gateway.spec.network_ref.name = "n"
    gateway.spec.ports_per_network_interface = 64
    gateway.spec.ips.add(name="a")
    gateway.spec.ips.add(name="b")
    gateway = await client.kind(nat_gateway_pb2.NATGateway).create(gateway)

    used = [ip.ip for ip in lb.spec.ips] + [ip.ip for ip in gateway.spec.ips]
    assert len(set(used)) == 4
    assert await taken(client, store) == set(used)

    applied = nat_gateway_pb2.NATGateway(metadata=meta_pb2.ObjectMeta(name="gw"))
    applied.spec.CopyFrom(gateway.spec)
    for ip in applied.spec.ips:
        ip.ClearField("ip")
    gateways = client.kind(nat_gateway_pb2.NATGateway)
    again = await gateways.apply(applied, "autoscaler", force=True)
    assert [ip.ip for ip in again.spec.ips] == [ip.ip for ip in gateway.spec.ips]

    await client.kind(load_balancer_pb2.LoadBalancer).delete("", "lb")
    await gateways.delete("", "gw")
    assert await taken(client, store) == set()


async def test_verbs_of_interfaces(client: Client, store: Store) -> None:
    nics = client.kind(network_interface_pb2.NetworkInterface)
    nic = await nics.create(interface())
    claim = network_interface_pb2.NATClaimRequest(name="nic")
    claim.claim.ip_family = IPV4
    claim.claim.claim_ref.MergeFrom(meta_pb2.LocalUidReference(name="gw", uid=UID))
    kind = network_interface_pb2.NetworkInterface
    assert (await nics.invoke("ClaimNAT", claim, kind)).spec.nat_gateways[0].claim_ref.uid == UID
    request = network_interface_pb2.SetPublicIPsRequest(name="nic", uid=nic.metadata.uid, public_ips=[entry("v4")])
    changed = await nics.invoke("SetPublicIPs", request, kind)
    assert not changed.spec.nat_gateways
    assert await taken(client, store) == {changed.spec.public_ips[0].ip}
    with pytest.raises(FailedPrecondition):
        await nics.invoke("ClaimNAT", claim, kind)
    assert not (await nics.invoke("ReleaseNAT", claim, kind)).spec.nat_gateways
    request.uid = UID
    with pytest.raises(Conflict):
        await nics.invoke("SetPublicIPs", request, kind)
    with pytest.raises(InvalidArgument) as refused:
        await nics.invoke("ClaimNAT", network_interface_pb2.NATClaimRequest(name="nic"), kind)
    assert refused.value.violations[0].field == "claim"


async def test_verbs_of_addresses(client: Client) -> None:
    ips = client.kind(ip_pb2.IP)
    await ips.create(handle("front"))
    request = ip_pb2.ClaimIPRequest(name="front")
    request.claim_ref.MergeFrom(types_pb2.ClaimReference(group="example.org", resource="things", name="t", uid=UID))
    assert (await ips.invoke("Claim", request, ip_pb2.IP)).spec.claim_ref.uid == UID
    other = ip_pb2.ClaimIPRequest()
    other.CopyFrom(request)
    other.claim_ref.uid = UID.replace("1", "2")
    with pytest.raises(FailedPrecondition):
        await ips.invoke("Claim", other, ip_pb2.IP)
    assert (await ips.invoke("Release", other, ip_pb2.IP)).spec.claim_ref.uid == UID
    with pytest.raises(FailedPrecondition):
        await ips.delete("", "front")
    # Only the claimer knows whether it still uses the address, so its word ends the claim.
    assert not (await ips.invoke("Release", request, ip_pb2.IP)).spec.HasField("claim_ref")
    await ips.delete("", "front")


async def test_partitions_report_peerings_side_by_side(client: Client) -> None:
    networks = client.kind(network_pb2.Network)
    network = await networks.create(network_pb2.Network(metadata=meta_pb2.ObjectMeta(name="n")))
    states = [network_pb2.NetworkPeeringStatus(id=300, state=common.PEERING_STATE_READY)]

    async def report(partition: str, peerings: list[network_pb2.NetworkPeeringStatus]) -> network_pb2.Network:
        request = network_pb2.SetNetworkPeeringStatusRequest(
            name="n", uid=network.metadata.uid, partition=partition, peerings=peerings
        )
        return await networks.invoke("SetPeeringStatus", request, network_pb2.Network)

    await asyncio.gather(*(report(f"p{n}", states) for n in range(20)))
    found = await networks.get("", "n")
    assert set(found.status.peerings) == {f"p{n}" for n in range(20)}
    assert (await report("p7", [])).metadata.generation == network.metadata.generation
    assert "p7" not in (await networks.get("", "n")).status.peerings


async def test_a_network_id_stays_with_its_network(client: Client) -> None:
    networks, ids = client.kind(network_pb2.Network), client.kind(network_id_pb2.NetworkID)
    wanted = network_pb2.Network(metadata=meta_pb2.ObjectMeta(name="n"), spec=network_pb2.NetworkSpec(id="4711"))
    network = await networks.create(wanted)
    assert (await ids.get("", "4711")).spec.claim_ref.uid == network.metadata.uid
    with pytest.raises(FailedPrecondition):
        await ids.delete("", "4711")
    wanted.metadata.name = "m"
    with pytest.raises(FailedPrecondition) as refused:
        await networks.create(wanted)
    assert refused.value.reason == "NETWORK_ID_TAKEN"
    await networks.delete("", "n")
    assert not await ids.list()
    assert (await networks.create(wanted)).spec.id == "4711"
