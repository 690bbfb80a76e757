"""Garbage collection with real servers: background, foreground, orphan; and what must never be deleted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message
from ironcore.apinet.v1 import node_pb2
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.networking.v1 import network_pb2, virtual_ip_pb2

from apimachinery.client import Client, KindClient
from apimachinery.controller import ControllerContext, run_controllers
from apimachinery.finalizers import FOREGROUND_DELETION, ORPHAN_DEPENDENTS
from apimachinery.gc import GarbageCollector
from apimachinery.scheme import Scheme, kind_info, metadata_of
from tests.support.api import api_server
from tests.support.etcd import etcd_cluster, etcd_store

Network, VirtualIP, Node = network_pb2.Network, virtual_ip_pb2.VirtualIP, node_pb2.Node
FOREGROUND, ORPHAN = meta_pb2.PROPAGATION_POLICY_FOREGROUND, meta_pb2.PROPAGATION_POLICY_ORPHAN
TIMEOUT = 20.0
M = TypeVar("M", bound=Message)


@dataclass
class World:
    """A server, and a collector that is started when a test wants it."""

    client: Client

    def __post_init__(self) -> None:
        self.networks = self.client.kind(Network)
        self.vips = self.client.kind(VirtualIP)
        self.nodes = self.client.kind(Node)
        self.stack = contextlib.AsyncExitStack()

    async def collect(self) -> GarbageCollector:
        """Starts the collector; returns when it is synced."""
        context = ControllerContext(self.client, {}, "test")
        collector = GarbageCollector(context, Scheme.from_messages([Network, VirtualIP, Node]))
        synced = asyncio.Event()
        task = asyncio.create_task(run_controllers([collector.controller], on_synced=synced.set))

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.stack.push_async_callback(end)
        async with asyncio.timeout(TIMEOUT):
            await synced.wait()
        return collector

    async def settled(self, collector: GarbageCollector) -> None:
        """The collector has seen everything that was written, and has nothing to do."""
        newest = (await self.networks.list()).resource_version
        async with asyncio.timeout(TIMEOUT):
            for informer in collector.controller.informers:
                await informer.wait_revision(newest)
            await collector.controller.wait_idle()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with (
        etcd_cluster() as etcd,
        etcd_store(etcd) as store,
        api_server(store, Network, VirtualIP, Node) as (_, client),
    ):
        world = World(client)
        async with world.stack:
            yield world


def reference(owner: Message, *, block: bool = False, **changes: str) -> meta_pb2.OwnerReference:
    info, meta = kind_info(owner), metadata_of(owner)
    made = meta_pb2.OwnerReference(
        api_version=info.api_version, kind=info.kind, name=meta.name, uid=meta.uid, block_owner_deletion=block
    )
    for field, value in changes.items():
        setattr(made, field, value)
    return made


def network(name: str, *owners: meta_pb2.OwnerReference, namespace: str = "", finalizer: str = "") -> Network:
    meta = meta_pb2.ObjectMeta(name=name, namespace=namespace, owner_references=owners)
    if finalizer:
        meta.finalizers.append(finalizer)
    return Network(metadata=meta)


def vip(name: str, *owners: meta_pb2.OwnerReference, finalizer: str = "") -> VirtualIP:
    meta = meta_pb2.ObjectMeta(name=name, owner_references=owners)
    if finalizer:
        meta.finalizers.append(finalizer)
    made = VirtualIP(metadata=meta)
    made.spec.type = types_pb2.IP_TYPE_PUBLIC
    made.spec.ip_family = types_pb2.IP_FAMILY_IPV4
    return made


async def until(read: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(TIMEOUT):
        while True:
            if holds(value := await read()):
                return value
            await asyncio.sleep(0.01)


async def gone(kind: KindClient[M], name: str) -> None:
    await until(lambda: kind.find("", name), lambda found: found is None)


def owner_names(obj: Message) -> list[str]:
    return [owner.name for owner in metadata_of(obj).owner_references]


async def test_dependents_of_dependents_follow_their_owner(world: World) -> None:
    await world.collect()
    top = await world.networks.create(network("top"))
    middle = await world.networks.create(network("middle", reference(top)))
    await world.vips.create(vip("leaf", reference(middle)))
    await world.networks.create(network("other"))
    await world.networks.delete("", "top")
    await gone(world.networks, "middle")
    await gone(world.vips, "leaf")
    assert await world.networks.find("", "other") is not None


async def test_what_was_orphaned_while_no_collector_ran_is_found(world: World) -> None:
    top = await world.networks.create(network("top"))
    await world.vips.create(vip("leaf", reference(top)))
    await world.vips.create(vip("never", reference(top, uid="00000000-0000-4000-8000-000000000000")))
    await world.networks.delete("", "top")
    await world.networks.create(network("top"))  # another incarnation owns nothing
    await world.collect()
    await gone(world.vips, "leaf")
    await gone(world.vips, "never")
    assert await world.networks.find("", "top") is not None


async def test_one_living_owner_keeps_the_dependent_and_loses_the_dead_reference(world: World) -> None:
    await world.collect()
    first, second = await world.networks.create(network("first")), await world.networks.create(network("second"))
    await world.vips.create(vip("leaf", reference(first), reference(second)))
    await world.networks.delete("", "first")
    left = await until(lambda: world.vips.get("", "leaf"), lambda found: len(owner_names(found)) == 1)
    assert owner_names(left) == ["second"]
    await world.networks.delete("", "second")
    await gone(world.vips, "leaf")


async def test_foreground_waits_for_blocking_dependents_only(world: World) -> None:
    await world.collect()
    top = await world.networks.create(network("top"))
    middle = await world.networks.create(network("middle", reference(top, block=True)))
    await world.vips.create(vip("leaf", reference(middle, block=True), finalizer="test.dev/work"))
    await world.vips.create(vip("free", reference(top), finalizer="test.dev/work"))
    await world.networks.delete("", "top", propagation=FOREGROUND)
    # All are asked to go, and the chain waits for the leaf.
    await until(lambda: world.vips.get("", "leaf"), lambda found: found.metadata.HasField("deletion_timestamp"))
    for name in ("top", "middle"):
        waiting = await world.networks.get("", name)
        assert list(waiting.metadata.finalizers) == [FOREGROUND_DELETION]
    await world.vips.remove_finalizer("", "leaf", "test.dev/work")
    await gone(world.networks, "top")
    assert await world.networks.find("", "middle") is None
    assert await world.vips.find("", "leaf") is None
    # The dependent that does not block still does its work.
    free = await world.vips.get("", "free")
    assert free.metadata.HasField("deletion_timestamp")


async def test_orphans_stay_without_the_reference(world: World) -> None:
    await world.collect()
    top = await world.networks.create(network("top"))
    await asyncio.gather(*(world.vips.create(vip(f"leaf{number}", reference(top))) for number in range(20)))
    last = await world.networks.delete("", "top", propagation=ORPHAN)
    assert list(last.metadata.finalizers) == [ORPHAN_DEPENDENTS]
    await gone(world.networks, "top")
    leaves = await world.vips.list()
    assert len(leaves) == 20
    assert all(not owner_names(leaf) and not leaf.metadata.HasField("deletion_timestamp") for leaf in leaves)


async def test_references_that_cannot_be_followed_delete_nothing(world: World) -> None:
    owner = await world.networks.create(network("owner"))
    await world.vips.create(vip("unknown-kind", reference(owner, api_version="other.dev/v1", kind="Thing")))
    node = Node(metadata=meta_pb2.ObjectMeta(name="node", owner_references=[reference(owner)]))
    await world.nodes.create(node)
    collector = await world.collect()
    await world.networks.delete("", "owner")
    await world.settled(collector)
    assert await world.vips.find("", "unknown-kind") is not None
    assert await world.nodes.find("", "node") is not None


async def test_an_owner_of_another_namespace_does_not_count(world: World) -> None:
    owner = await world.networks.create(network("owner", namespace="other"))
    # Same name in the own namespace, but another uid.
    await world.networks.create(network("owner"))
    await world.vips.create(vip("leaf", reference(owner)))
    await world.collect()
    await gone(world.vips, "leaf")
    assert await world.networks.find("other", "owner") is not None


async def test_a_cluster_scoped_owner_owns_in_every_namespace(world: World) -> None:
    collector = await world.collect()
    node = await world.nodes.create(Node(metadata=meta_pb2.ObjectMeta(name="node")))
    await world.networks.create(network("a", reference(node), namespace="one"))
    await world.networks.create(network("a", reference(node), namespace="two"))
    await world.settled(collector)
    assert len(await world.networks.list()) == 2
    await world.nodes.delete("", "node")
    await until(world.networks.list, lambda found: not found)
