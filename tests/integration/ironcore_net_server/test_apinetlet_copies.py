"""The tenant bridge with local copies that are behind the world, as they are for a moment after every change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.meta.v1 import types_pb2
from ironcore.networking.v1 import network_interface_pb2 as tenant_nic
from ironcore.networking.v1 import network_pb2 as tenant_network

from apimachinery.controller import Controller
from apimachinery.store import Store
from ironcore_net_server.apinetlet import controllers
from tests.support.apinetlet import FABRIC, TENANT, Site, provider_id, tenant_site
from tests.support.waiting import eventually

NIC_AVAILABLE = tenant_nic.NETWORK_INTERFACE_STATE_AVAILABLE


@pytest.fixture
async def site(store: Store) -> AsyncIterator[Site]:
    async with tenant_site(store) as site:
        yield site


@contextlib.asynccontextmanager
async def blind(site: Site) -> AsyncIterator[Sequence[Controller]]:
    """The bridge with local copies that stay as they are now, while the world changes."""
    bridge = controllers(site.context())
    async with contextlib.AsyncExitStack() as stack:
        for informer in {informer for controller in bridge for informer in controller.informers}:
            await stack.enter_async_context(informer)
            await informer.wait_synced()
    yield bridge


async def run_once(bridge: Sequence[Controller]) -> None:
    """Runs every key that waits, and no key that is put off."""
    tasks = [asyncio.create_task(controller.run()) for controller in bridge]
    try:
        async with asyncio.timeout(30):
            for controller in bridge:
                await controller.wait_idle()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_addresses_that_the_local_copy_does_not_show_are_released(site: Site) -> None:
    """Without its origin nobody would look at the interface again, and the address could never be deleted."""
    nics = site.client.kind(tenant_nic.NetworkInterface)
    async with site.apinetlet():
        address = (await site.virtual_ip("front")).status.ip
        made = await site.fabric_interface("nic-1")
        await site.interface("vm1", provider_id(made))
        await eventually(
            site.client, tenant_nic.NetworkInterface, TENANT, "vm1", lambda nic: nic.status.state == NIC_AVAILABLE
        )
    await nics.delete(TENANT, "vm1")
    async with blind(site) as bridge:
        request = apinet_nic.SetPublicIPsRequest(namespace=FABRIC, name="nic-1")
        request.public_ips.add(name=address, ip_family=types_pb2.IP_FAMILY_IPV4, ip=address)
        await site.client.kind(apinet_nic.NetworkInterface).invoke("SetPublicIPs", request, apinet_nic.NetworkInterface)
        await run_once(bridge)
    assert await nics.find(TENANT, "vm1") is None
    free = await site.client.kind(apinet_nic.NetworkInterface).get(FABRIC, "nic-1")
    assert not free.metadata.labels and not free.spec.public_ips


async def test_of_two_claims_at_the_same_time_one_wins(site: Site) -> None:
    made = await site.fabric_interface("nic-1")
    for name in ("vm1", "vm2"):
        await site.interface(name, provider_id(made), prefixes=(f"10.9.{name[-1]}.0/24",))
    async with blind(site) as bridge:
        await run_once(bridge)
    owner = await site.client.kind(apinet_nic.NetworkInterface).get(FABRIC, "nic-1")
    winner = owner.metadata.annotations["apinetlet.ironcore.dev/networkinterface-name"]
    assert list(owner.spec.prefixes) == [f"10.9.{winner[-1]}.0/24"]
    states = {nic.metadata.name: nic.status.state for nic in await site.client.kind(tenant_nic.NetworkInterface).list()}
    assert [name for name, state in states.items() if state == NIC_AVAILABLE] == [winner]


async def test_what_is_as_wanted_causes_no_write(site: Site) -> None:
    async with site.apinetlet():
        green = await site.network("green")
        blue = await site.network("blue", "lost", "green")
        blue.spec.incoming_peerings.add(name="green", uid=green.metadata.uid)
        await site.client.kind(tenant_network.Network).update(blue)
        await eventually(
            site.client, apinet_network.Network, FABRIC, blue.metadata.uid, lambda found: bool(found.spec.peerings)
        )
        address = (await site.virtual_ip("front")).status.ip
        made = await site.fabric_interface("nic-1", address)
        await site.interface("vm1", provider_id(made), virtual_ip="front", prefixes=("10.9.0.0/24",))
        await eventually(
            site.client, tenant_nic.NetworkInterface, TENANT, "vm1", lambda nic: nic.status.state == NIC_AVAILABLE
        )
    # A run that was cut off may have left something to say.
    async with blind(site) as bridge:
        await run_once(bridge)
    revision = await site.store.current_revision()
    async with blind(site) as bridge:
        await run_once(bridge)
    assert await site.store.current_revision() == revision
