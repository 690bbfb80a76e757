"""LoadBalancer of the fabric: only a public one claims addresses; an internal one keeps what it was given."""

from __future__ import annotations

from collections.abc import Iterable

from ironcore.apinet.v1 import load_balancer_pb2
from ironcore.meta.v1 import types_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks, WritePlan
from ironcore_net_server.apinet.addresses import AddressRequest, PublicAddresses, keep_addresses
from ironcore_net_server.apinet.instance import check_template
from ironcore_net_server.rules import check_balanced_ports, check_family, check_selects_template, family_of

LoadBalancer = load_balancer_pb2.LoadBalancer


class LoadBalancerHooks(ResourceHooks[LoadBalancer]):
    """Claims the addresses of a public balancer; an entry without address gets one allocated."""

    def __init__(self, addresses: PublicAddresses) -> None:
        self._addresses = addresses

    def default(self, obj: LoadBalancer, old: LoadBalancer | None) -> None:
        if old is not None:
            keep_addresses(obj.spec.ips, old.spec.ips)
        for entry in obj.spec.ips:
            family = family_of(entry.ip)
            if not entry.ip_family and family is not None:
                entry.ip_family = family

    def validate(self, obj: LoadBalancer, old: LoadBalancer | None) -> Iterable[FieldViolation]:
        spec = obj.spec
        seen: set[str] = set()
        for index, entry in enumerate(spec.ips):
            at = f"spec.ips[{index}].ip"
            yield from check_family(entry.ip, entry.ip_family, at)
            if entry.ip and entry.ip in seen:
                yield FieldViolation(at, "appears twice; it must be unique in the list")
            seen.add(entry.ip)
        yield from check_balanced_ports(spec.ports, "spec.ports")
        yield from check_selects_template(spec.selector, spec.template.metadata, "spec.selector")
        yield from check_template(spec.template, "spec.template")

    async def allocate(self, plan: WritePlan, obj: LoadBalancer, old: LoadBalancer | None) -> None:
        if _is_public(obj):
            requests = [
                AddressRequest(entry, entry.ip_family, f"spec.ips[{index}].ip")
                for index, entry in enumerate(obj.spec.ips)
            ]
            await self._addresses.exchange(plan, obj, requests, [entry.ip for entry in old.spec.ips] if old else [])

    async def release(self, plan: WritePlan, obj: LoadBalancer) -> None:
        if _is_public(obj):
            await self._addresses.exchange(plan, obj, [], [entry.ip for entry in obj.spec.ips])


def _is_public(obj: LoadBalancer) -> bool:
    return obj.spec.type == types_pb2.LOAD_BALANCER_TYPE_PUBLIC
