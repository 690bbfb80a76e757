"""Whatever a server does with its answers, the cursor hands out every change once and in order."""

from __future__ import annotations

import itertools

from etcd3 import etcdrpc
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.etcd.watch import Compacted, Progress, WatchBatch, WatchCursor

Change = tuple[int, str]


def response(changes: list[Change], *, revision: int = 0, fragment: bool = False) -> etcdrpc.WatchResponse:
    message = etcdrpc.WatchResponse(header={"revision": revision or (changes[-1][0] if changes else 0)})
    for number, key in changes:
        message.events.add(kv={"key": key.encode(), "mod_revision": number, "value": b"v"})
    if fragment:
        message.MergeFromString(b"\x38\x01")  # field 7, which the generated message does not know
    return message


@st.composite
def histories(draw: st.DrawFn) -> list[Change]:
    """Changes in order of revision; a revision may change several keys."""
    return [
        (revision, key)
        for revision in range(2, 2 + draw(st.integers(1, 15)))
        for key in draw(st.sets(st.sampled_from("abcd"), max_size=3))
    ]


def cut(draw: st.DrawFn, items: list[Change]) -> list[list[Change]]:
    borders = sorted(draw(st.sets(st.integers(1, max(1, len(items) - 1)), max_size=4)) | {0, len(items)})
    return [items[low:high] for low, high in itertools.pairwise(borders) if items[low:high]]


@given(histories(), st.data())
def test_every_change_once_and_in_order(history: list[Change], data: st.DataObject) -> None:
    last = history[-1][0] if history else 1
    cursor = WatchCursor(1)
    got: list[Change] = []
    for _ in range(data.draw(st.integers(1, 4))):  # streams; all but the last break off somewhere
        cursor.attached()
        # A server starts at or before the revision asked for, never after it.
        start = data.draw(st.integers(2, cursor.revision + 1))
        pending = [change for change in history if change[0] >= start]
        answers = []
        while pending:
            limit = data.draw(st.integers(pending[0][0], last))
            batch = [change for change in pending if change[0] <= limit]
            pending = pending[len(batch) :]
            pieces = cut(data.draw, batch)
            answers += [
                response(piece, revision=limit, fragment=number < len(pieces) - 1)
                for number, piece in enumerate(pieces)
            ]
            if data.draw(st.booleans()):
                answers.append(response([], revision=data.draw(st.integers(1, limit))))
        for answer in answers[: data.draw(st.integers(0, len(answers)))]:
            got += taken(cursor, answer)
    cursor.attached()
    for _, changes in itertools.groupby(history, key=lambda change: change[0]):
        got += taken(cursor, response(list(changes)))
    assert got == history


def taken(cursor: WatchCursor, answer: etcdrpc.WatchResponse) -> list[Change]:
    before = cursor.revision
    item = cursor.advance(answer)
    if isinstance(item, WatchBatch):
        assert before < item.revision == cursor.revision == item.changes[-1].item.mod_revision
        return [(change.item.mod_revision, change.item.key) for change in item.changes]
    if isinstance(item, Progress):
        assert before < item.revision == cursor.revision
    else:
        assert cursor.revision == before
    return []


def test_a_batch_cut_in_fragments_is_handed_out_whole() -> None:
    cursor = WatchCursor(1)
    assert cursor.advance(response([(2, "a")], fragment=True)) is None
    assert cursor.revision == 1
    batch = cursor.advance(response([(2, "b"), (3, "a")]))
    assert isinstance(batch, WatchBatch)
    assert [change.item.key for change in batch.changes] == ["a", "b", "a"]
    assert cursor.revision == 3


def test_fragments_of_a_lost_stream_are_not_handed_out_twice() -> None:
    cursor = WatchCursor(1)
    assert cursor.advance(response([(2, "a")], fragment=True)) is None
    cursor.attached()
    batch = cursor.advance(response([(2, "a"), (2, "b")]))
    assert isinstance(batch, WatchBatch)
    assert [change.item.key for change in batch.changes] == ["a", "b"]


def test_progress_of_a_member_that_lags_is_not_believed() -> None:
    cursor = WatchCursor(5)
    assert cursor.advance(response([], revision=4)) is None
    assert cursor.advance(response([], revision=6)) == Progress(6)
    assert cursor.advance(response([], revision=6)) is None


def test_creation_of_a_watch_is_not_progress() -> None:
    created = response([], revision=9)
    created.created = True
    cursor = WatchCursor(5)
    assert cursor.advance(created) is None
    assert cursor.revision == 5


def test_compaction_is_told() -> None:
    canceled = response([], revision=9)
    canceled.canceled, canceled.compact_revision = True, 8
    assert WatchCursor(5).advance(canceled) == Compacted(8)


def test_deletions_are_told_apart() -> None:
    message = response([(2, "a")])
    message.events[0].type = message.events[0].DELETE
    batch = WatchCursor(1).advance(message)
    assert isinstance(batch, WatchBatch)
    assert batch.changes[0].deleted
