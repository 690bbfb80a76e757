"""One atomic change of the store: conditions and writes, as a value.

txn = Txn().require_absent("/claims/ip/10.0.0.1").put("/claims/ip/10.0.0.1", b"default/nic")
revision = await store.commit(txn)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from etcd3 import etcdrpc

from apimachinery.etcd.errors import TxnTooLarge
from apimachinery.etcd.values import StoredValue, from_kv, read_request

# etcd's defaults (--max-txn-ops and --max-request-bytes). Conditions and writes are counted apart.
MAX_OPERATIONS: Final = 128
MAX_BYTES: Final = 1_572_864


class Condition(enum.Enum):
    """What a transaction may demand of one key."""

    ABSENT = "absent"
    PRESENT = "present"
    REVISION = "at mod revision"
    CREATED = "created at revision"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition. ``revision`` belongs to REVISION and CREATED, ``value`` to VALUE."""

    key: str
    condition: Condition
    revision: int = 0
    value: bytes = b""

    def holds(self, current: StoredValue | None) -> bool:
        """Whether the key as given (None: absent) meets the condition, as etcd decides it."""
        match self.condition:
            case Condition.ABSENT:
                return current is None
            case Condition.PRESENT:
                return current is not None
            case Condition.REVISION:
                return current is not None and current.mod_revision == self.revision
            case Condition.CREATED:
                return current is not None and current.create_revision == self.revision
            case Condition.VALUE:
                return current is not None and current.value == self.value

    def explain(self, current: StoredValue | None) -> str:
        """Why it did not hold, for people."""
        if current is None:
            return f"{self.key} does not exist"
        match self.condition:
            case Condition.ABSENT:
                return f"{self.key} exists"
            case Condition.CREATED:
                return f"{self.key} was created at revision {current.create_revision}, not {self.revision}"
            case Condition.VALUE:
                return f"{self.key} has another value"
            case _:
                return f"{self.key} is at revision {current.mod_revision}, not {self.revision}"

    def to_message(self) -> Any:
        """`etcdserverpb.Compare`."""
        message = etcdrpc.Compare(key=self.key.encode(), result=etcdrpc.Compare.EQUAL)
        match self.condition:
            case Condition.ABSENT:
                message.target, message.create_revision = etcdrpc.Compare.CREATE, 0
            case Condition.PRESENT:
                message.target, message.create_revision = etcdrpc.Compare.CREATE, 0
                message.result = etcdrpc.Compare.GREATER
            case Condition.REVISION:
                message.target, message.mod_revision = etcdrpc.Compare.MOD, self.revision
            case Condition.CREATED:
                message.target, message.create_revision = etcdrpc.Compare.CREATE, self.revision
            case Condition.VALUE:
                message.target, message.value = etcdrpc.Compare.VALUE, self.value
        return message


@dataclass(frozen=True, slots=True)
class Write:
    """Put (``value`` is bytes) or deletion (``value`` is None) of one key."""

    key: str
    value: bytes | None
    lease: int = 0

    def to_message(self) -> Any:
        """`etcdserverpb.RequestOp`."""
        key = self.key.encode()
        if self.value is None:
            return etcdrpc.RequestOp(request_delete_range=etcdrpc.DeleteRangeRequest(key=key))
        return etcdrpc.RequestOp(request_put=etcdrpc.PutRequest(key=key, value=self.value, lease=self.lease))


@dataclass(slots=True)
class Txn:
    """Builder of a transaction: all conditions hold and all writes happen, or nothing does.

    A key is written at most once; ValueError otherwise (etcd would refuse the whole transaction).
    """

    compares: list[Compare] = field(default_factory=list)
    writes: dict[str, Write] = field(default_factory=dict)

    def require_absent(self, key: str) -> Self:
        """The key must not exist."""
        return self._require(Compare(key, Condition.ABSENT))

    def require_exists(self, key: str) -> Self:
        """The key must exist."""
        return self._require(Compare(key, Condition.PRESENT))

    def require_revision(self, key: str, revision: int) -> Self:
        """The key must exist and its last change must be the one of this revision."""
        return self._require(Compare(key, Condition.REVISION, revision=_positive(revision)))

    def require_created(self, key: str, revision: int) -> Self:
        """The key must exist since this revision without a break; its value may have changed."""
        return self._require(Compare(key, Condition.CREATED, revision=_positive(revision)))

    def require_value(self, key: str, value: bytes) -> Self:
        """The key must exist with exactly this value."""
        return self._require(Compare(key, Condition.VALUE, value=value))

    def put(self, key: str, value: bytes, lease: int = 0) -> Self:
        """Write the key; it dies with the lease if one is given."""
        return self._write(Write(key, value, lease))

    def delete(self, key: str) -> Self:
        """Remove the key if it exists."""
        return self._write(Write(key, None))

    def to_request(self, *guards: Compare, max_operations: int = MAX_OPERATIONS) -> Any:
        """`etcdserverpb.TxnRequest`; its else branch reads every compared key once (see :func:`compared`).

        Raises TxnTooLarge, with the number and the limit, if etcd would refuse it for its size.
        """
        compares = [*self.compares, *guards]
        for what, count in (("conditions", len(compares)), ("writes", len(self.writes))):
            _check_size(what, count, max_operations)
        request = etcdrpc.TxnRequest(
            compare=[compare.to_message() for compare in compares],
            success=[write.to_message() for write in self.writes.values()],
            failure=[etcdrpc.RequestOp(request_range=read_request(key)) for key in _keys(compares)],
        )
        _check_size("bytes", request.ByteSize(), MAX_BYTES)
        return request

    def _require(self, compare: Compare) -> Self:
        if not compare.key:
            raise ValueError("a condition needs a key")
        self.compares.append(compare)
        return self

    def _write(self, write: Write) -> Self:
        if not write.key:
            raise ValueError("a write needs a key")
        if write.key in self.writes:
            raise ValueError(f"{write.key} is written twice in one transaction")
        self.writes[write.key] = write
        return self


def compared(compares: Sequence[Compare], response: Any) -> Mapping[str, StoredValue | None]:
    """The compared keys as the else branch of a `TxnResponse` read them; None: absent."""
    found: dict[str, StoredValue | None] = {}
    for key, answer in zip(_keys(compares), response.responses, strict=True):
        kvs = answer.response_range.kvs
        found[key] = from_kv(kvs[0]) if kvs else None
    return found


def _keys(compares: Sequence[Compare]) -> list[str]:
    return list(dict.fromkeys(compare.key for compare in compares))


def _check_size(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise TxnTooLarge(f"transaction has {count} {what}, etcd takes {limit}", exhausted=f"{what} of one transaction")


def _positive(revision: int) -> int:
    # etcd takes revision 0 as "absent", which is require_absent and must not happen by an unset field.
    if revision <= 0:
        raise ValueError(f"revision {revision} is not positive")
    return revision
