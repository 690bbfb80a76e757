"""The rules that hold for every kind: metadata, and what field options promise. Pure.

Paths are written in proto field names with list indices and map keys: ``spec.ips[1].ip_family``,
``metadata.labels[app]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2, options_pb2

from apimachinery import formats
from apimachinery.errors import FieldViolation
from apimachinery.scheme import KindInfo, metadata_of

MAX_OBJECT_BYTES: Final = 1 << 20
MAX_LIST: Final = 10_000
MAX_STRING: Final = 4096
MAX_ANNOTATIONS_BYTES: Final = 256 << 10
MAX_LABELS: Final = 256
MAX_FINALIZERS: Final = 64
MAX_OWNERS: Final = 64
# Room for the random end of a generated name within a DNS label.
GENERATE_NAME_PREFIX: Final = 58

# Annotations have a limit for all values together, see check_annotations.
_ANNOTATION_VALUE: Final = "ironcore.meta.v1.ObjectMeta.AnnotationsEntry.value"
_NO_RULE = options_pb2.FieldRule()
_BYTES_AND_STRING = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
_INTEGERS = (
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
)


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """One field with its rule, prepared for walking."""

    name: str
    rule: options_pb2.FieldRule
    repeated: bool
    is_map: bool
    # Of a message field or of the values of a map of messages.
    message: Descriptor | None
    has_presence: bool
    check: Callable[[Any], str | None] | None
    # Canonical form of a string.
    canonical: Callable[[str], str] | None


@dataclass(frozen=True, slots=True)
class MessagePlan:
    """The fields of a message type, and which of them exclude each other."""

    fields: tuple[FieldPlan, ...]
    exclusive: tuple[options_pb2.ExclusiveFields, ...]


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a ``map<…>``."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def rule_of(field: FieldDescriptor) -> options_pb2.FieldRule:
    """The rule option of a field; an empty rule if it has none."""
    options = field.GetOptions()
    return options.Extensions[options_pb2.rule] if options.HasExtension(options_pb2.rule) else _NO_RULE


@cache
def message_plan(descriptor: Descriptor) -> MessagePlan:
    """The plan of a message type."""
    fields = []
    for field in descriptor.fields:
        mapped = is_map(field)
        value = field.message_type.fields_by_name["value"] if mapped and field.message_type else field
        rule = rule_of(field)
        fields.append(
            FieldPlan(
                name=field.name,
                rule=rule,
                repeated=field.is_repeated and not mapped,
                is_map=mapped,
                message=value.message_type,
                has_presence=field.has_presence,
                check=_scalar_check(value, rule, in_collection=mapped or field.is_repeated),
                canonical=formats.CANONICAL.get(rule.format) if value.type == FieldDescriptor.TYPE_STRING else None,
            )
        )
    return MessagePlan(tuple(fields), tuple(descriptor.GetOptions().Extensions[options_pb2.exclusive]))


def _scalar_check(
    field: FieldDescriptor, rule: options_pb2.FieldRule, *, in_collection: bool
) -> Callable[[Any], str | None] | None:
    """Check of one scalar value, None if there is nothing to check. The length limit of a collection is not its own."""
    if field.enum_type is not None:
        return _enum_check(field.enum_type)
    if field.full_name == _ANNOTATION_VALUE:
        return None
    if field.type in _BYTES_AND_STRING:
        return _text_check(rule, MAX_STRING if in_collection else rule.max_length or MAX_STRING)
    if field.cpp_type in _INTEGERS and rule.has_bounds:
        low, high = rule.min, rule.max
        return lambda value: None if low <= value <= high else f"must be between {low} and {high}"
    return None


def _enum_check(enum: EnumDescriptor) -> Callable[[Any], str | None]:
    known = frozenset(enum.values_by_number)
    texts = [value.GetOptions().Extensions[options_pb2.text] or value.name for value in enum.values if value.number]
    message = f"must be one of {', '.join(texts)}"
    return lambda value: None if value in known else message


def _text_check(rule: options_pb2.FieldRule, limit: int) -> Callable[[Any], str | None]:
    check = formats.CHECKS.get(rule.format)

    def check_text(value: str | bytes) -> str | None:
        if len(value) > limit or (isinstance(value, str) and len(value.encode()) > limit):
            return f"must not be longer than {limit} bytes"
        return check(value) if check is not None and isinstance(value, str) else None

    return check_text


def normalize(message: Message) -> None:
    """Rewrites addresses and prefixes in canonical form, in place; invalid ones stay for :func:`check_rules`."""
    for plan in message_plan(message.DESCRIPTOR).fields:
        if plan.message is not None:
            for _, child in _children(message, plan, ""):
                normalize(child)
        elif plan.canonical is not None:
            value = getattr(message, plan.name)
            if plan.repeated:
                for index, element in enumerate(value):
                    value[index] = plan.canonical(element)
            elif value:
                setattr(message, plan.name, plan.canonical(value))


def _children(message: Message, plan: FieldPlan, path: str) -> Iterator[tuple[str, Any]]:
    """(path, message) of the messages that a message field holds."""
    if plan.is_map:
        for key, child in getattr(message, plan.name).items():
            yield f"{path}[{key}]", child
    elif plan.repeated:
        for index, child in enumerate(getattr(message, plan.name)):
            yield f"{path}[{index}]", child
    elif message.HasField(plan.name):
        yield path, getattr(message, plan.name)


def check_rules(message: Message, path: str = "") -> Iterator[FieldViolation]:
    """Violations of the field options of a message and everything in it, apart from changes over time."""
    plan = message_plan(message.DESCRIPTOR)
    for field in plan.fields:
        at = f"{path}.{field.name}" if path else field.name
        yield from _check_field(message, field, at)
    for group in plan.exclusive:
        present = [name for name in group.fields if _is_set(message, name)]
        if len(present) > 1:
            yield FieldViolation(f"{path}.{present[1]}" if path else present[1], f"must not be set with {present[0]}")
        elif group.required and not present:
            yield FieldViolation(path, f"needs one of {', '.join(group.fields)}")


def _check_field(message: Message, field: FieldPlan, at: str) -> Iterator[FieldViolation]:
    rule = field.rule
    if rule.required and not _is_set(message, field.name):
        yield FieldViolation(at, "is required")
        return
    value = getattr(message, field.name)
    if field.repeated or field.is_map:
        limit = rule.max_length or MAX_LIST
        if len(value) > limit:
            yield FieldViolation(at, f"must not have more than {limit} entries")
            return
        if field.repeated and (rule.list_key or rule.unique):
            yield from _check_unique(value, rule, at)
    if field.message is not None:
        for child_path, child in _children(message, field, at):
            yield from check_rules(child, child_path)
    elif field.check is not None:
        for scalar_path, scalar in _scalars(message, field, value, at):
            wrong = field.check(scalar)
            if wrong is not None:
                yield FieldViolation(scalar_path, wrong)


def _scalars(message: Message, field: FieldPlan, value: Any, at: str) -> Iterator[tuple[str, Any]]:
    if field.is_map:
        yield from ((f"{at}[{key}]", element) for key, element in value.items())
    elif field.repeated:
        yield from ((f"{at}[{index}]", element) for index, element in enumerate(value))
    elif value or (field.has_presence and message.HasField(field.name)):
        yield at, value


def _check_unique(elements: Sequence[Any], rule: options_pb2.FieldRule, at: str) -> Iterator[FieldViolation]:
    seen: set[Any] = set()
    for index, element in enumerate(elements):
        value = getattr(element, rule.list_key) if rule.list_key else element
        where = f"{at}[{index}].{rule.list_key}" if rule.list_key else f"{at}[{index}]"
        if value in seen:
            yield FieldViolation(where, "appears twice; it must be unique in the list")
        seen.add(value)


def _is_set(message: Message, name: str) -> bool:
    field = message.DESCRIPTOR.fields_by_name[name]
    return message.HasField(name) if field.has_presence else bool(getattr(message, name))


def carry_over(obj: Message, old: Message) -> None:
    """Copies server-assigned values that ``obj`` leaves empty from ``old``, in place; list elements go by their key."""
    for field, new_at, old_at, _ in _pairs(obj, old, ""):
        if field.rule.server_assigned and not _is_set(new_at, field.name) and _is_set(old_at, field.name):
            _copy_field(new_at, old_at, field)


def _copy_field(target: Message, source: Message, field: FieldPlan) -> None:
    value = getattr(source, field.name)
    if field.is_map or field.repeated or field.message is not None:
        getattr(target, field.name).MergeFrom(value)
    else:
        setattr(target, field.name, value)


def check_transition(obj: Message, old: Message) -> Iterator[FieldViolation]:
    """Violations of immutable, write_once and server_assigned between two states of an object."""
    for field, new_at, old_at, at in _pairs(obj, old, ""):
        rule = field.rule
        if not (rule.immutable or ((rule.write_once or rule.server_assigned) and _is_set(old_at, field.name))):
            continue
        if not _same(new_at, old_at, field):
            yield FieldViolation(at, "is immutable" if rule.immutable else "must not change once it is set")


def _same(a: Message, b: Message, field: FieldPlan) -> bool:
    if _is_set(a, field.name) != _is_set(b, field.name):
        return False
    return bool(getattr(a, field.name) == getattr(b, field.name))


def _pairs(new: Message, old: Message, path: str) -> Iterator[tuple[FieldPlan, Message, Message, str]]:
    """Fields with the two messages that hold them, in everything that both states have.

    Elements of a list correspond by its key; without a key they cannot be told apart, and only the list itself counts.
    """
    for field in message_plan(new.DESCRIPTOR).fields:
        at = f"{path}.{field.name}" if path else field.name
        yield field, new, old, at
        if field.message is None or field.rule.template:
            continue
        if field.is_map:
            before = getattr(old, field.name)
            for key, child in getattr(new, field.name).items():
                if key in before:
                    yield from _pairs(child, before[key], f"{at}[{key}]")
        elif field.repeated:
            key_name = field.rule.list_key
            if key_name:
                by_key = {getattr(element, key_name): element for element in getattr(old, field.name)}
                for index, child in enumerate(getattr(new, field.name)):
                    match = by_key.get(getattr(child, key_name))
                    if match is not None:
                        yield from _pairs(child, match, f"{at}[{index}]")
        elif new.HasField(field.name) and old.HasField(field.name):
            yield from _pairs(getattr(new, field.name), getattr(old, field.name), at)


def check_labels(labels: Mapping[str, str], path: str) -> Iterator[FieldViolation]:
    """Keys and values of labels; ``path`` is where they stand, for templates too."""
    if len(labels) > MAX_LABELS:
        yield FieldViolation(path, f"must not have more than {MAX_LABELS} entries")
        return
    for key, value in labels.items():
        wrong = formats.check_label_key(key) or formats.check_label_value(value)
        if wrong is not None:
            yield FieldViolation(f"{path}[{key}]", wrong)


def check_annotations(annotations: Mapping[str, str], path: str) -> Iterator[FieldViolation]:
    """Keys of annotations and their size together."""
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > MAX_ANNOTATIONS_BYTES:
        yield FieldViolation(path, f"must not be larger than {MAX_ANNOTATIONS_BYTES} bytes together")
        return
    for key in annotations:
        wrong = formats.check_label_key(key)
        if wrong is not None:
            yield FieldViolation(f"{path}[{key}]", wrong)


def check_metadata(
    info: KindInfo, meta: meta_pb2.ObjectMeta, old: meta_pb2.ObjectMeta | None
) -> Iterator[FieldViolation]:
    """Rules of metadata for this kind; the server has filled in name and namespace already."""
    if not meta.name:
        yield FieldViolation("metadata.name", "is required unless metadata.generate_name is set")
    else:
        wrong = formats.CHECKS[info.name_format](meta.name)
        if wrong is not None:
            yield FieldViolation("metadata.name", wrong)
        elif formats.CANONICAL.get(info.name_format, str)(meta.name) != meta.name:
            yield FieldViolation("metadata.name", "must be written in canonical form")
    if info.namespaced:
        wrong = formats.check_dns_label(meta.namespace)
        if wrong is not None:
            yield FieldViolation("metadata.namespace", wrong)
    elif meta.namespace:
        yield FieldViolation("metadata.namespace", f"must be empty: {info.kind} is not namespaced")
    yield from check_labels(meta.labels, "metadata.labels")
    yield from check_annotations(meta.annotations, "metadata.annotations")
    yield from _check_finalizers(meta, old)
    if len(meta.owner_references) > MAX_OWNERS:
        yield FieldViolation("metadata.owner_references", f"must not have more than {MAX_OWNERS} entries")
    if sum(owner.controller for owner in meta.owner_references) > 1:
        yield FieldViolation("metadata.owner_references", "must not name more than one controller")


def _check_finalizers(meta: meta_pb2.ObjectMeta, old: meta_pb2.ObjectMeta | None) -> Iterator[FieldViolation]:
    if len(meta.finalizers) > MAX_FINALIZERS:
        yield FieldViolation("metadata.finalizers", f"must not have more than {MAX_FINALIZERS} entries")
        return
    for index, finalizer in enumerate(meta.finalizers):
        at = f"metadata.finalizers[{index}]"
        wrong = formats.check_label_key(finalizer)
        if wrong is not None:
            yield FieldViolation(at, wrong)
        elif finalizer in meta.finalizers[:index]:
            yield FieldViolation(at, "appears twice; it must be unique in the list")
        elif old is not None and old.HasField("deletion_timestamp") and finalizer not in old.finalizers:
            yield FieldViolation(at, "must not be added while the object is being deleted")


def validate(info: KindInfo, obj: Message, old: Message | None = None) -> list[FieldViolation]:
    """All violations of one object, in create (``old`` None) or as the successor of ``old``; empty if it is fine."""
    found = list(check_metadata(info, metadata_of(obj), metadata_of(old) if old is not None else None))
    found += check_rules(obj)
    if old is not None:
        found += check_transition(obj, old)
    size = obj.ByteSize()
    if size > MAX_OBJECT_BYTES:
        found.append(FieldViolation("", f"object has {size} bytes, more than {MAX_OBJECT_BYTES}"))
    return found
