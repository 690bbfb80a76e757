"""Distribution against its one-sentence rule, seen from the far end of each connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from metalbond.distribution import Distributor, Outbox
from metalbond.types import Destination, HopType, NextHop, Route

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


class Receiver:
    """The table that a well-behaved client has after reading everything written to it so far."""

    def __init__(self) -> None:
        self.routes: set[Route] = set()

    def read(self, distributor: Distributor, peer: int, limit: int) -> None:
        for entry in distributor._peers[peer].outbox.take(limit):
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

    @rule(peer=peers, limit=st.integers(0, 3))
    def read_a_little(self, peer: int, limit: int) -> None:
        self.receivers[peer].read(self.distributor, peer, limit)

    @rule(peer=consumes(peers), hold=st.booleans())
    def disconnect(self, peer: int, hold: bool) -> None:
        self.distributor.disconnect(peer, hold=hold)
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

    @invariant()
    def queues_are_no_longer_than_tables(self) -> None:
        for peer, receiver in self.receivers.items():
            assert len(self.distributor._peers[peer].outbox) <= len(receiver.routes | {r for _, r in self.announced})

    @invariant()
    def nobody_misses_anything(self) -> None:
        for peer, receiver in self.receivers.items():
            wanted = {
                route
                for source, route in self.announced
                if (peer, route.vni) in self.subscribed and self.origins[source] != self.origins[peer]
            }
            outbox = self.distributor._peers[peer].outbox
            assert receiver.routes == outbox.sent
            assert wanted == (receiver.routes - set(outbox._removes)) | set(outbox._adds)

    def teardown(self) -> None:
        for peer, receiver in self.receivers.items():
            receiver.read(self.distributor, peer, 1000)
        self.nobody_misses_anything()
        assert set(self.distributor.table.vnis()) == {route.vni for _, route in self.announced}


TestDistribution = DistributionMachine.TestCase


def drain(distributor: Distributor, peer: int) -> list[tuple[bool, Route] | None]:
    return distributor._peers[peer].outbox.take(1000)


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
    assert len(server.table) == left


def test_held_routes_are_not_given_back_to_the_same_name_and_stay_if_announced_again() -> None:
    server = Distributor()
    server.connect(1, b"node")
    server.connect(9)
    server.subscribe(9, 1)
    server.update(1, True, A)
    server.update(1, True, B)
    server.disconnect(1, hold=True)
    server.connect(2, b"node")
    server.subscribe(2, 1)
    server.update(2, True, A)
    server.release(1)
    assert drain(server, 2) == []
    assert drain(server, 9) == [(True, A)], "B was withdrawn before it was written"
    assert [route for route, _ in server.table.routes(1)] == [A]


def test_touched_peers_are_those_with_work() -> None:
    server = Distributor()
    for peer in (1, 2, 3):
        server.connect(peer)
    server.subscribe(2, 1)
    server.take_touched()
    server.update(1, True, A)
    assert server.take_touched() == {2}
    assert server.take_touched() == set()


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=30), st.integers(1, 4))
def test_the_last_wish_wins_and_undone_wishes_are_not_written(wishes: list[tuple[str, bool]], limit: int) -> None:
    outbox: Outbox[str] = Outbox()
    for key, present in wishes:
        outbox.want(key, present)
    told = set()
    while entries := outbox.take(limit):
        assert len(entries) <= limit
        for entry in entries:
            assert entry is not None and entry[0], "nothing was sent before, so nothing is to be removed"
            told.add(entry[1])
    assert told == {key for key, present in dict(wishes).items() if present} == outbox.sent


def test_marks_keep_their_place_and_removals_go_first_between_them() -> None:
    outbox: Outbox[str] = Outbox()
    outbox.want("old", True)
    assert outbox.take(9) == [(True, "old")]
    outbox.want("a", True)
    outbox.want("old", False)
    outbox.mark()
    outbox.want("b", True)
    outbox.mark()
    outbox.mark()
    assert outbox.take(1) == [(False, "old")]
    assert outbox.take(9) == [(True, "a"), None, (True, "b"), None, None]
    assert (len(outbox), outbox.marks) == (0, 0)
    outbox.mark()
    assert outbox.take(9) == [None]


def test_forgotten_keys_are_sent_again_when_wanted() -> None:
    outbox: Outbox[str] = Outbox()
    outbox.want("a", True)
    outbox.take(9)
    outbox.want("b", True)
    outbox.forget(lambda key: True)
    assert outbox.take(9) == []
    outbox.want("a", True)
    assert outbox.take(9) == [(True, "a")]
