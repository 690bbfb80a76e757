"""Virtual IPs: every one has an IP in the fabric, whose address it tells."""

from __future__ import annotations

from typing import Final

from ironcore.apinet.v1 import ip_pb2
from ironcore.networking.v1 import virtual_ip_pb2

from apimachinery.controller import Controller, ControllerContext, Result, own_key
from apimachinery.errors import FailedPrecondition
from apimachinery.finalizers import ensure_finalizer, is_deleting
from apimachinery.informer import Key
from apimachinery.liveness import READY
from apimachinery.mirror import Mirror
from ironcore_net_server.apinetlet.config import FIELD_OWNER, ApinetletConfig, is_foreign
from ironcore_net_server.apinetlet.translate import VIRTUAL_IP_FINALIZER, VIRTUAL_IP_ORIGIN, apinet_ip_of
from ironcore_net_server.apinetlet.verdict import REFUSALS, Verdict, tell

# Seconds until an address that was in use is deleted again. Its release is an event; the end of a user that never
# released it is not.
IN_USE_SECONDS: Final = 10.0


def _agrees(current: ip_pb2.IP, wanted: ip_pb2.IP) -> bool:
    return (current.spec.type, current.spec.ip_family) == (wanted.spec.type, wanted.spec.ip_family)


class VirtualIPController:
    """Makes the fabric's IP and writes its address to the virtual IP's status."""

    def __init__(self, config: ApinetletConfig, context: ControllerContext) -> None:
        self._config = config
        self._mirror = Mirror(
            context.informer(virtual_ip_pb2.VirtualIP),
            context.informer(ip_pb2.IP),
            origin=VIRTUAL_IP_ORIGIN,
            namespace=config.namespace,
            finalizer=VIRTUAL_IP_FINALIZER,
            field_owner=FIELD_OWNER,
            agrees=_agrees,
        )
        self.controller = Controller(
            "apinetlet-virtualips",
            self._reconcile,
            [(self._mirror.sources, own_key), (self._mirror.targets, VIRTUAL_IP_ORIGIN.keys)],
            workers=8,
        )

    async def _reconcile(self, key: Key) -> Result | None:
        source = self._mirror.sources.get(key.namespace, key.name)
        mine = source if source is not None and not is_foreign(source, VIRTUAL_IP_FINALIZER) else None
        if mine is not None and not is_deleting(mine):
            await self._put(mine)
        try:
            if mine is not None and is_deleting(mine):
                await self._mirror.remove(mine)
            # Last: an earlier one's address that is still used must not hold up a new virtual IP of the same name.
            await self._mirror.remove_strays(key, source.metadata.uid if source is not None else "")
        except FailedPrecondition as error:
            if mine is not None and is_deleting(mine):
                await self._tell(mine, mine.status.ip, Verdict.refused(error))
            return Result(requeue_after=IN_USE_SECONDS)
        return None

    async def _put(self, source: virtual_ip_pb2.VirtualIP) -> None:
        source = await ensure_finalizer(self._mirror.sources.client, source, VIRTUAL_IP_FINALIZER)
        try:
            realized = await self._mirror.put(apinet_ip_of(source, self._config.namespace))
        except REFUSALS as error:
            # Without an IP in the fabric, an address of before may be another's by now.
            current = self._mirror.target(source)
            await self._tell(source, current.spec.ip if current is not None else "", Verdict.refused(error))
            raise
        await self._tell(
            source, realized.spec.ip, Verdict(True, "AddressAllocated", "the address is reserved for this object")
        )

    async def _tell(self, source: virtual_ip_pb2.VirtualIP, address: str, ready: Verdict) -> None:
        await tell(self._mirror.sources.client, source, virtual_ip_pb2.VirtualIPStatus(ip=address), {READY: ready})
