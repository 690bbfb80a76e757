from __future__ import annotations

import pytest
from etcd3 import etcdrpc
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.etcd.errors import CompareFailed, TxnTooLarge
from apimachinery.etcd.txn import Compare, Condition, Txn, compared
from apimachinery.etcd.values import StoredValue, prefix_end, range_of

VALUE = StoredValue("/a", b"v", mod_revision=7, create_revision=5)


@pytest.mark.parametrize(
    ("compare", "holds_present", "holds_absent"),
    [
        (Compare("/a", Condition.ABSENT), False, True),
        (Compare("/a", Condition.PRESENT), True, False),
        (Compare("/a", Condition.REVISION, revision=7), True, False),
        (Compare("/a", Condition.REVISION, revision=5), False, False),
        (Compare("/a", Condition.CREATED, revision=5), True, False),
        (Compare("/a", Condition.CREATED, revision=7), False, False),
        (Compare("/a", Condition.VALUE, value=b"v"), True, False),
        (Compare("/a", Condition.VALUE, value=b""), False, False),
    ],
)
def test_conditions(compare: Compare, holds_present: bool, holds_absent: bool) -> None:
    assert compare.holds(VALUE) is holds_present
    assert compare.holds(None) is holds_absent


def test_explanations_name_key_and_difference() -> None:
    error = CompareFailed(
        (
            Compare("/a", Condition.REVISION, revision=6),
            Compare("/b", Condition.PRESENT),
            Compare("/a", Condition.ABSENT),
            Compare("/a", Condition.CREATED, revision=1),
            Compare("/a", Condition.VALUE, value=b"w"),
        ),
        {"/a": VALUE, "/b": None},
        9,
    )
    assert str(error).split("; ") == [
        "/a is at revision 7, not 6",
        "/b does not exist",
        "/a exists",
        "/a was created at revision 5, not 1",
        "/a has another value",
    ]


def test_request_has_all_conditions_and_reads_each_compared_key_once() -> None:
    txn = (
        Txn().require_absent("/a").require_exists("/b").require_revision("/b", 3).put("/a", b"1", lease=4).delete("/c")
    )
    request = txn.to_request(Compare("/f", Condition.ABSENT))
    assert [c.key for c in request.compare] == [b"/a", b"/b", b"/b", b"/f"]
    assert [op.request_range.key for op in request.failure] == [b"/a", b"/b", b"/f"]
    assert (request.success[0].request_put.value, request.success[0].request_put.lease) == (b"1", 4)
    assert request.success[1].request_delete_range.key == b"/c"


def test_compared_keys_are_read_back_by_name() -> None:
    kv = {"key": b"/b", "value": b"v", "mod_revision": 7, "create_revision": 5}
    response = etcdrpc.TxnResponse(
        responses=[{"response_range": {}}, {"response_range": {"kvs": [kv]}}],
    )
    keys = [Compare("/a", Condition.ABSENT), Compare("/b", Condition.ABSENT), Compare("/b", Condition.PRESENT)]
    assert compared(keys, response) == {"/a": None, "/b": StoredValue("/b", b"v", 7, 5)}


def test_a_key_is_written_once() -> None:
    with pytest.raises(ValueError, match="/a is written twice"):
        Txn().put("/a", b"1").delete("/a")


@pytest.mark.parametrize("revision", [0, -1])
def test_revision_zero_is_not_a_revision(revision: int) -> None:
    with pytest.raises(ValueError, match="not positive"):
        Txn().require_revision("/a", revision)
    with pytest.raises(ValueError, match="not positive"):
        Txn().require_created("/a", revision)


def test_keys_are_not_empty() -> None:
    with pytest.raises(ValueError, match="needs a key"):
        Txn().put("", b"")
    with pytest.raises(ValueError, match="needs a key"):
        Txn().require_absent("")


def test_too_large_says_what_and_how_much() -> None:
    txn = Txn()
    for number in range(4):
        txn.put(f"/{number}", b"")
    assert len(txn.to_request(max_operations=4).success) == 4
    with pytest.raises(TxnTooLarge, match="4 writes, etcd takes 3") as caught:
        txn.to_request(max_operations=3)
    assert caught.value.exhausted == "writes of one transaction"
    with pytest.raises(TxnTooLarge, match="conditions"):
        Txn().require_absent("/a").require_absent("/b").to_request(max_operations=1)
    with pytest.raises(TxnTooLarge, match="bytes"):
        Txn().put("/a", bytes(2 << 20)).to_request()


@given(st.text(min_size=1), st.text())
def test_range_of_a_prefix_holds_exactly_its_keys(prefix: str, key: str) -> None:
    try:
        start, end = range_of(prefix)
        encoded = key.encode()
    except UnicodeEncodeError:  # lone surrogates are no keys
        return
    assert (start <= encoded < end) == key.startswith(prefix)
    assert start <= (prefix + key).encode() < end


def test_the_empty_prefix_means_every_key() -> None:
    assert range_of("") == (b"\0", b"\0")
    assert prefix_end("/") == b"0"
