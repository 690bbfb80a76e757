"""Virtual IPs: every one has an IP in the fabric, whose address it tells."""

from __future__ import annotations

from datetime import UTC, datetime

from ironcore.apinet.v1 import ip_pb2
from ironcore.networking.v1 import virtual_ip_pb2

from apimachinery.conditions import FALSE, TRUE, set_condition
from apimachinery.controller import Controller, ControllerContext, Result, own_key
from apimachinery.errors import ApiError, Conflict, Unavailable
from apimachinery.finalizers import ensure_finalizer, is_deleting
from apimachinery.informer import Key
from apimachinery.liveness import READY
from apimachinery.mirror import Mirror
from ironcore_net_server.apinetlet.config import FIELD_OWNER, ApinetletConfig, is_external
from ironcore_net_server.apinetlet.translate import VIRTUAL_IP_FINALIZER, VIRTUAL_IP_ORIGIN, apinet_ip_of

# Seconds until an exhausted pool is asked again: an address that becomes free has no event.
RETRY_SECONDS = 10.0


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
        await self._mirror.remove_strays(key, source.metadata.uid if source is not None else "")
        if source is None or is_external(source.metadata):
            return None
        if is_deleting(source):
            await self._mirror.remove(source)
            return None
        source = await ensure_finalizer(self._mirror.sources.client, source, VIRTUAL_IP_FINALIZER)
        try:
            realized = await self._mirror.put(apinet_ip_of(source, self._config.namespace))
        except (Conflict, Unavailable):
            raise
        except ApiError as error:
            await self._tell(source, "", error.reason or "Refused", error.message)
            return Result(requeue_after=RETRY_SECONDS)
        await self._tell(source, realized.spec.ip, "AddressAllocated", "the address is reserved for this object")
        return None

    async def _tell(self, source: virtual_ip_pb2.VirtualIP, address: str, reason: str, message: str) -> None:
        generation = source.metadata.generation
        status = virtual_ip_pb2.VirtualIPStatus(
            ip=address, observed_generation=generation, conditions=source.status.conditions
        )
        set_condition(
            status.conditions,
            READY,
            TRUE if address else FALSE,
            reason=reason,
            message=message,
            observed_generation=generation,
            now=datetime.now(UTC),
        )
        if status == source.status:
            return
        changed = virtual_ip_pb2.VirtualIP()
        changed.CopyFrom(source)
        changed.status.CopyFrom(status)
        await self._mirror.sources.client.update_status(changed)
