from __future__ import annotations

import grpc
import pytest

from apimachinery.errors import ApiError, Internal
from apimachinery.etcd.client import EtcdClient, parse_endpoint
from apimachinery.etcd.errors import (
    LeaseNotFound,
    RevisionCompacted,
    RevisionInFuture,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
    TxnTooLarge,
    Verdict,
    classify,
)

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("text", "target", "secure"),
    [
        ("http://10.0.0.1:2379", "dns:///10.0.0.1:2379", False),
        ("https://etcd-1.example:2379/", "dns:///etcd-1.example:2379", True),
        ("etcd-1:2379", "dns:///etcd-1:2379", None),
        ("http://[fd00::1]:2379", "dns:///[fd00::1]:2379", False),
        ("unix:///var/lib/x/client:0", "unix:/var/lib/x/client:0", False),
    ],
)
def test_endpoints(text: str, target: str, secure: bool | None) -> None:
    endpoint = parse_endpoint(text)
    assert (endpoint.target, endpoint.secure) == (target, secure)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "etcd-1",
        "http://etcd-1",
        "http://:2379",
        "ftp://etcd-1:21",
        "http://etcd-1:70000",
        "http://user@etcd-1:2379",
        "http://etcd-1:2379/v3",
        "http://etcd-1:2379?x=1",
        "unix://relative/path",
        "unix://",
        "unix:///" + "x" * 107,
        "http://[::1:2379",
    ],
)
def test_unusable_endpoints_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="etcd endpoint"):
        parse_endpoint(text)


async def test_a_client_needs_an_endpoint() -> None:
    with pytest.raises(ValueError, match="no etcd endpoint"):
        EtcdClient([])


@pytest.mark.parametrize(
    ("code", "details", "verdict", "error"),
    [
        (Code.UNAVAILABLE, "failed to connect to all addresses; last error: x", Verdict.NOT_APPLIED, StoreUnavailable),
        (Code.UNAVAILABLE, "etcdserver: no leader", Verdict.NOT_APPLIED, StoreUnavailable),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests", Verdict.NOT_APPLIED, StoreUnavailable),
        (Code.UNAVAILABLE, "Stream removed (Socket closed)", Verdict.UNKNOWN, StoreUnavailable),
        (Code.UNAVAILABLE, "etcdserver: request timed out", Verdict.UNKNOWN, StoreUnavailable),
        (Code.UNAVAILABLE, "etcdserver: leader changed", Verdict.UNKNOWN, StoreUnavailable),
        (Code.UNAVAILABLE, "etcdserver: server stopped", Verdict.UNKNOWN, StoreUnavailable),
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", Verdict.UNKNOWN, StoreUnavailable),
        (Code.UNKNOWN, "raft: something", Verdict.UNKNOWN, StoreUnavailable),
        (Code.INTERNAL, "", Verdict.UNKNOWN, StoreUnavailable),
        (Code.UNAUTHENTICATED, "etcdserver: invalid auth token", Verdict.TOKEN_REJECTED, StoreDenied),
        (Code.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", Verdict.TOKEN_REJECTED, StoreDenied),
        (Code.PERMISSION_DENIED, "etcdserver: permission denied", Verdict.REJECTED, StoreDenied),
        (
            Code.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision has been compacted",
            Verdict.REJECTED,
            RevisionCompacted,
        ),
        (
            Code.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision is a future revision",
            Verdict.REJECTED,
            RevisionInFuture,
        ),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", Verdict.REJECTED, StoreFull),
        (Code.NOT_FOUND, "etcdserver: requested lease not found", Verdict.REJECTED, LeaseNotFound),
        (Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request", Verdict.REJECTED, TxnTooLarge),
        (Code.INVALID_ARGUMENT, "etcdserver: request is too large", Verdict.REJECTED, TxnTooLarge),
        (Code.INVALID_ARGUMENT, "etcdserver: something new", Verdict.REJECTED, Internal),
    ],
)
def test_failures_are_judged(code: Code, details: str, verdict: Verdict, error: type[ApiError]) -> None:
    failure = classify(code, details)
    assert failure.verdict is verdict
    assert type(failure.error) is error
    assert details in failure.error.message
