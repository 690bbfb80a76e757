"""Networks: every tenant network exists in the fabric, under its uid; id and peering states come back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.ipam.v1 import prefix_pb2
from ironcore.networking.v1 import network_pb2 as tenant_network

from apimachinery.conditions import FALSE, TRUE, set_condition
from apimachinery.controller import Controller, ControllerContext, Result, own_key
from apimachinery.errors import ApiError, Conflict, Unavailable
from apimachinery.finalizers import ensure_finalizer, is_deleting
from apimachinery.informer import Key, key_of
from apimachinery.liveness import READY
from apimachinery.mirror import Mirror
from ironcore_net_server.apinetlet.config import FIELD_OWNER, ApinetletConfig, is_external
from ironcore_net_server.apinetlet.prefixes import prefix_lookup
from ironcore_net_server.apinetlet.translate import (
    NETWORK_FINALIZER,
    NETWORK_ORIGIN,
    Peerings,
    apinet_network_of,
    network_provider_id,
    peering_statuses,
    peerings_of,
)

# Seconds until a refused network is tried again: what it waits for, a free id for example, has no event.
RETRY_SECONDS = 10.0


class NetworkController:
    """Makes the fabric's network, publishes its provider id and tells how it stands."""

    def __init__(self, config: ApinetletConfig, context: ControllerContext) -> None:
        self._config = config
        self._prefixes = context.informer(prefix_pb2.Prefix)
        self._mirror = Mirror(
            context.informer(tenant_network.Network),
            context.informer(apinet_network.Network),
            origin=NETWORK_ORIGIN,
            namespace=config.namespace,
            finalizer=NETWORK_FINALIZER,
            field_owner=FIELD_OWNER,
            agrees=lambda current, wanted: list(current.spec.peerings) == list(wanted.spec.peerings),
        )
        self.controller = Controller(
            "apinetlet-networks",
            self._reconcile,
            [
                (self._mirror.sources, own_key),
                (self._mirror.targets, self._keys_of_target),
                (self._prefixes, self._keys_of_prefix),
            ],
            workers=8,
        )

    def _keys_of_target(self, target: apinet_network.Network) -> Iterable[Key]:
        """The network's own origin, and the networks that peer with it and need its id."""
        origin = NETWORK_ORIGIN.find(target)
        if origin is None:
            return ()
        peers = [
            key_of(network)
            for network in self._mirror.sources.list()
            if any(ref.uid == origin.uid for ref in network.spec.incoming_peerings)
        ]
        return [origin.key, *peers]

    def _keys_of_prefix(self, prefix: prefix_pb2.Prefix) -> Iterable[Key]:
        return [
            key_of(network)
            for network in self._mirror.sources.list(prefix.metadata.namespace)
            if any(
                entry.prefix_ref.name == prefix.metadata.name
                for peering in network.spec.peerings
                for entry in peering.prefixes
            )
        ]

    async def _reconcile(self, key: Key) -> Result | None:
        source = self._mirror.sources.get(key.namespace, key.name)
        await self._mirror.remove_strays(key, source.metadata.uid if source is not None else "")
        if source is None or is_external(source.metadata):
            return None
        if is_deleting(source):
            await self._mirror.remove(source)
            return None
        source = await ensure_finalizer(self._mirror.sources.client, source, NETWORK_FINALIZER)
        peerings = self._peerings(source)
        try:
            target = await self._mirror.put(apinet_network_of(source, peerings, self._config.namespace))
        except (Conflict, Unavailable):
            raise
        except ApiError as error:
            await self._tell_refused(source, error)
            return Result(requeue_after=RETRY_SECONDS)
        source = await self._publish(source, target)
        await self._tell_available(source, target, peerings)
        return None

    def _peerings(self, source: tenant_network.Network) -> Peerings:
        peer_ids: dict[str, str] = {}
        for ref in source.spec.incoming_peerings:
            peer = self._mirror.targets.get(self._config.namespace, ref.uid) if ref.uid else None
            if peer is not None:
                peer_ids[ref.uid] = peer.spec.id
        return peerings_of(source, peer_ids, prefix_lookup(self._prefixes, source.metadata.namespace))

    async def _publish(self, source: tenant_network.Network, target: apinet_network.Network) -> tenant_network.Network:
        provider_id = network_provider_id(target)
        if source.spec.provider_id or not provider_id:
            return source
        changed = tenant_network.Network()
        changed.CopyFrom(source)
        changed.spec.provider_id = provider_id
        return await self._mirror.sources.client.update(changed, field_owner=FIELD_OWNER)

    async def _tell_available(
        self, source: tenant_network.Network, target: apinet_network.Network, peerings: Peerings
    ) -> None:
        status = tenant_network.NetworkStatus(
            state=tenant_network.NETWORK_STATE_AVAILABLE,
            peerings=peering_statuses(target, peerings),
            observed_generation=source.metadata.generation,
            conditions=source.status.conditions,
        )
        set_condition(
            status.conditions,
            READY,
            TRUE,
            reason="NetworkIdAssigned",
            message=f"the network has id {target.spec.id}",
            observed_generation=source.metadata.generation,
            now=datetime.now(UTC),
        )
        await self._write_status(source, status)

    async def _tell_refused(self, source: tenant_network.Network, error: ApiError) -> None:
        status = tenant_network.NetworkStatus()
        status.CopyFrom(source.status)
        # A network that works goes on doing so with what the fabric last accepted.
        if not source.spec.provider_id:
            status.state = tenant_network.NETWORK_STATE_PENDING
        status.observed_generation = source.metadata.generation
        set_condition(
            status.conditions,
            READY,
            FALSE,
            reason=error.reason or "Refused",
            message=error.message,
            observed_generation=source.metadata.generation,
            now=datetime.now(UTC),
        )
        await self._write_status(source, status)

    async def _write_status(self, source: tenant_network.Network, status: tenant_network.NetworkStatus) -> None:
        if status == source.status:
            return
        changed = tenant_network.Network()
        changed.CopyFrom(source)
        changed.status.CopyFrom(status)
        await self._mirror.sources.client.update_status(changed)
