"""A dependency that many parts of a process need is told lost once and back once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from ironcore.apinet.v1 import node_pb2 as apinet_node
from ironcore.meta.v1 import meta_pb2
from ironcore.metalnet.v1 import node_pb2 as metalnet_node
from ironcore.networking.v1 import network_pb2

from apimachinery.client import Client
from apimachinery.errors import ApiError
from apimachinery.etcd.process import die_with_parent
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.process import BIN, ServerProcess, server_process
from tests.support.waiting import eventually

TIMEOUT = 60.0
FORMAT = "--log-format=json"
LOST, BACK = "lost, retrying", "is back"


@pytest.fixture
async def cluster() -> AsyncIterator[EtcdCluster]:
    async with etcd_cluster() as running:
        yield running


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def told(log: Path) -> list[str]:
    """What the log says of outages, and every warning."""
    return [
        line["event"]
        for line in lines(log)
        if LOST in line["event"] or BACK in line["event"] or line["level"] in ("warning", "error", "critical")
    ]


async def until_told(log: Path, count: int) -> None:
    try:
        async with asyncio.timeout(TIMEOUT):
            while True:
                if len(told(log)) >= count:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited for {count} lines: {lines(log)}") from None


def is_available(network: network_pb2.Network) -> bool:
    return network.status.state == network_pb2.NETWORK_STATE_AVAILABLE


async def beat(client: Client, node: str) -> None:
    request = meta_pb2.HeartbeatRequest(name=node, ttl_seconds=60)
    await client.kind(metalnet_node.Node).invoke("Heartbeat", request, meta_pb2.HeartbeatResponse)


async def test_the_loss_of_etcd(tmp_path: Path, cluster: EtcdCluster) -> None:
    (member,) = cluster.members
    flags = ("--groups=networking,ipam,apinet", "--controllers=garbage,nodes,apinetlet", FORMAT)
    server = ServerProcess(tmp_path / "s.sock", tmp_path / "s.log", cluster.endpoints, *flags)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        await server.start()
        client = await stack.enter_async_context(Client(server.target, timeout=TIMEOUT))
        networks = client.kind(network_pb2.Network)
        for outage in range(2):
            # The controllers have work, and claims are followed.
            under_way = [
                asyncio.ensure_future(
                    networks.create(network_pb2.Network(metadata=meta_pb2.ObjectMeta(name=f"n{outage}-{number}")))
                )
                for number in range(20)
            ]
            first = await next(asyncio.as_completed(under_way))
            await member.kill()
            # Shorter than the leases of the leaders, whose loss is another message.
            await until_told(server.log, 2 * outage + 1)
            await member.start()
            await until_told(server.log, 2 * outage + 2)
            results = await asyncio.gather(*under_way, return_exceptions=True)
            assert all(isinstance(result, network_pb2.Network | ApiError) for result in results)
            await eventually(client, network_pb2.Network, "default", first.metadata.name, is_available)
    assert told(server.log) == [f"etcd {LOST}", f"etcd {BACK}"] * 2, server.log.read_text()
    for line in lines(server.log):
        if BACK in line["event"]:
            assert line["after_seconds"] > 0
            assert line["failures"] > 1


@contextlib.asynccontextmanager
async def metalnetlet(log: Path, target: str) -> AsyncIterator[None]:
    command = [
        str(BIN / "metalnetlet"),
        "--partition=p1",
        f"--apinet-server={target}",
        f"--metalnet-server={target}",
        FORMAT,
    ]
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(*die_with_parent(command), stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), TIMEOUT) == 0


async def test_the_loss_of_the_api_server(tmp_path: Path, cluster: EtcdCluster) -> None:
    flags = ("--groups=apinet,metalnet", "--controllers=nodes")
    log = tmp_path / "m.log"
    async with server_process(tmp_path, "s", cluster.endpoints, *flags) as server, metalnetlet(log, server.target):
        for outage in range(2):
            async with Client(server.target, timeout=TIMEOUT) as client:
                node = metalnet_node.Node(metadata=meta_pb2.ObjectMeta(name=f"h{outage}"))
                await client.kind(metalnet_node.Node).create(node)
                await beat(client, f"h{outage}")
                await eventually(client, apinet_node.Node, "", f"p1.h{outage}")
            await server.kill()
            await until_told(log, 2 * outage + 1)
            await server.start()
            await until_told(log, 2 * outage + 2)
    assert told(log) == [f"API server {LOST}", f"API server {BACK}"] * 2, log.read_text()
