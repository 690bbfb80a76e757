"""What becomes of a dependent, and what the graph knows."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from ironcore.apinet.v1 import network_pb2
from ironcore.meta.v1 import meta_pb2

from apimachinery.gc import Action, Graph, OwnerState, plan_dependent
from apimachinery.scheme import kind_info

SOLID, WAITING, ABSENT = OwnerState.SOLID, OwnerState.WAITING, OwnerState.ABSENT
INFO = kind_info(network_pb2.Network)


def test_every_combination_of_two_owners() -> None:
    expected = {
        (): (Action.KEEP, Action.KEEP),
        (SOLID,): (Action.KEEP, Action.KEEP),
        (ABSENT,): (Action.DELETE, Action.DELETE),
        (WAITING,): (Action.DELETE, Action.DELETE_FOREGROUND),
        (SOLID, SOLID): (Action.KEEP, Action.KEEP),
        (ABSENT, SOLID): (Action.DROP_REFERENCES, Action.DROP_REFERENCES),
        (SOLID, WAITING): (Action.DROP_REFERENCES, Action.DROP_REFERENCES),
        (ABSENT, ABSENT): (Action.DELETE, Action.DELETE),
        (ABSENT, WAITING): (Action.DELETE, Action.DELETE_FOREGROUND),
        (WAITING, WAITING): (Action.DELETE, Action.DELETE_FOREGROUND),
    }
    for owners, (leaf, inner) in expected.items():
        for order in itertools.permutations(owners):
            assert plan_dependent(order, has_dependents=False) is leaf, order
            assert plan_dependent(order, has_dependents=True) is inner, order


@given(st.lists(st.sampled_from(OwnerState), max_size=6), st.booleans())
def test_a_solid_owner_always_saves_the_dependent(owners: list[OwnerState], has_dependents: bool) -> None:
    action = plan_dependent(owners, has_dependents=has_dependents)
    deletes = action in (Action.DELETE, Action.DELETE_FOREGROUND)
    assert deletes == (bool(owners) and SOLID not in owners)


UIDS = st.sampled_from("abcdef")
STEPS = st.lists(st.tuples(UIDS, st.none() | st.sets(UIDS, max_size=3)), max_size=30)


@given(STEPS)
def test_the_graph_equals_the_references_that_are_there(steps: list[tuple[str, set[str] | None]]) -> None:
    graph, model = Graph(), dict[str, set[str]]()
    for uid, owners in steps:
        if owners is None:
            graph.remove(uid)
            model.pop(uid, None)
        else:
            references = [meta_pb2.OwnerReference(uid=owner) for owner in sorted(owners)]
            graph.put(INFO, network_pb2.Network(metadata=meta_pb2.ObjectMeta(uid=uid, owner_references=references)))
            model[uid] = owners
    assert graph.nodes.keys() == model.keys()
    for owner in "abcdef":
        assert set(graph.dependents(owner)) == {uid for uid, owners in model.items() if owner in owners}
