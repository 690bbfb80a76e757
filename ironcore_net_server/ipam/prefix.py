"""Prefix: roots have a range, children ask for one; an allocation is never taken back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ironcore.ipam.v1 import prefix_allocation_pb2, prefix_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks
from ironcore_net_server.rules import (
    FAMILY_TEXT,
    address_bits,
    bounds,
    check_family,
    check_selector,
    contains,
    family_of,
    overlaps,
    parse_cidr,
)

PENDING = prefix_pb2.PREFIX_PHASE_PENDING
ALLOCATED = prefix_pb2.PREFIX_PHASE_ALLOCATED


def is_root(spec: prefix_pb2.PrefixSpec) -> bool:
    """Whether the prefix has no parent to take its range from."""
    return not spec.HasField("parent_ref") and not spec.HasField("parent_selector")


def default_family(spec: prefix_pb2.PrefixSpec | prefix_allocation_pb2.PrefixAllocationSpec) -> None:
    """Derives the family from the range. In place."""
    family = family_of(spec.prefix)
    if not spec.ip_family and not spec.prefix_length and family is not None:
        spec.ip_family = family


def check_range(
    spec: prefix_pb2.PrefixSpec | prefix_allocation_pb2.PrefixAllocationSpec, path: str
) -> Iterator[FieldViolation]:
    """Range and length fit the family and each other."""
    yield from check_family(spec.prefix, spec.ip_family, f"{path}.prefix")
    if spec.ip_family in FAMILY_TEXT and spec.prefix_length > address_bits(spec.ip_family):
        yield FieldViolation(f"{path}.prefix_length", f"must not exceed {address_bits(spec.ip_family)}")
    parsed = parse_cidr(spec.prefix)
    if parsed is not None and spec.prefix_length and spec.prefix_length != parsed.network.prefixlen:
        yield FieldViolation(f"{path}.prefix_length", f"must be {parsed.network.prefixlen}, the length of prefix")


class PrefixHooks(ResourceHooks[prefix_pb2.Prefix]):
    """A root has a range and no length; a child has a range or a length."""

    def default(self, obj: prefix_pb2.Prefix, old: prefix_pb2.Prefix | None) -> None:
        default_family(obj.spec)
        if not obj.status.phase:
            obj.status.phase = PENDING

    def validate(self, obj: prefix_pb2.Prefix, old: prefix_pb2.Prefix | None) -> Iterable[FieldViolation]:
        spec = obj.spec
        yield from check_range(spec, "spec")
        yield from check_selector(spec, "parent_selector", "spec")
        if is_root(spec):
            if not spec.prefix:
                yield FieldViolation("spec.prefix", "is required without parent_ref and parent_selector")
            if spec.prefix_length:
                yield FieldViolation("spec.prefix_length", "must not be set without parent_ref and parent_selector")
        elif not spec.prefix and not spec.prefix_length:
            yield FieldViolation("spec", "needs prefix or prefix_length")
        if old is not None and is_root(old.spec) and not is_root(spec):
            yield FieldViolation("spec.parent_ref", "must not be set on a prefix that was created without a parent")
        yield from _check_status(obj, old)


def _check_status(obj: prefix_pb2.Prefix, old: prefix_pb2.Prefix | None) -> Iterator[FieldViolation]:
    status, spec = obj.status, obj.spec
    if status.phase != ALLOCATED:
        if old is not None and old.status.phase == ALLOCATED:
            yield FieldViolation("status.phase", "must stay Allocated")
        if status.used:
            yield FieldViolation("status.used", "must be empty unless the phase is Allocated")
        return
    if not spec.prefix:
        yield FieldViolation("status.phase", "must not be Allocated while spec.prefix is unset")
        return
    if spec.HasField("parent_selector") and not spec.HasField("parent_ref"):
        yield FieldViolation("status.phase", "must not be Allocated while spec.parent_ref is unset")
    outer = parse_cidr(spec.prefix)
    used = [(index, parsed) for index, text in enumerate(status.used) if (parsed := parse_cidr(text)) is not None]
    for index, part in used:
        if outer is not None and not contains(outer, part):
            yield FieldViolation(f"status.used[{index}]", f"must lie within {spec.prefix}")
    for index, other in overlaps((*bounds(part), index) for index, part in used):
        yield FieldViolation(f"status.used[{index}]", f"overlaps with status.used[{other}]")
