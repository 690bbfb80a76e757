"""Network of the fabric: its id, its peerings, and one status entry per partition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import grpc
from ironcore.apinet.v1 import network_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ExtraMethod, ResourceAccess, ResourceHooks, WritePlan
from ironcore_net_server.apinet.network_ids import NetworkIds, parse_network_id

Context = grpc.aio.ServicerContext[Any, Any]


class NetworkHooks(ResourceHooks[network_pb2.Network]):
    """Takes its id with its creation and gives it back with its removal."""

    def __init__(self, ids: NetworkIds) -> None:
        self._ids = ids

    def validate(self, obj: network_pb2.Network, old: network_pb2.Network | None) -> Iterable[FieldViolation]:
        pool, spec = self._ids.pool, obj.spec
        if old is None and spec.id:
            number = parse_network_id(spec.id)
            if number is None or number not in pool:
                yield FieldViolation("spec.id", f"must be {pool.first} to {pool.last}, decimal, without padding")
        yield from _check_peerings(obj)

    async def allocate(self, plan: WritePlan, obj: network_pb2.Network, old: network_pb2.Network | None) -> None:
        if old is None:
            await self._ids.take(plan, obj)

    async def release(self, plan: WritePlan, obj: network_pb2.Network) -> None:
        await self._ids.give_back(plan, obj)

    def extra_methods(self, access: ResourceAccess[network_pb2.Network]) -> Mapping[str, ExtraMethod]:
        async def set_peering_status(
            request: network_pb2.SetNetworkPeeringStatusRequest, context: Context
        ) -> network_pb2.Network:
            def change(obj: network_pb2.Network) -> None:
                obj.status.peerings.pop(request.partition, None)
                if request.peerings:
                    obj.status.peerings[request.partition].items.extend(request.peerings)

            return await access.mutate(request.namespace, request.name, change, uid=request.uid, status=True)

        return {"SetPeeringStatus": set_peering_status}


def _check_peerings(obj: network_pb2.Network) -> Iterator[FieldViolation]:
    seen: set[str] = set()
    for index, peering in enumerate(obj.spec.peerings):
        at = f"spec.peerings[{index}].id"
        if parse_network_id(peering.id) is None:
            yield FieldViolation(at, "must be a network id: 1 to 16777215, decimal, without padding")
        elif peering.id == obj.spec.id:
            yield FieldViolation(at, "must not be the network itself")
        elif peering.id in seen:
            yield FieldViolation(at, f"names network {peering.id} a second time")
        seen.add(peering.id)
