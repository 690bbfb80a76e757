"""Manifests: YAML and JSON documents to messages and back, in the shape of the reference.

``apiVersion`` and ``kind`` choose the message, ``json_name`` gives field names, the ``text`` option enum values.
Input is checked strictly: unknown fields, wrong types, duplicate keys and unknown enum texts are errors with the path
of the field; all errors of a document are reported together.
"""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from ironcore.meta.v1 import options_pb2

from apimachinery.apply import format_path, parse_path
from apimachinery.documents import MAX_DEPTH, Plain, document_path, dump_json, dump_yaml, load_documents
from apimachinery.errors import FieldViolation, InvalidArgument
from apimachinery.scheme import KindInfo, Scheme, kind_info
from apimachinery.selectors import enum_texts
from apimachinery.validation import is_map

LIST_KIND: Final = ("v1", "List")
_TIMESTAMP: Final = Timestamp.DESCRIPTOR.full_name
_DURATION: Final = Duration.DESCRIPTOR.full_name
# Versions are opaque text in manifests of the reference.
_OPAQUE_INTEGERS: Final = frozenset(
    {"ironcore.meta.v1.ObjectMeta.resource_version", "ironcore.meta.v1.ListMeta.resource_version"}
)
_RANGES: Final[Mapping[int, tuple[int, int]]] = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}


def parse(text: str, scheme: Scheme) -> list[Message]:
    """The objects in YAML (any number of documents) or JSON text; ``kind: List`` stands for its items.

    Raises InvalidArgument with the path of every wrong field; after the first document the path begins with the index
    of the document, as in ``[1].spec.ips[0].value``. Empty documents stand for nothing.
    """
    objects: list[Message] = []
    for index, document in enumerate(load_documents(text)):
        if document is not None:
            objects += _from_document(document, scheme, document_path(index))
    return objects


def _from_document(document: Plain, scheme: Scheme, path: str) -> Iterator[Message]:
    if isinstance(document, dict) and (document.get("apiVersion"), document.get("kind")) == LIST_KIND:
        items = document.get("items")
        if not isinstance(items, list):
            raise InvalidArgument(
                "manifest is not valid", violations=[FieldViolation(_at(path, "items"), "must be a list")]
            )
        for index, item in enumerate(items):
            yield from_plain(item, scheme, f"{_at(path, 'items')}[{index}]")
    else:
        yield from_plain(document, scheme, path)


def from_plain(document: Plain, scheme: Scheme, path: str = "") -> Message:
    """The object in one parsed document. Raises InvalidArgument with all wrong fields."""
    if not isinstance(document, dict):
        raise InvalidArgument("manifest is not valid", violations=[FieldViolation(path, "must be an object")])
    api_version, kind = document.get("apiVersion"), document.get("kind")
    violations = [
        FieldViolation(_at(path, name), "is required and must be a string")
        for name, value in (("apiVersion", api_version), ("kind", kind))
        if not isinstance(value, str) or not value
    ]
    if violations:
        raise InvalidArgument("manifest is not valid", violations=violations)
    info = scheme.get(cast(str, api_version), cast(str, kind))
    if info is None:
        similar = sorted(f"{k.api_version} {k.kind}" for k in scheme if k.kind == kind or k.api_version == api_version)
        hint = f"; known are {', '.join(similar)}" if similar else ""
        raise InvalidArgument(
            f"there is no kind {kind} in {api_version}{hint}",
            violations=[FieldViolation(_at(path, "kind"), "is not known")],
            reason="UNKNOWN_KIND",
        )
    obj = info.message_class()
    reader = _Reader()
    reader.message(obj, {key: value for key, value in document.items() if key not in ("apiVersion", "kind")}, path, 0)
    if reader.violations:
        raise InvalidArgument(f"{info.kind} manifest is not valid", violations=reader.violations)
    return obj


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@cache
def _fields_by_manifest_name(descriptor: Descriptor) -> Mapping[str, FieldDescriptor]:
    return {field.json_name: field for field in descriptor.fields}


@cache
def _numbers_by_text(enum: EnumDescriptor) -> Mapping[str, int]:
    """Texts and their aliases."""
    numbers: dict[str, int] = {}
    for value in enum.values:
        extensions = value.GetOptions().Extensions
        text = extensions[options_pb2.text] or (value.name if value.number else "")
        numbers.update({spelling: value.number for spelling in (text, *extensions[options_pb2.aliases]) if spelling})
    return numbers


