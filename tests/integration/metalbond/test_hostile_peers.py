"""Peers that are slow, silent, broken or malicious must harm nobody but themselves."""

import asyncio
import random
import socket
import struct

import pytest

from metalbond import codec
from metalbond.codec import Hello, MessageType
from metalbond.server import MetalbondServer, ServerConfig
from metalbond.session import SessionState
from metalbond.types import Destination, NextHop, Route
from tests.support.metalbond import RawPeer, RawServer, eventually, running_client, running_server

HOP = NextHop.to("fd00::1")
ONE = Route(100, Destination.parse("10.0.0.1/32"), HOP)
EXTENDED = Hello(5, revision=1)


def many(count: int, vni: int = 100) -> list[Route]:
    return [Route(vni, Destination((0x0A000000 + n).to_bytes(4, "big"), 32), HOP) for n in range(count)]


async def still_serves(server: MetalbondServer) -> None:
    """Distribution works end to end, in a VNI that nobody else uses."""
    probe = Route(424242, Destination.parse("::/0"), HOP)
    async with (
        running_client(server.addresses) as (a, _),
        running_client(server.addresses) as (b, seen),
    ):
        b.subscribe(probe.vni)
        a.announce(*probe)
        await seen.wait_for(probe)


GARBAGE = {
    "version": b"\x02\x00\x00\x02",
    "type": b"\x01\x00\x00\x09",
    "length past every limit": b"\x01\xff\xff\x05",
    "one byte too long": b"\x01\x04\xa5\x05" + bytes(1189),
    "no protobuf": codec.frame(MessageType.UPDATE, b"\xff\xff\xff"),
    "keepalive with a payload": codec.frame(MessageType.KEEPALIVE, b"\x08\x05"),
    "hello with interval 0": codec.frame(MessageType.HELLO, b""),
    "no next hop": codec.frame(MessageType.UPDATE, bytes.fromhex("10641a0812040a0000001818")),
    "address of 5 bytes": codec.frame(MessageType.UPDATE, bytes.fromhex("1a0712050a00000000220412040a000001")),
    "hello of a server": codec.encode_hello(Hello(5, is_server=True)),
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "tls": bytes.fromhex("1603010200010001fc0303"),
}


@pytest.mark.parametrize("established", [False, True])
@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_ends_its_own_session_only(name: str, established: bool) -> None:
    async with running_server() as server:
        peer = await RawPeer.connect(server.addresses[0])
        if established:
            await peer.establish()
        await peer.send(GARBAGE[name])
        await peer.closed()
        peer.close()
        await eventually(lambda: not server.sessions())
        assert len(server.distributor) == 0
        await still_serves(server)


async def test_random_bytes() -> None:
    generator = random.Random(4711)
    async with running_server() as server:
        for _ in range(200):
            peer = await RawPeer.connect(server.addresses[0])
            stream = bytearray(codec.encode_hello(Hello(5)) + codec.KEEPALIVE + codec.encode_update(True, ONE) * 3)
            for _ in range(generator.randrange(1, 6)):
                stream[generator.randrange(len(stream))] = generator.randrange(256)
            await peer.send(bytes(stream))
            peer.close()
        await eventually(lambda: not server.sessions())
        assert len(server.distributor) == 0
        await still_serves(server)


async def test_impossible_routes_are_refused_and_the_session_goes_on() -> None:
    bad = bytearray(codec.encode_update(True, ONE))
    bad[bad.index(b"\x18\x20") + 1] = 33
    async with running_server() as server, running_client(server.addresses) as (client, seen):
        client.subscribe(100)
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        await peer.send(bytes(bad), codec.encode_update(True, ONE))
        await seen.wait_for(ONE)
        assert server.stats.updates_refused["invalid"] == 1
        peer.close()


async def test_frames_cut_anywhere_are_put_together_again() -> None:
    routes = many(20)
    async with running_server() as server:
        peer = await RawPeer.connect(server.addresses[0])
        stream = codec.encode_hello(Hello(5)) + codec.KEEPALIVE
        stream += b"".join(codec.encode_update(True, route) for route in routes)
        for byte in stream:
            await peer.send(bytes([byte]))
            await asyncio.sleep(0)
        await eventually(lambda: len(server.distributor) == len(routes))
        assert {route for route, _ in server.distributor.routes(100)} == set(routes)
        peer.close()


