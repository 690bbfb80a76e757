"""The server as a process part: health, reflection, listeners, TLS, and its stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_pb2

from apimachinery.client import Client
from apimachinery.endpoints import Endpoint
from apimachinery.errors import Unavailable
from apimachinery.resource import ApiGroup, ResourceKind
from apimachinery.server_app import ApiServer
from apimachinery.store import Store
from apimachinery.tls import ClientTls, ServerTls
from tests.support.certificates import Authority
from tests.support.etcd import EtcdCluster, etcd_cluster, etcd_store


@dataclass
class Running:
    cluster: EtcdCluster
    store: Store
    api: ApiServer
    address: Endpoint


@contextlib.asynccontextmanager
async def started(store: Store) -> AsyncIterator[tuple[ApiServer, Endpoint]]:
    api = ApiServer(store, [ApiGroup("test", [ResourceKind(network_pb2.Network)])])
    (address,) = await api.start([Endpoint(host="127.0.0.1", port=0)])
    try:
        yield api, address
    finally:
        await api.stop(grace=0)


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with etcd_cluster() as cluster, etcd_store(cluster) as store, started(store) as (api, address):
        yield Running(cluster, store, api, address)


async def serving(health: health_pb2_grpc.HealthStub, service: str = "") -> None:
    """Returns once the service reports SERVING."""
    async with asyncio.timeout(30):
        async for answer in health.Watch(health_pb2.HealthCheckRequest(service=service)):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return


async def test_health_and_reflection(server: Running) -> None:
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "ironcore.networking.v1.NetworkService"):
            await serving(health, service)
        for version in ("v1", "v1alpha"):
            reflect = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            symbol = "ironcore.networking.v1.NetworkService"
            requests = [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol),
            ]
            answers = [answer async for answer in reflect(iter(requests))]
            assert symbol in {service.name for service in answers[0].list_services_response.service}
            assert answers[1].file_descriptor_response.file_descriptor_proto


async def test_health_is_not_serving_until_the_store_was_read(server: Running) -> None:
    (member,) = server.cluster.members
    await member.kill()
    async with started(server.store) as (api, address), grpc.aio.insecure_channel(str(address)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        await member.start()
        await serving(health)
        await api.wait_synced()


async def test_a_stop_ends_watches_at_once_and_says_why(server: Running) -> None:
    await server.api.wait_synced()
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        watch = channel.unary_stream("/ironcore.networking.v1.NetworkService/Watch")
        call = watch(meta_pb2.WatchRequest().SerializeToString())
        await call.read()
        async with asyncio.timeout(5):
            await asyncio.gather(server.api.stop(grace=60), _expect_unavailable(call))


async def _expect_unavailable(call: grpc.aio.UnaryStreamCall[bytes, bytes]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "stops" in str(caught.value.details())


async def test_nothing_listens_beyond_this_machine_by_accident(server: Running) -> None:
    first, second = ApiServer(server.store, []), ApiServer(server.store, [])
    with pytest.raises(ValueError, match="can be reached from other machines"):
        await first.start([Endpoint(host="0.0.0.0", port=0)])
    taken = await first.start([Endpoint(host="127.0.0.1", port=0)])
    with pytest.raises(OSError, match="cannot listen"):
        await second.start(taken)
    await second.stop(grace=0)
    await first.stop(grace=0)


async def test_every_address_has_mutual_tls_and_follows_renewed_files(server: Running, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, mine = authority.issue("server"), authority.issue("client")
    tls = ServerTls(pair.certificate, pair.key, authority.ca)
    api = ApiServer(server.store, [ApiGroup("test", [ResourceKind(network_pb2.Network)])])
    wanted = [Endpoint(host="127.0.0.1", port=0), Endpoint(host="::1", port=0), Endpoint(host="127.0.0.1", port=0)]
    bound = await api.start(wanted, tls)
    trusted = ClientTls(authority.ca, mine.certificate, mine.key, server_name="localhost")
    try:
        await api.wait_synced()
        for _ in range(2):
            for address in bound:
                async with Client(str(address), trusted) as client:
                    assert await client.kind(network_pb2.Network).list() == []
                async with Client(str(address), ClientTls(authority.ca), timeout=1.0) as stranger:
                    with pytest.raises(Unavailable):
                        await stranger.kind(network_pb2.Network).list()
            authority.issue("server")
    finally:
        await api.stop(grace=0)
