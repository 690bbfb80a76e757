"""The tenant bridge between the real networking, ipam and apinet groups on etcd; the machine provider is the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from ironcore.apinet.v1 import ip_address_pb2, ip_pb2, network_id_pb2
from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.networking.v1 import network_interface_pb2 as tenant_nic
from ironcore.networking.v1 import network_pb2 as tenant_network
from ironcore.networking.v1 import virtual_ip_pb2

from apimachinery.conditions import is_true
from apimachinery.store import Store
from tests.support.apinet import wait_empty
from tests.support.apinetlet import FABRIC, TENANT, Site, provider_id, tenant_site, virtual_ip
from tests.support.waiting import eventually, gone

AVAILABLE = tenant_network.NETWORK_STATE_AVAILABLE
NIC_AVAILABLE = tenant_nic.NETWORK_INTERFACE_STATE_AVAILABLE
NIC_PENDING = tenant_nic.NETWORK_INTERFACE_STATE_PENDING


@pytest.fixture
async def site(store: Store) -> AsyncIterator[Site]:
    async with tenant_site(store) as site:
        yield site


async def test_a_network_gets_its_id_and_gives_it_back(site: Site) -> None:
    async with site.apinetlet():
        blue = await site.network("blue")
        target = await site.client.kind(apinet_network.Network).get(FABRIC, blue.metadata.uid)
        assert blue.spec.provider_id == (
            f"ironcore-net://{FABRIC}/{blue.metadata.uid}/{target.spec.id}/{target.metadata.uid}"
        )
        assert list(blue.metadata.finalizers) == ["apinet.ironcore.dev/network"]
        assert is_true(blue.status.conditions, "Ready")
        assert target.metadata.labels == {
            "apinetlet.ironcore.dev/network-uid": blue.metadata.uid,
            "apinetlet.ironcore.dev/network-namespace": TENANT,
        }
        assert target.metadata.annotations == {"apinetlet.ironcore.dev/network-name": "blue"}

        await site.client.kind(tenant_network.Network).delete(TENANT, "blue")
        await gone(site.client, tenant_network.Network, TENANT, "blue")
        assert await site.client.kind(apinet_network.Network).list() == []
        assert await site.client.kind(network_id_pb2.NetworkID).list() == []
        await wait_empty(site.store, "/claims/")


async def test_networks_wait_for_a_free_id_and_say_so(site: Site) -> None:
    networks = site.client.kind(tenant_network.Network)
    async with site.apinetlet():
        for name in ("n0", "n1", "n2"):
            await site.network(name)
        await networks.create(tenant_network.Network(metadata=meta_pb2.ObjectMeta(name="n3", namespace=TENANT)))
        waiting = await eventually(
            site.client, tenant_network.Network, TENANT, "n3", lambda found: bool(found.status.conditions)
        )
        assert waiting.status.state == tenant_network.NETWORK_STATE_PENDING
        assert waiting.status.conditions[0].reason == "PoolExhausted"
        assert "300-302" in waiting.status.conditions[0].message
        assert not waiting.spec.provider_id
        await networks.delete(TENANT, "n1")
        await eventually(
            site.client, tenant_network.Network, TENANT, "n3", lambda found: found.status.state == AVAILABLE
        )


async def test_a_wrong_provider_id_is_an_error(site: Site) -> None:
    network = tenant_network.Network(metadata=meta_pb2.ObjectMeta(name="blue", namespace=TENANT))
    network.spec.provider_id = "ironcore-net://fabric/elsewhere/7/11111111-0000-4000-8000-000000000001"
    await site.client.kind(tenant_network.Network).create(network)
    async with site.apinetlet():
        found = await eventually(
            site.client, tenant_network.Network, TENANT, "blue", lambda found: bool(found.status.conditions)
        )
    assert found.status.state == tenant_network.NETWORK_STATE_ERROR
    assert found.status.conditions[0].reason == "ProviderIDMismatch"


async def test_one_peering_that_cannot_be_realized_holds_no_other_up(site: Site) -> None:
    networks = site.client.kind(tenant_network.Network)
    async with site.apinetlet():
        green = await site.network("green")
        blue = await site.network("blue", "lost", "green")
        # What the peering controller writes when both sides agree; the fabric does not know the first one.
        blue.spec.incoming_peerings.add(name="lost", uid="11111111-0000-4000-8000-000000000001")
        blue.spec.incoming_peerings.add(name="green", uid=green.metadata.uid)
        await networks.update(blue)
        green_id = (await site.client.kind(apinet_network.Network).get(FABRIC, green.metadata.uid)).spec.id
        target = await eventually(
            site.client, apinet_network.Network, FABRIC, blue.metadata.uid, lambda found: bool(found.spec.peerings)
        )
        assert [(peering.name, peering.id) for peering in target.spec.peerings] == [("to-green", green_id)]

        request = apinet_network.SetNetworkPeeringStatusRequest(
            namespace=FABRIC,
            name=blue.metadata.uid,
            partition="p1",
            peerings=[apinet_network.NetworkPeeringStatus(id=int(green_id), state=types_pb2.PEERING_STATE_READY)],
        )
        await site.client.kind(apinet_network.Network).invoke("SetPeeringStatus", request, apinet_network.Network)
        ready, pending = types_pb2.PEERING_STATE_READY, types_pb2.PEERING_STATE_PENDING
        await eventually(
            site.client,
            tenant_network.Network,
            TENANT,
            "blue",
            lambda found: (
                {peering.name: peering.state for peering in found.status.peerings}
                == {"to-green": ready, "to-lost": pending}
            ),
        )


async def test_an_exposed_range_is_followed_until_it_is_there(site: Site) -> None:
    networks = site.client.kind(tenant_network.Network)
    async with site.apinetlet():
        green = await site.network("green")
        blue = await site.network("blue", "green")
        blue.spec.peerings[0].prefixes.add(name="web").prefix_ref.name = "pool"
        blue.spec.incoming_peerings.add(name="green", uid=green.metadata.uid)
        await networks.update(blue)
        await eventually(site.client, tenant_network.Network, TENANT, "blue", lambda found: bool(found.status.peerings))
        # "This range only" is never "everything", not even for a moment.
        target = await site.client.kind(apinet_network.Network).get(FABRIC, blue.metadata.uid)
        assert not target.spec.peerings

        await site.allocated_prefix("pool", "10.9.0.0/24")
        await eventually(
            site.client,
            apinet_network.Network,
            FABRIC,
            blue.metadata.uid,
            lambda found: [p.prefix for entry in found.spec.peerings for p in entry.prefixes] == ["10.9.0.0/24"],
        )


async def test_an_exhausted_pool_is_told_and_served_when_there_is_room(site: Site) -> None:
    kind = virtual_ip_pb2.VirtualIP
    async with site.apinetlet():
        first = await site.virtual_ip("first")
        await site.virtual_ip("second")
        await site.create_virtual_ip("third")
        assert await site.reason(kind, "third", "PoolExhausted") == "no free public IPv4 address in 203.0.113.0/31"
        await site.client.kind(kind).delete(TENANT, "first")
        third = await eventually(site.client, kind, TENANT, "third", lambda found: bool(found.status.ip))
        assert third.status.ip == first.status.ip
        assert is_true(third.status.conditions, "Ready")


async def test_an_interface_is_claimed_configured_told_and_released(site: Site) -> None:
    nics = site.client.kind(tenant_nic.NetworkInterface)
    async with site.apinetlet():
        address = (await site.virtual_ip("front")).status.ip
        await site.interface("vm1", virtual_ip="front", prefixes=("10.9.0.0/24",))
        await site.reason(tenant_nic.NetworkInterface, "vm1", "NotAttached")
        made = await site.fabric_interface("nic-1", ready=False)
        nic = await nics.get(TENANT, "vm1")
        nic.spec.provider_id = provider_id(made)
        nic = await nics.update(nic)
        target = await site.claimed("nic-1", address, by="vm1")
        assert list(target.spec.prefixes) == ["10.9.0.0/24"]
        bound = await eventually(
            site.client, virtual_ip_pb2.VirtualIP, TENANT, "front", lambda vip: vip.spec.HasField("target_ref")
        )
        assert (bound.spec.target_ref.name, bound.spec.target_ref.uid) == ("vm1", nic.metadata.uid)
        handle = await site.client.kind(ip_pb2.IP).get(FABRIC, bound.metadata.uid)
        assert handle.spec.claim_ref.uid == made.metadata.uid

        await site.report(target, address)
        nic = await eventually(
            site.client, tenant_nic.NetworkInterface, TENANT, "vm1", lambda nic: nic.status.state == NIC_AVAILABLE
        )
        assert (list(nic.status.ips), list(nic.status.prefixes)) == (["10.0.0.1"], ["10.9.0.0/24"])
        assert nic.status.virtual_ip == address
        assert is_true(nic.status.conditions, "Ready")
        assert is_true(nic.status.conditions, "VirtualIPBound")

        await nics.delete(TENANT, "vm1")
        await gone(site.client, tenant_nic.NetworkInterface, TENANT, "vm1")
        free = await site.claimed("nic-1", by="")
        assert not free.metadata.labels and not free.spec.prefixes
        vip = await site.client.kind(virtual_ip_pb2.VirtualIP).get(TENANT, "front")
        assert not vip.spec.HasField("target_ref")
        assert vip.status.ip == address
        assert not (await site.client.kind(ip_pb2.IP).get(FABRIC, vip.metadata.uid)).spec.HasField("claim_ref")


async def test_an_interface_that_loses_its_counterpart_is_pending_and_says_why(site: Site) -> None:
    async with site.apinetlet():
        made = await site.fabric_interface("nic-1")
        await site.interface("vm1", provider_id(made))
        await eventually(
            site.client, tenant_nic.NetworkInterface, TENANT, "vm1", lambda nic: nic.status.state == NIC_AVAILABLE
        )
        await site.client.kind(apinet_nic.NetworkInterface).delete(FABRIC, "nic-1")
        assert made.metadata.uid in await site.reason(tenant_nic.NetworkInterface, "vm1", "InterfaceNotFound")
        nic = await site.client.kind(tenant_nic.NetworkInterface).get(TENANT, "vm1")
        assert nic.status.state == NIC_PENDING
        assert not nic.status.ips


async def test_a_virtual_ip_is_taken_off_its_interface_before_it_goes(site: Site) -> None:
    async with site.apinetlet():
        address = (await site.virtual_ip("front")).status.ip
        made = await site.fabric_interface("nic-1")
        await site.interface("vm1", provider_id(made), virtual_ip="front")
        await site.claimed("nic-1", address, by="vm1")
        await site.client.kind(virtual_ip_pb2.VirtualIP).delete(TENANT, "front")
        await gone(site.client, virtual_ip_pb2.VirtualIP, TENANT, "front")
        await site.claimed("nic-1", by="vm1")
        await site.reason(tenant_nic.NetworkInterface, "vm1", "VirtualIPNotFound", "VirtualIPBound")
        assert await site.client.kind(ip_pb2.IP).list() == []
        await wait_empty(site.store, "/claims/")


async def test_a_virtual_ip_waits_for_a_user_that_is_no_tenants(site: Site) -> None:
    nics = site.client.kind(apinet_nic.NetworkInterface)
    async with site.apinetlet():
        vip = await site.virtual_ip("front")
        await site.fabric_interface("nic-1")
        request = apinet_nic.SetPublicIPsRequest(namespace=FABRIC, name="nic-1")
        request.public_ips.add(name="own", ip_family=types_pb2.IP_FAMILY_IPV4, ip=vip.status.ip)
        await nics.invoke("SetPublicIPs", request, apinet_nic.NetworkInterface)
        await site.client.kind(virtual_ip_pb2.VirtualIP).delete(TENANT, "front")
        assert "networkinterfaces nic-1" in await site.reason(virtual_ip_pb2.VirtualIP, "front", "IpInUse")
        kept = await site.client.kind(virtual_ip_pb2.VirtualIP).get(TENANT, "front")
        assert kept.status.ip == vip.status.ip
        await nics.delete(FABRIC, "nic-1")
        await gone(site.client, virtual_ip_pb2.VirtualIP, TENANT, "front")
        await wait_empty(site.store, "/claims/")


async def test_a_virtual_ip_moves_between_interfaces_with_its_address(site: Site) -> None:
    nics = site.client.kind(tenant_nic.NetworkInterface)
    async with site.apinetlet():
        address = (await site.virtual_ip("front")).status.ip
        one, two = await site.fabric_interface("nic-1"), await site.fabric_interface("nic-2")
        await site.interface("vm1", provider_id(one), virtual_ip="front")
        await site.claimed("nic-1", address, by="vm1")
        await site.interface("vm2", provider_id(two), virtual_ip="front")
        message = await site.reason(tenant_nic.NetworkInterface, "vm2", "VirtualIPInUse", "VirtualIPBound")
        assert '"vm1"' in message
        await nics.delete(TENANT, "vm1")
        await site.claimed("nic-2", address, by="vm2")


async def test_two_interfaces_that_name_one_counterpart(site: Site) -> None:
    nics = site.client.kind(tenant_nic.NetworkInterface)
    async with site.apinetlet():
        made = await site.fabric_interface("nic-1")
        await site.interface("vm1", provider_id(made))
        await site.claimed("nic-1", by="vm1")
        await site.interface("vm2", provider_id(made))
        assert "team-a/vm1" in await site.reason(tenant_nic.NetworkInterface, "vm2", "ClaimedByAnother")
        await nics.delete(TENANT, "vm1")
        await site.claimed("nic-1", by="vm2")
        await eventually(
            site.client, tenant_nic.NetworkInterface, TENANT, "vm2", lambda nic: nic.status.state == NIC_AVAILABLE
        )


async def test_what_went_without_finalizer_while_nobody_looked_is_cleaned_up(site: Site) -> None:
    """Objects are removed behind the bridge's back; those of the same name that follow are served."""
    nics, vips = site.client.kind(tenant_nic.NetworkInterface), site.client.kind(virtual_ip_pb2.VirtualIP)
    networks = site.client.kind(tenant_network.Network)
    async with site.apinetlet():
        first_network = await site.network("blue")
        first_vip = await site.virtual_ip("front")
        made = await site.fabric_interface("nic-1")
        first = await site.interface("vm1", provider_id(made), virtual_ip="front", prefixes=("10.9.0.0/24",))
        await site.claimed("nic-1", first_vip.status.ip, by="vm1")
    for kind, name, finalizer in (
        (nics, "vm1", "networkinterface"),
        (vips, "front", "virtualip"),
        (networks, "blue", "network"),
    ):
        await kind.remove_finalizer(TENANT, name, f"apinet.ironcore.dev/{finalizer}")
        await kind.delete(TENANT, name)
        assert await kind.find(TENANT, name) is None
    await networks.create(tenant_network.Network(metadata=meta_pb2.ObjectMeta(name="blue", namespace=TENANT)))
    await site.create_virtual_ip("front")
    second = await site.interface("vm1", provider_id(made), virtual_ip="front", prefixes=("10.9.0.0/24",))
    async with site.apinetlet():
        vip = await eventually(site.client, virtual_ip_pb2.VirtualIP, TENANT, "front", lambda vip: bool(vip.status.ip))
        target = await eventually(
            site.client,
            apinet_nic.NetworkInterface,
            FABRIC,
            "nic-1",
            lambda nic: [entry.ip for entry in nic.spec.public_ips] == [vip.status.ip],
        )
        assert second.metadata.uid != first.metadata.uid
        assert target.metadata.labels["apinetlet.ironcore.dev/networkinterface-uid"] == second.metadata.uid
        await gone(site.client, ip_pb2.IP, FABRIC, first_vip.metadata.uid)
        await gone(site.client, apinet_network.Network, FABRIC, first_network.metadata.uid)
        assert [record.metadata.name for record in await site.client.kind(ip_address_pb2.IPAddress).list()] == [
            vip.status.ip
        ]


