"""The node daemon: the host's loop with everything around it, wired together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from apimachinery.client import Client
from apimachinery.controller import run_controllers
from apimachinery.flags import Listen
from apimachinery.sdnotify import Notifier
from metalbond.client import MetalbondClient
from metalbond.session import SessionState

from . import health
from .device.claims import ClaimStore
from .device.types import Device
from .rim.api import NodeObjects, StatusWriter
from .rim.engine import EngineClient
from .rim.host import Host, HostConfig, HostMemory
from .rim.ledger import RouteLedger
from .rim.node import NodeRegistration
from .rim.routes import RouteSource
from .route_servers import RouteServers
from .snapshot import SnapshotStore

_log = structlog.get_logger(__name__)

CLAIMS_DIRECTORY = "claims"
LEDGER_FILE = "ipv6-routes.json"


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """What the command line says.

    heartbeat_ttl, settle_seconds in seconds. listen: where to tell about health.
    """

    node: str
    state_directory: Path
    engine: str
    route_servers: RouteServers
    pool: Sequence[Device]
    host: HostConfig
    heartbeat_ttl: int = 15
    settle_seconds: float = 15.0
    listen: Listen = field(default_factory=lambda: Listen((), None))


class Daemon:
    """One node. `run` returns only when cancelled."""

    def __init__(self, config: DaemonConfig, client: Client, notifier: Notifier) -> None:
        """Raises OSError if the state directory cannot be used, ValueError for an impossible server address."""
        self._config = config
        self._client = client
        self._notifier = notifier
        directory = config.state_directory
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        memory = HostMemory(
            ClaimStore(directory / CLAIMS_DIRECTORY),
            SnapshotStore(directory, config.node),
            RouteLedger(directory / LEDGER_FILE),
        )
        self._routes = RouteSource(self._wake, settle_seconds=config.settle_seconds)
        self._metalbond = self._route_client()
        self._engine = EngineClient(config.engine)
        self._objects = NodeObjects(client, config.node, self._wake)
        self._status = StatusWriter(self._objects)
        self.host = Host(
            config.host, self._engine, self._routes, config.pool, memory, self._objects, self._status.report
        )

    async def run(self) -> None:
        """Serve the node until cancelled. Engine and route servers keep what they have been told."""
        _log.info(
            "daemon starts",
            node=self._config.node,
            engine=self._config.engine,
            devices=len(self._config.pool),
            route_servers=list(self._config.route_servers.addresses),
        )
        node = NodeRegistration(
            self._client,
            self._config.node,
            self._config.host.version,
            lambda: self.host.engine_version,
            ttl_seconds=self._config.heartbeat_ttl,
        )
        listen = self._config.listen
        async with (
            self._sessions(),
            health.serve_health(listen.addresses, listen.tls, self.health),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self.host.run(), name="host")
            group.create_task(node.run(), name="node")
            group.create_task(self._announce_ready(), name="ready")
            self._objects.networks.start()
            # Run by the daemon, because the host needs the interfaces even while nothing is to be written.
            self._objects.interfaces.start()
            group.create_task(self._objects.announce_complete(), name="complete")
            group.create_task(run_controllers([self._status.controller]), name="status")

    @contextlib.asynccontextmanager
    async def _sessions(self) -> AsyncIterator[None]:
        if self._metalbond is not None:
            self._routes.attach(self._metalbond)
            await self._metalbond.start()
        try:
            yield
        finally:
            await self._objects.networks.stop()
            await self._objects.interfaces.stop()
            await self._routes.close()
            if self._metalbond is not None:
                await self._metalbond.close()
            await self._engine.close()

    async def _announce_ready(self) -> None:
        self._notifier.status("waiting for the API and the engine")
        await self.host.ready.wait()
        self._notifier.ready()
        self._notifier.status("programming the host")
        _log.info("daemon is synced")

    def health(self) -> dict[str, bool]:
        """Whether the daemon and what it depends on are well, by the names of `health`."""
        engine = self.host.report.reachable
        servers = self._metalbond
        established = servers is None or any(
            state is SessionState.ESTABLISHED for state in servers.server_states().values()
        )
        return {
            health.WHOLE: engine and self.host.ready.is_set(),
            health.ENGINE: engine,
            health.API: self._objects.interfaces.connected and self._objects.networks.connected,
            health.ROUTES: established,
        }

    def _wake(self) -> None:
        self.host.wake()

    def _route_client(self) -> MetalbondClient | None:
        servers = self._config.route_servers
        if not servers.addresses:
            return None
        return MetalbondClient(
            list(servers.addresses),
            servers.keepalive,
            backend=self._routes,
            local_address=servers.local_address,
            tls=servers.tls,
            tls_name=servers.tls_name,
            # The name survives a restart of the daemon, so that servers hold this host's routes meanwhile.
            identity=self._config.node[:64],
        )
