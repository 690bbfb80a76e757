"""IP: handle of a public address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any

import grpc
from ironcore.apinet.v1 import ip_pb2

from apimachinery.errors import FailedPrecondition, FieldViolation
from apimachinery.resource import ExtraMethod, ResourceAccess, ResourceHooks, WritePlan
from ironcore_net_server.apinet.addresses import PublicAddresses, set_labels
from ironcore_net_server.apinet.claims import describe, is_foreign, is_used
from ironcore_net_server.rules import check_family, family_of

Context = grpc.aio.ServicerContext[Any, Any]

# Uid of the claimer that gives its IP back in the running call: the word of one whose kind only it knows.
_GIVEN_BACK_BY: ContextVar[str] = ContextVar("given back by", default="")


class IPHooks(ResourceHooks[ip_pb2.IP]):
    """Takes its address with its creation and gives it back with its removal; neither while somebody uses it."""

    def __init__(self, addresses: PublicAddresses) -> None:
        self._addresses = addresses

    def default(self, obj: ip_pb2.IP, old: ip_pb2.IP | None) -> None:
        family = family_of(obj.spec.ip)
        if not obj.spec.ip_family and family is not None:
            obj.spec.ip_family = family

    def validate(self, obj: ip_pb2.IP, old: ip_pb2.IP | None) -> Iterable[FieldViolation]:
        yield from check_family(obj.spec.ip, obj.spec.ip_family, "spec.ip")
        both = old is not None and old.spec.HasField("claim_ref") and obj.spec.HasField("claim_ref")
        if old is not None and both and old.spec.claim_ref.uid != obj.spec.claim_ref.uid:
            yield FieldViolation("spec.claim_ref", f"is held by {describe(old.spec.claim_ref)}, which must release it")

    async def allocate(self, plan: WritePlan, obj: ip_pb2.IP, old: ip_pb2.IP | None) -> None:
        if old is None:
            await self._addresses.take_for_ip(plan, obj)
        elif not obj.spec.HasField("claim_ref"):
            ref = old.spec.claim_ref
            if not (is_foreign(ref) and _GIVEN_BACK_BY.get() == ref.uid):
                await _require_unused(plan, old, "its claim cannot be dropped")
        set_labels(obj)

    async def release(self, plan: WritePlan, obj: ip_pb2.IP) -> None:
        await _require_unused(plan, obj, "it cannot be deleted")
        await self._addresses.release_for_ip(plan, obj)

    def extra_methods(self, access: ResourceAccess[ip_pb2.IP]) -> Mapping[str, ExtraMethod]:
        async def claim(request: ip_pb2.ClaimIPRequest, context: Context) -> ip_pb2.IP:
            def change(obj: ip_pb2.IP) -> None:
                held = obj.spec.HasField("claim_ref") and obj.spec.claim_ref.uid
                if held and held != request.claim_ref.uid:
                    raise FailedPrecondition(
                        f"IP {obj.metadata.name} is claimed by {describe(obj.spec.claim_ref)}", reason="IP_CLAIMED"
                    )
                obj.spec.claim_ref.CopyFrom(request.claim_ref)

            return await access.mutate(request.namespace, request.name, change)

        async def release(request: ip_pb2.ClaimIPRequest, context: Context) -> ip_pb2.IP:
            def change(obj: ip_pb2.IP) -> None:
                if obj.spec.claim_ref.uid == request.claim_ref.uid:
                    obj.spec.ClearField("claim_ref")

            token = _GIVEN_BACK_BY.set(request.claim_ref.uid)
            try:
                return await access.mutate(request.namespace, request.name, change)
            finally:
                _GIVEN_BACK_BY.reset(token)

        return {"Claim": claim, "Release": release}


async def _require_unused(plan: WritePlan, ip: ip_pb2.IP, refusal: str) -> None:
    if await is_used(plan.store, ip):
        user = describe(ip.spec.claim_ref)
        raise FailedPrecondition(f"IP {ip.metadata.name} is used by {user}; {refusal}", reason="IP_IN_USE")
