"""NetworkID: shows that a network id is taken. Written by hand it takes an id out of the pool."""

from __future__ import annotations

from collections.abc import Iterable

from ironcore.apinet.v1 import network_id_pb2, network_pb2

from apimachinery.errors import FailedPrecondition, FieldViolation
from apimachinery.resource import ResourceHooks, WritePlan
from ironcore_net_server.apinet.claims import claim_owner, describe, find_claimer
from ironcore_net_server.apinet.network_ids import NetworkIds, parse_network_id


class NetworkIDHooks(ResourceHooks[network_id_pb2.NetworkID]):
    """The name is the id; it cannot be deleted while its network exists."""

    def __init__(self, ids: NetworkIds) -> None:
        self._ids = ids

    def validate(self, obj: network_id_pb2.NetworkID, old: network_id_pb2.NetworkID | None) -> Iterable[FieldViolation]:
        if parse_network_id(obj.metadata.name) is None:
            yield FieldViolation("metadata.name", "must be a network id: 1 to 16777215, decimal, without padding")

    async def allocate(
        self, plan: WritePlan, obj: network_id_pb2.NetworkID, old: network_id_pb2.NetworkID | None
    ) -> None:
        if old is None:
            error = FailedPrecondition(f"network id {obj.metadata.name} is taken", reason="NETWORK_ID_TAKEN")
            plan.claim(self._ids.claim_key(obj.metadata.name), claim_owner(obj), error=error)

    async def release(self, plan: WritePlan, obj: network_id_pb2.NetworkID) -> None:
        ref = obj.spec.claim_ref
        if ref.resource == "networks" and await find_claimer(plan.store, network_pb2.Network, ref, "") is not None:
            raise FailedPrecondition(
                f"network id {obj.metadata.name} belongs to {describe(ref)} of namespace {ref.namespace}",
                reason="NETWORK_ID_IN_USE",
            )
        key = self._ids.claim_key(obj.metadata.name)
        plan.release(key, quarantine_seconds=self._ids.quarantine_seconds)