def _transparent(message: Message) -> FieldDescriptor | None:
    """The field that stands for the message in manifests, if its type is transparent."""
    descriptor = message.DESCRIPTOR
    if not descriptor.GetOptions().Extensions[options_pb2.transparent]:
        return None
    return cast(FieldDescriptor, descriptor.fields[0])


class _Reader:
    """Fills messages from plain values and collects what is wrong."""

    def __init__(self) -> None:
        self.violations: list[FieldViolation] = []

    def wrong(self, path: str, message: str) -> None:
        self.violations.append(FieldViolation(path, message))

    def message(self, target: Message, value: Plain, path: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            self.wrong(path, "is nested too deeply")
            return
        if target.DESCRIPTOR.full_name in (_TIMESTAMP, _DURATION):
            self._json_string(cast(Timestamp | Duration, target), value, path)
            return
        inner = _transparent(target)
        if inner is not None:
            self.field(target, inner, value, path, depth)
            return
        if not isinstance(value, dict):
            self.wrong(path, f"must be an object, not {_type_name(value)}")
            return
        fields = _fields_by_manifest_name(target.DESCRIPTOR)
        for name, element in value.items():
            field = fields.get(name)
            if field is None:
                close = difflib.get_close_matches(name, fields, n=1)
                self.wrong(_at(path, name), f'is not known; did you mean "{close[0]}"?' if close else "is not known")
            elif element is not None:
                self.field(target, field, element, _at(path, name), depth + 1)

    def field(self, target: Message, field: FieldDescriptor, value: Plain, path: str, depth: int) -> None:
        if is_map(field):
            self._map(getattr(target, field.name), field, value, path, depth)
        elif field.is_repeated:
            if not isinstance(value, list):
                self.wrong(path, f"must be a list, not {_type_name(value)}")
                return
            container = getattr(target, field.name)
            for index, element in enumerate(value):
                at = f"{path}[{index}]"
                if element is None:
                    self.wrong(at, "must not be null")
                elif field.message_type is not None:
                    self.message(container.add(), element, at, depth)
                else:
                    self._scalar(field, element, at, container.append)
        elif field.message_type is not None:
            inner = getattr(target, field.name)
            inner.SetInParent()
            self.message(inner, value, path, depth)
        else:
            self._scalar(field, value, path, lambda scalar: setattr(target, field.name, scalar))

    def _map(self, container: Any, field: FieldDescriptor, value: Plain, path: str, depth: int) -> None:
        if not isinstance(value, dict):
            self.wrong(path, f"must be an object, not {_type_name(value)}")
            return
        element_field = cast(Descriptor, field.message_type).fields_by_name["value"]
        for key, element in value.items():
            at = f"{path}[{key}]"
            if element is None:
                self.wrong(at, "must not be null")
            elif element_field.message_type is not None:
                self.message(container[key], element, at, depth)
            else:
                self._scalar(element_field, element, at, partial(container.__setitem__, key))

    def _scalar(self, field: FieldDescriptor, value: Plain, path: str, store: Callable[[Any], None]) -> None:
        try:
            store(_scalar_from_plain(field, value))
        except ValueError as error:
            self.wrong(path, str(error))

    def _json_string(self, target: Timestamp | Duration, value: Plain, path: str) -> None:
        what = "an RFC 3339 time" if isinstance(target, Timestamp) else 'a duration in seconds such as "1.5s"'
        if not isinstance(value, str):
            self.wrong(path, f"must be {what}")
            return
        try:
            target.FromJsonString(value)
        except ValueError:
            self.wrong(path, f"must be {what}")


def _type_name(value: Plain) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "an integer"}
    return names.get(type(value), "null" if value is None else "a number")


