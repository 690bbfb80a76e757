"""IPAddress: shows that an address is taken. Written by hand it takes an address out of its pool."""

from __future__ import annotations

from collections.abc import Iterable

from ironcore.apinet.v1 import ip_address_pb2, ip_pb2

from apimachinery.errors import FailedPrecondition, FieldViolation
from apimachinery.resource import ResourceHooks, WritePlan
from ironcore_net_server.apinet.addresses import PublicAddresses
from ironcore_net_server.apinet.claims import claim_owner, describe, find_claimer


class IPAddressHooks(ResourceHooks[ip_address_pb2.IPAddress]):
    """The name is the address; it cannot be deleted while its claimer exists."""

    def __init__(self, addresses: PublicAddresses) -> None:
        self._addresses = addresses

    def default(self, obj: ip_address_pb2.IPAddress, old: ip_address_pb2.IPAddress | None) -> None:
        if not obj.spec.ip:
            obj.spec.ip = obj.metadata.name

    def validate(self, obj: ip_address_pb2.IPAddress, old: ip_address_pb2.IPAddress | None) -> Iterable[FieldViolation]:
        if obj.spec.ip != obj.metadata.name:
            yield FieldViolation("spec.ip", "must be the same as metadata.name")

    async def allocate(
        self, plan: WritePlan, obj: ip_address_pb2.IPAddress, old: ip_address_pb2.IPAddress | None
    ) -> None:
        if old is None:
            error = FailedPrecondition(f"address {obj.spec.ip} is taken", reason="ADDRESS_TAKEN")
            plan.claim(self._addresses.claim_key(obj.spec.ip), claim_owner(obj), error=error)

    async def release(self, plan: WritePlan, obj: ip_address_pb2.IPAddress) -> None:
        ref = obj.spec.claim_ref
        if ref.resource == "ips" and await find_claimer(plan.store, ip_pb2.IP, ref, "") is not None:
            raise FailedPrecondition(
                f"address {obj.spec.ip} belongs to {describe(ref)} of namespace {ref.namespace}",
                reason="ADDRESS_IN_USE",
            )
        key = self._addresses.claim_key(obj.spec.ip)
        plan.release(key, quarantine_seconds=self._addresses.quarantine_seconds)
