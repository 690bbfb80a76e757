"""Server-side apply: merging what one party wants into an object that several parties write. Pure.

Every applier is a manager; it owns the leaves that it applied last. A leaf is a scalar, an atomic list, an atomic
message, one entry of a map, or an element of a keyed list (which may have leaves of its own). Lists with a
``list_key`` merge by that key; all other lists are replaced whole. Leaves that a manager applied before and leaves out
now disappear, unless somebody else owns them too. Leaves that nobody owns (allocated by the server, for example) stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2

from apimachinery.errors import Conflict, FieldViolation
from apimachinery.scheme import KindInfo, metadata_of
from apimachinery.validation import FieldPlan, message_plan

# Field names, and "[key]" for an entry of a map or an element of a keyed list.
Path = tuple[str, ...]
Leaves = dict[Path, object]

# Metadata that appliers may own; the rest identifies the object or belongs to the server.
APPLICABLE_METADATA: Final = ("finalizers", "labels", "annotations", "owner_references")
_SETS: Final = frozenset({"finalizers"})
_ATOMIC_MESSAGES: Final = frozenset({"ironcore.meta.v1.LabelSelector", "ironcore.meta.v1.LocalUidReference"})
_TOKEN = re.compile(r"\[((?:[^\]\\]|\\.)*)\]|([^.\[\]]+)")


def format_path(path: Path) -> str:
    """``spec.ips[name].ip``; "]" and a backslash inside of keys are escaped by a backslash."""
    return "".join(part if part.startswith("[") else f".{part}" for part in path).removeprefix(".")


def parse_path(text: str) -> Path:
    """Inverse of :func:`format_path`."""
    return tuple(match[0] if match[0].startswith("[") else match[2] for match in _TOKEN.finditer(text))


def _key(value: object) -> str:
    return "[" + str(value).replace("\\", "\\\\").replace("]", "\\]") + "]"


def is_atomic(descriptor: Descriptor) -> bool:
    """Whether messages of this type are owned and replaced as a whole."""
    return descriptor.full_name in _ATOMIC_MESSAGES or descriptor.file.package == "google.protobuf"


def leaves(info: KindInfo, obj: Message) -> Leaves:
    """Everything in an object that can be owned, by path."""
    found: Leaves = {}
    for field in message_plan(obj.DESCRIPTOR).fields:
        if field.name == "metadata":
            meta = metadata_of(obj)
            for part in message_plan(meta.DESCRIPTOR).fields:
                if part.name in APPLICABLE_METADATA:
                    _collect(meta, part, ("metadata", part.name), found)
        elif field.name != "status" or not info.has_status:
            _collect(obj, field, (field.name,), found)
    return found


def _collect(message: Message, field: FieldPlan, at: Path, found: Leaves) -> None:
    value = getattr(message, field.name)
    if field.is_map:
        for key, element in value.items():
            path = (*at, _key(key))
            if field.message is not None and not is_atomic(field.message):
                _collect_element(element, path, found)
            else:
                found[path] = element
    elif field.repeated:
        if field.rule.list_key:
            for element in value:
                _collect_element(element, (*at, _key(getattr(element, field.rule.list_key))), found)
        elif field.name in _SETS:
            found.update(((*at, _key(element)), True) for element in value)
        elif value:
            found[at] = list(value)
    elif field.message is not None:
        if not message.HasField(field.name):
            return
        if is_atomic(field.message):
            found[at] = value
            return
        before = len(found)
        for inner in message_plan(field.message).fields:
            _collect(value, inner, (*at, inner.name), found)
        if len(found) == before:
            found[at] = True
    elif message.HasField(field.name) if field.has_presence else value:
        found[at] = value


def _collect_element(element: Message, at: Path, found: Leaves) -> None:
    """The element itself is a leaf, so that its existence has owners."""
    found[at] = True
    for inner in message_plan(element.DESCRIPTOR).fields:
        _collect(element, inner, (*at, inner.name), found)


def owners(meta: meta_pb2.ObjectMeta) -> dict[str, set[Path]]:
    """Owned paths by manager."""
    return {entry.manager: {parse_path(path) for path in entry.paths} for entry in meta.managed_fields}


def _store_owners(meta: meta_pb2.ObjectMeta, managed: Mapping[str, Iterable[Path]]) -> None:
    del meta.managed_fields[:]
    for manager in sorted(managed):
        paths = sorted(format_path(path) for path in managed[manager])
        if paths:
            meta.managed_fields.add(manager=manager, paths=paths)


def find_conflicts(
    live: Leaves, applied: Leaves, managed: Mapping[str, set[Path]], manager: str
) -> Iterator[tuple[Path, str]]:
    """(path, owner) wherever ``manager`` wants another value for a leaf that somebody else owns."""
    for owner in sorted(managed):
        if owner == manager:
            continue
        for path in sorted(managed[owner]):
            if path in applied and path in live and live[path] != applied[path]:
                yield path, owner


def merge_applied(info: KindInfo, live: Message, applied: Message, manager: str, *, force: bool = False) -> Message:
    """The object after ``manager`` applied ``applied`` to ``live`` (an object with metadata only, for a new one).

    Both stay untouched. The result equals ``live`` if there is nothing to change. Raises Conflict, which lists every
    path with its owner, unless ``force`` takes them over.
    """
    live_leaves, wanted = leaves(info, live), leaves(info, applied)
    managed = owners(metadata_of(live))
    conflicts = list(find_conflicts(live_leaves, wanted, managed, manager))
    if conflicts and not force:
        raise Conflict(
            f"{len(conflicts)} field(s) belong to others; apply with force to take them over",
            violations=(FieldViolation(format_path(path), f'is owned by "{owner}"') for path, owner in conflicts),
            reason="FIELD_CONFLICT",
        )
    for path, owner in conflicts:
        managed[owner].discard(path)
    dropped = managed.get(manager, set()) - wanted.keys()
    managed[manager] = set(wanted)
    kept = set().union(*managed.values())

    merged = type(live)()
    merged.CopyFrom(live)
    for path in sorted(dropped - kept, key=len):
        _remove(merged, path, kept)
    meta, applied_meta = metadata_of(merged), metadata_of(applied)
    for part in message_plan(meta.DESCRIPTOR).fields:
        if part.name in APPLICABLE_METADATA:
            _merge_field(meta, applied_meta, part)
    for field in message_plan(merged.DESCRIPTOR).fields:
        if field.name != "metadata" and (field.name != "status" or not info.has_status):
            _merge_field(merged, applied, field)
    _store_existing(merged, leaves(info, merged), managed)
    return merged


def disown_changed(info: KindInfo, obj: Message, old: Message, writer: str) -> None:
    """After an ordinary write: appliers other than ``writer`` no longer own what it changed or removed; in place."""
    if not metadata_of(old).managed_fields:
        return
    before, after = leaves(info, old), leaves(info, obj)
    changed = {path for path in before if before[path] != after.get(path)}
    managed = owners(metadata_of(old))
    _store_existing(
        obj, after, {owner: paths if owner == writer else paths - changed for owner, paths in managed.items()}
    )


def _store_existing(obj: Message, present: Leaves, managed: Mapping[str, set[Path]]) -> None:
    """Stores the owners, without paths that do not exist. A message exists if anything in it does."""
    existing = {path[:length] for path in present for length in range(1, len(path) + 1)}
    _store_owners(metadata_of(obj), {owner: paths & existing for owner, paths in managed.items()})


def _merge_field(target: Message, source: Message, field: FieldPlan) -> None:
    value = getattr(source, field.name)
    if field.is_map:
        into = getattr(target, field.name)
        for key, element in value.items():
            if field.message is None:
                into[key] = element
            elif is_atomic(field.message):
                into[key].CopyFrom(element)
            else:
                _merge_message(into[key], element)
    elif field.repeated:
        if value:
            _merge_list(getattr(target, field.name), value, field)
    elif field.message is not None:
        if source.HasField(field.name):
            into = getattr(target, field.name)
            into.SetInParent()
            if is_atomic(field.message):
                into.CopyFrom(value)
            else:
                _merge_message(into, value)
    elif source.HasField(field.name) if field.has_presence else value:
        setattr(target, field.name, value)


def _merge_message(target: Message, source: Message) -> None:
    for field in message_plan(source.DESCRIPTOR).fields:
        _merge_field(target, source, field)


def _merge_list(target: Any, wanted: Any, field: FieldPlan) -> None:
    """Elements that exist keep their place, new ones follow in the order of the applier."""
    if field.rule.list_key:
        key = field.rule.list_key
        existing = {getattr(element, key): element for element in target}
        for element in wanted:
            if getattr(element, key) in existing:
                _merge_message(existing[getattr(element, key)], element)
            else:
                target.add().CopyFrom(element)
    elif field.name in _SETS:
        target.extend(element for element in wanted if element not in target)
    else:
        del target[:]
        target.MergeFrom(wanted)


def _remove(root: Message, path: Path, kept: set[Path]) -> None:
    """Removes one leaf, and messages around it that this leaves empty and that nobody wants."""
    _remove_below(root, path, 0, kept)


def _remove_below(message: Message, path: Path, depth: int, kept: set[Path]) -> None:
    name, here = path[depth], path[: depth + 1]
    field = next((plan for plan in message_plan(message.DESCRIPTOR).fields if plan.name == name), None)
    if field is None:
        # The contract lost this field since the path was recorded.
        return
    last = depth + 1 == len(path)
    if field.is_map or field.repeated:
        if last:
            message.ClearField(name)
        else:
            _remove_entry(message, field, path, depth + 1, kept)
    elif field.message is not None and not is_atomic(field.message):
        if not message.HasField(name):
            return
        inner = getattr(message, name)
        if not last:
            _remove_below(inner, path, depth + 1, kept)
        # The spec as a whole stays: generic code relies on its presence.
        if depth and not inner.ListFields() and here not in kept:
            message.ClearField(name)
    else:
        message.ClearField(name)


def _remove_entry(message: Message, field: FieldPlan, path: Path, depth: int, kept: set[Path]) -> None:
    """path[depth] is the "[key]" of an entry in a map or list of ``message``."""
    container = getattr(message, field.name)
    last = depth + 1 == len(path)
    if field.is_map:
        for key in [key for key in container if _key(key) == path[depth]]:
            if last:
                del container[key]
            else:
                _remove_below(container[key], path, depth + 1, kept)
        return
    for index in range(len(container) - 1, -1, -1):
        element = container[index]
        key = getattr(element, field.rule.list_key) if field.rule.list_key else element
        if _key(key) == path[depth]:
            if last:
                del container[index]
            else:
                _remove_below(element, path, depth + 1, kept)
