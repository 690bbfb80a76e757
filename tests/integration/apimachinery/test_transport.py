"""Peers that fell silent are noticed, whichever side they are on, and peers that come late are met soon."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import pytest
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_pb2

from apimachinery.client import Client
from apimachinery.endpoints import Endpoint
from apimachinery.errors import Unavailable
from apimachinery.etcd.client import EtcdClient
from apimachinery.informer import Informer
from apimachinery.resource import ApiGroup, ResourceKind
from apimachinery.server_app import ApiServer
from apimachinery.store import Store
from apimachinery.transport import PING_SECONDS, PING_TIMEOUT_SECONDS, client_options
from apimachinery.watch_stream import WatchTiming
from tests.support.api import TIMEOUT
from tests.support.etcd import etcd_cluster, etcd_store
from tests.support.silent_peer import silent_client, silent_server

Network = network_pb2.Network
# With some time for a busy machine.
NOTICED = PING_SECONDS + PING_TIMEOUT_SECONDS + 3.0
GROUP = ApiGroup("test", [ResourceKind(Network)])


async def test_a_client_notices_a_silent_server(tmp_path: Path) -> None:
    async with silent_server(tmp_path / "s") as server, Client(f"unix:{tmp_path}/s") as client:
        async with asyncio.timeout(NOTICED):
            with pytest.raises(Unavailable):
                await anext(client.kind(Network).watch())
            await server.abandoned.wait()


async def test_a_server_notices_a_silent_client(tmp_path: Path) -> None:
    async with etcd_cluster() as cluster, etcd_store(cluster) as store:
        api = ApiServer(store, [GROUP])
        await api.start([Endpoint(path=str(tmp_path / "s"))])
        try:
            assert await asyncio.wait_for(silent_client(tmp_path / "s"), NOTICED) >= PING_SECONDS
        finally:
            await api.stop(grace=0)


async def test_a_store_notices_a_silent_member(tmp_path: Path) -> None:
    """The watch cannot attach at all, which its own limit finds; the connection is given up by the pings."""
    async with (
        silent_server(tmp_path / "s") as server,
        EtcdClient([f"unix://{tmp_path}/s"], timeout=NOTICED) as client,
        Store(client) as store,
    ):
        reading = asyncio.create_task(store.current_revision())
        await asyncio.wait_for(server.abandoned.wait(), NOTICED)
        reading.cancel()


@pytest.mark.parametrize("away", [1.0, 8.0])
async def test_a_server_that_comes_late_is_met_within_seconds(tmp_path: Path, away: float) -> None:
    address = Endpoint(path=str(tmp_path / "s"))
    async with etcd_cluster() as cluster, etcd_store(cluster) as store, Client(str(address)) as client:
        api = ApiServer(store, [GROUP])
        async with Informer(client.kind(Network)) as informer:
            await asyncio.sleep(away)
            await api.start([address])
            try:
                async with asyncio.timeout(TIMEOUT):
                    await api.wait_synced()
                    begin = time.monotonic()
                    await informer.wait_synced()
                # One pause of the channel and one of the informer, and some time for a busy machine.
                assert time.monotonic() - begin < 3.0
            finally:
                await api.stop(grace=0)


async def test_a_silent_watch_is_not_ended_for_its_pings(tmp_path: Path) -> None:
    """Pings somewhat slower than the fastest that a server tolerates. gRPC forgives two that come too soon."""
    address = Endpoint(path=str(tmp_path / "s"))
    every, count = 5.5, 4
    options = [
        *((name, value) for name, value in client_options() if name != "grpc.keepalive_time_ms"),
        ("grpc.keepalive_time_ms", int(every * 1000)),
    ]
    async with etcd_cluster() as cluster, etcd_store(cluster) as store:
        api = ApiServer(store, [GROUP], timing=WatchTiming(bookmark=600))
        await api.start([address])
        try:
            await asyncio.wait_for(api.wait_synced(), TIMEOUT)
            async with grpc.aio.insecure_channel(str(address), options=options) as channel:
                watch = channel.unary_stream(
                    "/ironcore.networking.v1.NetworkService/Watch",
                    request_serializer=meta_pb2.WatchRequest.SerializeToString,
                    response_deserializer=network_pb2.NetworkWatchResponse.FromString,
                )
                stream = watch(meta_pb2.WatchRequest())
                assert (await stream.read()).mark.type == meta_pb2.MARK_TYPE_SYNCED
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(stream.read(), every * count + 1)
        finally:
            await api.stop(grace=0)
