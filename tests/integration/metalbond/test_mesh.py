"""Servers that dial each other: every route takes one step, nothing goes round, nothing is lost when one restarts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from metalbond import codec
from metalbond.codec import Hello, MessageType
from metalbond.mesh import MeshConfig
from metalbond.server import MetalbondServer, ServerConfig
from metalbond.types import Destination, HopType, NextHop, Route
from tests.support.metalbond import RawPeer, RawServer, eventually, running_client

ONE = Route(100, Destination.parse("10.0.0.1/32"), NextHop.to("fd00::1"))
TWO = Route(100, Destination.parse("fd00:2::/64"), NextHop.to("fd00::2"))
LB = Route(100, Destination.parse("10.9.9.9/32"), NextHop.to("fd00::1", HopType.LOADBALANCER_TARGET))


async def start(
    listen: str, others: list[str], name: str = "", grace: float = 60.0, settle: float = 0.3
) -> MetalbondServer:
    server = MetalbondServer(
        ServerConfig(keepalive=1, identity=name.encode()), mesh=MeshConfig(tuple(others), grace=grace, settle=settle)
    )
    await server.start([listen])
    return server


@asynccontextmanager
async def mesh(size: int, **times: float) -> AsyncIterator[tuple[list[MetalbondServer], list[str]]]:
    """Servers of which each dials all others, and their addresses. A test may replace a server."""
    reserved = [await start("[::1]:0", []) for _ in range(size)]
    addresses = [server.addresses[0] for server in reserved]
    for server in reserved:
        await server.close()
    servers = [
        await start(address, [other for other in addresses if other != address], f"server-{number}", **times)
        for number, address in enumerate(addresses)
    ]
    try:
        yield servers, addresses
    finally:
        for server in servers:
            await server.close()


def up(servers: list[MetalbondServer]) -> bool:
    return all(
        view.state == "ESTABLISHED" for server in servers for view in server.peers() if view.mesh and not view.reason
    ) and all(sum(view.mesh for view in server.peers()) == 2 * (len(servers) - 1) for server in servers)


async def test_clients_of_different_servers_hear_of_each_other() -> None:
    async with (
        mesh(3) as (servers, (first, second, third)),
        running_client([first]) as (a, seen_by_a),
        running_client([second]) as (b, seen_by_b),
        running_client([third]) as (c, seen_by_c),
    ):
        for client in (a, b, c):
            client.subscribe(100)
        a.announce(*ONE)
        b.announce(*TWO)
        await seen_by_c.wait_for(ONE, TWO)
        await seen_by_b.wait_for(ONE)
        await seen_by_a.wait_for(TWO)
        a.withdraw(*ONE)
        await seen_by_c.wait_for(TWO)
        await seen_by_b.wait_for()
        b.withdraw(*TWO)
        await seen_by_c.wait_for()
        # Nothing circles: all tables are empty, and sources of clients that announce nothing are gone.
        await eventually(lambda: not any(len(server.distributor) for server in servers))
        await eventually(lambda: not any(server._mesh._names for server in servers))
        assert seen_by_a.history == [(True, TWO), (False, TWO)]


@pytest.mark.parametrize("identity", ["node", ""])
async def test_a_client_of_several_servers_does_not_get_its_own_routes_by_way_of_the_mesh(identity: str) -> None:
    async with (
        mesh(2) as (servers, addresses),
        running_client(addresses, identity=identity) as (a, _),
        running_client(addresses) as (b, seen),
    ):
        await eventually(lambda: up(servers))
        a.subscribe(100)
        b.subscribe(100)
        for route in (ONE, LB):
            a.announce(*route)
        await seen.wait_for(ONE, LB)
        await eventually(lambda: all(len(s.distributor.sources(ONE)) == 2 for s in servers))
        b.announce(*TWO)
        await eventually(lambda: a.routes(100) == {TWO[1:], LB[1:]})
        assert a._union.received.sources(ONE) == ()
        assert a._union.received.sources(LB) == ()


async def test_the_same_route_of_two_clients_stays_until_both_withdraw_it() -> None:
    async with (
        mesh(2) as (servers, (first, second)),
        running_client([first], identity="a") as (a, _),
        running_client([first], identity="b") as (b, _),
        running_client([second]) as (c, seen),
    ):
        c.subscribe(100)
        a.announce(*ONE)
        b.announce(*ONE)
        await eventually(lambda: len(servers[1].distributor.sources(ONE)) == 2)
        a.withdraw(*ONE)
        await eventually(lambda: len(servers[1].distributor.sources(ONE)) == 1)
        assert seen.history == [(True, ONE)]
        b.withdraw(*ONE)
        await seen.wait_for()


async def test_a_restarted_server_costs_clients_of_the_others_nothing_and_leaves_nothing() -> None:
    async with (
        mesh(2, settle=3.0) as (servers, (first, second)),
        AsyncExitStack() as stack,
        running_client([second]) as (c, seen),
    ):
        a, _ = await stack.enter_async_context(running_client([first]))
        b, _ = await stack.enter_async_context(running_client([first]))
        c.subscribe(100)
        a.announce(*ONE)
        b.announce(*TWO)
        await seen.wait_for(ONE, TWO)
        await servers[0].close()
        await eventually(lambda: any(view.stale == 2 for view in servers[1].peers()))
        b.withdraw(*TWO)
        servers[0] = await start(first, [second], "server-0")
        await seen.wait_for(ONE)
        assert seen.removals == [TWO]
        await eventually(lambda: all(view.stale == 0 for view in servers[1].peers()))
        assert seen.routes == {ONE}


async def test_routes_of_a_server_that_stays_away_end_with_the_grace_time() -> None:
    async with (
        mesh(2, grace=0.5) as (servers, (first, second)),
        running_client([first]) as (a, _),
        running_client([second]) as (c, seen),
    ):
        c.subscribe(100)
        a.announce(*ONE)
        await seen.wait_for(ONE)
        await servers[0].close()
        await seen.wait_for()
        await eventually(lambda: len(servers[1].distributor) == 0)


async def test_what_a_server_sends_between_two_losses_is_merged_and_swept_once() -> None:
    """Byte by byte, because the order matters: a session that ends before it has sent everything proves nothing."""
    other = RawServer()
    server = await start("[::1]:0", [other.address], "s", settle=0.3)
    try:
        async with running_client(server.addresses) as (client, seen):
            client.subscribe(100)
            hello = Hello(1, is_server=True, revision=1, identity=b"other")

            async def session(*routes: Route, synced: bool) -> RawPeer:
                peer = await other.next_peer()
                first = await peer.accept(hello)
                assert (first.is_server, first.identity) == (True, b"s")
                assert await peer.receive() == (MessageType.SUBSCRIBE, b"")
                assert await peer.receive() == (MessageType.KEEPALIVE, b"")
                await peer.send(*(codec.encode_update(True, route, b"node") for route in routes))
                if synced:
                    await peer.send(codec.KEEPALIVE)
                return peer

            peer = await session(ONE, TWO, synced=True)
            await seen.wait_for(ONE, TWO)
            peer.close()
            peer = await session(LB, synced=False)
            await seen.wait_for(ONE, TWO, LB)
            peer.close()
            peer = await session(TWO, synced=True)
            await seen.wait_for(TWO)
            assert sorted(seen.removals) == sorted([ONE, LB])
            assert [route for added, route in seen.history if added].count(TWO) == 1
    finally:
        await server.close()
        other.close()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (codec.encode_update(True, ONE), "bad_payload"),
        (codec.encode_update(True, ONE, b"x" * 129), "bad_payload"),
        (codec.encode_subscription(1, True), "wrong_role"),
    ],
    ids=["without origin", "origin too long", "subscribes"],
)
async def test_nonsense_of_a_meshed_server_ends_the_session(frame: bytes, reason: str) -> None:
    other = RawServer()
    server = await start("[::1]:0", [other.address], "s")
    try:
        peer = await other.next_peer()
        await peer.accept(Hello(1, is_server=True, revision=1, identity=b"other"))
        await peer.send(frame)
        await peer.closed()
        await eventually(lambda: server.stats.sessions_lost[reason] == 1)
        assert len(server.distributor) == 0
    finally:
        await server.close()
        other.close()


async def test_a_server_that_dials_may_not_announce() -> None:
    server = await start("[::1]:0", [], "s")
    try:
        peer = await RawPeer.connect(server.addresses[0])
        answer = await peer.establish(Hello(1, is_server=True, revision=1, identity=b"other"))
        assert (answer.is_server, answer.identity) == (True, b"s")
        await peer.send(codec.encode_update(True, ONE))
        await peer.closed()
        await eventually(lambda: server.stats.sessions_lost["wrong_role"] == 1)
        assert len(server.distributor) == 0
        peer.close()
    finally:
        await server.close()


async def test_a_server_notices_that_it_dials_itself_or_one_that_cannot_be_meshed() -> None:
    """A server of the original protocol takes the HELLO for a client's."""
    other = RawServer()
    probe = await start("[::1]:0", [])
    address = probe.addresses[0]
    await probe.close()
    server = await start(address, [address, other.address], "s")
    try:
        peer = await other.next_peer()
        await peer.receive()
        await peer.send(codec.encode_hello(Hello(1, is_server=True)))
        await peer.closed()
        await eventually(lambda: server.stats.sessions_lost["wrong_role"] >= 2)
        reasons = [view.reason for view in server.peers() if view.reason]
        assert reasons and all("a server dialled itself" in reason for reason in reasons)
    finally:
        await server.close()
        other.close()


