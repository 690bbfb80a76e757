"""Which object of another API group an object was made from: labels for what fits, an annotation for the name. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2

from apimachinery.informer import Key
from apimachinery.scheme import metadata_of


@dataclass(frozen=True, slots=True)
class Origin:
    """The source object: its key and its incarnation."""

    namespace: str
    name: str
    uid: str

    @property
    def key(self) -> Key:
        """Key of the source object."""
        return Key(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class OriginLabels:
    """How one bridge marks what it makes of one kind: `<prefix><kind>-uid` and so on.

    prefix: ends with "/". kind: of the source, lower case, "network" for example.
    """

    prefix: str
    kind: str

    @property
    def uid_label(self) -> str:
        """Label with the source's uid."""
        return f"{self.prefix}{self.kind}-uid"

    @property
    def namespace_label(self) -> str:
        """Label with the source's namespace."""
        return f"{self.prefix}{self.kind}-namespace"

    @property
    def name_annotation(self) -> str:
        """Annotation with the source's name, which may be longer than a label's value."""
        return f"{self.prefix}{self.kind}-name"

    def mark(self, meta: meta_pb2.ObjectMeta, source: meta_pb2.ObjectMeta) -> None:
        """Write the origin into the metadata of what is made from the source."""
        meta.labels[self.uid_label] = source.uid
        meta.labels[self.namespace_label] = source.namespace
        meta.annotations[self.name_annotation] = source.name

    def find(self, obj: Message) -> Origin | None:
        """The origin of an object; None unless all of it is there: such an object belongs to nobody."""
        meta = metadata_of(obj)
        uid = meta.labels.get(self.uid_label, "")
        namespace = meta.labels.get(self.namespace_label, "")
        name = meta.annotations.get(self.name_annotation, "")
        return Origin(namespace, name, uid) if uid and namespace and name else None

    def keys(self, obj: Message) -> Iterable[Key]:
        """Key of the object that this one was made from, if any. Map function of a controller."""
        origin = self.find(obj)
        return () if origin is None else (origin.key,)
