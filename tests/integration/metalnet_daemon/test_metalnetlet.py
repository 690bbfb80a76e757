"""The mirror of a partition between the real apinet and metalnet groups of one server on etcd."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.apinet.v1 import node_pb2 as apinet_node
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.metalnet.v1 import network_interface_pb2 as metalnet_nic
from ironcore.metalnet.v1 import network_pb2 as metalnet_network
from ironcore.metalnet.v1 import node_pb2 as metalnet_node

from apimachinery.client import Client
from apimachinery.conditions import is_true
from apimachinery.controller import ControllerContext, run_controllers
from apimachinery.endpoints import Endpoint
from apimachinery.informer import Informer
from apimachinery.resource import GroupContext
from apimachinery.server_app import ApiServer
from apimachinery.store import Store
from ironcore_net_server.controllers import nodes
from ironcore_net_server.groups import apinet
from metalnet_daemon.groups import metalnet
from metalnet_daemon.metalnetlet import PartitionConfig, build
from tests.support.etcd import etcd_cluster, etcd_store

M = TypeVar("M", bound=Message)
SECONDS = 20.0
FINALIZER = "partition.metalnetlet.apinet.ironcore.dev/p1"
NODE_FINALIZER = "apinet.ironcore.dev/node"


@dataclass
class Site:
    client: Client
    store: Store

    async def eventually(
        self, kind: type[M], namespace: str, name: str, condition: Callable[[M | None], bool]
    ) -> M | None:
        """The object once the condition holds, watched through the API."""
        changed = asyncio.Event()
        async with Informer(self.client.kind(kind)) as informer:
            await informer.wait_synced()
            informer.add_handler(lambda _: changed.set())
            async with asyncio.timeout(SECONDS):
                while not condition(found := informer.get(namespace, name)):
                    changed.clear()
                    await changed.wait()
        return found

    async def get(self, kind: type[M], namespace: str, name: str, condition: Callable[[M], bool] = lambda _: True) -> M:
        """Like `eventually`, of an object that exists."""
        found = await self.eventually(kind, namespace, name, lambda obj: obj is not None and condition(obj))
        assert found is not None
        return found

    async def gone(self, kind: type[M], namespace: str, name: str) -> None:
        await self.eventually(kind, namespace, name, lambda obj: obj is None)

    @contextlib.asynccontextmanager
    async def metalnetlet(self) -> AsyncIterator[None]:
        context = ControllerContext(self.client, {}, "test")
        config = PartitionConfig("p1", node_labels={"zone": "z1"}, heartbeat_ttl=2)
        task = asyncio.create_task(run_controllers(build(config, context, context)))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def beat(self, node: str) -> None:
        request = meta_pb2.HeartbeatRequest(name=node, ttl_seconds=2, identity="test")
        await self.client.kind(metalnet_node.Node).invoke("Heartbeat", request, meta_pb2.HeartbeatResponse)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(etcd_cluster())
        store = await stack.enter_async_context(etcd_store(cluster))
        context = GroupContext(store, {"public_prefixes": ("192.0.2.0/24",)})
        server = ApiServer(store, [apinet(context), metalnet(context)])
        address = Endpoint(path=str(tmp_path / "api.sock"))
        await server.start([address])
        stack.push_async_callback(server.stop, 0)
        await asyncio.wait_for(server.wait_synced(), SECONDS)
        client = await stack.enter_async_context(Client(str(address)))
        await stack.enter_async_context(_liveness(client, store))
        yield Site(client, store)


@contextlib.asynccontextmanager
async def _liveness(client: Client, store: Store) -> AsyncIterator[None]:
    context = ControllerContext(client, {"groups": ("apinet", "metalnet")}, "test", store=store)
    task = asyncio.create_task(run_controllers(nodes(context)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def register(site: Site, name: str) -> None:
    await site.client.kind(metalnet_node.Node).create(metalnet_node.Node(metadata=meta_pb2.ObjectMeta(name=name)))


async def create_network(site: Site, name: str, *peers: str) -> apinet_network.Network:
    spec = apinet_network.NetworkSpec(peerings=[apinet_network.NetworkPeering(name=f"to-{p}", id=p) for p in peers])
    return await site.client.kind(apinet_network.Network).create(
        apinet_network.Network(metadata=meta_pb2.ObjectMeta(name=name), spec=spec)
    )


def interface(name: str, network: str, node: str = "p1.h1") -> apinet_nic.NetworkInterface:
    spec = apinet_nic.NetworkInterfaceSpec(
        node_ref=meta_pb2.LocalObjectReference(name=node),
        network_ref=meta_pb2.LocalObjectReference(name=network),
        ips=["10.0.0.1", "fd00::1"],
        hostname="web",
    )
    return apinet_nic.NetworkInterface(metadata=meta_pb2.ObjectMeta(name=name), spec=spec)


async def test_nodes_appear_live_and_go_with_their_metalnet_node(site: Site) -> None:
    async with site.metalnetlet():
        await register(site, "h1")
        mirror = await site.get(apinet_node.Node, "", "p1.h1")
        assert mirror.metadata.labels == {"topology.core.apinet.ironcore.dev/partition": "p1", "zone": "z1"}
        await site.beat("h1")
        await site.get(apinet_node.Node, "", "p1.h1", lambda node: is_true(node.status.conditions, "Ready"))
        # No beat any more: first the node here, then its mirror there is lost.
        await site.get(apinet_node.Node, "", "p1.h1", lambda node: not is_true(node.status.conditions, "Ready"))
        source = await site.client.kind(metalnet_node.Node).get("", "h1")
        assert list(source.metadata.finalizers) == [NODE_FINALIZER]
        await site.client.kind(metalnet_node.Node).delete("", "h1")
        await site.gone(metalnet_node.Node, "", "h1")
        await site.gone(apinet_node.Node, "", "p1.h1")


async def test_a_mirror_node_that_somebody_deletes_comes_back(site: Site) -> None:
    async with site.metalnetlet():
        await register(site, "h1")
        first = await site.get(apinet_node.Node, "", "p1.h1")
        await site.client.kind(apinet_node.Node).delete("", "p1.h1")
        await site.get(apinet_node.Node, "", "p1.h1", lambda node: node.metadata.uid != first.metadata.uid)


async def test_networks_go_down_and_peerings_come_up(site: Site) -> None:
    async with site.metalnetlet():
        blue = await create_network(site, "blue")
        target = await site.get(metalnet_network.Network, "default", blue.metadata.uid)
        assert str(target.spec.id) == blue.spec.id
        red = await create_network(site, "red", blue.spec.id)

        def state(expected: int) -> Callable[[apinet_network.Network], bool]:
            return lambda network: [p.state for p in network.status.peerings["p1"].items] == [expected]

        red = await site.get(apinet_network.Network, "default", "red", state(types_pb2.PEERING_STATE_PENDING))
        assert FINALIZER in red.metadata.finalizers
        blue = await site.client.kind(apinet_network.Network).get("default", "blue")
        blue.spec.peerings.add(name="to-red", id=red.spec.id)
        await site.client.kind(apinet_network.Network).update(blue)
        for name in ("red", "blue"):
            await site.get(apinet_network.Network, "default", name, state(types_pb2.PEERING_STATE_READY))

        await site.client.kind(apinet_network.Network).delete("default", "blue")
        await site.gone(apinet_network.Network, "default", "blue")
        await site.gone(metalnet_network.Network, "default", blue.metadata.uid)
        await site.get(apinet_network.Network, "default", "red", state(types_pb2.PEERING_STATE_PENDING))


async def test_interfaces_go_down_and_their_state_comes_up(site: Site) -> None:
    nics = site.client.kind(metalnet_nic.NetworkInterface)
    async with site.metalnetlet():
        # In the order in which nothing is there yet.
        source = await site.client.kind(apinet_nic.NetworkInterface).create(interface("web", "blue"))
        uid = source.metadata.uid

        def waits_for(reason: str) -> Callable[[apinet_nic.NetworkInterface], bool]:
            return lambda nic: [condition.reason for condition in nic.status.conditions] == [reason]

        await site.get(apinet_nic.NetworkInterface, "default", "web", waits_for("NodeNotFound"))
        await register(site, "h1")
        await site.get(apinet_nic.NetworkInterface, "default", "web", waits_for("NetworkNotFound"))
        network = await create_network(site, "blue")
        target = await site.get(metalnet_nic.NetworkInterface, "default", uid)
        assert (target.spec.network_ref.name, target.spec.node_name) == (network.metadata.uid, "h1")
        assert list(target.spec.ips) == ["10.0.0.1", "fd00::1"]

        # What the node's daemon does.
        await nics.add_finalizer("default", uid, "networking.metalnet.ironcore.dev/networkInterface")
        target = await nics.get("default", uid)
        target.status.state = types_pb2.REALIZATION_STATE_READY
        target.status.tap_device.name = "dtapvf_0"
        target.status.observed_generation = target.metadata.generation
        await nics.update_status(target)
        ready = await site.get(
            apinet_nic.NetworkInterface,
            "default",
            "web",
            lambda nic: nic.status.state == types_pb2.REALIZATION_STATE_READY,
        )
        assert ready.status.tap_device.name == "dtapvf_0"
        assert ready.status.observed_generation == ready.metadata.generation

        current = await site.client.kind(apinet_nic.NetworkInterface).get("default", "web")
        current.spec.prefixes.append("10.9.0.0/16")
        await site.client.kind(apinet_nic.NetworkInterface).update(current)
        await site.get(
            metalnet_nic.NetworkInterface, "default", uid, lambda nic: list(nic.spec.prefixes) == ["10.9.0.0/16"]
        )

        await site.client.kind(apinet_nic.NetworkInterface).delete("default", "web")
        deleting = await site.get(
            metalnet_nic.NetworkInterface, "default", uid, lambda nic: nic.metadata.HasField("deletion_timestamp")
        )
        # The apinet interface waits for the node.
        waiting = await site.client.kind(apinet_nic.NetworkInterface).get("default", "web")
        assert FINALIZER in waiting.metadata.finalizers
        await nics.remove_finalizer("default", uid, deleting.metadata.finalizers[0])
        await site.gone(apinet_nic.NetworkInterface, "default", "web")


async def test_what_changed_while_the_metalnetlet_was_down_is_caught_up(site: Site) -> None:
    sources = site.client.kind(apinet_nic.NetworkInterface)
    async with site.metalnetlet():
        await register(site, "h1")
        await create_network(site, "blue")
        first = await sources.create(interface("web", "blue"))
        await site.get(metalnet_nic.NetworkInterface, "default", first.metadata.uid)
    # The source goes without its finalizer and comes again under the same name.
    await sources.remove_finalizer("default", "web", FINALIZER)
    await sources.delete("default", "web")
    await site.gone(apinet_nic.NetworkInterface, "default", "web")
    second = await sources.create(interface("web", "blue"))
    async with site.metalnetlet():
        await site.gone(metalnet_nic.NetworkInterface, "default", first.metadata.uid)
        await site.get(metalnet_nic.NetworkInterface, "default", second.metadata.uid)


async def test_interfaces_of_other_partitions_are_left_alone(site: Site) -> None:
    async with site.metalnetlet():
        await register(site, "h1")
        await create_network(site, "blue")
        other = await site.client.kind(apinet_nic.NetworkInterface).create(interface("other", "blue", node="p2.h1"))
        mine = await site.client.kind(apinet_nic.NetworkInterface).create(interface("mine", "blue"))
        await site.get(metalnet_nic.NetworkInterface, "default", mine.metadata.uid)
        assert await site.client.kind(metalnet_nic.NetworkInterface).find("default", other.metadata.uid) is None
        untouched = await site.client.kind(apinet_nic.NetworkInterface).get("default", "other")
        assert not untouched.metadata.finalizers
