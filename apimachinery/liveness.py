"""Liveness of nodes: heartbeats renew a lease in the store, and its end is the end of the node's condition Ready.

Works for every kind whose service has `rpc Heartbeat(HeartbeatRequest) returns (HeartbeatResponse)` and whose status
has `last_heartbeat`, `heartbeat_identity` and `conditions`. A beat touches nothing but the lease, so that it wakes
nobody; only :class:`NodeLiveness` writes the condition.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from ironcore.meta.v1 import meta_pb2

from apimachinery.client import KindClient
from apimachinery.conditions import FALSE, TRUE, UNKNOWN, find_condition, is_true, set_condition
from apimachinery.controller import Controller, Result, own_key
from apimachinery.errors import ApiError, Conflict
from apimachinery.informer import Informer, Key
from apimachinery.resource import ExtraMethod, ResourceAccess, ResourceHooks
from apimachinery.scheme import KindInfo, metadata_of
from apimachinery.store import CompareFailed, LeaseNotFound, Store, Txn, WatchBatch

READY: Final = "Ready"
HEARTBEAT: Final = "Heartbeat"
RETRY_SECONDS: Final = 1.0

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Beat:
    """What the lease's key says: which incarnation of the node lives, who says so, and for how long a beat counts."""

    uid: str
    identity: str
    ttl_seconds: int

    def encode(self) -> bytes:
        """Value of the key."""
        return json.dumps({"uid": self.uid, "identity": self.identity, "ttl": self.ttl_seconds}).encode()

    @classmethod
    def decode(cls, value: bytes) -> Beat | None:
        """The beat of a key's value; None if it is not one."""
        try:
            fields = json.loads(value)
            return cls(str(fields["uid"]), str(fields["identity"]), int(fields["ttl"]))
        except (ValueError, TypeError, KeyError):
            return None


def beat_prefix(info: KindInfo) -> str:
    """Prefix of the lease keys of a kind of nodes."""
    return f"/leases/{info.group}/{info.plural}/"


def has_heartbeat(info: KindInfo) -> bool:
    """Whether objects of the kind live by heartbeats."""
    return HEARTBEAT in info.methods


class HeartbeatHooks(ResourceHooks[M]):
    """Answers Heartbeat."""

    def extra_methods(self, access: ResourceAccess[M]) -> Mapping[str, ExtraMethod]:
        async def heartbeat(
            request: meta_pb2.HeartbeatRequest, context: grpc.aio.ServicerContext[Any, Any]
        ) -> meta_pb2.HeartbeatResponse:
            node = await access.read("", request.name)
            uid = metadata_of(node).uid
            if request.uid not in ("", uid):
                raise Conflict(f"{access.info.kind} {request.name} has another uid", reason="UID_MISMATCH")
            ttl = await _beat(
                access.store, beat_prefix(access.info) + request.name, Beat(uid, request.identity, request.ttl_seconds)
            )
            return meta_pb2.HeartbeatResponse(ttl_seconds=ttl, ready=is_true(_status(node).conditions, READY))

        return {HEARTBEAT: heartbeat}


async def _beat(store: Store, key: str, beat: Beat) -> int:
    """Renews the lease of the key, or puts the key under a new one; returns the time to live in seconds."""
    current = await store.get(key)
    if current is not None and current.lease and current.value == beat.encode():
        try:
            return await store.renew_lease(current.lease)
        except LeaseNotFound:
            current = await store.get(key)
    lease = await store.grant_lease(beat.ttl_seconds)
    txn = Txn().put(key, beat.encode(), lease)
    if current is None:
        txn.require_absent(key)
    else:
        txn.require_revision(key, current.mod_revision)
    try:
        await store.commit(txn)
    except CompareFailed:
        # Another beat of the same node was faster, or the old lease ended in between: the node beats again soon.
        await store.revoke_lease(lease)
        raise Conflict("another heartbeat came in between", reason="HEARTBEAT_RACE") from None
    if current is not None and current.lease:
        await _forget_lease(store, current.lease)
    return beat.ttl_seconds


async def _forget_lease(store: Store, lease: int) -> None:
    """Ends a lease that no key needs any more; it would end by itself, too."""
    try:
        await store.revoke_lease(lease)
    except ApiError:
        return


class NodeStatus(Protocol):
    """What a kind of nodes has in its status."""

    heartbeat_identity: str

    @property
    def last_heartbeat(self) -> Timestamp: ...

    @property
    def conditions(self) -> Any: ...


def _status(node: Message) -> NodeStatus:
    return cast(NodeStatus, cast(Any, node).status)


def assess(node: Message, beat: Beat | None, now: datetime) -> bool:
    """Sets the status of a node, in place, to what its lease says; returns whether anything changed. Pure."""
    status, meta = _status(node), metadata_of(node)
    alive = beat is not None and beat.uid == meta.uid
    if beat is not None and alive:
        changed = set_condition(
            status.conditions, READY, TRUE, reason="HeartbeatReceived", message="heartbeats arrive", now=now
        )
        if changed or status.heartbeat_identity != beat.identity:
            status.heartbeat_identity = beat.identity
            status.last_heartbeat.FromDatetime(now)
            return True
        return False
    known = find_condition(status.conditions, READY)
    if known is None or known.status == UNKNOWN:
        message = "no heartbeat has arrived yet"
        return set_condition(status.conditions, READY, UNKNOWN, reason="HeartbeatPending", message=message, now=now)
    message = "heartbeats stopped"
    return set_condition(status.conditions, READY, FALSE, reason="HeartbeatLost", message=message, now=now)


class NodeLiveness(Controller, Generic[M]):
    """Keeps condition Ready of all nodes of one kind."""

    def __init__(self, store: Store, client: KindClient[M], informer: Informer[M]) -> None:
        self._store = store
        self._client = client
        self._informer = informer
        self._prefix = beat_prefix(client.info)
        super().__init__(
            f"{client.info.group}-{client.info.plural}-liveness", self._reconcile_node, [(informer, own_key)]
        )

    async def run(self, *, grace: float = 10.0) -> None:
        """Works until cancelled, and wakes up for each lease that begins or ends."""
        following = asyncio.create_task(self._follow(), name=f"follow {self._prefix}")
        try:
            await super().run(grace=grace)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        with closing(self._store.outage.part(f"follower of {self._prefix}")) as outage:
            while True:
                try:
                    revision = await self._store.current_revision()
                    outage.recovered()
                    # What happened before this revision is seen by these runs, what happens after it by the watch.
                    self.enqueue_all()
                    async with aclosing(self._store.watch(self._prefix, after_revision=revision)) as items:
                        async for item in items:
                            if isinstance(item, WatchBatch):
                                for change in item.changes:
                                    self.enqueue(Key("", change.item.key.removeprefix(self._prefix)))
                except ApiError as error:
                    outage.lost(error)
                    await asyncio.sleep(RETRY_SECONDS)

    async def _reconcile_node(self, key: Key) -> Result | None:
        found = self._informer.get("", key.name)
        if found is None:
            return None
        stored = await self._store.get(self._prefix + key.name)
        node = type(found)()
        node.CopyFrom(found)
        now = datetime.now(UTC)
        if assess(node, Beat.decode(stored.value) if stored is not None else None, now):
            await self._client.update_status(node)
        return None