@pytest.mark.parametrize("early", [codec.encode_subscription(1, True), codec.encode_update(True, ONE), codec.KEEPALIVE])
async def test_nothing_is_taken_before_the_handshake(early: bytes) -> None:
    async with running_server() as server:
        peer = await RawPeer.connect(server.addresses[0])
        await peer.send(early)
        await peer.closed()
        assert len(server.distributor) == 0
        peer.close()


async def test_unsubscribe_before_hello_is_tolerated() -> None:
    async with running_server() as server:
        peer = await RawPeer.connect(server.addresses[0])
        await peer.send(codec.encode_subscription(1, False))
        await peer.establish()
        peer.close()


async def test_subscribing_twice_and_saying_hello_twice_change_nothing() -> None:
    async with running_server() as server, running_client(server.addresses) as (a, _):
        a.announce(*ONE)
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        await peer.send(*[codec.encode_subscription(100, True)] * 2, codec.encode_hello(Hello(5)))
        frames = [await peer.receive() for _ in range(2)]
        assert (MessageType.UPDATE, codec.encode_update(True, ONE)[4:]) in frames
        assert any(frame is not None and frame[0] is MessageType.HELLO for frame in frames)
        a.withdraw(*ONE)
        assert await peer.receive_updates(1) == [(False, ONE)]
        peer.close()
        await still_serves(server)


async def test_a_silent_connection_is_closed() -> None:
    async with running_server(ServerConfig(hello_timeout=0.3)) as server:
        peer = await RawPeer.connect(server.addresses[0])
        await peer.closed(5)
        peer.close()
        assert server.stats.sessions_lost["hello_timeout"] == 1


async def test_a_half_open_client_is_given_up_after_two_and_a_half_intervals() -> None:
    async with running_server(ServerConfig(keepalive=1)) as server, running_client(server.addresses) as (client, seen):
        client.subscribe(100)
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        await peer.send(codec.encode_update(True, ONE))
        await seen.wait_for(ONE)
        silent_since = asyncio.get_running_loop().time()
        await seen.wait_for()
        assert 2.0 < asyncio.get_running_loop().time() - silent_since < 5.0
        assert server.stats.sessions_lost["keepalive_timeout"] == 1
        await peer.closed()
        peer.close()


async def test_a_half_open_server_is_given_up_and_dialled_again() -> None:
    server = RawServer()
    try:
        async with running_client([server.address], grace_seconds=60) as (client, seen):
            client.subscribe(100)
            first = await server.next_peer()
            await first.accept(Hello(1, is_server=True, revision=1))
            await first.send(codec.encode_update(True, ONE))
            await seen.wait_for(ONE)
            second = await server.next_peer()
            await first.closed()
            assert client.stats.sessions_lost["keepalive_timeout"] == 1
            assert seen.routes == {ONE}, "routes outlive the session"
            await second.accept(Hello(1, is_server=True, revision=1))
            await eventually(lambda: client.server_states()[server.address] is SessionState.ESTABLISHED)
    finally:
        server.close()


async def test_a_reset_connection() -> None:
    async with running_server() as server, running_client(server.addresses) as (client, seen):
        client.subscribe(100)
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        await peer.send(codec.encode_update(True, ONE))
        await seen.wait_for(ONE)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        await seen.wait_for()


