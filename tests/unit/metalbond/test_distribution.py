"""Distribution against its one-sentence rule, seen from the far end of each connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from metalbond import codec
from metalbond._core import Distributor, RouteOutbox
from metalbond.codec import MessageType
from metalbond.types import Destination, HopType, NextHop, Route
from tests.support.metalbond_fuzz import resident

DESTINATION = Destination.parse("10.0.0.0/8")
VNIS = (1, 2)
HOPS = [
    NextHop.to("fd00::1"),
    NextHop.to("fd00::2"),
    NextHop.to("fd00::1", HopType.NAT, nat_from=1, nat_to=9),
    NextHop.to("fd00::1", HopType.LOADBALANCER_TARGET),
]
vnis = st.sampled_from(VNIS)
routes = st.builds(Route, vnis, st.just(DESTINATION), st.sampled_from(HOPS))
A, B = (Route(1, DESTINATION, hop) for hop in HOPS[:2])


def updates(frames: list[bytes]) -> list[tuple[bool, Route] | None]:
    """What is written, None for a KEEPALIVE."""
    found, used = codec.split(b"".join(frames))
    assert used == sum(map(len, frames))
    return [codec.decode_update(payload) if kind is MessageType.UPDATE else None for kind, payload in found]


class Receiver:
    """The table that a well-behaved client has after reading everything written to it so far."""

    def __init__(self) -> None:
        self.routes: set[Route] = set()

    def read(self, distributor: Distributor, peer: int, limit: int) -> None:
        for entry in updates(distributor.take(peer, limit, False)[0]):
            assert entry is not None
            add, route = entry
            assert add != (route in self.routes), "each ADD once, each REMOVE for something that was sent"
            (self.routes.add if add else self.routes.discard)(route)

    def forget(self, vni: int) -> None:
        self.routes = {route for route in self.routes if route.vni != vni}


class DistributionMachine(RuleBasedStateMachine):
    peers = Bundle("peers")

    def __init__(self) -> None:
        super().__init__()
        self.distributor = Distributor()
        self.receivers: dict[int, Receiver] = {}
        self.announced: set[tuple[int, Route]] = set()
        self.subscribed: set[tuple[int, int]] = set()
        self.origins: dict[int, object] = {}
        self.held: list[int] = []
        self.next = 0

    @rule(target=peers, identity=st.sampled_from([b"", b"x", b"y"]))
    def connect(self, identity: bytes) -> int:
        self.next += 1
        self.distributor.connect(self.next, identity)
        self.receivers[self.next] = Receiver()
        self.origins[self.next] = identity or self.next
        return self.next

    @rule(peer=peers, vni=vnis)
    def subscribe(self, peer: int, vni: int) -> None:
        assert self.distributor.subscribe(peer, vni) == ((peer, vni) not in self.subscribed)
        self.subscribed.add((peer, vni))

    @rule(peer=peers, vni=vnis)
    def unsubscribe(self, peer: int, vni: int) -> None:
        assert self.distributor.unsubscribe(peer, vni) == ((peer, vni) in self.subscribed)
        self.subscribed.discard((peer, vni))
        self.receivers[peer].forget(vni)

    @rule(peer=peers, add=st.booleans(), route=routes)
    def update(self, peer: int, add: bool, route: Route) -> None:
        self.distributor.update(peer, add, route)
        (self.announced.add if add else self.announced.discard)((peer, route))

    @rule(peer=peers, limit=st.integers(0, 100))
    def read_a_little(self, peer: int, limit: int) -> None:
        self.receivers[peer].read(self.distributor, peer, limit)

    @rule(peer=consumes(peers), hold=st.booleans())
    def disconnect(self, peer: int, hold: bool) -> None:
        self.distributor.disconnect(peer)
        if not hold:
            self.distributor.release(peer)
        del self.receivers[peer]
        self.subscribed = {(p, vni) for p, vni in self.subscribed if p != peer}
        if hold:
            self.held.append(peer)
        else:
            self.announced = {(p, route) for p, route in self.announced if p != peer}

    @rule()
    def release(self) -> None:
        for peer in self.held:
            self.distributor.release(peer)
            self.announced = {(p, route) for p, route in self.announced if p != peer}
        self.held.clear()

    @rule(limit=st.integers(0, 3))
    def release_some(self, limit: int) -> None:
        for peer in self.held:
            before = self.distributor.count_of(peer)
            left = self.distributor.release(peer, limit)
            assert left == self.distributor.count_of(peer) == max(0, before - limit)
            rest = set(self.distributor.of_source(peer))
            self.announced = {(p, route) for p, route in self.announced if p != peer or route in rest}

    @invariant()
    def queues_are_no_longer_than_tables(self) -> None:
        for peer, receiver in self.receivers.items():
            assert self.distributor.waiting(peer) <= len(receiver.routes | {r for _, r in self.announced})

    @invariant()
    def nobody_misses_anything(self) -> None:
        for peer, receiver in self.receivers.items():
            wanted = {
                route
                for source, route in self.announced
                if (peer, route.vni) in self.subscribed and self.origins[source] != self.origins[peer]
            }
            assert self.distributor.waiting(peer) == len(wanted ^ receiver.routes)

    def teardown(self) -> None:
        for peer, receiver in self.receivers.items():
            receiver.read(self.distributor, peer, 100_000)
            assert self.distributor.waiting(peer) == 0
        self.nobody_misses_anything()
        announced = {route for _, route in self.announced}
        assert len(self.distributor) == len(announced)
        assert self.distributor.destination_counts() == dict.fromkeys((route.vni for route in announced), 1)
        for vni in VNIS:
            found = dict(self.distributor.routes(vni))
            assert found.keys() == {route for route in announced if route.vni == vni}
            for route, sources in found.items():
                assert set(sources) == {source for source, r in self.announced if r == route}
            assert self.distributor.hops(vni, DESTINATION) == {route.hop: found[route] for route in found}


TestDistribution = DistributionMachine.TestCase


def drain(distributor: Distributor, peer: int) -> list[tuple[bool, Route] | None]:
    return updates(distributor.take(peer, 100_000, False)[0])


def test_a_route_of_two_announcers_goes_when_the_last_one_goes_also_for_the_last_one() -> None:
    server = Distributor()
    for peer in (1, 2, 3):
        server.connect(peer)
        server.subscribe(peer, 1)
    server.update(1, True, A)
    server.update(2, True, A)
    assert [drain(server, peer) for peer in (1, 2, 3)] == [[(True, A)]] * 3
    server.update(1, False, A)
    assert [drain(server, peer) for peer in (1, 2, 3)] == [[], [(False, A)], []]
    server.update(2, False, A)
    assert [drain(server, peer) for peer in (1, 2, 3)] == [[(False, A)], [], [(False, A)]]


@pytest.mark.parametrize(("original", "expected"), [(True, {HOPS[0], HOPS[3]}), (False, set())])
def test_own_routes_in_the_dump(original: bool, expected: set[NextHop]) -> None:
    server = Distributor()
    server.connect(1, original=original)
    for hop in (HOPS[0], HOPS[2], HOPS[3]):
        server.update(1, True, Route(1, DESTINATION, hop))
    server.subscribe(1, 1)
    entries = [entry for entry in drain(server, 1) if entry is not None]
    assert {route.hop for _, route in entries} == expected


@pytest.mark.parametrize(("original", "left"), [(True, 0), (False, 1)])
def test_only_peers_of_the_original_protocol_lose_their_routes_by_unsubscribing(original: bool, left: int) -> None:
    server = Distributor()
    server.connect(1, original=original)
    server.subscribe(1, 1)
    server.update(1, True, A)
    server.unsubscribe(1, 1)
    assert len(server) == left


def test_held_routes_are_not_given_back_to_the_same_name_and_stay_if_announced_again() -> None:
    server = Distributor()
    server.connect(1, b"node")
    server.connect(9)
    server.subscribe(9, 1)
    server.update(1, True, A)
    server.update(1, True, B)
    server.disconnect(1)
    server.connect(2, b"node")
    server.subscribe(2, 1)
    server.update(2, True, A)
    server.release(1)
    assert drain(server, 2) == []
    assert drain(server, 9) == [(True, A)], "B was withdrawn before it was written"
    assert [route for route, _ in server.routes(1)] == [A]


def test_touched_peers_are_those_with_work() -> None:
    server = Distributor()
    for peer in (1, 2, 3):
        server.connect(peer)
    server.subscribe(2, 1)
    server.take_touched()
    server.update(1, True, A)
    assert server.take_touched() == [2]
    assert server.take_touched() == []


OLD = Route(2, DESTINATION, HOPS[2])


@given(st.lists(st.tuples(routes, st.booleans()), max_size=30), st.integers(1, 4))
def test_the_last_wish_wins_and_undone_wishes_are_not_written(wishes: list[tuple[Route, bool]], limit: int) -> None:
    outbox = RouteOutbox()
    for route, present in wishes:
        outbox.want(route, present)
    told = set()
    while frames := outbox.take(limit):
        assert len(frames) <= limit
        for entry in updates([frame for frame in frames if frame is not None]):
            assert entry is not None and entry[0], "nothing was sent before, so nothing is to be removed"
            told.add(entry[1])
    assert told == {route for route, present in dict(wishes).items() if present} == set(outbox.sent())


def frames_of(*entries: tuple[bool, Route] | None) -> list[bytes | None]:
    return [None if entry is None else codec.encode_update(*entry) for entry in entries]


def test_marks_keep_their_place_and_removals_go_first_between_them() -> None:
    outbox = RouteOutbox()
    outbox.want(OLD, True)
    assert outbox.take(9) == frames_of((True, OLD))
    outbox.want(A, True)
    outbox.want(OLD, False)
    outbox.mark()
    outbox.want(B, True)
    outbox.mark()
    outbox.mark()
    assert outbox.take(1) == frames_of((False, OLD))
    assert outbox.take(9) == frames_of((True, A), None, (True, B), None, None)
    assert (len(outbox), outbox.marks) == (0, 0)
    outbox.mark()
    assert outbox.take(9) == [None]


def test_forgotten_routes_are_sent_again_when_wanted() -> None:
    outbox = RouteOutbox()
    for route in (A, OLD):
        outbox.want(route, True)
    outbox.take(9)
    outbox.want(B, True)
    outbox.forget(1)
    assert outbox.take(9) == []
    assert outbox.sent() == [OLD]
    outbox.want(A, True)
    assert outbox.take(9) == frames_of((True, A))


def test_a_route_that_comes_and_goes_while_nobody_reads_takes_no_memory() -> None:
    server = Distributor()
    server.connect(1)
    server.connect(2)
    server.subscribe(2, 1)

    def flap(times: int) -> None:
        for _ in range(times):
            for route in (A, B):
                server.update(1, True, route)
                server.update(1, False, route)

    flap(2_000)
    before = resident()
    flap(200_000)
    assert resident() - before < 4 * 2**20, "800 000 wishes of 24 bytes would be 18 MiB"
    assert server.waiting(2) == 0
    assert server.take(2, 1000, False) == ([], 0, False)
