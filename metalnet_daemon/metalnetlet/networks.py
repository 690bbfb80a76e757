"""Networks: every apinet network exists in every partition, under its uid."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message
from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.metalnet.v1 import network_pb2 as metalnet_network

from apimachinery.controller import Controller, ControllerContext, own_key
from apimachinery.finalizers import ensure_finalizer, is_deleting
from apimachinery.informer import Key
from apimachinery.mirror import Mirror

from .config import FIELD_OWNER, PartitionConfig
from .translate import NETWORK_ORIGIN, metalnet_network_of, partition_finalizer, peering_states


class NetworkController:
    """Makes the metalnet network and tells how its peerings stand in this partition."""

    def __init__(self, config: PartitionConfig, apinet: ControllerContext, metalnet: ControllerContext) -> None:
        self._config = config
        self._finalizer = partition_finalizer(config.partition)
        self._mirror = Mirror(
            apinet.informer(apinet_network.Network),
            metalnet.informer(metalnet_network.Network, config.namespace),
            origin=NETWORK_ORIGIN,
            namespace=config.namespace,
            finalizer=self._finalizer,
            field_owner=FIELD_OWNER,
        )
        self.controller = Controller(
            "metalnetlet-networks",
            self._reconcile,
            [(self._mirror.sources, own_key), (self._mirror.targets, self._keys_of_target)],
        )

    def _keys_of_target(self, target: metalnet_network.Network) -> Iterable[Key]:
        """The network's own origin, and those of its peers, whose peering state depends on it."""
        concerned: list[Message] = [target]
        concerned += [peer for peer in self._mirror.targets.list() if peer.spec.id in target.spec.peered_ids]
        return [key for obj in concerned for key in NETWORK_ORIGIN.keys(obj)]

    async def _reconcile(self, key: Key) -> None:
        source = self._mirror.sources.get(key.namespace, key.name)
        await self._mirror.remove_strays(key, source.metadata.uid if source is not None else "")
        if source is None:
            return
        if is_deleting(source):
            await self._mirror.remove(source)
            return
        wanted = metalnet_network_of(source, self._config.namespace, peering=self._config.peering)
        if wanted is None:
            return  # the API assigns ids; a change brings the key back
        source = await ensure_finalizer(self._mirror.sources.client, source, self._finalizer)
        await self._tell_peerings(source, await self._mirror.put(wanted))

    async def _tell_peerings(self, source: apinet_network.Network, target: metalnet_network.Network) -> None:
        by_id = {network.spec.id: network for network in self._mirror.targets.list()}
        states = peering_states(target, by_id)
        # Reading a missing entry of a protobuf map would create it, in an object that others share.
        told = source.status.peerings
        if (list(told[self._config.partition].items) if self._config.partition in told else []) == states:
            return
        request = apinet_network.SetNetworkPeeringStatusRequest(
            namespace=source.metadata.namespace,
            name=source.metadata.name,
            uid=source.metadata.uid,
            partition=self._config.partition,
            peerings=states,
        )
        await self._mirror.sources.client.invoke("SetPeeringStatus", request, apinet_network.Network)
