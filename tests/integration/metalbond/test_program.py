"""The program as an operator runs it."""

import asyncio
import signal
import socket
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from metalbond.types import Destination, HopType, NextHop, Route
from tests.support.metalbond import eventually, process, running_client, server_process

ROUTE = Route(7, Destination.parse("20.0.0.1/32"), NextHop.to("fd00::1", HopType.NAT, nat_from=1024, nat_to=65535))


def scrape(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        sample.name + "".join(f"/{value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def test_routes_travel_from_one_command_line_to_another_and_go_with_it() -> None:
    async with (
        server_process() as (server, address),
        process("client", "--server", address, "--keepalive", "1", "--subscribe", "7,8") as watcher,
    ):
        await watcher.logged("synced")
        async with process(
            "client", "--server", address, "--announce", "7#20.0.0.1/32#fd00::1#nat#1024#65535"
        ) as owner:
            shown = {"vni": 7, "destination": "20.0.0.1/32", "hop": "fd00::1 nat 1024-65535"}
            await watcher.logged("route added", **shown)
            assert await owner.stop(signal.SIGTERM) == 0
            await watcher.logged("route removed", **shown)
        assert await watcher.stop(signal.SIGINT) == 0
        assert await server.stop(signal.SIGTERM) == 0


async def test_a_client_that_starts_first_says_once_that_nobody_answers_and_recovers() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with process("client", "--server", address, "--keepalive", "1", "--subscribe", "7") as client:
        await client.logged("server not reachable, retrying")
        async with server_process(address):
            await client.logged("server established")
            await client.logged("synced")
        await client.logged("server lost, retrying")
        async with server_process(address):
            await eventually(lambda: [entry["event"] for entry in client.log].count("server established") == 2)
            warnings = [entry["event"] for entry in client.log if entry["level"] == "warning"]
            assert warnings == ["server not reachable, retrying", "server lost, retrying"]


async def test_readiness_is_told_to_the_service_manager_when_synced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        address = f"127.0.0.1:{free_port()}"
        loop = asyncio.get_running_loop()
        async with process(
            "client", "--server", address, "--keepalive", "1", "--subscribe", "7", environment=environment
        ) as client:
            await client.logged("server not reachable, retrying")
            told = asyncio.create_task(loop.sock_recv(manager, 100))
            assert not told.done()
            async with server_process(address):
                async with asyncio.timeout(15):
                    assert await told == b"READY=1"
                await client.stop(signal.SIGTERM)
                async with asyncio.timeout(15):
                    assert await loop.sock_recv(manager, 100) == b"STOPPING=1"


async def test_metrics_count_what_happens() -> None:
    metrics = f"127.0.0.1:{free_port()}"
    async with server_process("[::1]:0", "--metrics", metrics) as (server, address):
        await server.logged("serving metrics")
        async with running_client([address]) as (a, _), running_client([address]) as (b, seen):
            b.subscribe(ROUTE.vni)
            a.announce(*ROUTE)
            await seen.wait_for(ROUTE)
            values = await asyncio.to_thread(scrape, metrics)
    assert values["metalbond_routes"] == 1
    assert values["metalbond_subscriptions"] == 1
    assert values["metalbond_peers/ESTABLISHED"] == 2
    assert values["metalbond_updates_received_total"] == 1
    assert values["metalbond_updates_sent_total"] == 1
    assert values["metalbond_sessions_established_total"] == 2


async def test_an_address_in_use_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with process("server", "--listen", address) as server:
            assert await server.stop(signal.SIGCONT) == 1
            assert f"--listen {address}" in server.text and "in use" in server.text