async def test_a_subscriber_that_does_not_read_delays_nobody_and_is_dropped() -> None:
    routes = many(10_000)
    config = ServerConfig(keepalive=1, stall_timeout=1.5)
    async with running_server(config) as server, running_client(server.addresses) as (a, _):
        slow = await RawPeer.connect(server.addresses[0], receive_buffer=4096)
        await slow.establish(EXTENDED)
        await slow.send(codec.encode_subscription(100, True))
        await eventually(lambda: server.distributor.subscriptions() == 1)
        keepalives = asyncio.create_task(keep_alive(slow))
        a.set_announcements(100, {route[1:] for route in routes})
        async with running_client(server.addresses) as (b, seen):
            b.subscribe(100)
            await seen.wait(lambda have: len(have) == len(routes))
            # Changes pile up for the slow one only as far as its table is long.
            for _ in range(3):
                a.set_announcements(100, [])
                await seen.wait(lambda have: not have)
                a.set_announcements(100, {route[1:] for route in routes})
                await seen.wait(lambda have: len(have) == len(routes))
            backlog = [server.distributor.waiting(number) for number in server._peers]
            assert all(size <= 2 * len(routes) for size in backlog)
            await eventually(lambda: server.stats.sessions_lost["stalled"] == 1)
        keepalives.cancel()
        slow.close()
        await still_serves(server)


async def keep_alive(peer: RawPeer) -> None:
    while True:
        try:
            await peer.send(codec.KEEPALIVE)
        except OSError:
            return
        await asyncio.sleep(0.4)


@pytest.mark.parametrize("hello", [Hello(5), EXTENDED], ids=["original", "extended"])
async def test_a_flood_of_keepalives_without_reading_is_bounded(hello: Hello) -> None:
    async with running_server() as server:
        peer = await RawPeer.connect(server.addresses[0], receive_buffer=4096)
        await peer.establish(hello)

        async def flood() -> None:
            while True:
                await peer.send(codec.KEEPALIVE * 10_000)

        with pytest.raises(OSError):
            async with asyncio.timeout(30):
                await flood()
        assert server.stats.sessions_lost["flood"] == 1
        peer.close()


async def test_limits_refuse_what_is_too_much_and_keep_the_session() -> None:
    config = ServerConfig(max_peer_routes=3, max_routes=4, max_subscriptions=2)
    async with running_server(config) as server:
        greedy, other = [await RawPeer.connect(server.addresses[0]) for _ in range(2)]
        await greedy.establish(EXTENDED)
        await other.establish(EXTENDED)
        await greedy.send(*(codec.encode_update(True, route) for route in many(5)))
        await eventually(lambda: server.stats.updates_refused["max_peer_routes"] == 2)
        await other.send(*(codec.encode_update(True, route) for route in many(3, vni=5)))
        await eventually(lambda: server.stats.updates_refused["max_routes"] == 2)
        await greedy.send(*(codec.encode_subscription(vni, True) for vni in (5, 6, 7)))
        assert await greedy.receive_updates(1) == [(True, many(1, vni=5)[0])]
        await eventually(lambda: server.stats.updates_refused["max_subscriptions"] == 1)
        # Known routes may be repeated, and room may be made.
        await greedy.send(codec.encode_update(True, many(1)[0]), codec.encode_update(False, many(1)[0]))
        await other.send(codec.encode_update(True, many(1, vni=6)[0]))
        assert await greedy.receive_updates(1) == [(True, many(1, vni=6)[0])]
        assert server.stats.updates_refused.total() == 5
        greedy.close()
        other.close()


async def test_a_client_takes_no_more_routes_than_it_may() -> None:
    async with (
        running_server() as server,
        running_client(server.addresses) as (a, _),
        running_client(server.addresses, max_routes=5) as (b, seen),
    ):
        b.subscribe(100)
        a.set_announcements(100, {route[1:] for route in many(8)})
        await eventually(lambda: b.stats.updates_refused["max_routes"] == 3)
        assert len(seen.routes) == 5
        a.set_announcements(100, [])
        await seen.wait_for()


async def test_too_many_peers() -> None:
    async with running_server(ServerConfig(max_peers=1)) as server:
        first = await RawPeer.connect(server.addresses[0])
        await first.establish()
        second = await RawPeer.connect(server.addresses[0])
        await second.closed()
        second.close()
        first.close()
        await eventually(lambda: not server.sessions())
        await still_serves_one(server)
        assert server.stats.accepts_refused == 1


async def still_serves_one(server: MetalbondServer) -> None:
    peer = await RawPeer.connect(server.addresses[0])
    await peer.establish()
    peer.close()
