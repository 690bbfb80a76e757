"""Several servers, lost servers, servers that come back: what the data plane sees."""

import asyncio
import signal
from contextlib import AsyncExitStack

from metalbond import codec
from metalbond.client import MetalbondClient
from metalbond.codec import Hello, MessageType
from metalbond.session import SessionState
from metalbond.types import Destination, HopType, NextHop, Route
from tests.support.metalbond import (
    RawServer,
    RecordingBackend,
    eventually,
    running_client,
    running_server,
    server_process,
)

ONE = Route(100, Destination.parse("10.0.0.1/32"), NextHop.to("fd00::1"))
TWO = Route(100, Destination.parse("fd00:1::1/128"), NextHop.to("fd00::1"))
NAT = Route(100, Destination.parse("20.0.0.1/32"), NextHop.to("fd00::1", HopType.NAT, nat_from=1024, nat_to=2048))


async def test_two_clients_over_two_servers() -> None:
    async with (
        running_server() as first,
        running_server() as second,
        running_client([*first.addresses, *second.addresses]) as (a, seen_by_a),
        running_client([*first.addresses, *second.addresses]) as (b, seen_by_b),
    ):
        for client in (a, b):
            assert client.subscribe(100)
            assert not client.subscribe(100)
            assert await client.wait_synced(100, 10)
        assert a.announce(*ONE) and a.announce(*NAT)
        assert not a.announce(*ONE)
        await seen_by_b.wait_for(ONE, NAT)
        assert b.routes(100) == {ONE[1:], NAT[1:]}
        assert a.set_announcements(100, {TWO[1:]})
        await seen_by_b.wait_for(TWO)
        assert a.withdraw(*TWO)
        assert not a.withdraw(*TWO)
        await seen_by_b.wait_for()
        assert seen_by_a.history == [], "own routes do not come back"
        assert set(a.server_states().values()) == {SessionState.ESTABLISHED}


async def test_setters_before_the_servers_exist_take_effect_later() -> None:
    async with running_server() as server:
        address = server.addresses[0]
    async with running_client([address]) as (a, _), running_client([address]) as (b, seen):
        a.announce(*ONE)
        b.subscribe(100)
        assert not b.synced(100)
        assert not await b.wait_synced(100, 0.05)
        async with running_server(listen=address):
            await seen.wait_for(ONE)
            assert await b.wait_synced(100, 10)


async def test_three_servers_count_references() -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running_server()) for _ in range(3)]
        addresses = [server.addresses[0] for server in servers]
        # The announcer reaches each server by a client of its own, so that each can be withdrawn alone.
        announcers = [(await stack.enter_async_context(running_client([address])))[0] for address in addresses]
        client, seen = await stack.enter_async_context(running_client(addresses, grace_seconds=0.2))
        client.subscribe(100)
        for announcer in announcers:
            announcer.announce(*ONE)
        await seen.wait_for(ONE)
        await eventually(lambda: len(client._union.received.sources(ONE)) == 3)
        announcers[0].withdraw(*ONE)
        await eventually(lambda: len(client._union.received.sources(ONE)) == 2)
        await servers[1].close()
        await eventually(lambda: client._union.received.sources(ONE) == (addresses[2],))
        assert seen.history == [(True, ONE)]
        announcers[2].withdraw(*ONE)
        await seen.wait_for()
        assert seen.history == [(True, ONE), (False, ONE)]


async def test_a_healthy_server_hears_everything_while_another_is_down() -> None:
    async with running_server() as gone:
        dead = gone.addresses[0]
    async with (
        running_server() as server,
        running_client([dead, server.addresses[0]]) as (a, _),
        running_client([server.addresses[0], dead]) as (b, seen),
    ):
        for number in range(50):
            b.subscribe(number)
            a.announce(number, *ONE[1:])
        await seen.wait(lambda routes: len(routes) == 50)
        a.set_announcements(7, [])
        await seen.wait(lambda routes: len(routes) == 49)


async def test_kill_9_of_the_server_twice_loses_nothing_and_leaves_nothing_stale() -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(AsyncExitStack())
        server, address = await first.enter_async_context(server_process())
        a, _ = await stack.enter_async_context(running_client([address]))
        b, seen = await stack.enter_async_context(running_client([address], settle_seconds=2.0, grace_seconds=60))
        a.announce(*ONE)
        a.announce(*TWO)
        b.subscribe(100)
        await seen.wait_for(ONE, TWO)
        for _ in range(2):
            await server.stop(signal.SIGKILL)
            await eventually(lambda: b.server_states()[address] is not SessionState.ESTABLISHED)
            await eventually(lambda: a.server_states()[address] is not SessionState.ESTABLISHED)
            assert b.table_sizes()["stale"] == 2
            a.withdraw(*TWO)
            server, _ = await stack.enter_async_context(server_process(address))
            assert await b.wait_synced(100, 20)
            assert ONE in seen.routes
            await seen.wait_for(ONE)
            await eventually(lambda: b.table_sizes()["stale"] == 0)
            a.announce(*TWO)
            await seen.wait_for(ONE, TWO)
        assert ONE not in seen.removals


