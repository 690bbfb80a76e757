"""PrefixAllocation: one request, one final answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ironcore.ipam.v1 import prefix_allocation_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks
from ironcore_net_server.ipam.prefix import check_range, default_family
from ironcore_net_server.rules import check_family, check_selector, parse_cidr

PENDING = prefix_allocation_pb2.PREFIX_ALLOCATION_PHASE_PENDING
ALLOCATED = prefix_allocation_pb2.PREFIX_ALLOCATION_PHASE_ALLOCATED
FAILED = prefix_allocation_pb2.PREFIX_ALLOCATION_PHASE_FAILED


class PrefixAllocationHooks(ResourceHooks[prefix_allocation_pb2.PrefixAllocation]):
    """Asks one parent, or any that a selector selects; what was decided stays decided."""

    def default(
        self, obj: prefix_allocation_pb2.PrefixAllocation, old: prefix_allocation_pb2.PrefixAllocation | None
    ) -> None:
        default_family(obj.spec)
        if not obj.status.phase:
            obj.status.phase = PENDING

    def validate(
        self, obj: prefix_allocation_pb2.PrefixAllocation, old: prefix_allocation_pb2.PrefixAllocation | None
    ) -> Iterable[FieldViolation]:
        yield from check_range(obj.spec, "spec")
        yield from check_selector(obj.spec, "prefix_selector", "spec")
        if not obj.spec.HasField("prefix_ref") and not obj.spec.HasField("prefix_selector"):
            yield FieldViolation("spec", "needs one of prefix_ref, prefix_selector")
        yield from _check_status(obj, old)


def _check_status(
    obj: prefix_allocation_pb2.PrefixAllocation, old: prefix_allocation_pb2.PrefixAllocation | None
) -> Iterator[FieldViolation]:
    status, spec = obj.status, obj.spec
    if old is not None and old.status.phase in (ALLOCATED, FAILED) and status.phase != old.status.phase:
        yield FieldViolation("status.phase", "must not change once it is Allocated or Failed")
    if status.phase != ALLOCATED:
        if status.prefix:
            yield FieldViolation("status.prefix", "must not be set unless the phase is Allocated")
        return
    result = parse_cidr(status.prefix)
    if result is None:
        yield FieldViolation("status.prefix", "is required when the phase is Allocated")
        return
    if not spec.HasField("prefix_ref"):
        yield FieldViolation("status.phase", "must not be Allocated while spec.prefix_ref is unset")
    yield from check_family(status.prefix, spec.ip_family, "status.prefix")
    if spec.prefix and spec.prefix != status.prefix:
        yield FieldViolation("status.prefix", f"must be {spec.prefix}, which was asked for")
    if spec.prefix_length and spec.prefix_length != result.network.prefixlen:
        yield FieldViolation("status.prefix", f"must have the length {spec.prefix_length}, which was asked for")