async def test_what_somebody_else_manages_is_left_alone(site: Site) -> None:
    vips = site.client.kind(virtual_ip_pb2.VirtualIP)
    foreign = virtual_ip("foreign")
    foreign.metadata.annotations["common.ironcore.dev/managed-by"] = "somebody"
    await vips.create(foreign)
    async with site.apinetlet():
        mine = await site.virtual_ip("mine")
        untouched = await vips.get(TENANT, "foreign")
        assert not untouched.metadata.finalizers and not untouched.HasField("status")
        # One that was ours before is let go nevertheless.
        mine.metadata.annotations["common.ironcore.dev/managed-by"] = "somebody"
        await vips.update(mine)
        await vips.delete(TENANT, "mine")
        await gone(site.client, virtual_ip_pb2.VirtualIP, TENANT, "mine")
        await wait_empty(site.store, "/claims/")


async def test_an_interface_gets_the_ranges_that_were_allocated_for_it(site: Site) -> None:
    """Not those of a Prefix that merely has the derived name."""
    async with site.apinetlet():
        made = await site.fabric_interface("nic-1")
        nic = await site.interface("vm1", provider_id(made), ephemeral_prefixes=2)
        await site.allocated_prefix("vm1-pf-0", "10.7.0.0/28")
        await site.allocated_prefix("vm1-pf-1", "10.8.0.0/28", owner=nic)
        target = await eventually(
            site.client, apinet_nic.NetworkInterface, FABRIC, "nic-1", lambda nic: bool(nic.spec.prefixes)
        )
        assert list(target.spec.prefixes) == ["10.8.0.0/28"]
