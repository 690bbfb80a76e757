"""Network interfaces: a tenant's interface claims the one that a machine provider made for it in the fabric.

The fabric's interface is never created or deleted here. A claimed one carries the tenant's origin labels, its routed
ranges and its public addresses; a released one carries none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.apinet.v1 import types_pb2 as apinet_types
from ironcore.ipam.v1 import prefix_pb2
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_interface_pb2 as tenant_nic
from ironcore.networking.v1 import virtual_ip_pb2

from apimachinery.controller import Controller, ControllerContext, own_key, owner_keys
from apimachinery.errors import NotFound
from apimachinery.finalizers import drop_finalizer, ensure_finalizer, is_deleting
from apimachinery.informer import Key, key_of
from apimachinery.liveness import READY
from ironcore_net_server.apinetlet.config import FIELD_OWNER, ApinetletConfig, is_foreign
from ironcore_net_server.apinetlet.prefixes import prefix_lookup
from ironcore_net_server.apinetlet.provider_id import parse_provider_id
from ironcore_net_server.apinetlet.translate import (
    INTERFACE_FINALIZER,
    INTERFACE_ORIGIN,
    attached_verdict,
    binding_verdict,
    detached_verdict,
    interface_status,
    prefixes_of,
    public_ips_of,
    virtual_ip_name,
)
from ironcore_net_server.apinetlet.verdict import REFUSALS, Verdict, tell

VIRTUAL_IP_BOUND: Final = "VirtualIPBound"

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
        if source is not None and is_foreign(source, INTERFACE_FINALIZER):
            return
        if source is None or is_deleting(source):
            await self._release_targets(key, keep_uid="")
            await self._unbind_virtual_ips(key, keep="")
            if source is not None:
                await drop_finalizer(self._sources.client, source, INTERFACE_FINALIZER)
            return
        source = await ensure_finalizer(self._sources.client, source, INTERFACE_FINALIZER)
        target = self._wanted_target(source)
        await self._release_targets(key, keep_uid=target.metadata.uid if target is not None else "")
        verdicts, public_ips = await self._bind_virtual_ip(source)
        owner = INTERFACE_ORIGIN.find(target) if target is not None else None
        if target is None:
            verdicts[READY] = detached_verdict(source, self._config.namespace)
        elif owner is not None and owner.key != key:
            verdicts[READY] = Verdict(False, "ClaimedByAnother", f"the fabric's interface belongs to {owner.key}")
            target = None
        else:
            try:
                target = await self._configure(source, target, public_ips)
            except REFUSALS as error:
                await self._tell(source, target, {**verdicts, READY: Verdict.refused(error)})
                raise
            verdicts[READY] = attached_verdict(target)
        # Whoever is bound next can have an address only once it was taken off here.
        await self._unbind_virtual_ips(key, keep=virtual_ip_name(source))
        await self._tell(source, target, verdicts)

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
        lookup = prefix_lookup(self._prefixes, source.metadata.namespace, owner_uid=source.metadata.uid)
        prefixes = prefixes_of(source, lookup)
        origin = INTERFACE_ORIGIN.find(target)
        if origin is None or origin.uid != source.metadata.uid or list(target.spec.prefixes) != prefixes:
            wanted = _identity(target)
            # Of two that claim it at the same time, one has read a version that is no more.
            wanted.metadata.resource_version = target.metadata.resource_version
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
                # The local copy may lack addresses that were set a moment ago, and without its origin nobody would
                # ever look at this interface again.
                await self._set_public_ips(target, [])
                await self._targets.client.apply(_identity(target), FIELD_OWNER, force=True)
            except NotFound:
                continue

    async def _bind_virtual_ip(
        self, source: tenant_nic.NetworkInterface
    ) -> tuple[dict[str, Verdict], list[apinet_types.NamedIP]]:
        """Bind the wanted virtual IP; returns the verdict on that, if one is wanted, and the addresses it gives."""
        name = virtual_ip_name(source)
        if not name:
            return {}, []
        found = self._virtual_ips.get(source.metadata.namespace, name)
        verdict = binding_verdict(source, found)
        verdicts = {VIRTUAL_IP_BOUND: verdict}
        if found is None or not verdict.holds:
            return verdicts, []
        if found.spec.target_ref.uid != source.metadata.uid:
            changed = virtual_ip_pb2.VirtualIP()
            changed.CopyFrom(found)
            changed.spec.target_ref.name = source.metadata.name
            changed.spec.target_ref.uid = source.metadata.uid
            found = await self._virtual_ips.client.update(changed, field_owner=FIELD_OWNER)
        return verdicts, public_ips_of([found])

    async def _unbind_virtual_ips(self, key: Key, *, keep: str) -> None:
        """Free the virtual IPs bound to an interface of this key, but the one of name `keep`."""
        for virtual_ip in self._virtual_ips.by_index(_TARGET_INDEX, str(key)):
            if virtual_ip.metadata.name == keep:
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
        verdicts: Mapping[str, Verdict],
    ) -> None:
        status = interface_status(source, target, datetime.now(UTC))
        await tell(self._sources.client, source, status, verdicts)


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
