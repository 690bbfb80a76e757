"""NATGateway of the fabric."""

from __future__ import annotations

from collections.abc import Iterable

from ironcore.apinet.v1 import nat_gateway_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks, WritePlan
from ironcore_net_server.apinet.addresses import AddressRequest, PublicAddresses, keep_addresses
from ironcore_net_server.rules import check_family, check_power_of_two

NATGateway = nat_gateway_pb2.NATGateway


class NATGatewayHooks(ResourceHooks[NATGateway]):
    """Claims its addresses; an entry without address gets one allocated."""

    def __init__(self, addresses: PublicAddresses) -> None:
        self._addresses = addresses

    def default(self, obj: NATGateway, old: NATGateway | None) -> None:
        if old is not None:
            keep_addresses(obj.spec.ips, old.spec.ips)

    def validate(self, obj: NATGateway, old: NATGateway | None) -> Iterable[FieldViolation]:
        seen: set[str] = set()
        for index, entry in enumerate(obj.spec.ips):
            at = f"spec.ips[{index}].ip"
            yield from check_family(entry.ip, obj.spec.ip_family, at)
            if entry.ip and entry.ip in seen:
                yield FieldViolation(at, "appears twice; it must be unique in the list")
            seen.add(entry.ip)
        yield from check_power_of_two(obj.spec.ports_per_network_interface, "spec.ports_per_network_interface")

    async def allocate(self, plan: WritePlan, obj: NATGateway, old: NATGateway | None) -> None:
        requests = [
            AddressRequest(entry, obj.spec.ip_family, f"spec.ips[{index}].ip")
            for index, entry in enumerate(obj.spec.ips)
        ]
        await self._addresses.exchange(plan, obj, requests, [entry.ip for entry in old.spec.ips] if old else [])

    async def release(self, plan: WritePlan, obj: NATGateway) -> None:
        await self._addresses.exchange(plan, obj, [], [entry.ip for entry in obj.spec.ips])
