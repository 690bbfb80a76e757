"""The checker of watch histories finds every kind of lie, and no lie in a true account."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.watch_history import Bookmark, Observation, Reset, Seen, Snapshot, Write, state_at, violations

KEYS = ["a", "b", "c"]


@st.composite
def writes(draw: st.DrawFn) -> list[Write]:
    revision, made = 0, []
    for _ in range(draw(st.integers(2, 12))):
        revision += draw(st.integers(1, 3))
        made.append(Write(revision, draw(st.sampled_from(KEYS)), draw(st.sampled_from([b"x", b"y", None]))))
    return made


def snapshot(made: list[Write], revision: int) -> Snapshot:
    return Snapshot(revision, state_at({(w.revision, w.key): w.value for w in made}, revision))


@st.composite
def accounts(draw: st.DrawFn) -> tuple[list[Write], list[Observation]]:
    """Writes and a true account of them that begins with a snapshot and may have bookmarks and one reset."""
    made = draw(writes())
    first = draw(st.integers(0, len(made) - 2))
    start = made[first].revision if first else 0
    observed: list[Observation] = [snapshot(made, start)]
    rest = [write for write in made if write.revision > start]
    gap = draw(st.integers(0, len(rest)))
    length = draw(st.integers(0, len(rest) - gap)) if draw(st.booleans()) else 0
    for position, write in enumerate(rest):
        if length and position == gap:
            observed += [Reset(), snapshot(made, rest[gap + length - 1].revision)]
        if not gap <= position < gap + length:
            observed.append(Seen(write.revision, write.key, write.value))
            if draw(st.booleans()):
                observed.append(Bookmark(write.revision))
    return made, observed


@given(accounts())
def test_a_true_account_is_accepted(account: tuple[list[Write], list[Observation]]) -> None:
    made, observed = account
    assert violations(made, observed) == []


@given(accounts(), st.data())
def test_a_lost_change_is_found(account: tuple[list[Write], list[Observation]], data: st.DataObject) -> None:
    made, observed = account
    changes = [position for position, item in enumerate(observed) if isinstance(item, Seen)]
    assume(changes)
    position = data.draw(st.sampled_from(changes))
    lost = observed[position]
    # A later snapshot would rightly stand for it.
    assume(not any(isinstance(item, Snapshot) for item in observed[position:]))
    found = violations(made, observed[:position] + observed[position + 1 :])
    assert any(problem == f"lost: {lost.key} at {lost.revision}" for problem in found)


@given(accounts(), st.data())
def test_a_repeated_change_is_found(account: tuple[list[Write], list[Observation]], data: st.DataObject) -> None:
    made, observed = account
    changes = [position for position, item in enumerate(observed) if isinstance(item, Seen)]
    assume(changes)
    position = data.draw(st.sampled_from(changes))
    again = data.draw(st.integers(position + 1, len(observed)))
    assert violations(made, [*observed[:again], observed[position], *observed[again:]]) != []


@given(accounts(), st.data())
def test_reordered_changes_are_found(account: tuple[list[Write], list[Observation]], data: st.DataObject) -> None:
    made, observed = account
    pairs = [
        position
        for position in range(len(observed) - 1)
        if isinstance(observed[position], Seen) and isinstance(observed[position + 1], Seen)
    ]
    assume(pairs)
    position = data.draw(st.sampled_from(pairs))
    swapped = observed.copy()
    swapped[position], swapped[position + 1] = swapped[position + 1], swapped[position]
    assert any(problem.startswith("reordered") for problem in violations(made, swapped))


@given(accounts())
def test_a_wrong_or_invented_value_is_found(account: tuple[list[Write], list[Observation]]) -> None:
    made, observed = account
    revision = made[-1].revision
    assert any("never written" in p for p in violations(made, [*observed, Seen(revision + 1, "a", b"?")]))
    last = observed[-1]
    assume(isinstance(last, Seen))
    lie = Seen(last.revision, last.key, b"?")
    assert any("wrong value" in p for p in violations(made, [*observed[:-1], lie]))


@given(accounts())
def test_a_wrong_snapshot_is_found(account: tuple[list[Write], list[Observation]]) -> None:
    made, observed = account
    first = observed[0]
    assert isinstance(first, Snapshot)
    lie = Snapshot(first.revision, {**first.state, "z": (1, b"?")})
    assert any("is wrong about z" in p for p in violations(made, [lie, *observed[1:]]))


def test_a_bookmark_ahead_of_a_change_is_found() -> None:
    made = [Write(1, "a", b"x"), Write(2, "a", b"y")]
    observed: list[Observation] = [Seen(1, "a", b"x"), Bookmark(2), Seen(2, "a", b"y")]
    assert any(problem.startswith("reordered") for problem in violations(made, observed))


def test_resets_are_counted_and_need_a_snapshot() -> None:
    made = [Write(1, "a", b"x")]
    observed: list[Observation] = [Seen(1, "a", b"x"), Reset(), snapshot(made, 1), Reset(), Bookmark(1)]
    assert violations(made, observed, max_resets=1) == [
        "no snapshot directly after a reset",
        "2 resets, at most 1 allowed",
    ]
    assert violations(made, [Reset()]) == ["no snapshot after the last reset", "lost: a at 1"]


def test_an_uncertain_write_may_be_seen_or_not() -> None:
    made = [Write(1, "a", b"x"), Write(0, "a", b"y")]
    assert violations(made, [Seen(1, "a", b"x")]) == []
    assert violations(made, [Seen(1, "a", b"x"), Seen(2, "a", b"y")]) == []
    assert violations(made, [Seen(1, "a", b"x"), Seen(2, "b", b"y")]) != []
