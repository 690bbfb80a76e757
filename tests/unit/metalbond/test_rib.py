"""The route table against a set of (source, route) pairs."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from metalbond.rib import RouteTable
from metalbond.types import Destination, NextHop, Route

sources = st.sampled_from("abc")
routes = st.builds(
    Route,
    st.integers(1, 2),
    st.sampled_from([Destination.parse("10.0.0.0/8"), Destination.parse("::/0")]),
    st.sampled_from([NextHop.to("fd00::1"), NextHop.to("fd00::2")]),
)


class TableMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.table: RouteTable[str] = RouteTable()
        self.model: set[tuple[str, Route]] = set()

    @rule(source=sources, route=routes)
    def add(self, source: str, route: Route) -> None:
        assert self.table.add(source, route) == ((source, route) not in self.model)
        self.model.add((source, route))

    @rule(source=sources, route=routes)
    def remove(self, source: str, route: Route) -> None:
        assert self.table.remove(source, route) == ((source, route) in self.model)
        self.model.discard((source, route))

    @rule(route=routes)
    def queries_create_nothing(self, route: Route) -> None:
        vnis = self.table.vnis()
        self.table.sources(route)
        self.table.hops(route.vni, route.destination)
        assert self.table.vnis() == vnis

    @invariant()
    def equals_the_model(self) -> None:
        announced = {route for _, route in self.model}
        assert len(self.table) == len(announced)
        assert set(self.table.vnis()) == {route.vni for route in announced}
        for vni in (1, 2):
            found = {(source, route) for route, by in self.table.routes(vni) for source in by}
            assert found == {(source, route) for source, route in self.model if route.vni == vni}
        for source in "abc":
            of_source = {route for s, route in self.model if s == source}
            assert self.table.of_source(source) == of_source
            assert self.table.count_of(source) == len(of_source)
        for route in announced:
            assert route in self.table
            assert set(self.table.sources(route)) == set(self.table.hops(route.vni, route.destination)[route.hop])


TestTable = TableMachine.TestCase
