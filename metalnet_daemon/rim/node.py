"""The node object of this host: registered, kept alive by heartbeats, told which software runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from ironcore.meta.v1 import meta_pb2
from ironcore.metalnet.v1 import node_pb2

from apimachinery.client import Client
from apimachinery.errors import ApiError, Conflict, NotFound

_log = structlog.get_logger(__name__)

FIELD_OWNER = "metalnet.ironcore.dev/daemon"
# A heartbeat may fail twice in a row before the node counts as lost.
_BEATS_PER_TTL = 3
_RETRY_SECONDS = 1.0


class NodeRegistration:
    """Keeps the node alive. ttl_seconds: how long after the last beat the node counts as lost.

    engine_version: text of the engine's version, empty while unknown.
    """

    def __init__(
        self, client: Client, name: str, version: str, engine_version: Callable[[], str], *, ttl_seconds: int
    ) -> None:
        self._nodes = client.kind(node_pb2.Node)
        self._name = name
        self._version = version
        self._engine_version = engine_version
        self._ttl = ttl_seconds
        self._told: tuple[str, str] | None = None
        self._outage = client.outage.part("heartbeats")

    async def run(self) -> None:
        """Beat until cancelled; a beat that fails is said once and tried again."""
        while True:
            try:
                pause = await self._beat() / _BEATS_PER_TTL
                self._outage.recovered()
            except ApiError as error:
                self._outage.lost(error)
                pause = _RETRY_SECONDS
            await asyncio.sleep(pause)

    async def _beat(self) -> float:
        """One heartbeat; returns the seconds that it counts."""
        request = meta_pb2.HeartbeatRequest(
            name=self._name, ttl_seconds=self._ttl, identity=f"metalnet-daemon/{self._version} on {self._name}"
        )
        try:
            answer = await self._nodes.invoke("Heartbeat", request, meta_pb2.HeartbeatResponse)
        except NotFound:
            node = node_pb2.Node(metadata=meta_pb2.ObjectMeta(name=self._name))
            await self._nodes.apply(node, FIELD_OWNER)
            _log.info("node registered", node=self._name)
            self._told = None
            answer = await self._nodes.invoke("Heartbeat", request, meta_pb2.HeartbeatResponse)
        except Conflict:
            return self._ttl / _BEATS_PER_TTL  # a beat of an earlier life came in between
        await self._tell_versions()
        return float(answer.ttl_seconds)

    async def _tell_versions(self) -> None:
        versions = (self._version, self._engine_version())
        if versions == self._told:
            return
        node = await self._nodes.get("", self._name)
        if (node.status.daemon_version, node.status.dataplane_version) != versions:
            node.status.daemon_version, node.status.dataplane_version = versions
            try:
                await self._nodes.update_status(node)
            except Conflict:
                return  # the next beat tries again
        self._told = versions
