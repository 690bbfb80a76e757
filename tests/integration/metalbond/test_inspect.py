"""What servers and clients show of themselves follows what happens to them."""

import asyncio

import pytest

import metalbond.server
from metalbond import codec
from metalbond.codec import Hello
from metalbond.inspect import HELD, SELF, Inspectable
from metalbond.types import Destination, HopType, NextHop, Route
from tests.support.metalbond import WAIT, RawPeer, eventually, running_client, running_server

A = Route(7, Destination.parse("10.0.0.0/24"), NextHop.to("fd00::1"))
B = Route(7, Destination.parse("10.0.0.0/24"), NextHop.to("fd00::2", HopType.NAT, nat_from=1, nat_to=9))
C = Route(9, Destination.parse("fd01::/64"), NextHop.to("fd00::3"))


def shown(instance: Inspectable) -> dict[Route, tuple[str, ...]]:
    """By scan, which look-ups must confirm."""
    found = [row for vni in instance.vnis() for part in instance.scan(vni) for row in part]
    assert len(dict(found)) == len(found)
    for (vni, destination, hop), sources in found:
        assert instance.hops(vni, destination)[hop] == sources
    return dict(found)


async def test_a_server_shows_peers_subscriptions_and_routes_with_their_sources() -> None:
    async with running_server() as server:
        address = server.addresses[0]
        async with (
            running_client([address], identity="node-1") as (one, _),
            running_client([address], identity="node-2") as (two, seen),
        ):
            two.subscribe(7)
            one.announce(*A)
            two.announce(*A)
            one.announce(*B)
            one.announce(*C)
            await eventually(lambda: server.route_count() == 3 and seen.routes == {B})
            peers = {peer.identity: peer for peer in server.peers()}
            assert peers.keys() == {"node-1", "node-2"}
            assert peers["node-1"].routes == 3 and peers["node-1"].subscriptions == ()
            assert peers["node-2"].routes == 1 and peers["node-2"].subscriptions == (7,)
            assert {peer.state for peer in peers.values()} == {"ESTABLISHED"}
            assert all(peer.interval == 1 and peer.revision == 1 and peer.age > 0 for peer in peers.values())
            names = {identity: peer.name for identity, peer in peers.items()}
            table = shown(server)
            assert set(table[A]) == {names["node-1"], names["node-2"]}
            assert table[B] == table[C] == (names["node-1"],)
            assert server.role == "server" and server.vnis() == {7: 1, 9: 1}


async def test_a_client_shows_its_servers_and_both_what_it_got_and_what_it_announces() -> None:
    async with running_server() as first, running_server() as second:
        servers = [first.addresses[0], second.addresses[0]]
        async with running_client(servers) as (one, _), running_client(servers) as (two, seen):
            two.subscribe(7)
            one.announce(*A)
            two.announce(*C)
            await seen.wait_for(A)
            await eventually(lambda: set(shown(two).get(A, ())) == set(servers))
            assert shown(two)[C] == (SELF,)
            assert two.role == "client" and two.vnis() == {7: 1, 9: 1} and two.route_count() == 2
            assert [(peer.name, peer.routes, peer.subscriptions) for peer in two.peers()] == [
                (server, 1, (7,)) for server in servers
            ]
            await first.close()
            await eventually(lambda: two.peers()[0].state != "ESTABLISHED")
            lost = two.peers()[0]
            assert (lost.stale, lost.routes, lost.age, lost.subscriptions) == (1, 1, 0.0, ())


async def test_a_lost_peer_is_shown_as_held_until_its_time_is_over() -> None:
    async with running_server() as server:
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish(Hello(5, revision=1, hold=1, identity=b"node-\xff<"))
        await peer.send(codec.encode_update(True, A))
        await eventually(lambda: server.route_count() == 1)
        name = server.peers()[0].name
        peer.close()
        await eventually(lambda: [view.state for view in server.peers()] == [HELD])
        held = server.peers()[0]
        assert (held.name, held.identity, held.routes, held.stale) == (name, "node-\\xff<", 1, 1)
        assert shown(server) == {A: (name,)}
        await eventually(lambda: not server.peers() and not server.route_count())


async def test_many_routes_of_a_lost_peer_go_in_slices_and_are_shown_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metalbond.server, "RETIRED_PER_SLICE", 10)
    routes = {Route(7, Destination.parse(f"10.0.{number}.0/24"), A.hop) for number in range(100)}
    async with running_server() as server, running_client(server.addresses) as (two, seen):
        two.subscribe(7)
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        await peer.send(*(codec.encode_update(True, route) for route in routes))
        await seen.wait(lambda have: have == routes)
        [name] = {name for names in shown(server).values() for name in names}
        counts = []

        async def watch() -> None:
            while left := shown(server):
                assert set(left.values()) == {(name,)}
                counts.append(len(left))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        peer.close()
        async with asyncio.timeout(WAIT):
            await watching
        await seen.wait_for()
        assert set(counts) == set(range(10, 101, 10)), "others have their turn between slices"


async def test_changes_are_remembered_only_while_somebody_asks_for_them() -> None:
    async with running_server() as server, running_client(server.addresses) as (one, _):
        one.announce(*A)
        await eventually(lambda: server.route_count() == 1)
        assert server.take_changes() == set()
        server.record_changes(True)
        one.announce(*B)
        one.withdraw(*A)
        await eventually(lambda: shown(server).keys() == {B})
        assert server.take_changes() == {A, B}
        assert server.take_changes() == set()
        server.record_changes(False)
        one.withdraw(*B)
        await eventually(lambda: not server.route_count())
        assert server.take_changes() == set()


async def test_refused_messages_are_counted_at_the_peer_that_sent_them() -> None:
    async with running_server() as server:
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        bad = codec.encode_update(True, Route(7, Destination(bytes(4), 200), A.hop))
        await peer.send(bad, bad, codec.encode_update(True, A))
        await eventually(lambda: server.route_count() == 1)
        assert [view.refused for view in server.peers()] == [{"invalid": 2}]
        peer.close()
        await asyncio.wait_for(peer_gone(server), 15)


async def peer_gone(server: Inspectable) -> None:
    await eventually(lambda: not server.peers())
