"""Which apinet object a metalnet object was made from: labels for what fits, an annotation for the name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2

from apimachinery.informer import Key
from apimachinery.scheme import metadata_of

PREFIX: Final = "metalnetlet.ironcore.dev/"
ORIGIN_INDEX: Final = "metalnetlet-origin"


@dataclass(frozen=True, slots=True)
class Origin:
    """The apinet object: its key and its incarnation."""

    namespace: str
    name: str
    uid: str

    @property
    def key(self) -> Key:
        """Key of the apinet object."""
        return Key(self.namespace, self.name)


def mark(meta: meta_pb2.ObjectMeta, kind: str, source: meta_pb2.ObjectMeta) -> None:
    """Write the origin into a metalnet object's metadata. kind: "network", "networkinterface"."""
    meta.labels[f"{PREFIX}{kind}-uid"] = source.uid
    meta.labels[f"{PREFIX}{kind}-namespace"] = source.namespace
    # Names may be longer than a label's value.
    meta.annotations[f"{PREFIX}{kind}-name"] = source.name


def origin_of(obj: Message, kind: str) -> Origin | None:
    """The origin of a metalnet object; None unless all of it is there: such an object belongs to nobody."""
    meta = metadata_of(obj)
    uid = meta.labels.get(f"{PREFIX}{kind}-uid", "")
    namespace = meta.labels.get(f"{PREFIX}{kind}-namespace", "")
    name = meta.annotations.get(f"{PREFIX}{kind}-name", "")
    return Origin(namespace, name, uid) if uid and namespace and name else None


def origin_keys(obj: Message, kind: str) -> Iterable[Key]:
    """Key of the apinet object that a metalnet object was made from, if any."""
    origin = origin_of(obj, kind)
    return () if origin is None else (origin.key,)
