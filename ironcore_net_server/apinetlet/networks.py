"""Networks: every tenant network exists in the fabric, under its uid; id and peering states come back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.ipam.v1 import prefix_pb2
from ironcore.networking.v1 import network_pb2 as tenant_network

from apimachinery.controller import Controller, ControllerContext, own_key
from apimachinery.errors import ApiError, InvalidArgument
from apimachinery.finalizers import ensure_finalizer, is_deleting
from apimachinery.informer import Key, key_of
from apimachinery.liveness import READY
from apimachinery.mirror import Mirror
from ironcore_net_server.apinetlet.config import FIELD_OWNER, ApinetletConfig, is_foreign
from ironcore_net_server.apinetlet.prefixes import prefix_lookup
from ironcore_net_server.apinetlet.provider_id import parse_provider_id
from ironcore_net_server.apinetlet.translate import (
    NETWORK_FINALIZER,
    NETWORK_ORIGIN,
    Peerings,
    apinet_network_of,
    network_provider_id,
    peering_statuses,
    peerings_of,
    same_peerings,
)
from ironcore_net_server.apinetlet.verdict import REFUSALS, Verdict, tell

_PEER_INDEX: Final = "apinetlet-peer-uid"
_PREFIX_INDEX: Final = "apinetlet-peering-prefix"


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
            agrees=same_peerings,
        )
        self._mirror.sources.add_indexer(_PEER_INDEX, _peer_uids)
        self._mirror.sources.add_indexer(_PREFIX_INDEX, _prefix_keys)
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
        peers = self._mirror.sources.by_index(_PEER_INDEX, origin.uid)
        return [origin.key, *map(key_of, peers)]

    def _keys_of_prefix(self, prefix: prefix_pb2.Prefix) -> Iterable[Key]:
        return map(key_of, self._mirror.sources.by_index(_PREFIX_INDEX, str(key_of(prefix))))

    async def _reconcile(self, key: Key) -> None:
        source = self._mirror.sources.get(key.namespace, key.name)
        await self._mirror.remove_strays(key, source.metadata.uid if source is not None else "")
        if source is None or is_foreign(source, NETWORK_FINALIZER):
            return
        if is_deleting(source):
            await self._mirror.remove(source)
            return
        source = await ensure_finalizer(self._mirror.sources.client, source, NETWORK_FINALIZER)
        peerings = self._peerings(source)
        try:
            target = await self._mirror.put(apinet_network_of(source, peerings, self._config.namespace))
        except REFUSALS as error:
            await self._tell_refused(source, error)
            raise
        source = await self._publish(source, target)
        await self._tell_realized(source, target, peerings)

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

    async def _tell_realized(
        self, source: tenant_network.Network, target: apinet_network.Network, peerings: Peerings
    ) -> None:
        status = tenant_network.NetworkStatus(
            state=tenant_network.NETWORK_STATE_AVAILABLE, peerings=peering_statuses(target, peerings)
        )
        ready = Verdict(True, "NetworkIdAssigned", f"the network has id {target.spec.id}")
        actual = network_provider_id(target)
        # It is set once and machine providers use it, so a wrong one cannot be put right here.
        if parse_provider_id(source.spec.provider_id) != parse_provider_id(actual):
            status.state = tenant_network.NETWORK_STATE_ERROR
            message = f'the provider id is "{source.spec.provider_id}", but the network of the fabric is "{actual}"'
            ready = Verdict(False, "ProviderIDMismatch", message)
        await tell(self._mirror.sources.client, source, status, {READY: ready})

    async def _tell_refused(self, source: tenant_network.Network, error: ApiError) -> None:
        status = tenant_network.NetworkStatus(state=source.status.state, peerings=source.status.peerings)
        # A network that works goes on doing so with what the fabric last accepted.
        if not source.spec.provider_id:
            hopeless = isinstance(error, InvalidArgument)
            status.state = tenant_network.NETWORK_STATE_ERROR if hopeless else tenant_network.NETWORK_STATE_PENDING
        await tell(self._mirror.sources.client, source, status, {READY: Verdict.refused(error)})


def _peer_uids(network: tenant_network.Network) -> list[str]:
    return [ref.uid for ref in network.spec.incoming_peerings if ref.uid]


def _prefix_keys(network: tenant_network.Network) -> list[str]:
    """Keys of the Prefix objects that a network's peerings refer to."""
    return [
        str(Key(network.metadata.namespace, prefix.prefix_ref.name))
        for peering in network.spec.peerings
        for prefix in peering.prefixes
        if prefix.HasField("prefix_ref")
    ]
