"""The HTTP side of a real server: documents, events, limits, and what hostile peers and pages try."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import yaml

from metalbond.inspect import Inspectable
from metalbond.inspection.feed import Feed
from metalbond.metrics import server_registry
from metalbond.server import MetalbondServer
from metalbond.types import Destination, HopType, NextHop, Route
from metalbond.web import server as web
from metalbond.web.server import MAX_EVENT_STREAMS, WebServer
from tests.support.metalbond import eventually, process, running_client, running_server, server_process

A = Route(100, Destination.parse("10.0.0.0/24"), NextHop.to("fd00::2"))
B = Route(100, Destination.parse("10.0.0.0/24"), NextHop.to("fd00::1"))
N = Route(100, Destination.parse("20.0.0.1/32"), NextHop.to("fd00::3", HopType.NAT, vni=7, nat_from=1, nat_to=99))
S = Route(9, Destination.parse("fd10::/64"), NextHop.to("fd00::4"))
HOSTILE = "<script>alert(1)</script>\"'&\x00"


class Site:
    """A running page and a session to ask it."""

    def __init__(self, server: WebServer, port: int, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.port = port
        self.session = session
        self.base = f"http://127.0.0.1:{port}"

    async def text(self, path: str, *, status: int = 200, **options: Any) -> str:
        async with self.session.get(self.base + path, **options) as answer:
            assert answer.status == status
            return await answer.text()

    async def json(self, path: str) -> Any:
        return json.loads(await self.text(path))

    @contextlib.asynccontextmanager
    async def events(self, query: str = "") -> AsyncIterator[Events]:
        async with self.session.get(f"{self.base}/events{query}") as answer:
            assert answer.status == 200 and answer.content_type == "text/event-stream"
            yield Events(answer)


class Events:
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def next(self, wanted: str) -> dict[str, Any]:
        """The next event of this name."""
        name = ""
        async with asyncio.timeout(30):
            async for line in self._answer.content:
                if line.startswith(b"event: "):
                    name = line[7:].decode().strip()
                elif line.startswith(b"data: ") and name == wanted:
                    return dict(json.loads(line[6:]))
        raise AssertionError("the stream has ended")


@contextlib.asynccontextmanager
async def site(instance: MetalbondServer, *, page: bool = True, port: int = 0) -> AsyncIterator[Site]:
    server = WebServer(instance, Feed(instance), server_registry(instance), page=page)
    port = await server.start("127.0.0.1", port)
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), read_bufsize=1 << 20) as session:
            yield Site(server, port, session)
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def filled(*routes: Route, identity: str = "") -> AsyncIterator[MetalbondServer]:
    async with running_server() as server, running_client(server.addresses, identity=identity) as (client, _):
        client.subscribe(100)
        for route in routes:
            client.announce(*route)
        await eventually(lambda: server.route_count() == len(routes) and server.peers()[0].subscriptions)
        yield server


async def test_the_documents_of_the_original_program() -> None:
    async with filled(A, B, N, S) as server, site(server) as page:
        document = await page.json("/routes.json")
        assert document.keys() == {"date", "vnet", "metalbondVersion"}
        assert list(document["vnet"]) == ["100", "9"]
        plain = {"TargetVNI": 0, "Type": 0, "NATPortRangeFrom": 0, "NATPortRangeTo": 0}
        assert document["vnet"]["100"] == {
            '{"IPVersion":4,"Prefix":"10.0.0.0/24"}': [
                {"TargetAddress": "fd00::1", **plain},
                {"TargetAddress": "fd00::2", **plain},
            ],
            '{"IPVersion":4,"Prefix":"20.0.0.1/32"}': [
                {"TargetAddress": "fd00::3", "TargetVNI": 7, "Type": 1, "NATPortRangeFrom": 1, "NATPortRangeTo": 99}
            ],
        }
        same = yaml.safe_load(await page.text("/routes.yaml"))
        assert same.keys() == {"date", "vnet", "metalbondversion"}
        lowered = {
            int(vni): {key: [{k.lower(): v for k, v in hop.items()} for hop in hops] for key, hops in routes.items()}
            for vni, routes in document["vnet"].items()
        }
        assert same["vnet"] == lowered
        assert same["metalbondversion"] == document["metalbondVersion"]
        assert "<title>MetalBond - Route Tables</title>" in await page.text("/")
        assert await page.text("/any/other/path") == await page.text("/")


async def test_empty_tables_are_valid_documents() -> None:
    async with running_server() as server, site(server) as page:
        assert (await page.json("/routes.json"))["vnet"] == {}
        assert yaml.safe_load(await page.text("/routes.yaml"))["vnet"] == {}
        assert await page.json("/peers.json") == {"role": "server", "peers": []}
        assert await page.json("/subscriptions.json") == {"subscriptions": {}}


async def test_peers_and_subscriptions() -> None:
    async with filled(A, identity=HOSTILE) as server, site(server) as page:
        [peer] = (await page.json("/peers.json"))["peers"]
        assert (peer["identity"], peer["state"], peer["routes"], peer["subscriptions"]) == (
            HOSTILE,
            "ESTABLISHED",
            1,
            [100],
        )
        assert await page.json("/subscriptions.json") == {"subscriptions": {"100": [peer["name"]]}}


async def test_a_large_table_is_exported_whole_while_it_changes() -> None:
    routes = [Route(100, Destination((10 << 24 | n).to_bytes(4), 32), A.hop) for n in range(5000)]
    async with running_server() as server, running_client(server.addresses) as (client, _), site(server) as page:
        for route in routes:
            client.announce(*route)
        await eventually(lambda: server.route_count() == len(routes))

        async def churn() -> None:
            while True:
                client.announce(*S)
                client.withdraw(*S)
                await asyncio.sleep(0)

        churning = asyncio.create_task(churn())
        document = await page.json("/routes.json")
        churning.cancel()
        assert len(document["vnet"]["100"]) == len(routes)


async def test_events_follow_the_table_and_searches_narrow_them() -> None:
    async with running_server() as server, running_client(server.addresses) as (client, _), site(server) as page:
        async with page.events("?vni=100&q=10.0.0.7") as events, page.events("?q=fd00::4") as by_hop:
            assert (await events.next("summary"))["routes"] == 0
            assert (await events.next("routes"))["rows"] == []
            client.announce(*A)
            client.announce(*S)
            client.announce(*Route(100, Destination.parse("0.0.0.0/0"), A.hop))
            shown: list[str] = []
            while len(shown) < 2:
                shown = [row["destination"] for row in (await events.next("routes"))["rows"]]
            assert shown == ["10.0.0.0/24", "0.0.0.0/0"]
            while not (found := (await by_hop.next("routes"))["rows"]):
                pass
            assert [(row["vni"], row["destination"]) for row in found] == [(9, "fd10::/64")]
            summary = await events.next("summary")
            while summary["routes"] != 3:
                summary = await events.next("summary")
            assert summary["vnis"][0] == {"vni": 9, "destinations": 1, "subscribers": 0}
            assert summary["established"] == summary["peer_count"] == 1
        await eventually(lambda: not server.distributor.recording)


async def test_wrong_searches_are_answered_on_the_page_and_wrong_networks_refused() -> None:
    async with running_server() as server, site(server) as page:
        async with page.events("?q=%3Cb%3E") as events:
            assert (await events.next("routes"))["error"] == "not an address and not a prefix"
        for wrong in ("x", "-1", "4294967296", "%D9%A1", "1" * 5000):
            await page.text(f"/events?vni={wrong}", status=400)


async def test_metrics_and_health() -> None:
    async with filled(A) as server:
        async with site(server, page=False) as page:
            assert "metalbond_routes 1.0" in await page.text("/metrics")
            assert await page.text("/healthz") == "ok\n"
            await page.text("/", status=404)
            await page.text("/events", status=404)
        async with site(server) as page:
            assert "metalbond_routes 1.0" in await page.text("/metrics")


async def test_every_answer_forbids_the_browser_what_the_page_does_not_need() -> None:
    async with filled(A) as server, site(server) as page:
        for path in ("/", "/app.js", "/routes.json", "/events", "/metrics", "/events?vni=x"):
            async with page.session.get(page.base + path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["X-Frame-Options"] == "DENY"
        async with page.session.post(page.base + "/routes.json") as answer:
            assert answer.status == 405


async def test_names_of_others_are_refused() -> None:
    async with running_server() as server, site(server) as page:
        for name in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80"):
            await page.text("/routes.json", status=421, headers={"Host": name})
        for name in (f"localhost:{page.port}", f"[::1]:{page.port}"):
            await page.text("/routes.json", headers={"Host": name})


async def test_open_pages_are_bounded() -> None:
    async with running_server() as server, site(server) as page, contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_EVENT_STREAMS):
            await stack.enter_async_context(page.events())
        await page.text("/events", status=503)
        await stack.aclose()
        async with asyncio.timeout(30):
            while True:
                async with page.session.get(page.base + "/events") as answer:
                    if answer.status == 200:
                        break
                await asyncio.sleep(0.05)


async def test_a_page_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "WRITE_TIMEOUT", 0.2)
    monkeypatch.setattr(web, "PERIOD", 0.001)
    # Many networks make events large, which fills the kernel's buffers soon.
    routes = [Route(n, A.destination, A.hop) for n in range(500)]
    async with running_server() as server, running_client(server.addresses) as (client, _), site(server) as page:
        for route in routes:
            client.announce(*route)
        await eventually(lambda: server.route_count() == len(routes))
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(slow, ("127.0.0.1", page.port))
            await loop.sock_sendall(slow, b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await eventually(lambda: server.distributor.recording)
            await eventually(lambda: not server.distributor.recording, 60)
            received = 0
            async with asyncio.timeout(30):
                while data := await loop.sock_recv(slow, 1 << 20):
                    received += len(data)
            assert received
        assert (await page.json("/peers.json"))["peers"]


async def test_the_program_serves_the_page_and_refuses_to_show_it_to_others() -> None:
    async with server_process("[::1]:0", "--http", "[::1]:0") as (server, address):
        shown = str((await server.logged("serving page"))["address"])
        async with (
            running_client([address]) as (client, _),
            aiohttp.ClientSession() as session,
        ):
            client.announce(*A)
            async with asyncio.timeout(30):
                while True:
                    async with session.get(f"http://{shown}/routes.json") as answer:
                        if (await answer.json())["vnet"]:
                            break
                    await asyncio.sleep(0.05)
        assert await server.stop() == 0
    for flag in ("--http", "--metrics"):
        async with process("server", "--listen", "[::1]:0", flag, "0.0.0.0:0") as refused:
            assert await refused.stop_code() == 2
            assert f"{flag} 0.0.0.0:0: others reach this address" in refused.text
    async with server_process("[::1]:0", "--http", "0.0.0.0:0", "--observe-insecure") as (server, _):
        await server.logged("serving page")


async def test_a_client_shows_its_servers() -> None:
    async with running_server() as server, running_client(server.addresses) as (client, _):
        instance: Inspectable = client
        assert instance.role == "client"
        async with process("client", "--server", server.addresses[0], "--http", "[::1]:0") as child:
            shown = str((await child.logged("serving page"))["address"])
            await child.logged("synced")
            async with aiohttp.ClientSession() as session, session.get(f"http://{shown}/peers.json") as answer:
                [entry] = (await answer.json())["peers"]
                assert entry["name"] == server.addresses[0] and entry["state"] == "ESTABLISHED"
