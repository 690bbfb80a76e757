"""Nodes: every metalnet node appears in apinet as "<partition>.<node>" and lives there as long as it lives here."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message
from ironcore.apinet.v1 import node_pb2 as apinet_node
from ironcore.meta.v1 import meta_pb2
from ironcore.metalnet.v1 import node_pb2 as metalnet_node

from apimachinery.conditions import is_true
from apimachinery.controller import Controller, ControllerContext, Result, own_key
from apimachinery.errors import Conflict, NotFound
from apimachinery.finalizers import drop_finalizer, ensure_finalizer, has_finalizer, is_deleting
from apimachinery.informer import Key
from apimachinery.liveness import READY
from apimachinery.scheme import metadata_of

from .config import FIELD_OWNER, PartitionConfig
from .translate import NODE_FINALIZER, PARTITION_LABEL, apinet_node_name, metalnet_node_name

_BEATS_PER_TTL = 3


class NodeController:
    """Registers nodes and forwards their heartbeats: a node that is not Ready here gets none, and is lost there."""

    def __init__(self, config: PartitionConfig, apinet: ControllerContext, metalnet: ControllerContext) -> None:
        self._config = config
        self._sources = metalnet.informer(metalnet_node.Node)
        self._mirrors = apinet.informer(apinet_node.Node)
        self.controller = Controller(
            "metalnetlet-nodes", self._reconcile, [(self._sources, own_key), (self._mirrors, self._source_keys)]
        )

    def _source_keys(self, mirror: Message) -> Iterable[Key]:
        meta = metadata_of(mirror)
        name = metalnet_node_name(self._config.partition, meta.name)
        return () if name is None else (Key("", name),)

    async def _reconcile(self, key: Key) -> Result | None:
        name = apinet_node_name(self._config.partition, key.name)
        source, mirror = self._sources.get("", key.name), self._mirrors.get("", name)
        if source is None or is_deleting(source):
            if mirror is not None and mirror.metadata.labels.get(PARTITION_LABEL) == self._config.partition:
                await self._delete(mirror)
            elif source is not None:
                await drop_finalizer(self._sources.client, source, NODE_FINALIZER)
            return None
        if not has_finalizer(source, NODE_FINALIZER):
            await ensure_finalizer(self._sources.client, source, NODE_FINALIZER)
        wanted = apinet_node.Node(metadata=meta_pb2.ObjectMeta(name=name))
        wanted.metadata.labels.update({PARTITION_LABEL: self._config.partition, **self._config.node_labels})
        if mirror is None or any(mirror.metadata.labels.get(k) != v for k, v in wanted.metadata.labels.items()):
            await self._mirrors.client.apply(wanted, FIELD_OWNER, force=True)
        if not is_true(source.status.conditions, READY):
            return None  # its next change brings the key back
        return await self._forward_beat(name, source.status.heartbeat_identity)

    async def _forward_beat(self, name: str, identity: str) -> Result:
        ttl = self._config.heartbeat_ttl
        request = meta_pb2.HeartbeatRequest(name=name, ttl_seconds=ttl, identity=identity)
        try:
            answer = await self._mirrors.client.invoke("Heartbeat", request, meta_pb2.HeartbeatResponse)
            ttl = answer.ttl_seconds
        except Conflict:
            pass  # another metalnetlet of the partition was faster
        return Result(requeue_after=ttl / _BEATS_PER_TTL)

    async def _delete(self, mirror: apinet_node.Node) -> None:
        if is_deleting(mirror):
            return
        try:
            await self._mirrors.client.delete("", mirror.metadata.name, uid=mirror.metadata.uid)
        except NotFound:
            return
