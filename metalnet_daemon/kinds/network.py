"""Network of a partition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ironcore.metalnet.v1 import network_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks


class NetworkHooks(ResourceHooks[network_pb2.Network]):
    """A network is no peer of its own."""

    def validate(self, obj: network_pb2.Network, old: network_pb2.Network | None) -> Iterable[FieldViolation]:
        return _violations(obj.spec)


def _violations(spec: network_pb2.NetworkSpec) -> Iterator[FieldViolation]:
    for index, peer in enumerate(spec.peered_ids):
        if peer == spec.id:
            yield FieldViolation(f"spec.peered_ids[{index}]", f"{peer} is the network's own id")
    for index, entry in enumerate(spec.peered_prefixes):
        if entry.id not in spec.peered_ids:
            yield FieldViolation(f"spec.peered_prefixes[{index}].id", f"{entry.id} is not in spec.peered_ids")
