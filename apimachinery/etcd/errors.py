"""What can go wrong with the store, as API errors, and how etcd's answers map to it.

They are :class:`apimachinery.errors.ApiError`, so one that nobody handles leaves an API server with the right code.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import grpc

from apimachinery.errors import ApiError, Conflict, FailedPrecondition, Internal, ResourceExhausted, Unavailable

if TYPE_CHECKING:
    from apimachinery.etcd.txn import Compare
    from apimachinery.etcd.values import StoredValue


class StoreUnavailable(Unavailable):
    """etcd did not answer in time. Nothing was changed."""

    default_reason = "STORE_UNAVAILABLE"


class OutcomeUnknown(Unavailable):
    """A write may or may not have happened, and etcd could not be asked in time. Read before trying again."""

    default_reason = "OUTCOME_UNKNOWN"


class CompareFailed(Conflict):
    """A transaction changed nothing because conditions did not hold.

    failed:   those conditions, in the order of the transaction.
    current:  every compared key as it was at ``revision`` (None: absent).
    """

    default_reason = "COMPARE_FAILED"

    def __init__(self, failed: tuple[Compare, ...], current: Mapping[str, StoredValue | None], revision: int) -> None:
        super().__init__("; ".join(compare.explain(current.get(compare.key)) for compare in failed))
        self.failed = failed
        self.current = current
        self.revision = revision


class RevisionCompacted(ApiError):  # noqa: N818 - named like its siblings, after the state
    """The revision asked for is no longer kept: list again."""

    default_code = grpc.StatusCode.OUT_OF_RANGE
    default_reason = "REVISION_COMPACTED"


class RevisionInFuture(ApiError):  # noqa: N818
    """The revision asked for does not exist yet."""

    default_code = grpc.StatusCode.OUT_OF_RANGE
    default_reason = "REVISION_IN_FUTURE"


class TxnTooLarge(ResourceExhausted):
    """More operations, conditions or bytes than etcd takes in one transaction."""

    default_reason = "TXN_TOO_LARGE"


class StoreFull(ResourceExhausted):
    """etcd's database reached its quota; it takes deletions only until it is compacted, defragmented and disarmed."""

    default_reason = "STORE_FULL"

    def __init__(self, message: str) -> None:
        super().__init__(message, exhausted="etcd database quota")


class LeaseNotFound(FailedPrecondition):
    """The lease expired or was revoked; its keys are gone."""

    default_reason = "LEASE_NOT_FOUND"


class StoreDenied(Internal):
    """etcd refuses the credentials of this process, or its user may not touch the keys."""

    default_reason = "STORE_DENIED"


class Verdict(enum.Enum):
    """What a failed call means for its caller."""

    NOT_APPLIED = "not applied; may be sent again"
    TOKEN_REJECTED = "not applied; authenticate, then send again"
    UNKNOWN = "may have been applied"
    REJECTED = "not applied; sending it again does not help"


class AttemptError(Exception):
    """One failed attempt of a call. ``error`` is what the caller gets if the attempt is not repeated."""

    def __init__(self, verdict: Verdict, error: ApiError) -> None:
        super().__init__(f"{error.message} ({verdict.value})")
        self.verdict = verdict
        self.error = error


# etcd's error texts are part of its API (api/v3rpc/rpctypes); the code alone does not tell them apart.
_NOT_APPLIED: Final = ("etcdserver: no leader", "etcdserver: too many requests", "etcdserver: not capable")
_TOKEN: Final = (
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",
)
_REJECTED: Final[Mapping[str, type[ApiError]]] = {
    "etcdserver: mvcc: required revision has been compacted": RevisionCompacted,
    "etcdserver: mvcc: required revision is a future revision": RevisionInFuture,
    "etcdserver: requested lease not found": LeaseNotFound,
    "etcdserver: request is too large": TxnTooLarge,
    "etcdserver: too many operations in txn request": TxnTooLarge,
    "etcdserver: permission denied": StoreDenied,
    "etcdserver: authentication failed, invalid user ID or password": StoreDenied,
}
_NO_SPACE: Final = "etcdserver: mvcc: database space exceeded"
# Codes that etcd only gives before anything is proposed to the cluster.
_REJECTED_CODES: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
# gRPC's word for a call that never got a connection, hence was never sent.
_NEVER_SENT: Final = "failed to connect to all addresses"


def classify(code: grpc.StatusCode, details: str) -> AttemptError:
    """What a gRPC status from etcd, or from the way to it, means. Anything not known to be harmless is UNKNOWN."""
    if details.startswith(_TOKEN):
        return AttemptError(Verdict.TOKEN_REJECTED, StoreDenied(f"etcd refuses the authentication: {details}"))
    if details.startswith(_NOT_APPLIED) or (code is grpc.StatusCode.UNAVAILABLE and details.startswith(_NEVER_SENT)):
        return AttemptError(Verdict.NOT_APPLIED, StoreUnavailable(f"etcd is not available: {details}"))
    if details.startswith(_NO_SPACE):
        return AttemptError(Verdict.REJECTED, StoreFull(f"etcd is full: {details}"))
    for text, error_class in _REJECTED.items():
        if details.startswith(text):
            return AttemptError(Verdict.REJECTED, error_class(details))
    if code in _REJECTED_CODES:
        return AttemptError(Verdict.REJECTED, Internal(f"etcd refuses the request: {details}", reason="STORE_REFUSED"))
    return AttemptError(Verdict.UNKNOWN, StoreUnavailable(f"etcd did not answer: {details or code.name.lower()}"))
