"""Load balancer of a tenant."""

from __future__ import annotations

from collections.abc import Iterable

from ironcore.meta.v1 import types_pb2
from ironcore.networking.v1 import load_balancer_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks
from ironcore_net_server.networking.sources import check_ips, default_families
from ironcore_net_server.rules import check_balanced_ports, check_selector


class LoadBalancerHooks(ResourceHooks[load_balancer_pb2.LoadBalancer]):
    """Only an internal balancer brings its addresses; ports of one protocol do not overlap."""

    def default(self, obj: load_balancer_pb2.LoadBalancer, old: load_balancer_pb2.LoadBalancer | None) -> None:
        if obj.spec.type == types_pb2.LOAD_BALANCER_TYPE_PUBLIC:
            # Clients of the reference rely on this: addresses of a public balancer are dropped, not refused.
            del obj.spec.ips[:]
        default_families(obj.spec.ip_families, obj.spec.ips)

    def validate(
        self, obj: load_balancer_pb2.LoadBalancer, old: load_balancer_pb2.LoadBalancer | None
    ) -> Iterable[FieldViolation]:
        internal = obj.spec.type == types_pb2.LOAD_BALANCER_TYPE_INTERNAL
        yield from check_ips(obj.spec.ip_families, obj.spec.ips, obj.metadata.name, needs_all=internal)
        yield from check_balanced_ports(obj.spec.ports, "spec.ports")
        yield from check_selector(obj.spec, "network_interface_selector", "spec")
