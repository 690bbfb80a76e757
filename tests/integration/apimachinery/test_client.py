"""The client against a server of its own making: errors, retries, deadlines, fail-over, TLS that is renewed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_pb2

from apimachinery.client import Client
from apimachinery.errors import ApiError, Conflict, FieldViolation, InvalidArgument, NotFound, ResourceRef, Unavailable
from apimachinery.tls import ClientTls, ServerTls
from tests.support.certificates import Authority

Network = network_pb2.Network
SERVICE = "ironcore.networking.v1.NetworkService"
Handler = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]


@contextlib.asynccontextmanager
async def serving(
    address: str, *, credentials: grpc.ServerCredentials | None = None, **methods: Handler
) -> AsyncIterator[str]:
    """A server with these methods of the network service; yields its address."""
    requests = {"Get": meta_pb2.GetRequest, "List": meta_pb2.ListRequest, "Create": network_pb2.NetworkWriteRequest}
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            handler,
            request_deserializer=requests[name].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for name, handler in methods.items()
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    await server.start()
    try:
        yield address.replace(":0", f":{port}") if not address.startswith("unix:") else address
    finally:
        await server.stop(0)


def network(name: str) -> Network:
    return Network(metadata=meta_pb2.ObjectMeta(name=name))


async def answer(request: meta_pb2.GetRequest, _: object) -> Network:
    return network(request.name)


async def fail(context: grpc.aio.ServicerContext[Any, Any], error: ApiError) -> None:
    await context.abort(error.code, error.message, error.trailing_metadata())  # type: ignore[arg-type]


async def test_errors_arrive_with_their_details(tmp_path: Path) -> None:
    violation = FieldViolation("spec.ips[0].value", "must be an address")
    ref = ResourceRef("networks.networking", "default/a")

    async def get(request: meta_pb2.GetRequest, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await fail(context, NotFound("it is not there", resource=ref))

    async def create(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await fail(context, InvalidArgument("wrong", violations=[violation]))

    async with serving(f"unix:{tmp_path}/s", Get=get, Create=create) as address, Client(address) as client:
        networks = client.kind(Network)
        with pytest.raises(NotFound) as missing:
            await networks.get("", "a")
        assert missing.value.resource == ref
        assert await networks.find("", "a") is None
        with pytest.raises(InvalidArgument) as wrong:
            await networks.create(network("a"))
        assert wrong.value.violations == (violation,)
        with pytest.raises(ApiError) as unknown:
            await networks.delete("", "a")
        assert unknown.value.code is grpc.StatusCode.UNIMPLEMENTED


async def test_reads_are_retried_and_writes_are_not(tmp_path: Path) -> None:
    calls = {"get": 0, "create": 0}

    async def get(request: meta_pb2.GetRequest, context: grpc.aio.ServicerContext[Any, Any]) -> Network:
        calls["get"] += 1
        if calls["get"] < 4:
            await fail(context, Unavailable("busy"))
        return network(request.name)

    async def create(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        calls["create"] += 1
        await fail(context, Unavailable("busy"))

    async with serving(f"unix:{tmp_path}/s", Get=get, Create=create) as address, Client(address) as client:
        assert (await client.kind(Network).get("", "a")).metadata.name == "a"
        with pytest.raises(Unavailable):
            await client.kind(Network).create(network("a"))
    assert calls == {"get": 4, "create": 1}


async def test_a_read_waits_for_a_server_that_comes(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    async with Client(address) as client:
        reading = asyncio.create_task(client.kind(Network).get("", "a"))
        await asyncio.sleep(0.3)
        assert not reading.done()
        async with serving(address, Get=answer):
            assert (await asyncio.wait_for(reading, 10)).metadata.name == "a"


async def test_without_a_server_a_read_ends_at_its_deadline(tmp_path: Path) -> None:
    async with Client(f"unix:{tmp_path}/none", timeout=0.5) as client, asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await client.kind(Network).get("", "a")


async def test_a_server_that_hangs_is_a_missed_deadline(tmp_path: Path) -> None:
    async def hang(_: object, __: object) -> None:
        await asyncio.Event().wait()

    async with serving(f"unix:{tmp_path}/s", Get=hang) as address, Client(address, timeout=0.2) as client:
        with pytest.raises(ApiError) as late:
            await client.kind(Network).get("", "a")
    assert late.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_writes_go_to_the_endpoint_that_is_left(tmp_path: Path) -> None:
    async def create(request: network_pb2.NetworkWriteRequest, _: object) -> Network:
        return request.object

    one, two = f"unix:{tmp_path}/one", f"unix:{tmp_path}/two"
    async with serving(two, Create=create), Client([one, two]) as client:
        # The first endpoint is away: this write fails, and the next one goes to the other.
        with pytest.raises(Unavailable):
            await client.kind(Network).create(network("a"))
        assert (await client.kind(Network).create(network("b"))).metadata.name == "b"
        assert str(client.target) == two


async def test_pages_are_one_list_and_begin_anew_when_their_revision_is_gone(tmp_path: Path) -> None:
    tokens: list[str] = []

    async def pages(request: meta_pb2.ListRequest, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        tokens.append(request.page_token)
        if request.page_token == "second" and tokens.count("second") == 1:
            await fail(context, Conflict("compacted"))
        items = {"": "ab", "second": "c"}[request.page_token]
        meta = meta_pb2.ListMeta(resource_version=7, next_page_token="second" if not request.page_token else "")
        return network_pb2.NetworkList(metadata=meta, items=[network(name) for name in items])

    async with serving(f"unix:{tmp_path}/s", List=pages) as address, Client(address) as client:
        found = await client.kind(Network).list(labels={"a": "b"}, fields={"metadata.name": "x"})
    assert [obj.metadata.name for obj in found] == ["a", "b", "c"]
    assert found.resource_version == 7
    assert tokens == ["", "second", "", "second"]


async def test_mutual_tls(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    server, mine, other = authority.issue("server"), authority.issue("client"), stranger.issue("other")
    tls = ServerTls(server.certificate, server.key, authority.ca)
    async with serving("127.0.0.1:0", credentials=tls.credentials(), Get=answer) as address:
        async with Client(address, ClientTls(authority.ca, mine.certificate, mine.key)) as client:
            assert (await client.kind(Network).get("", "a")).metadata.name == "a"
        for wrong in (
            None,
            ClientTls(authority.ca),
            ClientTls(authority.ca, other.certificate, other.key),
            ClientTls(stranger.ca, mine.certificate, mine.key),
        ):
            async with Client(address, wrong, timeout=1.0) as client:
                with pytest.raises(ApiError):
                    await client.kind(Network).get("", "a")


async def test_renewed_certificates_are_used(tmp_path: Path) -> None:
    """The server changes to another CA while it runs; a client with the old files is shut out until they follow."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    live = tmp_path / "live"
    live.mkdir()

    def install(authority: Authority) -> None:
        for name in ("server", "client"):
            pair = authority.issue(name)
            pair.certificate.replace(live / f"{name}.pem")
            pair.key.replace(live / f"{name}.key")
        (live / "ca.pem").write_bytes(authority.ca.read_bytes())

    install(old)
    tls = ServerTls(live / "server.pem", live / "server.key", live / "ca.pem")
    mine = ClientTls(live / "ca.pem", live / "client.pem", live / "client.key")
    async with (
        serving("127.0.0.1:0", credentials=tls.credentials(), Get=answer) as address,
        Client(address, mine) as lasting,
    ):
        await lasting.kind(Network).get("", "a")
        install(new)
        async with Client(address, mine, timeout=5.0) as fresh:
            assert (await fresh.kind(Network).get("", "b")).metadata.name == "b"
        async with Client(address, ClientTls(old.ca), timeout=0.5) as outdated:
            with pytest.raises(ApiError):
                await outdated.kind(Network).get("", "c")
        # What is connected stays connected.
        assert (await lasting.kind(Network).get("", "d")).metadata.name == "d"
        # Files that do not fit together change nothing.
        (live / "server.key").write_bytes((live / "client.key").read_bytes())
        async with Client(address, mine, timeout=5.0) as fresh:
            assert (await fresh.kind(Network).get("", "e")).metadata.name == "e"
