"""Network interfaces: a tenant's interface claims the one that a machine provider made for it in the fabric.

The fabric's interface is never created or deleted here. A claimed one carries the tenant's origin labels, its routed
ranges and its public addresses; a released one carries none of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.apinet.v1 import types_pb2 as apinet_types
from ironcore.ipam.v1 import prefix_pb2
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_interface_pb2 as tenant_nic
from ironcore.networking.v1 import virtual_ip_pb2

from apimachinery.conditions import FALSE, TRUE, set_condition
from apimachinery.controller import Controller, ControllerContext, own_key, owner_keys
from apimachinery.errors import NotFound
from apimachinery.finalizers import drop_finalizer, ensure_finalizer, is_deleting
from apimachinery.informer import Key, key_of
from apimachinery.liveness import READY
from ironcore_net_server.apinetlet.config import FIELD_OWNER, ApinetletConfig, is_external
from ironcore_net_server.apinetlet.prefixes import prefix_lookup
from ironcore_net_server.apinetlet.provider_id import parse_provider_id
from ironcore_net_server.apinetlet.translate import (
    INTERFACE_FINALIZER,
    INTERFACE_ORIGIN,
    interface_status,
    prefixes_of,
    public_ips_of,
    ready_condition,
    virtual_ip_name,
)

_ORIGIN_INDEX: Final = "apinetlet-origin"
_PROVIDER_INDEX: Final = "apinetlet-provider-uid"
_TARGET_INDEX: Final = "apinetlet-target"
_VIRTUAL_IP_INDEX: Final = "apinetlet-virtualip"


class InterfaceController:
    """Claims, configures and releases interfaces of the fabric, binds virtual IPs, and tells the tenant."""

    def __init__(self, config: ApinetletConfig, context: ControllerContext) -> None:
        self._config = config
        self._sources = context.informer(tenant_nic.NetworkInterface)
        self._targets = context.informer(apinet_nic.NetworkInterface)
        self._virtual_ips = context.informer(virtual_ip_pb2.VirtualIP)
        self._prefixes = context.informer(prefix_pb2.Prefix)
        self._sources.add_indexer(_PROVIDER_INDEX, _provider_uids)
        self._sources.add_indexer(_VIRTUAL_IP_INDEX, _virtual_ip_keys)
        self._targets.add_indexer(_ORIGIN_INDEX, lambda nic: [str(key) for key in INTERFACE_ORIGIN.keys(nic)])
        self._virtual_ips.add_indexer(_TARGET_INDEX, _target_keys)
        self.controller = Controller(
            "apinetlet-networkinterfaces",
            self._reconcile,
            [
                (self._sources, own_key),
                (self._targets, self._keys_of_target),
                (self._virtual_ips, self._keys_of_virtual_ip),
                (self._prefixes, owner_keys("NetworkInterface")),
            ],
            workers=8,
        )

    def _keys_of_target(self, target: apinet_nic.NetworkInterface) -> Iterable[Key]:
        """Whoever has claimed it, and whoever wants to."""
        wanted = [key_of(nic) for nic in self._sources.by_index(_PROVIDER_INDEX, target.metadata.uid)]
        return {*INTERFACE_ORIGIN.keys(target), *wanted}

    def _keys_of_virtual_ip(self, virtual_ip: virtual_ip_pb2.VirtualIP) -> Iterable[Key]:
        """Whoever has it, and whoever wants it."""
        namespace = virtual_ip.metadata.namespace
        wanted = [key_of(nic) for nic in self._sources.by_index(_VIRTUAL_IP_INDEX, str(key_of(virtual_ip)))]
        bound = virtual_ip.spec.target_ref.name
        return {*wanted, *([Key(namespace, bound)] if bound else [])}

    async def _reconcile(self, key: Key) -> None:
        source = self._sources.get(key.namespace, key.name)
        if source is None or is_deleting(source):
            await self._release_targets(key, keep_uid="")
            await self._unbind_virtual_ips(key, keep="", uid="")
            if source is not None:
                await drop_finalizer(self._sources.client, source, INTERFACE_FINALIZER)
            return
        if is_external(source.metadata):
            return
        source = await ensure_finalizer(self._sources.client, source, INTERFACE_FINALIZER)
        uid = source.metadata.uid
        target = self._wanted_target(source)
        await self._release_targets(key, keep_uid=target.metadata.uid if target is not None else "")
        wanted_ip = virtual_ip_name(source)
        await self._unbind_virtual_ips(key, keep=wanted_ip, uid=uid)
        bound = await self._bind_virtual_ip(source, wanted_ip)
        owner = INTERFACE_ORIGIN.find(target) if target is not None else None
        if target is not None and owner is not None and owner.uid != uid:
            message = f"the fabric's interface is claimed by {owner.namespace}/{owner.name}"
            await self._tell(source, None, (False, "ClaimedByAnother", message))
            return
        if target is not None:
            target = await self._configure(source, target, public_ips_of([bound] if bound is not None else []))
        await self._tell(source, target, ready_condition(target))

    def _wanted_target(self, source: tenant_nic.NetworkInterface) -> apinet_nic.NetworkInterface | None:
        provider_id = parse_provider_id(source.spec.provider_id)
        if provider_id is None or provider_id.namespace != self._config.namespace:
            return None
        found = self._targets.get(provider_id.namespace, provider_id.name)
        if found is None or found.metadata.uid != provider_id.uid or is_deleting(found):
            return None
        return found

    async def _configure(
        self,
        source: tenant_nic.NetworkInterface,
        target: apinet_nic.NetworkInterface,
        public_ips: list[apinet_types.NamedIP],
    ) -> apinet_nic.NetworkInterface:
        """Claim the fabric's interface and give it what the tenant wants; no call if it has all of it."""
        prefixes = prefixes_of(source, prefix_lookup(self._prefixes, source.metadata.namespace))
        origin = INTERFACE_ORIGIN.find(target)
        if origin is None or origin.key != key_of(source) or list(target.spec.prefixes) != prefixes:
            wanted = _identity(target)
            INTERFACE_ORIGIN.mark(wanted.metadata, source.metadata)
            wanted.spec.prefixes.extend(prefixes)
            target = await self._targets.client.apply(wanted, FIELD_OWNER, force=True)
        if list(target.spec.public_ips) != public_ips:
            target = await self._set_public_ips(target, public_ips)
        return target

    async def _set_public_ips(
        self, target: apinet_nic.NetworkInterface, public_ips: list[apinet_types.NamedIP]
    ) -> apinet_nic.NetworkInterface:
        request = apinet_nic.SetPublicIPsRequest(
            namespace=target.metadata.namespace,
            name=target.metadata.name,
            uid=target.metadata.uid,
            public_ips=public_ips,
        )
        return await self._targets.client.invoke("SetPublicIPs", request, apinet_nic.NetworkInterface)

    async def _release_targets(self, key: Key, *, keep_uid: str) -> None:
        """Take origin, ranges and public addresses off everything claimed under this key but the one to keep."""
        for target in self._targets.by_index(_ORIGIN_INDEX, str(key)):
            if target.metadata.uid == keep_uid:
                continue
            try:
                if target.spec.public_ips:
                    target = await self._set_public_ips(target, [])
                await self._targets.client.apply(_identity(target), FIELD_OWNER, force=True)
            except NotFound:
                continue

    async def _bind_virtual_ip(self, source: tenant_nic.NetworkInterface, name: str) -> virtual_ip_pb2.VirtualIP | None:
        """The wanted virtual IP, bound to this interface; None while it does not exist or is another's."""
        found = self._virtual_ips.get(source.metadata.namespace, name) if name else None
        # A virtual IP that goes is taken off the interface first: the fabric keeps addresses that are used.
        if found is None or is_deleting(found):
            return None
        if found.spec.target_ref.uid == source.metadata.uid:
            return found
        if found.spec.HasField("target_ref"):
            return None
        changed = virtual_ip_pb2.VirtualIP()
        changed.CopyFrom(found)
        changed.spec.target_ref.name = source.metadata.name
        changed.spec.target_ref.uid = source.metadata.uid
        return await self._virtual_ips.client.update(changed, field_owner=FIELD_OWNER)

    async def _unbind_virtual_ips(self, key: Key, *, keep: str, uid: str) -> None:
        """Free the virtual IPs bound to this interface or to an earlier one of its name."""
        for virtual_ip in self._virtual_ips.by_index(_TARGET_INDEX, str(key)):
            if virtual_ip.metadata.name == keep and virtual_ip.spec.target_ref.uid == uid:
                continue
            changed = virtual_ip_pb2.VirtualIP()
            changed.CopyFrom(virtual_ip)
            changed.spec.ClearField("target_ref")
            try:
                await self._virtual_ips.client.update(changed, field_owner=FIELD_OWNER)
            except NotFound:
                continue

    async def _tell(
        self,
        source: tenant_nic.NetworkInterface,
        target: apinet_nic.NetworkInterface | None,
        ready: tuple[bool, str, str],
    ) -> None:
        now = datetime.now(UTC)
        status = interface_status(source, target)
        if status.state != source.status.state:
            status.last_state_transition_time.FromDatetime(now)
        is_ready, reason, message = ready
        set_condition(
            status.conditions,
            READY,
            TRUE if is_ready else FALSE,
            reason=reason,
            message=message,
            observed_generation=source.metadata.generation,
            now=now,
        )
        if status == source.status:
            return
        changed = tenant_nic.NetworkInterface()
        changed.CopyFrom(source)
        changed.status.CopyFrom(status)
        await self._sources.client.update_status(changed)


def _identity(target: apinet_nic.NetworkInterface) -> apinet_nic.NetworkInterface:
    """An object that names a target and nothing else: applied, it gives up all that this bridge wrote."""
    meta = target.metadata
    return apinet_nic.NetworkInterface(
        metadata=meta_pb2.ObjectMeta(namespace=meta.namespace, name=meta.name, uid=meta.uid)
    )


def _provider_uids(source: tenant_nic.NetworkInterface) -> list[str]:
    provider_id = parse_provider_id(source.spec.provider_id)
    return [] if provider_id is None else [provider_id.uid]


def _virtual_ip_keys(source: tenant_nic.NetworkInterface) -> list[str]:
    name = virtual_ip_name(source)
    return [str(Key(source.metadata.namespace, name))] if name else []


def _target_keys(virtual_ip: virtual_ip_pb2.VirtualIP) -> list[str]:
    name = virtual_ip.spec.target_ref.name
    return [str(Key(virtual_ip.metadata.namespace, name))] if name else []
