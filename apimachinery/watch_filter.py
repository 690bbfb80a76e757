"""Objects as the watch cache holds them, and which of them a list or watch asks for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2

from apimachinery.errors import FieldViolation, InvalidArgument
from apimachinery.formats import check_dns_label
from apimachinery.scheme import KindInfo, metadata_of
from apimachinery.selectors import (
    LabelPredicate,
    check_field_selector,
    check_label_selector,
    compile_labels,
    field_reader,
    matches_field,
)
from apimachinery.wire import with_revision

_NAMESPACE: Final = "metadata.namespace"

# An indexed path and one of its values.
Route = tuple[str, str]


class CachedObject:
    """One state of one object: decoded once, encoded once, index values computed once.

    data is the encoded object with its resource_version. Nobody changes ``message``.
    """

    __slots__ = ("_values", "create_revision", "data", "info", "key", "message", "revision")

    def __init__(self, info: KindInfo, key: str, stored: bytes, revision: int, create_revision: int) -> None:
        """Raises google.protobuf.message.DecodeError if the stored bytes are not an object of the kind."""
        self.info = info
        self.key = key
        self.revision = revision
        self.create_revision = create_revision
        self.data = with_revision(stored, revision)
        self.message: Message = info.message_class.FromString(self.data)
        self._values: dict[str, tuple[str, ...]] = {}

    def values(self, path: str) -> tuple[str, ...]:
        """Values at an indexed path, as selectors compare them."""
        found = self._values.get(path)
        if found is None:
            found = self._values[path] = field_reader(self.info.descriptor, path)(self.message)
        return found


@dataclass(frozen=True, slots=True)
class Filter:
    """A checked selector: namespace, labels and fields. Filters with the same ``identity`` select the same objects.

    route is one (path, value) that every selected object has, if the selector demands equality of anything.
    """

    namespace: str
    labels: LabelPredicate | None
    fields: tuple[meta_pb2.FieldRequirement, ...]
    identity: bytes
    route: Route | None

    @property
    def everything(self) -> bool:
        """Selects all objects of the kind."""
        return not self.namespace and self.labels is None and not self.fields

    def matches(self, obj: CachedObject) -> bool:
        """Whether the filter selects this state of the object."""
        if self.namespace and self.namespace not in obj.values(_NAMESPACE):
            return False
        if not all(matches_field(requirement, obj.values(requirement.field)) for requirement in self.fields):
            return False
        return self.labels is None or self.labels(metadata_of(obj.message).labels)


def make_filter(
    info: KindInfo,
    namespace: str,
    label_selector: meta_pb2.LabelSelector | None,
    field_selector: Sequence[meta_pb2.FieldRequirement],
) -> Filter:
    """Filter of a list or watch request; None for a selector that the request does not have.

    Raises InvalidArgument with the path of what is wrong.
    """
    violations: list[FieldViolation] = []
    if namespace and not info.namespaced:
        violations.append(FieldViolation("namespace", f"must be empty: {info.kind} is not namespaced"))
    elif namespace and (wrong := check_dns_label(namespace)) is not None:
        violations.append(FieldViolation("namespace", wrong))
    if label_selector is not None:
        violations += check_label_selector(label_selector, "label_selector")
    violations += check_field_selector(info, field_selector)
    if violations:
        raise InvalidArgument("selector is not valid", violations=violations)
    routes = [(item.field, item.value) for item in field_selector if item.value and not item.negate]
    if namespace:
        routes.append((_NAMESPACE, namespace))
    restricts = label_selector is not None and bool(label_selector.match_labels or label_selector.match_expressions)
    identity = meta_pb2.WatchRequest(
        namespace=namespace, label_selector=label_selector if restricts else None, field_selector=field_selector
    )
    return Filter(
        namespace=namespace,
        labels=compile_labels(label_selector) if label_selector is not None and restricts else None,
        fields=tuple(field_selector),
        identity=identity.SerializeToString(deterministic=True),
        # The first equality is the one a caller cares about; all objects of a namespace are many.
        route=routes[0] if routes else None,
    )
