"""Interfaces: what a machine provider wants goes down to the node, what the node made of it comes up."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.meta.v1 import types_pb2
from ironcore.metalnet.v1 import network_interface_pb2 as metalnet_nic
from ironcore.metalnet.v1 import node_pb2 as metalnet_node

from apimachinery.conditions import FALSE, set_condition
from apimachinery.controller import Controller, ControllerContext, own_key
from apimachinery.errors import InvalidArgument
from apimachinery.finalizers import ensure_finalizer, has_finalizer, is_deleting
from apimachinery.informer import Key, key_of
from apimachinery.liveness import READY
from apimachinery.mirror import Mirror

from .config import FIELD_OWNER, PartitionConfig
from .translate import (
    INTERFACE_ORIGIN,
    apinet_interface_status,
    apinet_node_name,
    metalnet_interface_of,
    metalnet_node_name,
    network_id,
    partition_finalizer,
)

NETWORK_INDEX = "metalnetlet-network"
NODE_INDEX = "metalnetlet-node"


class InterfaceController:
    """Interfaces of the partition's nodes. Those of other partitions are not touched."""

    def __init__(self, config: PartitionConfig, apinet: ControllerContext, metalnet: ControllerContext) -> None:
        self._config = config
        self._finalizer = partition_finalizer(config.partition)
        self._nodes = metalnet.informer(metalnet_node.Node)
        self._networks = apinet.informer(apinet_network.Network)
        self._mirror = Mirror(
            apinet.informer(apinet_nic.NetworkInterface),
            metalnet.informer(metalnet_nic.NetworkInterface, config.namespace),
            origin=INTERFACE_ORIGIN,
            namespace=config.namespace,
            finalizer=self._finalizer,
            field_owner=FIELD_OWNER,
        )
        self._mirror.sources.add_indexer(
            NETWORK_INDEX, lambda nic: [str(Key(nic.metadata.namespace, nic.spec.network_ref.name))]
        )
        self._mirror.sources.add_indexer(NODE_INDEX, lambda nic: [nic.spec.node_ref.name])
        self.controller = Controller(
            "metalnetlet-interfaces",
            self._reconcile,
            [
                (self._mirror.sources, own_key),
                (self._mirror.targets, INTERFACE_ORIGIN.keys),
                (self._networks, self._keys_of_network),
                (self._nodes, self._keys_of_node),
            ],
            workers=8,
        )

    def _keys_of_network(self, network: apinet_network.Network) -> Iterable[Key]:
        return [key_of(nic) for nic in self._mirror.sources.by_index(NETWORK_INDEX, str(key_of(network)))]

    def _keys_of_node(self, node: metalnet_node.Node) -> Iterable[Key]:
        name = apinet_node_name(self._config.partition, node.metadata.name)
        return [key_of(nic) for nic in self._mirror.sources.by_index(NODE_INDEX, name)]

    async def _reconcile(self, key: Key) -> None:
        source = self._mirror.sources.get(key.namespace, key.name)
        await self._mirror.remove_strays(key, source.metadata.uid if source is not None else "")
        if source is None:
            return
        node_name = metalnet_node_name(self._config.partition, source.spec.node_ref.name)
        if node_name is None:
            return
        node = self._nodes.get("", node_name)
        if is_deleting(source) or (node is not None and is_deleting(node)):
            await self._mirror.remove(source)
            return
        if node is None and not has_finalizer(source, self._finalizer):
            message = f'node "{source.spec.node_ref.name}" does not exist'
            await self._tell(source, types_pb2.REALIZATION_STATE_PENDING, "NodeNotFound", message)
            return
        network = self._networks.get(key.namespace, source.spec.network_ref.name)
        if network is None or network_id(network.spec.id) is None:
            message = f'network "{source.spec.network_ref.name}" does not exist'
            await self._tell(source, types_pb2.REALIZATION_STATE_PENDING, "NetworkNotFound", message)
            return
        source = await ensure_finalizer(self._mirror.sources.client, source, self._finalizer)
        wanted = metalnet_interface_of(source, network.metadata.uid, node_name, self._config.namespace)
        try:
            realized = await self._mirror.put(wanted)
        except InvalidArgument as error:
            await self._tell(source, types_pb2.REALIZATION_STATE_ERROR, "Refused", str(error))
            return
        await self._write_status(source, apinet_interface_status(source, realized))

    async def _tell(
        self,
        source: apinet_nic.NetworkInterface,
        state: types_pb2.RealizationState.ValueType,
        reason: str,
        message: str,
    ) -> None:
        """Say why nothing can be done now; a change of what is wrong brings the key back."""
        status = apinet_nic.NetworkInterfaceStatus()
        status.CopyFrom(source.status)
        status.state = state
        generation = source.metadata.generation
        status.observed_generation = generation
        set_condition(
            status.conditions,
            READY,
            FALSE,
            reason=reason,
            message=message,
            observed_generation=generation,
            now=datetime.now(UTC),
        )
        await self._write_status(source, status)

    async def _write_status(
        self, source: apinet_nic.NetworkInterface, status: apinet_nic.NetworkInterfaceStatus
    ) -> None:
        if status == source.status:
            return
        changed = apinet_nic.NetworkInterface()
        changed.CopyFrom(source)
        changed.status.CopyFrom(status)
        await self._mirror.sources.client.update_status(changed)