async def test_clients_of_the_original_protocol_profit_too() -> None:
    async with mesh(2) as (_, (first, second)), running_client([first], identity="a") as (a, _):
        peer = await RawPeer.connect(second)
        await peer.establish()
        await peer.send(codec.encode_subscription(100, True))
        a.announce(*ONE)
        [update] = await peer.receive_updates(1)
        assert update == (True, ONE)
        await peer.send(codec.encode_update(True, TWO))
        a.subscribe(100)
        await eventually(lambda: a.routes(100) == {TWO[1:]})
        peer.close()
        await eventually(lambda: a.routes(100) == frozenset())


async def test_a_full_table_takes_no_more_from_the_mesh() -> None:
    other = RawServer()
    server = MetalbondServer(ServerConfig(keepalive=1, max_routes=1), mesh=MeshConfig((other.address,)))
    await server.start(["[::1]:0"])
    try:
        peer = await other.next_peer()
        await peer.accept(Hello(1, is_server=True, revision=1, identity=b"other"))
        await peer.send(*(codec.encode_update(True, r, o) for r in (ONE, TWO) for o in (b"a", b"b")))
        await eventually(lambda: server.stats.updates_refused["max_routes"] == 2)
        assert len(server.distributor.sources(ONE)) == 2
        await peer.send(codec.encode_update(False, *(ONE, b"a")), codec.KEEPALIVE)
        await eventually(lambda: len(server.distributor.sources(ONE)) == 1)
    finally:
        await server.close()
        other.close()
