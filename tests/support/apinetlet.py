"""A tenant, a machine provider and a node around the tenant bridge, as tests play them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.ipam.v1 import prefix_pb2
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.networking.v1 import network_interface_pb2 as tenant_nic
from ironcore.networking.v1 import network_pb2 as tenant_network
from ironcore.networking.v1 import sources_pb2, virtual_ip_pb2

from apimachinery.client import Client
from apimachinery.conditions import find_condition
from apimachinery.controller import ControllerContext, run_controllers
from apimachinery.scheme import kind_info
from apimachinery.store import Store
from ironcore_net_server.apinetlet import controllers
from tests.support.apinet import coordinator
from tests.support.waiting import eventually

TENANT, FABRIC = "team-a", "fabric"
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

    def context(self) -> ControllerContext:
        return ControllerContext(self.client, {"api_net_namespace": FABRIC}, "test")

    @contextlib.asynccontextmanager
    async def apinetlet(self) -> AsyncIterator[None]:
        task = asyncio.create_task(run_controllers(controllers(self.context())))
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
            self.client,
            tenant_network.Network,
            TENANT,
            name,
            lambda found: found.status.state == tenant_network.NETWORK_STATE_AVAILABLE,
        )

    async def create_virtual_ip(self, name: str) -> virtual_ip_pb2.VirtualIP:
        return await self.client.kind(virtual_ip_pb2.VirtualIP).create(virtual_ip(name))

    async def virtual_ip(self, name: str) -> virtual_ip_pb2.VirtualIP:
        await self.create_virtual_ip(name)
        return await eventually(
            self.client, virtual_ip_pb2.VirtualIP, TENANT, name, lambda found: bool(found.status.ip)
        )

    async def interface(
        self,
        name: str,
        provider_id: str = "",
        virtual_ip: str = "",
        prefixes: tuple[str, ...] = (),
        ephemeral_prefixes: int = 0,
    ) -> tenant_nic.NetworkInterface:
        nic = tenant_nic.NetworkInterface(metadata=meta_pb2.ObjectMeta(name=name, namespace=TENANT))
        nic.spec.network_ref.name = "blue"
        nic.spec.ips.add(value="10.0.0.1")
        nic.spec.provider_id = provider_id
        nic.spec.prefixes.extend(sources_pb2.PrefixSource(value=prefix) for prefix in prefixes)
        for _ in range(ephemeral_prefixes):
            spec = nic.spec.prefixes.add().ephemeral.prefix_template.spec
            spec.ip_family, spec.prefix_length, spec.parent_ref.name = types_pb2.IP_FAMILY_IPV4, 28, "pool"
        if virtual_ip:
            nic.spec.virtual_ip.virtual_ip_ref.name = virtual_ip
        return await self.client.kind(tenant_nic.NetworkInterface).create(nic)

    async def allocated_prefix(self, name: str, text: str, owner: tenant_nic.NetworkInterface | None = None) -> None:
        prefixes = self.client.kind(prefix_pb2.Prefix)
        prefix = prefix_pb2.Prefix(metadata=meta_pb2.ObjectMeta(name=name, namespace=TENANT))
        if owner is not None:
            info, meta = kind_info(owner), owner.metadata
            prefix.metadata.owner_references.add(
                api_version=info.api_version, kind=info.kind, name=meta.name, uid=meta.uid, controller=True
            )
        prefix.spec.prefix = text
        prefix = await prefixes.create(prefix)
        prefix.status.phase = prefix_pb2.PREFIX_PHASE_ALLOCATED
        await prefixes.update_status(prefix)

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


def virtual_ip(name: str) -> virtual_ip_pb2.VirtualIP:
    return virtual_ip_pb2.VirtualIP(
        metadata=meta_pb2.ObjectMeta(name=name, namespace=TENANT),
        spec=virtual_ip_pb2.VirtualIPSpec(type=types_pb2.IP_TYPE_PUBLIC, ip_family=types_pb2.IP_FAMILY_IPV4),
    )


def provider_id(nic: apinet_nic.NetworkInterface) -> str:
    meta = nic.metadata
    return f"ironcore-net://{meta.namespace}/{meta.name}/{nic.spec.node_ref.name}/{meta.uid}"


@contextlib.asynccontextmanager
async def tenant_site(store: Store) -> AsyncIterator[Site]:
    """A site on a server with the real groups; the bridge runs only where a test starts it."""
    async with coordinator(store, OPTIONS) as client:
        yield Site(client, store)
