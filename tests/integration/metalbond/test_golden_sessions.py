"""Whole sessions byte by byte, in both roles, against recorded ones in tests/golden/metalbond."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from metalbond import cli
from metalbond.client import MetalbondClient
from metalbond.server import ServerConfig
from metalbond.types import Route
from tests.support.metalbond import WAIT, RawPeer, RawServer, eventually, running_client, running_server

GOLDEN = Path(__file__).parents[2] / "golden" / "metalbond"
SERVER = sorted(GOLDEN.glob("server_*.txt"))
CLIENT = sorted(GOLDEN.glob("client_*.txt"))


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """(first word, rest) of each line that is no comment."""
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, rest


async def expect(peer: RawPeer, wire: str) -> None:
    wanted = bytes.fromhex(wire)
    got = b""
    async with asyncio.timeout(WAIT):
        while len(got) < len(wanted):
            data = await peer.receive_bytes(len(wanted) - len(got))
            assert data, f"closed after {got.hex(' ')}, expected {wire}"
            got += data
    assert got.hex(" ") == wire


def route(text: str) -> Route:
    return cli.announcement("#".join(text.split()))


@pytest.mark.parametrize("path", SERVER, ids=[path.stem for path in SERVER])
async def test_sessions_with_our_server(path: Path) -> None:
    peers: dict[str, RawPeer] = {}
    async with running_server(ServerConfig(identity=b"s")) as server:
        for word, wire in lines(path):
            name, direction = word[:-1], word[-1]
            if name not in peers:
                peers[name] = await RawPeer.connect(server.addresses[0])
            if direction == ">":
                await peers[name].send(bytes.fromhex(wire))
            else:
                await expect(peers[name], wire)
        for peer in peers.values():
            await peer.send(bytes.fromhex("01000002"))
            await expect(peer, "01 00 00 02")
        for peer in peers.values():
            peer.close()


@pytest.mark.parametrize("path", CLIENT, ids=[path.stem for path in CLIENT])
async def test_sessions_with_our_client(path: Path) -> None:
    server = RawServer()
    identity = "n" if "extended" in path.stem else ""
    try:
        async with running_client([server.address], keepalive=5, identity=identity) as (client, seen):
            peer: RawPeer | None = None
            for word, rest in lines(path):
                if word == "do":
                    ask(client, rest)
                elif word == "has":
                    await seen.wait(lambda have: route(rest) in have)  # noqa: B023
                elif word == "only":
                    await seen.wait_for(route(rest))
                elif word == "synced":
                    await eventually(lambda: client.synced(int(rest)))  # noqa: B023
                else:
                    peer = peer or await server.next_peer()
                    if word == "server>":
                        await peer.send(bytes.fromhex(rest))
                    else:
                        await expect(peer, rest)
    finally:
        server.close()


def ask(client: MetalbondClient, text: str) -> None:
    what, _, rest = text.partition(" ")
    if what in ("announce", "withdraw"):
        assert getattr(client, what)(*route(rest))
    else:
        assert getattr(client, what)(int(rest))
