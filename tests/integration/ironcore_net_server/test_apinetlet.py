"""The tenant bridge between the real networking, ipam and apinet groups on etcd; the machine provider is the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from ironcore.apinet.v1 import ip_address_pb2, ip_pb2, network_id_pb2
from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.ipam.v1 import prefix_pb2
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.networking.v1 import network_interface_pb2 as tenant_nic
from ironcore.networking.v1 import network_pb2 as tenant_network
from ironcore.networking.v1 import sources_pb2, virtual_ip_pb2

from apimachinery.client import Client
from apimachinery.conditions import find_condition, is_true
from apimachinery.controller import ControllerContext, run_controllers
from apimachinery.store import Store
from ironcore_net_server.apinetlet import controllers
from tests.support.apinet import coordinator, wait_empty
from tests.support.waiting import eventually, gone

TENANT, FABRIC = "team-a", "fabric"
AVAILABLE = tenant_network.NETWORK_STATE_AVAILABLE
NIC_AVAILABLE = tenant_nic.NETWORK_INTERFACE_STATE_AVAILABLE
NIC_PENDING = tenant_nic.NETWORK_INTERFACE_STATE_PENDING
# Two addresses and three network ids: what is not given back is missed soon.
OPTIONS: dict[str, object] = {
    "public_prefixes": ["203.0.113.0/31"],
    "min_vni": 300,
    "max_vni": 302,
    "quarantine_seconds": 0,
}


@dataclass
class Site:
    client: Client
    store: Store

    @contextlib.asynccontextmanager
    async def apinetlet(self) -> AsyncIterator[None]:
        context = ControllerContext(self.client, {"api_net_namespace": FABRIC}, "test")
        task = asyncio.create_task(run_controllers(controllers(context)))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # What a tenant does

    async def network(self, name: str, *peers: str) -> tenant_network.Network:
        network = tenant_network.Network(metadata=meta_pb2.ObjectMeta(name=name, namespace=TENANT))
        for peer in peers:
            network.spec.peerings.add(name=f"to-{peer}").network_ref.name = peer
        await self.client.kind(tenant_network.Network).create(network)
        return await eventually(
            self.client, tenant_network.Network, TENANT, name, lambda found: found.status.state == AVAILABLE
        )

    async def create_virtual_ip(self, name: str) -> virtual_ip_pb2.VirtualIP:
        return await self.client.kind(virtual_ip_pb2.VirtualIP).create(virtual_ip(name))

    async def virtual_ip(self, name: str) -> virtual_ip_pb2.VirtualIP:
        await self.create_virtual_ip(name)
        return await eventually(
            self.client, virtual_ip_pb2.VirtualIP, TENANT, name, lambda found: bool(found.status.ip)
        )

    async def interface(
        self, name: str, provider_id: str = "", virtual_ip: str = "", prefixes: tuple[str, ...] = ()
    ) -> tenant_nic.NetworkInterface:
        nic = tenant_nic.NetworkInterface(metadata=meta_pb2.ObjectMeta(name=name, namespace=TENANT))
        nic.spec.network_ref.name = "blue"
        nic.spec.ips.add(value="10.0.0.1")
        nic.spec.provider_id = provider_id
        nic.spec.prefixes.extend(sources_pb2.PrefixSource(value=prefix) for prefix in prefixes)
        if virtual_ip:
            nic.spec.virtual_ip.virtual_ip_ref.name = virtual_ip
        return await self.client.kind(tenant_nic.NetworkInterface).create(nic)

    # What a machine provider and a node do

    async def fabric_interface(self, name: str, *public_ips: str, ready: bool = True) -> apinet_nic.NetworkInterface:
        nics = self.client.kind(apinet_nic.NetworkInterface)
        nic = apinet_nic.NetworkInterface(metadata=meta_pb2.ObjectMeta(name=name, namespace=FABRIC))
        nic.spec.node_ref.name, nic.spec.network_ref.name = "p1.h1", "blue"
        nic.spec.ips.append("10.0.0.1")
        nic = await nics.create(nic)
        return await self.report(nic, *public_ips) if ready else nic

    async def report(self, nic: apinet_nic.NetworkInterface, *public_ips: str) -> apinet_nic.NetworkInterface:
        told = apinet_nic.NetworkInterface(metadata=meta_pb2.ObjectMeta(name=nic.metadata.name, namespace=FABRIC))
        told.status.state = types_pb2.REALIZATION_STATE_READY
        told.status.public_ips.extend(public_ips)
        return await self.client.kind(apinet_nic.NetworkInterface).update_status(told)

    # What a test sees

    async def reason(
        self,
        kind: type[virtual_ip_pb2.VirtualIP | tenant_nic.NetworkInterface],
        name: str,
        reason: str,
        condition: str = "Ready",
    ) -> str:
        """Message of the condition once it has the reason."""

        def message(obj: virtual_ip_pb2.VirtualIP | tenant_nic.NetworkInterface) -> str:
            found = find_condition(obj.status.conditions, condition)
            return found.message if found is not None and found.reason == reason else ""

        return message(await eventually(self.client, kind, TENANT, name, lambda obj: bool(message(obj))))

    async def claimed(self, name: str, *public_ips: str, by: str) -> apinet_nic.NetworkInterface:
        """The fabric's interface once it is this tenant interface's ("": nobody's) and has these addresses."""
        return await eventually(
            self.client,
            apinet_nic.NetworkInterface,
            FABRIC,
            name,
            lambda nic: (
                nic.metadata.annotations.get("apinetlet.ironcore.dev/networkinterface-name", "") == by
                and [entry.ip for entry in nic.spec.public_ips] == list(public_ips)
            ),
        )


@pytest.fixture
async def site(store: Store) -> AsyncIterator[Site]:
    async with coordinator(store, OPTIONS) as client:
        yield Site(client, store)


def virtual_ip(name: str) -> virtual_ip_pb2.VirtualIP:
    return virtual_ip_pb2.VirtualIP(
        metadata=meta_pb2.ObjectMeta(name=name, namespace=TENANT),
        spec=virtual_ip_pb2.VirtualIPSpec(type=types_pb2.IP_TYPE_PUBLIC, ip_family=types_pb2.IP_FAMILY_IPV4),
    )


def provider_id(nic: apinet_nic.NetworkInterface) -> str:
    meta = nic.metadata
    return f"ironcore-net://{meta.namespace}/{meta.name}/{nic.spec.node_ref.name}/{meta.uid}"


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
    networks, prefixes = site.client.kind(tenant_network.Network), site.client.kind(prefix_pb2.Prefix)
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

        pool = prefix_pb2.Prefix(metadata=meta_pb2.ObjectMeta(name="pool", namespace=TENANT))
        pool.spec.prefix = "10.9.0.0/24"
        pool = await prefixes.create(pool)
        pool.status.phase = prefix_pb2.PREFIX_PHASE_ALLOCATED
        await prefixes.update_status(pool)
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
    second = await site.interface("vm1", provider_id(made), virtual_ip="front")
    async with site.apinetlet():
        vip = await eventually(site.client, virtual_ip_pb2.VirtualIP, TENANT, "front", lambda vip: bool(vip.status.ip))
        target = await eventually(
            site.client,
            apinet_nic.NetworkInterface,
            FABRIC,
            "nic-1",
            lambda nic: [entry.ip for entry in nic.spec.public_ips] == [vip.status.ip] and not nic.spec.prefixes,
        )
        assert target.metadata.labels["apinetlet.ironcore.dev/networkinterface-uid"] == second.metadata.uid
        assert second.metadata.uid != first.metadata.uid
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
