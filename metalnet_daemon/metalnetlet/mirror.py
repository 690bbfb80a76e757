"""What networks and interfaces have in common: an apinet object that owns one metalnet object of its partition."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import Message

from apimachinery.errors import NotFound
from apimachinery.finalizers import drop_finalizer, has_finalizer, is_deleting
from apimachinery.informer import Informer, Key
from apimachinery.scheme import metadata_of

from .config import FIELD_OWNER
from .origin import ORIGIN_INDEX, origin_keys, origin_of

S = TypeVar("S", bound=Message)
T = TypeVar("T", bound=Message)


class Mirror(Generic[S, T]):
    """Metalnet objects (T) made from apinet objects (S). kind: as in the origin labels."""

    def __init__(self, sources: Informer[S], targets: Informer[T], kind: str, namespace: str, finalizer: str) -> None:
        self.sources = sources
        self.targets = targets
        self.kind = kind
        self._namespace = namespace
        self._finalizer = finalizer
        targets.add_indexer(ORIGIN_INDEX, lambda obj: [str(key) for key in origin_keys(obj, kind)])

    def target(self, source: S) -> T | None:
        """The metalnet object of this incarnation of an apinet object."""
        return self.targets.get(self._namespace, metadata_of(source).uid)

    async def put(self, wanted: T) -> T:
        """Create or change a metalnet object; no call if the local copy is as wanted."""
        meta = metadata_of(wanted)
        current = self.targets.get(meta.namespace, meta.name)
        if current is not None and not is_deleting(current) and _is_as_wanted(current, wanted):
            return current
        return await self.targets.client.apply(wanted, FIELD_OWNER, force=True)

    async def remove_strays(self, key: Key, keep_uid: str = "") -> None:
        """Delete what was made from earlier incarnations of the apinet object, or from all if it is gone."""
        for obj in self.targets.by_index(ORIGIN_INDEX, str(key)):
            found = origin_of(obj, self.kind)
            if found is not None and found.uid != keep_uid:
                await self._delete(obj)

    async def remove(self, source: S) -> None:
        """Delete the metalnet object; once it is gone, let the apinet object go. Called again when it is."""
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


def _is_as_wanted(current: Message, wanted: Message) -> bool:
    """True if the spec is equal and all wanted labels and annotations are there."""
    have, want = metadata_of(current), metadata_of(wanted)
    # Every kind that is mirrored has a spec; the type of a message class does not say so.
    same_spec = cast(Any, current).spec == cast(Any, wanted).spec
    return (
        same_spec
        and want.labels.items() <= dict(have.labels).items()
        and want.annotations.items() <= dict(have.annotations).items()
    )
