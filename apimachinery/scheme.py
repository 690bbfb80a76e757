"""Kinds as their protobuf descriptors describe them: the only place that reads the ``resource`` option.

A kind is a message with ``option (ironcore.meta.v1.resource)``; beside it in the same file stand ``<Kind>List``,
``<Kind>Event``, ``<Kind>WatchResponse``, ``<Kind>WriteRequest`` and the service ``<Kind>Service``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Protocol, cast

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2, options_pb2

from apimachinery.errors import InvalidArgument, ResourceRef

DEFAULT_NAMESPACE: Final = "default"
# Stands for "no namespace" in store keys of cluster-scoped kinds; no namespace can have this name.
CLUSTER_SEGMENT: Final = "_"
# Selectable for every kind.
COMMON_INDEXED_FIELDS: Final = ("metadata.name", "metadata.namespace", "metadata.owner_references.uid")


class ResourceObject(Protocol):
    """What every kind's message has."""

    @property
    def metadata(self) -> meta_pb2.ObjectMeta: ...


def metadata_of(obj: Message) -> meta_pb2.ObjectMeta:
    """``obj.metadata``, typed."""
    return cast(ResourceObject, obj).metadata


@dataclass(frozen=True, slots=True)
class KindInfo:
    """Everything generic code needs to know about one kind.

    group is the first label of the proto package below ``ironcore`` ("apinet" of ``ironcore.apinet.v1``);
    indexed_fields and columns hold paths in proto field names; methods are those of the kind's service.
    """

    api_version: str
    kind: str
    plural: str
    group: str
    short_names: tuple[str, ...]
    namespaced: bool
    has_status: bool
    name_format: options_pb2.Format.ValueType
    indexed_fields: tuple[str, ...]
    columns: tuple[options_pb2.Column, ...]
    service_name: str
    methods: Mapping[str, MethodDescriptor] = field(repr=False)
    descriptor: Descriptor = field(repr=False)
    message_class: type[Message] = field(repr=False)
    list_class: type[Message] = field(repr=False)
    event_class: type[Message] = field(repr=False)
    watch_class: type[Message] = field(repr=False)
    write_class: type[Message] = field(repr=False)

    @property
    def resource_type(self) -> str:
        """``<plural>.<group>``, as errors and the command line name the kind."""
        return f"{self.plural}.{self.group}"

    def ref(self, namespace: str, name: str) -> ResourceRef:
        """How errors name one object."""
        return ResourceRef(self.resource_type, f"{namespace}/{name}" if self.namespaced else name)

    def prefix(self, namespace: str = "") -> str:
        """Store prefix of all objects, or of those of one namespace."""
        base = f"/{self.group}/{self.plural}/"
        return f"{base}{namespace}/" if namespace and self.namespaced else base

    def key(self, namespace: str, name: str) -> str:
        """Store key of one object; the namespace is ignored for cluster-scoped kinds."""
        return f"/{self.group}/{self.plural}/{namespace if self.namespaced else CLUSTER_SEGMENT}/{name}"

    def key_of(self, obj: Message) -> str:
        """Store key of this object."""
        meta = metadata_of(obj)
        return self.key(meta.namespace, meta.name)

    def split_key(self, key: str) -> tuple[str, str]:
        """(namespace, name) of a store key of this kind; the namespace is empty for cluster-scoped kinds."""
        _, _, _, namespace, name = key.split("/", 4)
        return (namespace if self.namespaced else "", name)

    def namespace_or_default(self, namespace: str) -> str:
        """The namespace that a request means: "default" if a namespaced kind names none."""
        if not self.namespaced:
            return ""
        return namespace or DEFAULT_NAMESPACE


class NotAKindError(TypeError):
    """The message has no ``resource`` option or lacks a part that goes with it."""


def kind_info(message: type[Message] | Message | Descriptor) -> KindInfo:
    """KindInfo of a message class, a message or a descriptor. Raises NotAKindError."""
    return _kind_info(message if isinstance(message, Descriptor) else message.DESCRIPTOR)