async def test_routes_of_a_server_that_stays_away_go_after_the_grace_time() -> None:
    async with (
        running_server() as server,
        running_client(server.addresses) as (a, _),
        running_client(server.addresses, grace_seconds=0.5) as (b, seen),
    ):
        a.announce(*ONE)
        b.subscribe(100)
        await seen.wait_for(ONE)
        lost = asyncio.get_running_loop().time()
        await server.close()
        await seen.wait_for()
        assert asyncio.get_running_loop().time() - lost >= 0.5


async def crash(client: MetalbondClient) -> None:
    """End a client as kill -9 does: its sockets close and nothing is said."""
    for task in client._tasks:
        task.cancel()
    await asyncio.gather(*client._tasks, return_exceptions=True)


async def test_a_restarted_client_with_a_name_interrupts_nobody() -> None:
    async with running_server() as server, running_client(server.addresses) as (watcher, seen):
        watcher.subscribe(100)
        async with running_client(server.addresses, identity="node", hold_seconds=2) as (before, _):
            before.announce(*ONE)
            before.announce(*TWO)
            await seen.wait_for(ONE, TWO)
            await crash(before)
        await eventually(lambda: server.held_peers == 1)
        assert seen.routes == {ONE, TWO}
        async with running_client(server.addresses, identity="node", hold_seconds=2) as (after, seen_by_itself):
            after.subscribe(100)
            assert await after.wait_synced(100, 10)
            assert seen_by_itself.history == [], "its own held routes are not foreign to it"
            after.announce(*ONE)
            await seen.wait_for(ONE)
            assert seen.history == [(True, ONE), (True, TWO), (False, TWO)]
            assert server.held_peers == 0


async def test_without_a_name_a_lost_client_loses_its_routes_at_once() -> None:
    async with running_server() as server, running_client(server.addresses) as (watcher, seen):
        watcher.subscribe(100)
        async with running_client(server.addresses, hold_seconds=60) as (client, _):
            client.announce(*ONE)
            await seen.wait_for(ONE)
            await crash(client)
            await seen.wait_for()


async def test_close_with_withdrawal_takes_held_routes_back_too() -> None:
    async with running_server() as server, running_client(server.addresses) as (watcher, seen):
        watcher.subscribe(100)
        async with running_client(server.addresses, identity="node", hold_seconds=60) as (client, _):
            client.announce(*ONE)
            await seen.wait_for(ONE)
            await client.close(withdraw=True)
            await seen.wait_for()
            assert server.held_peers == 0


async def test_unsubscribing_takes_the_routes_from_the_backend_and_keeps_own_announcements() -> None:
    async with (
        running_server() as server,
        running_client(server.addresses) as (a, seen_by_a),
        running_client(server.addresses) as (b, seen_by_b),
    ):
        for client, route in ((a, ONE), (b, TWO)):
            client.subscribe(100)
            client.announce(*route)
        await seen_by_a.wait_for(TWO)
        await seen_by_b.wait_for(ONE)
        for _ in range(3):
            assert a.unsubscribe(100)
            assert not a.unsubscribe(100)
            assert seen_by_a.routes == set()
            assert a.subscribe(100)
            await seen_by_a.wait_for(TWO)
            assert await a.wait_synced(100, 10)
        assert seen_by_b.removals == []


async def test_a_backend_that_fails_does_not_stop_the_others() -> None:
    class Failing(RecordingBackend):
        def route_added(self, vni: int, destination: Destination, hop: NextHop) -> None:
            super().route_added(vni, destination, hop)
            if destination == ONE.destination:
                raise RuntimeError("no room")

    async with (
        running_server() as server,
        running_client(server.addresses) as (a, _),
        running_client(server.addresses, Failing()) as (b, seen),
    ):
        a.announce(*ONE)
        a.announce(*TWO)
        b.subscribe(100)
        await seen.wait_for(ONE, TWO)


async def test_a_vni_is_synced_when_the_keepalive_behind_its_subscription_is_answered() -> None:
    server = RawServer()
    try:
        async with running_client([server.address], keepalive=60) as (client, seen):
            client.subscribe(100)
            peer = await server.next_peer()
            await peer.accept(Hello(60, is_server=True, revision=1))
            for vni in (100, 200):
                client.subscribe(vni)
                assert await peer.receive() == (MessageType.SUBSCRIBE, codec.encode_subscription(vni, True)[4:])
                assert await peer.receive() == (MessageType.KEEPALIVE, b"")
            await peer.send(codec.encode_update(True, ONE))
            await seen.wait_for(ONE)
            assert not client.synced(100)
            await peer.send(codec.KEEPALIVE)
            assert await client.wait_synced(100, 10)
            assert not client.synced(200)
            await peer.send(codec.KEEPALIVE)
            assert await client.wait_synced(200, 10)
    finally:
        server.close()
