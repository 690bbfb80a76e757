"""Peers that speak the original protocol only: what they send and what they can bear."""

import asyncio

from metalbond import codec
from metalbond.codec import Hello, MessageType
from metalbond.server import ServerConfig
from metalbond.types import Destination, HopType, NextHop, Route
from metalbond.wire import Pace
from tests.support.metalbond import RawPeer, RawServer, eventually, running_client, running_server

HOP = NextHop.to("fd00::1")
NET = Destination.parse("10.0.0.1/32")
STANDARD = Route(100, NET, HOP)
NAT = Route(100, NET, NextHop.to("fd00::1", HopType.NAT, nat_from=1, nat_to=9))
TARGET = Route(100, NET, NextHop.to("fd00::1", HopType.LOADBALANCER_TARGET))
FOREIGN = Route(100, Destination.parse("10.9.9.9/32"), NextHop.to("fd00::9"))


def many(count: int) -> list[Route]:
    return [Route(100, Destination((0x0A000000 + n).to_bytes(4, "big"), 32), HOP) for n in range(count)]


async def test_handshake_with_a_server_byte_by_byte() -> None:
    async with running_server(ServerConfig(keepalive=3)) as server:
        peer = await RawPeer.connect(server.addresses[0])
        await peer.send(bytes.fromhex("010002010805"))
        answer = await peer.receive()
        assert answer is not None and answer[0] is MessageType.HELLO
        assert answer[1].startswith(bytes.fromhex("08031001")), "the smaller interval, then isServer, then extensions"
        for _ in range(3):
            await peer.send(bytes.fromhex("01000002"))
            assert await peer.receive() == (MessageType.KEEPALIVE, b"")
        peer.close()


async def test_a_client_gets_its_own_routes_in_the_dump_except_nat_and_their_removal() -> None:
    async with running_server() as server:
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        await peer.send(*(codec.encode_update(True, route) for route in (STANDARD, NAT, TARGET)))
        await peer.send(codec.encode_subscription(100, True))
        assert {route for _, route in await peer.receive_updates(2)} == {STANDARD, TARGET}
        await peer.send(codec.encode_update(False, STANDARD))
        assert await peer.receive_updates(1) == [(False, STANDARD)]
        peer.close()


async def test_unsubscribing_withdraws_a_clients_own_routes() -> None:
    async with running_server() as server, running_client(server.addresses) as (client, seen):
        client.subscribe(100)
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        await peer.send(codec.encode_subscription(100, True), codec.encode_update(True, STANDARD))
        await seen.wait_for(STANDARD)
        await peer.send(codec.encode_subscription(100, False))
        await seen.wait_for()
        peer.close()


async def test_dumps_are_metered_and_no_frame_is_cut() -> None:
    routes = many(3000)
    pace = Pace(rate=60_000, burst=20_000)
    async with running_server(ServerConfig(original_pace=pace)) as server, running_client(server.addresses) as (a, _):
        a.set_announcements(100, {route[1:] for route in routes})
        await eventually(lambda: len(server.distributor) == len(routes))
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        clock = asyncio.get_running_loop().time
        started = clock()
        await peer.send(codec.encode_subscription(100, True))
        total, found = 0, set()
        while len(found) < len(routes):
            data = await peer.receive_bytes()
            total += len(data)
            frames, used = codec.split(data)
            assert used == len(data), "each read ends at the end of a frame"
            found |= {codec.decode_update(payload)[1] for _, payload in frames}
            assert total <= pace.burst + pace.rate * (clock() - started) + 2 * codec.MAX_PAYLOAD
        assert found == set(routes)
        peer.close()


async def test_no_frame_is_cut_under_congestion() -> None:
    pace = Pace(rate=10_000_000, burst=200_000)
    routes = many(4000)
    async with running_server(ServerConfig(original_pace=pace)) as server, running_client(server.addresses) as (a, _):
        a.set_announcements(100, {route[1:] for route in routes})
        await eventually(lambda: len(server.distributor) == len(routes))
        peer = await RawPeer.connect(server.addresses[0], receive_buffer=8192, segment=600)
        await peer.establish()
        await peer.send(codec.encode_subscription(100, True))
        count = 0
        while count < len(routes):
            data = await peer.receive_bytes()
            frames, used = codec.split(data)
            assert used == len(data), "each read ends at the end of a frame"
            count += len(frames)
        peer.close()


async def test_a_keepalive_is_answered_while_a_dump_waits() -> None:
    pace = Pace(rate=1000, burst=2000)
    async with running_server(ServerConfig(original_pace=pace)) as server, running_client(server.addresses) as (a, _):
        a.set_announcements(100, {route[1:] for route in many(3000)})
        await eventually(lambda: len(server.distributor) == 3000)
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        await peer.send(codec.encode_subscription(100, True))
        await peer.receive_updates(10)
        await peer.send(codec.KEEPALIVE)
        async with asyncio.timeout(5):
            frame = await peer.receive()
            while frame is not None and frame[0] is MessageType.UPDATE:
                frame = await peer.receive()
        assert frame == (MessageType.KEEPALIVE, b"")
        peer.close()


async def test_a_changed_next_hop_is_removed_before_it_is_added() -> None:
    moved = Route(100, NET, NextHop.to("fd00::2"))
    async with running_server() as server, running_client(server.addresses) as (a, _):
        a.announce(*STANDARD)
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        await peer.send(codec.encode_subscription(100, True))
        assert await peer.receive_updates(1) == [(True, STANDARD)]
        a.announce(*moved)
        a.withdraw(*STANDARD)
        assert await peer.receive_updates(2) == [(False, STANDARD), (True, moved)]
        peer.close()


