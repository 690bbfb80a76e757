"""Mirrors: objects of one API group that a bridge makes from objects of another, named by the uid of their source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import Message

from apimachinery.errors import NotFound
from apimachinery.finalizers import drop_finalizer, has_finalizer, is_deleting
from apimachinery.informer import Informer, Key
from apimachinery.origin import OriginLabels
from apimachinery.scheme import metadata_of

S = TypeVar("S", bound=Message)
T = TypeVar("T", bound=Message)


def same_spec(current: Message, wanted: Message) -> bool:
    """True if the whole spec is equal: right for kinds whose spec has no other writer."""
    # Every kind that is mirrored has a spec; the type of a message class does not say so.
    return bool(cast(Any, current).spec == cast(Any, wanted).spec)


class Mirror(Generic[S, T]):
    """Objects (T) in one namespace that are made from other objects (S).

    A source keeps `finalizer` until what was made from it is gone. `agrees(current, wanted)` tells whether the fields
    that the bridge writes are as wanted.
    """

    def __init__(
        self,
        sources: Informer[S],
        targets: Informer[T],
        *,
        origin: OriginLabels,
        namespace: str,
        finalizer: str,
        field_owner: str,
        agrees: Callable[[T, T], bool] = same_spec,
    ) -> None:
        self.sources = sources
        self.targets = targets
        self.origin = origin
        self._namespace = namespace
        self._finalizer = finalizer
        self._field_owner = field_owner
        self._agrees = agrees
        self._index = f"origin {origin.prefix}{origin.kind}"
        targets.add_indexer(self._index, lambda obj: [str(key) for key in origin.keys(obj)])

    def target(self, source: S) -> T | None:
        """What was made from this incarnation of a source."""
        return self.targets.get(self._namespace, metadata_of(source).uid)

    def made_from(self, key: Key) -> list[T]:
        """What was made from any incarnation of the source with this key."""
        return self.targets.by_index(self._index, str(key))

    async def put(self, wanted: T) -> T:
        """Create or change a target; no call if the local copy is as wanted."""
        meta = metadata_of(wanted)
        current = self.targets.get(meta.namespace, meta.name)
        if current is not None and not is_deleting(current) and self._is_as_wanted(current, wanted):
            return current
        return await self.targets.client.apply(wanted, self._field_owner, force=True)

    async def remove_strays(self, key: Key, keep_uid: str = "") -> None:
        """Delete what was made from earlier incarnations of the source, or from all if it is gone."""
        for obj in self.made_from(key):
            found = self.origin.find(obj)
            if found is not None and found.uid != keep_uid:
                await self._delete(obj)

    async def remove(self, source: S) -> None:
        """Delete the target; once it is gone, let the source go. Called again when it is."""
        target = self.target(source)
        if target is not None:
            await self._delete(target)
            return
        if not has_finalizer(source, self._finalizer):
            return
        # The local copy may be older than an object that was just created.
        if await self.targets.client.find(self._namespace, metadata_of(source).uid) is None:
            await drop_finalizer(self.sources.client, source, self._finalizer)

    async def _delete(self, obj: T) -> None:
        if is_deleting(obj):
            return
        meta = metadata_of(obj)
        try:
            await self.targets.client.delete(meta.namespace, meta.name, uid=meta.uid)
        except NotFound:
            return

    def _is_as_wanted(self, current: T, wanted: T) -> bool:
        have, want = metadata_of(current), metadata_of(wanted)
        return (
            self._agrees(current, wanted)
            and want.labels.items() <= dict(have.labels).items()
            and want.annotations.items() <= dict(have.annotations).items()
        )
