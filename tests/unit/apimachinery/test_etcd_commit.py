"""Which revision, if any, is the commit of a transaction whose answer was lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apimachinery.etcd.commit import by_revision, find_commit
from apimachinery.etcd.txn import Txn
from apimachinery.etcd.values import StoredValue
from apimachinery.etcd.watch import Change


def put(revision: int, key: str, value: bytes, lease: int = 0) -> Change:
    return Change(False, StoredValue(key, value, revision, revision, lease))


def deleted(revision: int, key: str) -> Change:
    return Change(True, StoredValue(key, b"", revision, 0))


def commit_of(txn: Txn, *changes: Change, after: int = 0) -> int | None:
    return find_commit(txn, by_revision(changes), after)


def test_all_puts_must_be_made_by_one_revision() -> None:
    txn = Txn().put("/a", b"1").put("/b", b"2", lease=7).delete("/c")
    assert commit_of(txn, put(5, "/a", b"1"), put(5, "/b", b"2", 7)) == 5
    assert commit_of(txn, put(5, "/a", b"1"), put(6, "/b", b"2", 7)) is None
    assert commit_of(txn, put(5, "/a", b"1")) is None
    assert commit_of(txn, put(5, "/a", b"1"), put(5, "/b", b"2", 8)) is None
    assert commit_of(txn, put(5, "/a", b"0"), put(5, "/b", b"2", 7)) is None
    assert commit_of(txn, put(5, "/a", b"1"), deleted(5, "/b")) is None


def test_it_is_found_although_the_key_changed_again_or_vanished() -> None:
    txn = Txn().require_absent("/a").put("/a", b"1")
    assert commit_of(txn, put(5, "/a", b"1"), put(6, "/a", b"2")) == 5
    assert commit_of(txn, put(5, "/a", b"1"), deleted(6, "/a")) == 5


def test_what_happened_before_it_was_sent_is_not_it() -> None:
    txn = Txn().put("/a", b"1")
    assert commit_of(txn, put(5, "/a", b"1"), after=5) is None
    assert commit_of(txn, put(5, "/a", b"1"), put(7, "/a", b"1"), after=5) == 7


def test_deletions_alone_are_found_by_any_of_them() -> None:
    txn = Txn().delete("/a").delete("/absent")
    assert commit_of(txn, deleted(5, "/a")) == 5
    assert commit_of(txn, put(5, "/a", b"")) is None


def test_a_transaction_without_writes_leaves_no_trace() -> None:
    assert commit_of(Txn().require_exists("/a"), put(5, "/a", b"1")) is None


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from("abc"), st.binary(max_size=2)), max_size=20),
    st.integers(0, 9),
)
def test_found_commits_made_the_writes(rows: list[tuple[int, str, bytes]], after: int) -> None:
    changes = {(revision, key): put(revision, key, value) for revision, key, value in rows}
    txn = Txn().put("a", b"x").put("b", b"")
    found = commit_of(txn, *changes.values(), after=after)
    makers = [
        revision
        for revision in range(after + 1, 10)
        if all(
            (revision, key) in changes and changes[revision, key].item.value == value
            for key, value in (("a", b"x"), ("b", b""))
        )
    ]
    assert found == (makers[0] if makers else None)
