"""The client's table against a plain model of its rules."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from metalbond.types import Destination, HopType, NextHop, Route
from metalbond.union import Change, Union

D, E = Destination.parse("10.0.0.0/8"), Destination.parse("::/0")
STD1, STD2 = NextHop.to("fd00::1"), NextHop.to("fd00::2")
NAT1 = NextHop.to("fd00::1", HopType.NAT, nat_from=1, nat_to=9)
NAT2 = NextHop.to("fd00::2", HopType.NAT, nat_from=9, nat_to=19)
LB1, LB2 = (NextHop.to(hop, HopType.LOADBALANCER_TARGET) for hop in ("fd00::1", "fd00::2"))
vnis = st.sampled_from([1, 2])
servers = st.sampled_from("abc")
routes = st.builds(Route, vnis, st.sampled_from([D, E]), st.sampled_from([STD1, STD2, NAT1, LB1]))


class UnionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.union = Union()
        self.backend: set[Route] = set()
        self.subscribed: set[int] = set()
        self.own: set[Route] = set()
        self.fresh: set[tuple[str, Route]] = set()
        self.stale: set[tuple[str, Route]] = set()

    @rule(vni=vnis)
    def subscribe(self, vni: int) -> None:
        assert self.union.subscribe(vni) == (vni not in self.subscribed)
        self.subscribed.add(vni)

    @rule(vni=vnis)
    def unsubscribe(self, vni: int) -> None:
        assert self.union.unsubscribe(vni) == (vni in self.subscribed)
        self.subscribed.discard(vni)
        self.fresh = {(s, r) for s, r in self.fresh if r.vni != vni}
        self.stale = {(s, r) for s, r in self.stale if r.vni != vni}

    @rule(route=routes)
    def announce(self, route: Route) -> None:
        assert self.union.announce(route) == (route not in self.own)
        self.own.add(route)

    @rule(route=routes)
    def withdraw(self, route: Route) -> None:
        assert self.union.withdraw(route) == (route in self.own)
        self.own.discard(route)

    @rule(server=servers, route=routes)
    def server_adds(self, server: str, route: Route) -> None:
        self.union.receive(server, True, route)
        if route.vni in self.subscribed:
            self.fresh.add((server, route))
            self.stale.discard((server, route))

    @rule(server=servers, route=routes)
    def server_removes(self, server: str, route: Route) -> None:
        known = (server, route) in self.fresh | self.stale
        self.union.receive(server, False, route)
        self.fresh.discard((server, route))
        self.stale.discard((server, route))
        if known and not any(r == route for _, r in self.fresh):
            self.stale = {(s, r) for s, r in self.stale if r != route}

    @rule(server=servers)
    def lose(self, server: str) -> None:
        self.union.lose(server)
        self.stale |= {(s, r) for s, r in self.fresh if s == server}
        self.fresh = {(s, r) for s, r in self.fresh if s != server}

    @rule(server=servers)
    def sweep(self, server: str) -> None:
        assert self.union.sweep(server) == len([s for s, _ in self.stale if s == server])
        self.stale = {(s, r) for s, r in self.stale if s != server}

    def expected(self) -> set[Route]:
        visible = set()
        for route in self.own | {r for _, r in self.fresh | self.stale}:
            if route.vni not in self.subscribed:
                continue
            if route in self.own:
                wanted = route.hop.type == HopType.LOADBALANCER_TARGET
            else:
                rivals = {(r.vni, r.destination, r.hop.type) for r in self.own}
                standard = route.hop.type == HopType.STANDARD
                wanted = not (standard and (route.vni, route.destination, HopType.STANDARD) in rivals)
            if wanted:
                visible.add(route)
        return visible

    @invariant()
    def backend_sees_each_transition_once(self) -> None:
        for added, route in self.union.take_changes():
            assert added != (route in self.backend)
            (self.backend.add if added else self.backend.discard)(route)
        assert self.backend == self.expected()
        assert self.union.visible_count() == len(self.backend)
        for vni in (1, 2):
            assert self.union.visible(vni) == {(r.destination, r.hop) for r in self.backend if r.vni == vni}


TestUnion = UnionMachine.TestCase


def subscribed() -> Union:
    union = Union()
    union.subscribe(1)
    return union


def test_one_lost_server_of_three_changes_nothing() -> None:
    union = subscribed()
    route = Route(1, D, STD1)
    for server in "abc":
        union.receive(server, True, route)
    assert union.take_changes() == [Change(True, route)]
    union.receive("a", False, route)
    union.lose("b")
    union.sweep("b")
    assert union.take_changes() == []
    union.receive("c", False, route)
    assert union.take_changes() == [Change(False, route)]


def test_routes_that_do_not_come_again_are_swept_and_the_others_never_flap() -> None:
    union = subscribed()
    kept, gone = Route(1, D, STD1), Route(1, E, STD1)
    for route in (kept, gone):
        union.receive("a", True, route)
    union.take_changes()
    union.lose("a")
    union.receive("a", True, kept)
    assert union.take_changes() == []
    assert union.sweep("a") == 1
    assert union.take_changes() == [Change(False, gone)]


def test_fresh_news_beats_a_stale_copy() -> None:
    union = subscribed()
    route = Route(1, D, STD1)
    union.receive("a", True, route)
    union.receive("b", True, route)
    union.lose("b")
    union.take_changes()
    union.receive("a", False, route)
    assert union.take_changes() == [Change(False, route)]
    assert union.stale("b") == 0


def test_two_gateways_do_not_take_each_others_default_route() -> None:
    union = subscribed()
    union.receive("a", True, Route(1, E, STD2))
    union.take_changes()
    union.announce(Route(1, E, STD1))
    assert union.take_changes() == [Change(False, Route(1, E, STD2))]
    union.withdraw(Route(1, E, STD1))
    assert union.take_changes() == [Change(True, Route(1, E, STD2))]


def test_neighbours_share_a_nat_address_and_a_balancer_sees_all_targets() -> None:
    union = subscribed()
    for hop in (NAT1, LB1, STD1):
        union.announce(Route(1, D, hop))
    for hop in (NAT2, LB2):
        union.receive("a", True, Route(1, D, hop))
    assert union.visible(1) == {(D, NAT2), (D, LB1), (D, LB2)}
