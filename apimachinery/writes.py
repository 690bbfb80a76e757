"""The writing verbs: read the object, decide what it becomes, commit that in one transaction; again if a race was lost.

A decision is a pure function of the current object; it is made anew whenever the commit loses a race. Hooks of the kind
add claims and other objects to the same transaction.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar, cast

from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2

from apimachinery.apply import disown_changed, merge_applied
from apimachinery.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
)
from apimachinery.finalizers import FOREGROUND_DELETION, ORPHAN_DEPENDENTS
from apimachinery.plan import WritePlan, commit_with_plan, encode_stored
from apimachinery.resource import ResourceHooks, ResourceKind
from apimachinery.scheme import KindInfo, metadata_of
from apimachinery.store import CompareFailed, LeaseNotFound, Store, StoredValue, Txn
from apimachinery.validation import GENERATE_NAME_PREFIX, carry_over, normalize, validate

M = TypeVar("M", bound=Message)

# Lost races of one write before it gives up with ABORTED.
MAX_ATTEMPTS: Final = 64
# Seconds; the delay before an attempt grows up to it.
MAX_DELAY: Final = 0.1
NAME_ATTEMPTS: Final = 8
MAX_FIELD_OWNER: Final = 128
# Without vowels and look-alikes, so that no words come out.
_NAME_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
_FINALIZER_OF_POLICY: Final = {
    meta_pb2.PROPAGATION_POLICY_FOREGROUND: FOREGROUND_DELETION,
    meta_pb2.PROPAGATION_POLICY_ORPHAN: ORPHAN_DEPENDENTS,
}


@dataclass(frozen=True, slots=True)
class Decision(Generic[M]):
    """What becomes of an object. obj equal to the current one: nothing is written.

    allocates: the main part may have changed, so the kind's ``allocate`` is asked.
    removes:   the object disappears; ``obj`` is its last state.
    writer:    field owner of an ordinary write; None if the decision settled ownership itself.
    """

    obj: M
    allocates: bool = False
    removes: bool = False
    writer: str | None = None


Decide = Callable[[M | None], Decision[M]]


class ResourceWriter(Generic[M]):
    """Writes objects of one kind. ``on_commit`` gets the revision of each commit; ``clock`` gives UTC."""

    def __init__(
        self,
        kind: ResourceKind,
        store: Store,
        *,
        on_commit: Callable[[int], None] = lambda _: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.info: KindInfo = kind.info
        self.store = store
        self._hooks: ResourceHooks[M] = kind.hooks
        self._on_commit = on_commit
        self._clock = clock

    # Verbs

    async def read(self, namespace: str, name: str) -> M:
        """See :meth:`apimachinery.resource.ResourceAccess.read`."""
        namespace = self.info.namespace_or_default(namespace)
        current = self._decode(await self.store.get(self.info.key(namespace, name)))
        return self._existing(current, namespace, name)

    async def create(self, obj: M, options: meta_pb2.WriteOptions) -> M:
        """Stores a new object. Raises AlreadyExists, InvalidArgument, and what the kind's hooks raise."""
        meta = metadata_of(obj)
        meta.namespace = self._namespace(meta.namespace)
        generated = not meta.name and bool(meta.generate_name)
        for last in (*[False] * (NAME_ATTEMPTS - 1), True):
            if generated:
                meta.name = meta.generate_name[:GENERATE_NAME_PREFIX] + "".join(
                    secrets.choice(_NAME_ALPHABET) for _ in range(5)
                )
            try:
                return await self._write(
                    self.info.key_of(obj), lambda current: self._decide_create(obj, current), options, known_absent=True
                )
            except AlreadyExists:
                if last or not generated:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def update(self, obj: M, options: meta_pb2.WriteOptions) -> M:
        """Replaces everything but status and server-owned metadata. Raises Conflict, NotFound, InvalidArgument."""
        meta = metadata_of(obj)
        meta.namespace = self._namespace(meta.namespace)
        if meta.resource_version <= 0:
            violation = FieldViolation("metadata.resource_version", "is required: the one that the change is based on")
            raise InvalidArgument("an update needs the version it is based on", violations=[violation])

        def decide(current: M | None) -> Decision[M]:
            old = self._existing(current, meta.namespace, meta.name)
            self._check_incarnation(old, meta.uid, meta.resource_version)
            new = _copy(obj)
            _keep_server_metadata(new, old)
            return self._decide_main(new, old, options.field_owner)

        return await self._write(self.info.key_of(obj), decide, options)

    async def update_status(self, obj: M, options: meta_pb2.WriteOptions) -> M:
        """Replaces the status; resource_version and uid are preconditions if set. Raises Conflict, NotFound."""
        meta = metadata_of(obj)
        meta.namespace = self._namespace(meta.namespace)

        def decide(current: M | None) -> Decision[M]:
            old = self._existing(current, meta.namespace, meta.name)
            self._check_incarnation(old, meta.uid, meta.resource_version)
            return self._decide_status(obj, old)

        return await self._write(self.info.key_of(obj), decide, options)

    async def apply(self, obj: M, options: meta_pb2.WriteOptions) -> M:
        """Creates the object or merges the populated fields into it. Raises Conflict with the fields others own."""
        meta = metadata_of(obj)
        meta.namespace = self._namespace(meta.namespace)
        manager = options.field_owner
        if not 0 < len(manager.encode()) <= MAX_FIELD_OWNER or not manager.isprintable():
            violation = FieldViolation(
                "options.field_owner", f"is required: 1 to {MAX_FIELD_OWNER} bytes of printable text"
            )
            raise InvalidArgument("apply needs a field owner", violations=[violation])

        def decide(current: M | None) -> Decision[M]:
            if current is None:
                if meta.uid or meta.resource_version:
                    raise self._not_found(meta.namespace, meta.name)
                fresh = type(obj)()
                metadata_of(fresh).MergeFrom(meta_pb2.ObjectMeta(name=meta.name, namespace=meta.namespace))
                return self._decide_create(cast(M, merge_applied(self.info, fresh, obj, manager)), None, writer=None)
            self._check_incarnation(current, meta.uid, meta.resource_version)
            new = merge_applied(self.info, current, obj, manager, force=options.force)
            return self._decide_main(cast(M, new), current, None)

        return await self._write(self.info.key_of(obj), decide, options)

    async def delete(self, request: meta_pb2.DeleteRequest) -> M:
        """Removes the object, or marks it as being deleted if finalizers hold it. Raises NotFound, Conflict."""
        namespace = self._namespace(request.namespace)

        def decide(current: M | None) -> Decision[M]:
            old = self._existing(current, namespace, request.name)
            wanted = request.preconditions
            self._check_incarnation(old, wanted.uid, wanted.resource_version)
            if metadata_of(old).HasField("deletion_timestamp"):
                return Decision(old)
            new = _copy(old)
            meta = metadata_of(new)
            meta.deletion_timestamp.FromDatetime(self._now())
            finalizer = _FINALIZER_OF_POLICY.get(request.propagation_policy)
            if finalizer is not None and finalizer not in meta.finalizers:
                meta.finalizers.append(finalizer)
            return Decision(new, removes=not meta.finalizers)

        return await self._write(self.info.key(namespace, request.name), decide, meta_pb2.WriteOptions())

    async def add_finalizer(self, request: meta_pb2.FinalizerRequest) -> M:
        """Raises NotFound, Conflict (other uid), FailedPrecondition while the object is being deleted."""

        def change(meta: meta_pb2.ObjectMeta) -> None:
            if request.finalizer in meta.finalizers:
                return
            if meta.HasField("deletion_timestamp"):
                raise FailedPrecondition("object is being deleted and takes no new finalizers", reason="DELETING")
            meta.finalizers.append(request.finalizer)

        return await self._change_finalizers(request, change)

    async def remove_finalizer(self, request: meta_pb2.FinalizerRequest) -> M:
        """The last finalizer of an object that is being deleted takes the object with it."""

        def change(meta: meta_pb2.ObjectMeta) -> None:
            if request.finalizer in meta.finalizers:
                meta.finalizers.remove(request.finalizer)

        return await self._change_finalizers(request, change)

    async def mutate(
        self, namespace: str, name: str, change: Callable[[M], None], *, uid: str = "", status: bool = False
    ) -> M:
        """See :meth:`apimachinery.resource.ResourceAccess.mutate`."""
        namespace = self._namespace(namespace)

        def decide(current: M | None) -> Decision[M]:
            old = self._existing(current, namespace, name)
            self._check_incarnation(old, uid, 0)
            new = _copy(old)
            change(new)
            if status:
                return self._decide_status(new, old)
            _keep_server_metadata(new, old)
            return self._decide_main(new, old, "")

        return await self._write(self.info.key(namespace, name), decide, meta_pb2.WriteOptions())

    # Decisions

    def _decide_create(self, obj: M, current: M | None, writer: str | None = "") -> Decision[M]:
        if current is not None:
            meta = metadata_of(obj)
            ref = self.info.ref(meta.namespace, meta.name)
            raise AlreadyExists(f"{ref} exists already", resource=ref)
        new = _copy(obj)
        meta = metadata_of(new)
        meta.uid = str(uuid.uuid4())
        meta.creation_timestamp.FromDatetime(self._now())
        meta.ClearField("deletion_timestamp")
        meta.resource_version = 0
        meta.generation = 1
        if writer is not None:
            meta.ClearField("managed_fields")
        if self.info.has_status:
            new.ClearField("status")
        normalize(new)
        self._hooks.default(new, None)
        self._check(new, None)
        return Decision(new, allocates=True, writer=writer)

    def _decide_main(self, new: M, old: M, writer: str | None) -> Decision[M]:
        if self.info.has_status:
            _copy_part(new, old, "status")
        normalize(new)
        carry_over(new, old)
        self._hooks.default(new, old)
        if new == old:
            return Decision(old)
        self._check(new, old)
        if self._spec_differs(new, old):
            metadata_of(new).generation += 1
        meta = metadata_of(new)
        if meta.HasField("deletion_timestamp") and not meta.finalizers:
            return Decision(new, removes=True)
        return Decision(new, allocates=True, writer=writer)

    def _decide_status(self, source: M, old: M) -> Decision[M]:
        new = _copy(old)
        _copy_part(new, source, "status")
        normalize(new)
        if new == old:
            return Decision(old)
        self._check(new, old, part="status")
        return Decision(new)

    def _check(self, new: M, old: M | None, part: str = "") -> None:
        """Raises InvalidArgument. With ``part``, the rest of the object, which is stored already, is not judged: rules
        that became stricter must not keep anybody from writing a status or finishing a deletion."""
        violations = validate(self.info, new, old) or list(self._hooks.validate(new, old))
        violations = [violation for violation in violations if not violation.field or violation.field.startswith(part)]
        if violations:
            meta = metadata_of(new)
            ref = self.info.ref(meta.namespace, meta.name)
            raise InvalidArgument(f"{ref} is not valid", violations=violations, resource=ref)

    def _spec_differs(self, a: M, b: M) -> bool:
        names = [field.name for field in self.info.descriptor.fields if field.name not in ("metadata", "status")]
        return any(
            getattr(a, name) != getattr(b, name)
            or (self.info.descriptor.fields_by_name[name].has_presence and a.HasField(name) != b.HasField(name))
            for name in names
        )

    def _existing(self, current: M | None, namespace: str, name: str) -> M:
        if current is None:
            raise self._not_found(namespace, name)
        return current

    def _not_found(self, namespace: str, name: str) -> NotFound:
        ref = self.info.ref(namespace, name)
        return NotFound(f"{ref} does not exist", resource=ref)

    def _check_incarnation(self, old: M, uid: str, resource_version: int) -> None:
        meta = metadata_of(old)
        ref = self.info.ref(meta.namespace, meta.name)
        if uid and uid != meta.uid:
            raise Conflict(f"{ref} is another incarnation: its uid is {meta.uid}", reason="UID_MISMATCH", resource=ref)
        if resource_version and resource_version != meta.resource_version:
            raise Conflict(
                f"{ref} changed: it is at version {meta.resource_version}, not {resource_version}",
                reason="VERSION_MISMATCH",
                resource=ref,
            )

    async def _change_finalizers(
        self, request: meta_pb2.FinalizerRequest, change: Callable[[meta_pb2.ObjectMeta], None]
    ) -> M:
        namespace = self._namespace(request.namespace)

        def decide(current: M | None) -> Decision[M]:
            old = self._existing(current, namespace, request.name)
            self._check_incarnation(old, request.uid, 0)
            new = _copy(old)
            meta = metadata_of(new)
            change(meta)
            if new == old:
                return Decision(old)
            self._check(new, old, part="metadata.finalizers")
            return Decision(new, removes=meta.HasField("deletion_timestamp") and not meta.finalizers)

        return await self._write(self.info.key(namespace, request.name), decide, meta_pb2.WriteOptions())

    # Commit

    async def _write(
        self, key: str, decide: Decide[M], options: meta_pb2.WriteOptions, *, known_absent: bool = False
    ) -> M:
        stored = None if known_absent else await self.store.get(key)
        for attempt in range(MAX_ATTEMPTS):
            current = self._decode(stored)
            decision = decide(current)
            if decision.obj is current:
                return decision.obj
            plan = WritePlan(self.store, dry_run=options.dry_run, now=self._now())
            if decision.removes:
                await self._hooks.release(plan, decision.obj)
            elif decision.allocates:
                await self._hooks.allocate(plan, decision.obj, current)
            if decision.writer is not None and current is not None:
                disown_changed(self.info, decision.obj, current, decision.writer)
            if options.dry_run:
                return decision.obj
            try:
                revision = await self._commit(key, stored, decision, plan)
            except CompareFailed as failure:
                stored = await self._after_lost_race(key, stored, plan, failure)
            except LeaseNotFound:
                # A short quarantine ended before it began: nothing was written, the next attempt gets its own lease.
                pass
            else:
                metadata_of(decision.obj).resource_version = revision
                self._on_commit(revision)
                return decision.obj
            await asyncio.sleep(random.uniform(0, min(MAX_DELAY, 0.001 * 2**attempt)))
        raise Conflict(f"{key} or what it needs kept changing; try again", reason="CONTENTION")

    async def _after_lost_race(
        self, key: str, stored: StoredValue | None, plan: WritePlan, failure: CompareFailed
    ) -> StoredValue | None:
        """The object to decide about next. Raises the error of a claim that somebody else holds."""
        failed = {compare.key for compare in failure.failed}
        if key in failed:
            return failure.current[key]
        for lost in failed & plan.claims.keys():
            error = plan.claims[lost].error
            if error is not None:
                raise error
        return stored

    async def _commit(self, key: str, stored: StoredValue | None, decision: Decision[M], plan: WritePlan) -> int:
        txn = Txn()
        if stored is None:
            txn.require_absent(key)
        else:
            txn.require_revision(key, stored.mod_revision)
        if decision.removes:
            txn.delete(key)
        else:
            txn.put(key, encode_stored(decision.obj))
        return await commit_with_plan(txn, plan)

    def _decode(self, stored: StoredValue | None) -> M | None:
        if stored is None:
            return None
        obj = cast(M, self.info.message_class.FromString(stored.value))
        metadata_of(obj).resource_version = stored.mod_revision
        return obj

    def _namespace(self, namespace: str) -> str:
        """The namespace meant; a namespace for a cluster-scoped kind stays, for validation to refuse it."""
        return namespace if not self.info.namespaced else self.info.namespace_or_default(namespace)

    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)


def _copy(obj: M) -> M:
    copy = type(obj)()
    copy.CopyFrom(obj)
    return copy


def _copy_part(target: Message, source: Message, name: str) -> None:
    target.ClearField(name)
    if source.HasField(name):
        getattr(target, name).CopyFrom(getattr(source, name))


def _keep_server_metadata(new: Message, old: Message) -> None:
    """Takes over what clients cannot write."""
    meta, before = metadata_of(new), metadata_of(old)
    meta.uid = before.uid
    meta.generation = before.generation
    meta.resource_version = before.resource_version
    meta.generate_name = before.generate_name
    for name in ("creation_timestamp", "deletion_timestamp"):
        _copy_part(meta, before, name)
    del meta.managed_fields[:]
    meta.managed_fields.MergeFrom(before.managed_fields)
