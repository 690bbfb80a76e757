"""The Watch verb through gRPC on a real etcd."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ironcore.apinet.v1 import network_interface_pb2
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_pb2

from apimachinery.client import KindClient
from apimachinery.store import Store
from apimachinery.watch_cache import CacheLimits
from tests.support.api import TIMEOUT, api_server, collect, names
from tests.support.etcd import EtcdCluster, etcd_cluster, etcd_store

Network = network_pb2.Network
NIC = network_interface_pb2.NetworkInterface


@pytest.fixture
async def cluster() -> AsyncIterator[EtcdCluster]:
    async with etcd_cluster() as running:
        yield running


@pytest.fixture
async def store(cluster: EtcdCluster) -> AsyncIterator[Store]:
    async with etcd_store(cluster) as opened:
        yield opened


def network(name: str, **labels: str) -> Network:
    return Network(metadata={"name": name, "labels": labels}, spec={})


async def relabel(networks: KindClient[Network], name: str, **labels: str) -> Network:
    obj = await networks.get("", name)
    obj.metadata.labels.clear()
    obj.metadata.labels.update(labels)
    return await networks.update(obj)


async def test_snapshot_then_synced_then_changes(store: Store) -> None:
    async with api_server(store, Network) as (_, client):
        networks = client.kind(Network)
        first = await networks.create(network("a"))
        async with contextlib.aclosing(networks.watch()) as watch:
            # The snapshot shows what its own client wrote just before.
            snapshot = await collect(watch, 2)
            assert snapshot == [("ADDED", first), ("SYNCED", snapshot[1][1])]
            assert snapshot[1][1] >= first.metadata.resource_version
            second = await networks.create(network("b"))
            changed = await relabel(networks, "b", x="y")
            last = await networks.delete("", "b")
            events = await collect(watch, 3)
            assert events[:2] == [("ADDED", second), ("MODIFIED", changed)]
            kind, gone = events[2]
            assert (kind, gone.metadata.name, dict(gone.metadata.labels)) == ("DELETED", "b", {"x": "y"})
            assert gone.metadata.resource_version == last.metadata.resource_version > changed.metadata.resource_version


async def test_what_begins_or_ceases_to_match(store: Store) -> None:
    async with api_server(store, Network) as (_, client):
        networks = client.kind(Network)
        async with contextlib.aclosing(networks.watch(labels={"team": "a"})) as watch:
            assert names(await collect(watch, 1)) == [("SYNCED", "")]
            await networks.create(network("n", team="b"))
            await relabel(networks, "n", team="a")
            await relabel(networks, "n", team="a", more="x")
            left = await relabel(networks, "n", team="b")
            await relabel(networks, "n", team="c")
            await relabel(networks, "n", team="a")
            await networks.delete("", "n")
            events = await collect(watch, 5)
            assert [kind for kind, _ in events] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
            assert events[2][1].metadata.labels["team"] == "a"
            assert events[2][1].metadata.resource_version == left.metadata.resource_version


async def test_field_selectors_and_namespaces(store: Store) -> None:
    def nic(name: str, namespace: str, node: str) -> NIC:
        obj = NIC(metadata={"name": name, "namespace": namespace})
        obj.spec.node_ref.name = node
        obj.spec.network_ref.name = "blue"
        return obj

    async with api_server(store, NIC) as (_, client), contextlib.AsyncExitStack() as stack:
        nics = client.kind(NIC)
        on_one = await stack.enter_async_context(contextlib.aclosing(nics.watch(fields={"spec.node_ref.name": "one"})))
        in_two = await stack.enter_async_context(contextlib.aclosing(nics.watch("two")))
        for watch in (on_one, in_two):
            assert names(await collect(watch, 1)) == [("SYNCED", "")]
        await nics.create(nic("a", "two", "two"))
        await nics.create(nic("b", "default", "one"))
        await nics.create(nic("c", "two", "one"))
        assert names(await collect(on_one, 2)) == [("ADDED", "b"), ("ADDED", "c")]
        assert names(await collect(in_two, 2)) == [("ADDED", "a"), ("ADDED", "c")]


async def test_a_stream_resumes_where_another_ended(store: Store) -> None:
    async with api_server(store, Network) as (_, client):
        networks = client.kind(Network)
        made = [await networks.create(network(f"n{number}")) for number in range(5)]
        seen = made[2].metadata.resource_version
        async with contextlib.aclosing(networks.watch(resource_version=seen)) as watch:
            assert names(await collect(watch, 3)) == [("ADDED", "n3"), ("ADDED", "n4"), ("SYNCED", "")]
        # Even while nothing of the kind changes, a watcher learns how far it has come.
        revision = await store.current_revision()
        async with contextlib.aclosing(networks.watch(resource_version=revision)) as watch:
            async with asyncio.timeout(TIMEOUT):
                async for response in watch:
                    assert isinstance(response, network_pb2.NetworkWatchResponse)
                    if response.mark.type == meta_pb2.MARK_TYPE_BOOKMARK:
                        assert response.mark.resource_version > revision
                        break
                    if not response.events and response.mark.type == meta_pb2.MARK_TYPE_SYNCED:
                        await store.commit(_elsewhere())


def _elsewhere() -> Any:
    from apimachinery.store import Txn

    return Txn().put("/elsewhere", b"")


async def test_a_restarted_server_resets_what_it_cannot_resume(store: Store) -> None:
    async with api_server(store, Network) as (_, client):
        networks = client.kind(Network)
        before = await networks.create(network("a"))
        await networks.create(network("b"))
    async with api_server(store, Network) as (_, client):
        watch = client.kind(Network).watch(resource_version=before.metadata.resource_version)
        async with contextlib.aclosing(watch):
            expected = [("RESET", ""), ("ADDED", "a"), ("ADDED", "b"), ("SYNCED", "")]
            assert names(await collect(watch, 4)) == expected


async def test_a_client_that_does_not_read_is_reset_and_others_do_not_notice(store: Store) -> None:
    limits = CacheLimits(queue_bytes=200_000)
    async with api_server(store, Network, limits=limits) as (server, client):
        networks = client.kind(Network)
        async with contextlib.aclosing(networks.watch()) as slow, contextlib.aclosing(networks.watch()) as quick:
            for watch in (slow, quick):
                assert names(await collect(watch, 1)) == [("SYNCED", "")]
            filler = "x" * 50_000
            written = []
            # More than the queue and all buffers of the connection together.
            for number in range(400):
                obj = network(f"n{number % 20}")
                obj.metadata.annotations["filler"] = f"{filler}{number}"
                written.append(await networks.apply(obj, "test"))
                ((kind, seen),) = await collect(quick, 1)
                assert seen == written[-1]
                assert kind == ("ADDED" if number < 20 else "MODIFIED")
            caught_up: list[tuple[str, Any]] = []
            while ("SYNCED", "") not in names(caught_up):
                caught_up += await collect(slow, 1)
            resets = [index for index, (kind, _) in enumerate(caught_up) if kind == "RESET"]
            assert len(resets) == 1
            before, after = caught_up[: resets[0]], caught_up[resets[0] + 1 : -1]
            # Up to the reset everything in order, after it the newest state of all.
            assert [obj for _, obj in before] == written[: len(before)]
            assert sorted(obj.metadata.name for _, obj in after) == sorted(f"n{number}" for number in range(20))
            assert all(obj in written[-20:] for _, obj in after)
            assert server.kinds[0].cache.subscribers == 2


async def test_a_closed_stream_leaves_nothing_behind(store: Store) -> None:
    async with api_server(store, Network) as (server, client):
        cache = server.kinds[0].cache
        for _ in range(3):
            async with contextlib.aclosing(client.kind(Network).watch(labels={"a": "b"})) as watch:
                await collect(watch, 1)
                assert cache.subscribers == 1
            async with asyncio.timeout(TIMEOUT):
                while cache.subscribers:  # noqa: ASYNC110 - the cache has nobody to tell
                    await asyncio.sleep(0.01)
        assert not cache._groups
