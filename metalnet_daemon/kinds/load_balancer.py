"""One address of a load balancer on one node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ironcore.metalnet.v1 import load_balancer_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks

from .rules import must_be

LoadBalancer = load_balancer_pb2.LoadBalancer


class LoadBalancerHooks(ResourceHooks[LoadBalancer]):
    """The address fits its family; no port is balanced twice."""

    def validate(self, obj: LoadBalancer, old: LoadBalancer | None) -> Iterable[FieldViolation]:
        yield from must_be(obj.spec.ip_family, obj.spec.ip, "spec.ip")
        yield from _ports(obj.spec)


def _ports(spec: load_balancer_pb2.LoadBalancerSpec) -> Iterator[FieldViolation]:
    ranges: list[tuple[int, int, int]] = []
    for index, port in enumerate(spec.ports):
        path = f"spec.ports[{index}]"
        last = port.end_port or port.port
        if last < port.port:
            yield FieldViolation(f"{path}.end_port", f"is below the first port {port.port}")
        if any(protocol == port.protocol and port.port <= end and first <= last for protocol, first, end in ranges):
            yield FieldViolation(path, "overlaps another port of the same protocol")
        ranges.append((port.protocol, port.port, last))