async def test_the_client_says_nothing_before_the_first_keepalive_comes_back() -> None:
    server = RawServer()
    try:
        async with running_client([server.address], keepalive=3) as (client, _):
            client.subscribe(100)
            client.announce(*STANDARD)
            peer = await server.next_peer()
            first = await peer.receive()
            assert first is not None and first[0] is MessageType.HELLO
            await peer.send(codec.encode_hello(Hello(2, is_server=True)))
            assert await peer.receive() == (MessageType.KEEPALIVE, b"")
            await peer.send(codec.KEEPALIVE)
            received = [await peer.receive() for _ in range(2)]
            assert received == [
                (MessageType.SUBSCRIBE, codec.encode_subscription(100, True)[4:]),
                (MessageType.UPDATE, codec.encode_update(True, STANDARD)[4:]),
            ]
            started = asyncio.get_running_loop().time()
            assert await peer.receive() == (MessageType.KEEPALIVE, b"")
            assert asyncio.get_running_loop().time() - started <= 2.0
    finally:
        server.close()


async def test_without_extensions_the_client_writes_the_original_hello() -> None:
    server = RawServer()
    try:
        async with running_client([server.address], keepalive=5, identity="node", extensions=False):
            peer = await server.next_peer()
            assert await peer.receive_bytes() == bytes.fromhex("010002010805")
    finally:
        server.close()


async def test_own_routes_that_a_server_sends_back_are_not_kept() -> None:
    server = RawServer()
    try:
        async with running_client([server.address]) as (client, seen):
            client.subscribe(100)
            client.announce(*STANDARD)
            client.announce(*TARGET)
            peer = await server.next_peer()
            await peer.accept()
            await peer.send(*(codec.encode_update(True, route) for route in (STANDARD, TARGET, FOREIGN, FOREIGN)))
            await seen.wait_for(TARGET, FOREIGN)
            client.withdraw(*STANDARD)
            client.withdraw(*TARGET)
            await seen.wait_for(FOREIGN)
            assert seen.removals == [TARGET]
    finally:
        server.close()


async def test_after_unsubscribing_the_client_announces_again_and_subscribes_again_on_a_new_connection() -> None:
    server = RawServer()
    try:
        async with running_client([server.address], keepalive=5) as (client, _):
            client.subscribe(100)
            client.announce(*STANDARD)
            peer = await server.next_peer()
            await peer.accept(Hello(5, is_server=True))
            assert [(await peer.receive() or (None,))[0] for _ in range(2)] == [
                MessageType.SUBSCRIBE,
                MessageType.UPDATE,
            ]
            client.unsubscribe(100)
            assert (await peer.receive() or (None,))[0] is MessageType.UNSUBSCRIBE
            assert await peer.receive() == (MessageType.UPDATE, codec.encode_update(True, STANDARD)[4:])
            client.subscribe(100)
            await peer.closed()
            again = await server.next_peer()
            await again.accept(Hello(5, is_server=True))
            assert (await again.receive() or (None,))[0] is MessageType.SUBSCRIBE
    finally:
        server.close()


async def test_no_vni_is_subscribed_twice_on_one_connection() -> None:
    server = RawServer()
    try:
        async with running_client([server.address], keepalive=5) as (client, _):
            client.subscribe(100)
            first = await server.next_peer()
            await first.accept(Hello(5, is_server=True))
            assert (await first.receive() or (None,))[0] is MessageType.SUBSCRIBE
            client.unsubscribe(100)
            client.subscribe(100)
            rest = await first.receive()
            assert rest is None or rest[0] is MessageType.UNSUBSCRIBE
            await first.closed()
            second = await server.next_peer()
            await second.accept(Hello(5, is_server=True))
            assert (await second.receive() or (None,))[0] is MessageType.SUBSCRIBE
    finally:
        server.close()


async def test_synced_with_a_server_that_gives_no_sign() -> None:
    server = RawServer()
    try:
        async with running_client([server.address]) as (client, seen):
            client.subscribe(100)
            peer = await server.next_peer()
            await peer.accept()
            await peer.send(codec.encode_update(True, FOREIGN))
            await seen.wait_for(FOREIGN)
            assert not client.synced(100)
            waiting = asyncio.create_task(client.wait_synced(100, 10))
            while not waiting.done():
                frame = await peer.receive()
                if frame == (MessageType.KEEPALIVE, b""):
                    await peer.send(codec.KEEPALIVE)
                    await asyncio.wait([waiting], timeout=0.1)
            assert await waiting
    finally:
        server.close()


async def test_bulk_announcements_are_metered() -> None:
    server = RawServer()
    try:
        async with running_client([server.address], keepalive=5) as (client, _):
            client.set_announcements(100, {route[1:] for route in many(20_000)})
            peer = await server.next_peer()
            await peer.accept(Hello(5, is_server=True))
            clock = asyncio.get_running_loop().time
            started, total = clock(), 0
            while clock() - started < 0.5:
                data = await peer.receive_bytes()
                assert codec.split(data)[1] == len(data)
                total += len(data)
            assert 20_000 < total <= 18_000 + 360_000 * (clock() - started) + 2 * codec.MAX_PAYLOAD
    finally:
        server.close()
