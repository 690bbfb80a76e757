"""The plan of one write: what it changes besides its own object, and how all of it becomes one transaction."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import Message

from apimachinery.errors import ApiError, FailedPrecondition
from apimachinery.fencing import current_fence
from apimachinery.scheme import kind_info, metadata_of
from apimachinery.store import CompareFailed, Store, Txn

# Value of a claim that was released and is not to be handed out again yet.
QUARANTINE_OWNER: Final = "quarantine"


@dataclass(frozen=True, slots=True)
class Claim:
    """A key that must be absent and is then put with its owner as the value."""

    key: str
    owner: str
    error: ApiError | None


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """A write of another object: expected_revision 0 means that it must not exist; obj None deletes it."""

    key: str
    expected_revision: int
    obj: Message | None


class WritePlan:
    """What one write changes besides its own object; committed as one transaction with it.

    dry_run: nothing will be committed; allocation may still choose values, so that the answer shows them.
    store:   for reads (linearizable); all writes go through the plan.
    now:     time of the write (UTC), the same for everything that is written.
    """

    def __init__(self, store: Store, *, dry_run: bool = False, now: datetime | None = None) -> None:
        self.store = store
        self.dry_run = dry_run
        self.now = now or datetime.now(UTC)
        self.claims: dict[str, Claim] = {}
        # Key -> seconds of quarantine.
        self.releases: dict[str, int] = {}
        self.objects: dict[str, ObjectChange] = {}

    def claim(self, key: str, owner: str, *, error: ApiError | None = None) -> None:
        """Takes a key for ``owner``. If somebody else has it at commit, ``error`` is raised; without ``error`` the
        whole write starts again and ``allocate`` may choose another key."""
        if key in self.claims:
            raise ValueError(f"{key} is claimed twice by one write")
        self.claims[key] = Claim(key, owner, error)

    def release(self, key: str, *, quarantine_seconds: int = 0) -> None:
        """Gives a key back; with a quarantine it stays taken for so long by a tombstone under a lease."""
        self.releases[key] = quarantine_seconds

    def create_object(self, obj: Message) -> None:
        """Creates an object of another kind. Sets uid, creation time and generation in place; if the name is taken
        at commit, the whole write starts again."""
        meta = metadata_of(obj)
        meta.uid = str(uuid.uuid4())
        meta.creation_timestamp.FromDatetime(self.now.replace(microsecond=0))
        meta.generation = 1
        meta.resource_version = 0
        self._change(obj, 0, obj)

    def put_object(self, obj: Message, old: Message) -> None:
        """Replaces an object of another kind that was read as ``old``; if it changed since, the write starts again."""
        self._change(obj, metadata_of(old).resource_version, obj)

    def delete_object(self, obj: Message) -> None:
        """Removes an object of another kind, without regard to its finalizers; if it changed since it was read, the
        write starts again."""
        self._change(obj, metadata_of(obj).resource_version, None)

    def _change(self, about: Message, expected_revision: int, obj: Message | None) -> None:
        key = kind_info(about).key_of(about)
        if key in self.objects:
            raise ValueError(f"{key} is written twice by one write")
        self.objects[key] = ObjectChange(key, expected_revision, obj)


def encode_stored(obj: Message) -> bytes:
    """The object as the store keeps it: without resource_version, which is the revision of its key. Clears it."""
    metadata_of(obj).resource_version = 0
    return obj.SerializeToString()


async def commit_with_plan(txn: Txn, plan: WritePlan) -> int:
    """Commits ``txn`` together with the plan; returns the revision.

    Raises as :meth:`Store.commit`, and FailedPrecondition if the writer's term of leadership is over.
    """
    fence = current_fence.get()
    if fence is not None:
        txn.require_created(fence.key, fence.revision)
    for claim in plan.claims.values():
        if claim.key in plan.releases:
            txn.require_exists(claim.key)
        else:
            txn.require_absent(claim.key)
        txn.put(claim.key, claim.owner.encode())
    for change in plan.objects.values():
        if change.expected_revision:
            txn.require_revision(change.key, change.expected_revision)
        else:
            txn.require_absent(change.key)
        if change.obj is None:
            txn.delete(change.key)
        else:
            txn.put(change.key, encode_stored(change.obj))
    leases = await _add_releases(txn, plan)
    try:
        return await plan.store.commit(txn)
    except CompareFailed as failure:
        for lease in leases:
            # Without its key the lease does no harm until it ends.
            with contextlib.suppress(ApiError):
                await plan.store.revoke_lease(lease)
        if fence is not None and any(compare.key == fence.key for compare in failure.failed):
            raise FailedPrecondition("the writer is no longer the leader", reason="LEADERSHIP_LOST") from None
        raise


async def _add_releases(txn: Txn, plan: WritePlan) -> list[int]:
    """Adds deletions and tombstones; returns the leases of the tombstones."""
    leases: dict[int, int] = {}
    for key, seconds in plan.releases.items():
        if key in plan.claims:
            continue
        if seconds <= 0:
            txn.delete(key)
            continue
        if seconds not in leases:
            leases[seconds] = await plan.store.grant_lease(seconds)
        txn.put(key, QUARANTINE_OWNER.encode(), lease=leases[seconds])
    return list(leases.values())
