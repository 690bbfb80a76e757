"""The inspection service of a real server and client, over gRPC and from the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from ironcore.metalbond.v1 import inspection_pb2 as pb
from ironcore.metalbond.v1 import inspection_pb2_grpc as rpc

from metalbond import codec
from metalbond.inspect import Inspectable
from metalbond.inspection import service
from metalbond.inspection.feed import MAX_WATCHERS, Feed
from metalbond.inspection.service import SERVICE, InspectionServer
from metalbond.types import Destination, HopType, NextHop, Route
from tests.support.certificates import Authority
from tests.support.metalbond import RawPeer, eventually, process, running_client, running_server, server_process

A = Route(7, Destination.parse("10.0.0.0/8"), NextHop.to("fd00::1"))
B = Route(7, Destination.parse("10.1.0.0/16"), NextHop.to("fd00::2", HopType.NAT, nat_from=1024, nat_to=2048))
C = Route(9, Destination.parse("fd01::/64"), NextHop.to("fd00::3", 77, vni=12))


@contextlib.asynccontextmanager
async def inspected(instance: Inspectable) -> AsyncIterator[grpc.aio.Channel]:
    server = InspectionServer(instance, Feed(instance))
    port = await server.start("[::1]:0")
    try:
        async with grpc.aio.insecure_channel(f"[::1]:{port}") as channel:
            yield channel
    finally:
        await server.stop()


def texts(routes: object) -> list[str]:
    return [f"{route.vni} {route.destination} {route.next_hop.address}" for route in routes]  # type: ignore[attr-defined]


async def test_peers_networks_and_routes_are_listed_and_filtered() -> None:
    async with (
        running_server() as server,
        running_client(server.addresses, identity="node-1") as (one, _),
        running_client(server.addresses) as (two, seen),
        inspected(server) as channel,
    ):
        stub = rpc.InspectionServiceStub(channel)
        two.subscribe(7)
        for route in (A, B, C):
            one.announce(*route)
        await seen.wait_for(A, B)
        info = await stub.GetInfo(pb.GetInfoRequest())
        assert (info.role, info.routes, info.updates_received, info.updates_sent) == ("server", 3, 3, 2)
        peers = {peer.identity: peer for peer in (await stub.ListPeers(pb.ListPeersRequest())).peers}
        assert peers["node-1"].routes == 3 and not peers["node-1"].subscriptions
        assert list(peers[""].subscriptions) == [7] and peers[""].state == "ESTABLISHED"
        first = await stub.ListPeers(pb.ListPeersRequest(page_size=1))
        rest = await stub.ListPeers(pb.ListPeersRequest(page_size=1, page_token=first.next_page_token))
        assert {first.peers[0].name, rest.peers[0].name} == {peer.name for peer in peers.values()}
        assert first.next_page_token and not rest.next_page_token
        vnis = (await stub.ListVnis(pb.ListVnisRequest())).vnis
        assert [(v.vni, v.destinations, v.subscribers) for v in vnis] == [(7, 2, 1), (9, 1, 0)]
        listed = (await stub.ListRoutes(pb.ListRoutesRequest())).routes
        assert texts(listed) == ["7 10.0.0.0/8 fd00::1", "7 10.1.0.0/16 fd00::2", "9 fd01::/64 fd00::3"]
        assert [(r.next_hop.type, r.next_hop.vni, r.next_hop.nat_from, r.next_hop.nat_to) for r in listed] == [
            ("standard", 0, 0, 0),
            ("nat", 0, 1024, 2048),
            ("77", 12, 0, 0),
        ]
        assert {tuple(r.sources) for r in listed} == {(peers["node-1"].name,)}
        longest = pb.RouteFilter(address="10.1.2.3")
        assert texts((await stub.ListRoutes(pb.ListRoutesRequest(filter=longest))).routes) == ["7 10.1.0.0/16 fd00::2"]


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (pb.ListRoutesRequest(page_size=10_001), grpc.StatusCode.INVALID_ARGUMENT, "page_size: 10001"),
        (pb.ListRoutesRequest(page_token="a.0"), grpc.StatusCode.ABORTED, "begin again"),
        (
            pb.ListRoutesRequest(filter=pb.RouteFilter(address="<script>")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "filter.address",
        ),
        (
            pb.ListRoutesRequest(filter=pb.RouteFilter(next_hop="1")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "filter.next_hop",
        ),
    ],
)
async def test_wrong_requests_say_what_is_wrong(
    request_: pb.ListRoutesRequest, code: grpc.StatusCode, text: str
) -> None:
    async with running_server() as server, inspected(server) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await rpc.InspectionServiceStub(channel).ListRoutes(request_)
        assert error.value.code() is code and text in (error.value.details() or "")


class Follower:
    """What a watch has told so far."""

    def __init__(self) -> None:
        self.routes: dict[str, tuple[str, ...]] = {}
        self.synced = False

    async def follow(self, stub: rpc.InspectionServiceStub, *vnis: int) -> None:
        async for message in stub.WatchRoutes(pb.WatchRoutesRequest(vnis=vnis)):
            for change in message.changes:
                [text] = texts([change.route])
                if change.removed:
                    assert not change.route.sources
                    self.routes.pop(text, None)
                else:
                    assert change.route.sources
                    self.routes[text] = tuple(change.route.sources)
            self.synced = self.synced or message.synced


async def test_a_watch_tells_the_table_and_then_what_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BATCH", 3)
    many = [Route(7, Destination(bytes([10, 0, 0, n]), 32), A.hop) for n in range(20)]
    async with running_server() as server, running_client(server.addresses) as (one, _):
        for route in (*many, C):
            one.announce(*route)
        await eventually(lambda: server.route_count() == 21)
        async with inspected(server) as channel:
            stub = rpc.InspectionServiceStub(channel)
            every, seventh = Follower(), Follower()
            tasks = [asyncio.create_task(every.follow(stub)), asyncio.create_task(seventh.follow(stub, 7))]
            await eventually(lambda: every.synced and seventh.synced)
            assert every.routes.keys() == set(texts_of(*many, C)) and seventh.routes.keys() == set(texts_of(*many))
            async with running_client(server.addresses) as (two, _):
                two.announce(*many[0])
                one.withdraw(*many[1])
                one.announce(*B)
                kept = [*many[:1], *many[2:], B]
                await eventually(lambda: seventh.routes.keys() == set(texts_of(*kept)))
                await eventually(lambda: len(every.routes[texts_of(many[0])[0]]) == 2)
                two.withdraw(*many[0])
                await eventually(lambda: len(every.routes[texts_of(many[0])[0]]) == 1)
            assert every.routes.keys() == set(texts_of(*kept, C))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await eventually(lambda: not server.distributor.recording)


def texts_of(*routes: Route) -> list[str]:
    return [f"{route.vni} {route.destination} {route.hop.address}" for route in routes]


async def test_a_watcher_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metalbond.inspection.feed.MAX_PENDING", 500)
    async with running_server() as server, inspected(server) as channel:
        call = rpc.InspectionServiceStub(channel).WatchRoutes(pb.WatchRoutesRequest())
        assert (await call.read()).synced
        routes = [Route(7, Destination(n.to_bytes(4), 32), A.hop) for n in range(501)]
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        await peer.send(*(codec.encode_update(True, route) for route in routes))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            async with asyncio.timeout(30):
                while True:
                    await call.read()
                    # Everything that arrives within one turn of the feed is one batch, so more must come until it lags.
                    await peer.send(*(codec.encode_update(add, route) for add in (False, True) for route in routes))
        assert error.value.code() is grpc.StatusCode.ABORTED and "too slow" in (error.value.details() or "")
        peer.close()


async def test_watchers_are_bounded() -> None:
    async with running_server() as server, inspected(server) as channel:
        stub = rpc.InspectionServiceStub(channel)
        calls = [stub.WatchRoutes(pb.WatchRoutesRequest()) for _ in range(MAX_WATCHERS)]
        for call in calls:
            assert (await call.read()).synced
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.WatchRoutes(pb.WatchRoutesRequest()).read()
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()


async def test_health_follows_a_clients_sessions_and_reflection_names_the_service() -> None:
    status = health_pb2.HealthCheckResponse
    async with (
        running_server() as server,
        running_client(server.addresses) as (client, _),
        inspected(client) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        async def wait_for(wanted: int) -> None:
            async with asyncio.timeout(30):
                while (await health.Check(health_pb2.HealthCheckRequest())).status != wanted:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

        await wait_for(status.SERVING)
        await server.close()
        await wait_for(status.NOT_SERVING)
        named = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert named.status == status.SERVING
        stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await stream.read()
        assert SERVICE in {entry.name for entry in answer.list_services_response.service}
        stream.cancel()


async def show(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `metalbond show`."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "metalbond.main",
        "show",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    try:
        async with asyncio.timeout(60):
            out, err = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


async def test_the_command_line_shows_a_process() -> None:
    async with server_process("[::1]:0", "--inspect", "[::1]:0") as (server, address):
        inspect = str((await server.logged("serving inspection"))["address"])
        async with (
            running_client([address], identity="node\x1b[31m<b>") as (owner, _),
            running_client([address]) as (client, seen),
        ):
            owner.subscribe(7)
            for route in (A, B, C):
                owner.announce(*route)
            client.subscribe(9)
            await seen.wait_for(C)
            code, out, _ = await show("peers", "--inspect", inspect)
            assert code == 0 and "node\\x1b[31m<b>" in out and "\x1b" not in out and "original" not in out
            code, out, _ = await show("routes", "--inspect", inspect, "10.1.9.9")
            lines = [" ".join(line.split()) for line in out.splitlines()]
            assert lines[0] == "VNI DESTINATION NEXT HOP TYPE PORTS FROM"
            assert lines[1].startswith("7 10.1.0.0/16 fd00::2 nat 1024-2048 [::1]:")
            assert len(lines) == 2
            code, out, _ = await show("routes", "--inspect", inspect, "-o", "json", "--vni", "9")
            [route] = map(json.loads, out.splitlines())
            assert route["destination"] == "fd01::/64" and route["next_hop"]["type"] == "77"
            code, out, _ = await show("vnis", "--inspect", inspect)
            assert [line.split() for line in out.splitlines()[1:]] == [["7", "2", "1"], ["9", "1", "1"]]
            code, out, _ = await show("info", "--inspect", inspect, "-o", "json")
            assert json.loads(out)["routes"] == "3"
            code, out, err = await show("routes", "--inspect", inspect, "nonsense")
            assert code == 1 and not out and "INVALID_ARGUMENT: filter.address" in err


async def test_beyond_this_machine_it_needs_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mine, stranger = authority.issue("server"), Authority(tmp_path, "other").issue("stranger")
    operator = authority.issue("operator")
    files = ("--tls-certificate", str(mine.certificate), "--tls-key", str(mine.key), "--tls-ca", str(authority.ca))
    async with process("server", "--listen", "[::1]:0", "--inspect", "0.0.0.0:0") as refused:
        assert await refused.stop_code() == 2
        assert "others reach this address" in refused.text
    async with server_process("[::1]:0", "--inspect", "0.0.0.0:0", *files) as (server, _):
        entry = await server.logged("serving inspection")
        assert entry["tls"] is True
        inspect = f"127.0.0.1:{str(entry['address']).rpartition(':')[2]}"
        own = (
            "--tls-certificate",
            str(operator.certificate),
            "--tls-key",
            str(operator.key),
            "--tls-ca",
            str(authority.ca),
        )
        code, out, err = await show("info", "--inspect", inspect, *own)
        assert code == 0 and "server" in out, err
        theirs = (
            *("--tls-certificate", str(stranger.certificate), "--tls-key", str(stranger.key)),
            *("--tls-ca", str(authority.ca)),
        )
        code, _, err = await show("info", "--inspect", inspect, *theirs)
        assert code == 1 and "UNAVAILABLE" in err
        code, _, err = await show("info", "--inspect", inspect)
        assert code == 1 and "UNAVAILABLE" in err
