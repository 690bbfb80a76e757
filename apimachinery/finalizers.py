"""Finalizers: names with a meaning for the garbage collector, and how a controller takes part in a deletion."""

from typing import Final, Protocol, TypeVar

from google.protobuf.message import Message

from apimachinery.errors import NotFound
from apimachinery.scheme import metadata_of

# Set by Delete with PROPAGATION_POLICY_FOREGROUND; the garbage collector removes it once no blocking dependent is left.
FOREGROUND_DELETION: Final = "foregroundDeletion"
# Set by Delete with PROPAGATION_POLICY_ORPHAN; the garbage collector removes it once no dependent names the object.
ORPHAN_DEPENDENTS: Final = "orphan"

M = TypeVar("M", bound=Message)
M_co = TypeVar("M_co", bound=Message, covariant=True)


class FinalizerVerbs(Protocol[M_co]):
    """The two atomic verbs; `apimachinery.client.KindClient` has them."""

    async def add_finalizer(self, namespace: str, name: str, finalizer: str, *, uid: str = "") -> M_co: ...

    async def remove_finalizer(self, namespace: str, name: str, finalizer: str, *, uid: str = "") -> M_co: ...


def is_deleting(obj: Message) -> bool:
    """True once deletion was asked for."""
    return metadata_of(obj).HasField("deletion_timestamp")


def has_finalizer(obj: Message, finalizer: str) -> bool:
    """True if the object waits for this party before it disappears."""
    return finalizer in metadata_of(obj).finalizers


async def ensure_finalizer(verbs: FinalizerVerbs[M], obj: M, finalizer: str) -> M:
    """The object with the finalizer; no call if it has it already. Errors as AddFinalizer."""
    if has_finalizer(obj, finalizer):
        return obj
    meta = metadata_of(obj)
    return await verbs.add_finalizer(meta.namespace, meta.name, finalizer, uid=meta.uid)


async def drop_finalizer(verbs: FinalizerVerbs[M], obj: M, finalizer: str) -> None:
    """Removes the finalizer of this incarnation; an object that is gone is a success."""
    if not has_finalizer(obj, finalizer):
        return
    meta = metadata_of(obj)
    try:
        await verbs.remove_finalizer(meta.namespace, meta.name, finalizer, uid=meta.uid)
    except NotFound:
        return
