"""NetworkInterface of the fabric: per family either a public address or a share of a NAT gateway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import grpc
from ironcore.apinet.v1 import network_interface_pb2

from apimachinery.errors import FailedPrecondition, FieldViolation
from apimachinery.resource import ExtraMethod, ResourceAccess, ResourceHooks, WritePlan
from ironcore_net_server.apinet.addresses import AddressRequest, PublicAddresses, keep_addresses
from ironcore_net_server.rules import FAMILY_TEXT, check_family, check_one_per_family, family_of

Context = grpc.aio.ServicerContext[Any, Any]
NetworkInterface = network_interface_pb2.NetworkInterface


class NetworkInterfaceHooks(ResourceHooks[NetworkInterface]):
    """Claims its public addresses; an entry without address gets one allocated."""

    def __init__(self, addresses: PublicAddresses) -> None:
        self._addresses = addresses

    def default(self, obj: NetworkInterface, old: NetworkInterface | None) -> None:
        if old is not None:
            keep_addresses(obj.spec.public_ips, old.spec.public_ips)
        for entry in obj.spec.public_ips:
            family = family_of(entry.ip)
            if not entry.ip_family and family is not None:
                entry.ip_family = family

    def validate(self, obj: NetworkInterface, old: NetworkInterface | None) -> Iterable[FieldViolation]:
        spec = obj.spec
        yield from check_one_per_family([family_of(ip) for ip in spec.ips], "spec.ips[{}]", "address")
        families = [entry.ip_family for entry in spec.public_ips]
        yield from check_one_per_family(families, "spec.public_ips[{}].ip_family", "public address")
        for index, entry in enumerate(spec.public_ips):
            yield from check_family(entry.ip, entry.ip_family, f"spec.public_ips[{index}].ip")
        yield from _check_nat(obj)

    async def allocate(self, plan: WritePlan, obj: NetworkInterface, old: NetworkInterface | None) -> None:
        had = [entry.ip for entry in old.spec.public_ips] if old is not None else []
        requests = [
            AddressRequest(entry, entry.ip_family, f"spec.public_ips[{index}].ip")
            for index, entry in enumerate(obj.spec.public_ips)
        ]
        await self._addresses.exchange(plan, obj, requests, had)

    async def release(self, plan: WritePlan, obj: NetworkInterface) -> None:
        await self._addresses.exchange(plan, obj, [], [entry.ip for entry in obj.spec.public_ips])

    def extra_methods(self, access: ResourceAccess[NetworkInterface]) -> Mapping[str, ExtraMethod]:
        async def set_public_ips(
            request: network_interface_pb2.SetPublicIPsRequest, context: Context
        ) -> NetworkInterface:
            return await access.mutate(
                request.namespace, request.name, lambda obj: replace_public_ips(obj, request), uid=request.uid
            )

        async def claim_nat(request: network_interface_pb2.NATClaimRequest, context: Context) -> NetworkInterface:
            return await access.mutate(
                request.namespace, request.name, lambda obj: add_nat_claim(obj, request.claim), uid=request.uid
            )

        async def release_nat(request: network_interface_pb2.NATClaimRequest, context: Context) -> NetworkInterface:
            return await access.mutate(
                request.namespace, request.name, lambda obj: drop_nat_claim(obj, request.claim), uid=request.uid
            )

        return {"SetPublicIPs": set_public_ips, "ClaimNAT": claim_nat, "ReleaseNAT": release_nat}


def replace_public_ips(obj: NetworkInterface, request: network_interface_pb2.SetPublicIPsRequest) -> None:
    """Sets the public addresses and drops NAT claims of their families. In place."""
    del obj.spec.public_ips[:]
    obj.spec.public_ips.extend(request.public_ips)
    public = {entry.ip_family or family_of(entry.ip) for entry in obj.spec.public_ips}
    kept = [claim for claim in obj.spec.nat_gateways if claim.ip_family not in public]
    del obj.spec.nat_gateways[:]
    obj.spec.nat_gateways.extend(kept)


def add_nat_claim(obj: NetworkInterface, claim: network_interface_pb2.NATGatewayClaim) -> None:
    """Gives a family to a NAT gateway, in place. Raises FailedPrecondition if it has a public address or a gateway."""
    family = FAMILY_TEXT.get(claim.ip_family, "")
    name = obj.metadata.name
    if any(entry.ip_family == claim.ip_family for entry in obj.spec.public_ips):
        raise FailedPrecondition(f"{name} has a public {family} address", reason="HAS_PUBLIC_ADDRESS")
    for known in obj.spec.nat_gateways:
        if known.ip_family == claim.ip_family:
            if known.claim_ref.uid == claim.claim_ref.uid:
                return
            holder = known.claim_ref.name
            raise FailedPrecondition(f"NAT gateway {holder} serves {family} of {name}", reason="HAS_NAT_GATEWAY")
    obj.spec.nat_gateways.add().CopyFrom(claim)


def drop_nat_claim(obj: NetworkInterface, claim: network_interface_pb2.NATGatewayClaim) -> None:
    """Takes a family back from this NAT gateway, in place; nothing happens if the gateway does not have it."""
    kept = [
        known
        for known in obj.spec.nat_gateways
        if (known.ip_family, known.claim_ref.uid) != (claim.ip_family, claim.claim_ref.uid)
    ]
    if len(kept) != len(obj.spec.nat_gateways):
        del obj.spec.nat_gateways[:]
        obj.spec.nat_gateways.extend(kept)


def _check_nat(obj: NetworkInterface) -> Iterator[FieldViolation]:
    claims = [claim.ip_family for claim in obj.spec.nat_gateways]
    yield from check_one_per_family(claims, "spec.nat_gateways[{}].ip_family", "NAT gateway")
    public = {entry.ip_family for entry in obj.spec.public_ips}
    for index, family in enumerate(claims):
        if family in FAMILY_TEXT and family in public:
            yield FieldViolation(
                f"spec.nat_gateways[{index}].ip_family", f"is {FAMILY_TEXT[family]}, which has a public address"
            )