@cache
def _kind_info(descriptor: Descriptor) -> KindInfo:
    options = descriptor.GetOptions()
    if not options.HasExtension(options_pb2.resource):
        raise NotAKindError(f"{descriptor.full_name} has no resource option")
    resource = options.Extensions[options_pb2.resource]
    file = descriptor.file
    package = file.package.split(".")
    service_name = f"{descriptor.name}Service"
    service = file.services_by_name.get(service_name)
    if service is None:
        raise NotAKindError(f"{file.name} has no service {service_name}")
    metadata = descriptor.fields_by_name.get("metadata")
    if metadata is None or metadata.number != 1 or metadata.message_type is not meta_pb2.ObjectMeta.DESCRIPTOR:
        raise NotAKindError(f"{descriptor.full_name} must begin with ObjectMeta metadata = 1")
    if resource.has_status and "status" not in descriptor.fields_by_name:
        raise NotAKindError(f"{descriptor.full_name} has has_status but no field status")
    for path in resource.indexed_fields:
        resolve_path(descriptor, path)

    def companion(suffix: str) -> type[Message]:
        found = file.message_types_by_name.get(descriptor.name + suffix)
        if found is None:
            raise NotAKindError(f"{file.name} has no message {descriptor.name}{suffix}")
        return message_factory.GetMessageClass(found)

    return KindInfo(
        api_version=resource.api_version,
        kind=resource.kind,
        plural=resource.plural,
        group=package[1] if package[0] == "ironcore" and len(package) > 1 else package[0],
        short_names=tuple(resource.short_names),
        namespaced=resource.scope != options_pb2.SCOPE_CLUSTER,
        has_status=resource.has_status,
        name_format=resource.name_format or options_pb2.FORMAT_DNS_LABEL,
        indexed_fields=tuple(dict.fromkeys((*COMMON_INDEXED_FIELDS, *resource.indexed_fields))),
        columns=tuple(resource.columns),
        service_name=service.full_name,
        methods=dict(service.methods_by_name),
        descriptor=descriptor,
        message_class=message_factory.GetMessageClass(descriptor),
        list_class=companion("List"),
        event_class=companion("Event"),
        watch_class=companion("WatchResponse"),
        write_class=companion("WriteRequest"),
    )


def resolve_path(descriptor: Descriptor, path: str) -> tuple[FieldDescriptor, ...]:
    """The fields along a dotted path of proto names. Raises NotAKindError if there is no such path."""
    fields: list[FieldDescriptor] = []
    at: Descriptor | None = descriptor
    for part in path.split("."):
        found = at.fields_by_name.get(part) if at is not None else None
        if found is None:
            raise NotAKindError(f"{descriptor.full_name} has no field {path}")
        fields.append(found)
        at = found.message_type
    return tuple(fields)


class Scheme:
    """The kinds that a process knows, in the order of their registration."""

    def __init__(self, kinds: Iterable[KindInfo] = ()) -> None:
        self._by_version_kind: dict[tuple[str, str], KindInfo] = {}
        for info in kinds:
            self.add(info)

    @classmethod
    def from_messages(cls, messages: Iterable[type[Message]]) -> Scheme:
        """Scheme of these message classes."""
        return cls(kind_info(message) for message in messages)

    @classmethod
    def from_packages(cls, *packages: str) -> Scheme:
        """All kinds in the generated Python packages, for example ``ironcore.apinet.v1``. Raises ImportError."""
        scheme = cls()
        for package in packages:
            modules = importlib.import_module(package)
            for found in sorted(pkgutil.iter_modules(modules.__path__), key=lambda module: module.name):
                if found.name.endswith("_pb2"):
                    module = importlib.import_module(f"{package}.{found.name}")
                    for info in kinds_in_file(cast(Any, module).DESCRIPTOR):
                        scheme.add(info)
        return scheme

    def add(self, info: KindInfo) -> None:
        """Registers a kind. Raises ValueError if another message already has its apiVersion and kind."""
        known = self._by_version_kind.setdefault((info.api_version, info.kind), info)
        if known.descriptor is not info.descriptor:
            raise ValueError(f"{info.api_version} {info.kind} is both {known.descriptor} and {info.descriptor}")

    def __iter__(self) -> Iterator[KindInfo]:
        return iter(self._by_version_kind.values())

    def __len__(self) -> int:
        return len(self._by_version_kind)

    def get(self, api_version: str, kind: str) -> KindInfo | None:
        """The kind of a manifest."""
        return self._by_version_kind.get((api_version, kind))

    def find(self, name: str) -> tuple[KindInfo, ...]:
        """Kinds that a user may mean by ``name[.group]``, in the order of registration.

        name is the plural, the kind in any case, or a short name; group is the store group or the API group of the
        manifest ("apinet", "core.apinet.ironcore.dev").
        """
        word, _, group = name.lower().partition(".")
        return tuple(
            info
            for info in self
            if word in (info.plural, info.kind.lower(), *info.short_names)
            and group in ("", info.group, info.api_version.partition("/")[0])
        )

    def resolve(self, name: str) -> KindInfo:
        """The first kind of :meth:`find`. Raises InvalidArgument that names what is known."""
        found = self.find(name)
        if not found:
            known = ", ".join(sorted(info.resource_type for info in self))
            raise InvalidArgument(f'no kind is called "{name}"; known are {known}', reason="UNKNOWN_KIND")
        return found[0]


def kinds_in_file(file: FileDescriptor) -> Iterator[KindInfo]:
    """The kinds that one proto file declares."""
    for descriptor in file.message_types_by_name.values():
        if descriptor.GetOptions().HasExtension(options_pb2.resource):
            yield kind_info(descriptor)