def _scalar_from_plain(field: FieldDescriptor, value: Plain) -> Any:
    """Raises ValueError that says what the value must be."""
    if field.enum_type is not None:
        numbers = _numbers_by_text(field.enum_type)
        # Some kinds of the reference write numbers; those are aliases here.
        text = str(value) if type(value) is int else value
        if text == "":
            return 0
        if not isinstance(text, str) or text not in numbers:
            raise ValueError(f"must be one of {', '.join(filter(None, enum_texts(field.enum_type).values()))}")
        return numbers[text]
    if field.type == FieldDescriptor.TYPE_STRING:
        if not isinstance(value, str):
            raise ValueError(f"must be a string, not {_type_name(value)}; quote it")
        return value
    if field.type == FieldDescriptor.TYPE_BYTES:
        try:
            return base64.b64decode(cast(str, value), validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise ValueError("must be base64 text") from None
    if field.type == FieldDescriptor.TYPE_BOOL:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {_type_name(value)}")
        return value
    if field.cpp_type not in _RANGES:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"must be a number, not {_type_name(value)}")
        return float(value)
    if isinstance(value, str) and field.full_name in _OPAQUE_INTEGERS and value.isascii() and value.isdigit():
        value = int(value[:20])
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be an integer, not {_type_name(value)}")
    low, high = _RANGES[field.cpp_type]
    if not low <= value <= high:
        raise ValueError(f"must be between {low} and {high}")
    return value


def to_plain(obj: Message, *, managed_fields: bool = False) -> dict[str, Plain]:
    """The document of one object: apiVersion and kind first, then the fields in the order of the contract.

    Unset fields are left out; ``managed_fields`` shows who applied which field.
    """
    info = kind_info(obj)
    document: dict[str, Plain] = {"apiVersion": info.api_version, "kind": info.kind}
    document.update(message_to_plain(obj))
    metadata = document.get("metadata")
    if isinstance(metadata, dict) and not managed_fields:
        metadata.pop("managedFields", None)
    return document


def message_to_plain(message: Message) -> dict[str, Plain]:
    """Any message in manifest form."""
    return cast(dict[str, Plain], _message_to_plain(message))


def _message_to_plain(message: Message) -> Plain:
    if message.DESCRIPTOR.full_name in (_TIMESTAMP, _DURATION):
        return cast(Timestamp | Duration, message).ToJsonString()
    inner = _transparent(message)
    if inner is not None:
        return _field_to_plain(inner, getattr(message, inner.name))
    return {field.json_name: _field_to_plain(field, value) for field, value in message.ListFields()}


def _field_to_plain(field: FieldDescriptor, value: Any) -> Plain:
    if is_map(field):
        element_field = cast(Descriptor, field.message_type).fields_by_name["value"]
        return {str(key): _element_to_plain(element_field, value[key]) for key in sorted(value)}
    if field.is_repeated:
        return [_element_to_plain(field, element) for element in value]
    return _element_to_plain(field, value)


def _element_to_plain(field: FieldDescriptor, value: Any) -> Plain:
    if field.message_type is not None:
        return _message_to_plain(value)
    if field.enum_type is not None:
        return enum_texts(field.enum_type).get(value, str(value))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    if field.full_name in _OPAQUE_INTEGERS:
        return str(value)
    return cast(Plain, value)


def to_yaml(objects: Sequence[Message], *, managed_fields: bool = False) -> str:
    """YAML documents, separated by ``---``."""
    return dump_yaml([to_plain(obj, managed_fields=managed_fields) for obj in objects])


def to_json(objects: Sequence[Message], *, managed_fields: bool = False, as_list: bool = False) -> str:
    """One JSON document: a ``v1 List``, or the object if it is exactly one and `as_list` is not set."""
    documents: list[Plain] = [to_plain(obj, managed_fields=managed_fields) for obj in objects]
    if len(documents) == 1 and not as_list:
        return dump_json(documents[0])
    return dump_json({"apiVersion": LIST_KIND[0], "kind": LIST_KIND[1], "items": documents})


def manifest_path(info: KindInfo, path: str) -> str:
    """A path of proto names, as errors carry it, in manifest names: ``spec.ip_family`` → ``spec.ipFamily``."""
    named: list[str] = []
    at: Descriptor | None = info.descriptor
    for part in parse_path(path):
        if part.startswith("["):
            named.append(part)
            continue
        field = at.fields_by_name.get(part) if at is not None else None
        named.append(field.json_name if field is not None else part)
        at = field.message_type if field is not None else None
        if field is not None and is_map(field) and at is not None:
            at = at.fields_by_name["value"].message_type
    return format_path(tuple(named))
