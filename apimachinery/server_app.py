"""A server process: API groups on listeners, with health and reflection.

server = ApiServer(store, groups)
await server.start([Listener("127.0.0.1:7000")])
await server.wait_synced()
...
await server.stop()
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import grpc
import structlog
from google.protobuf.descriptor_pool import Default as default_pool  # noqa: N813 - a function in protobuf's spelling
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from apimachinery.endpoints import Endpoint
from apimachinery.flags import check_listen
from apimachinery.resource import ApiGroup
from apimachinery.resource_server import ResourceServer
from apimachinery.store import Store
from apimachinery.tls import ServerTls
from apimachinery.transport import server_options
from apimachinery.watch_cache import CacheLimits
from apimachinery.watch_stream import DEFAULT_TIMING, WatchTiming

_log = structlog.get_logger(__name__)

# An object has at most 1 MiB; a request carries one object.
MAX_REQUEST_BYTES: Final = 2 << 20
# The messages of reflection v1 and v1alpha are the same on the wire; clients ask for v1 first.
_REFLECTION_V1: Final = "grpc.reflection.v1.ServerReflection"

_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    *server_options(),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 10_000),
)


class ApiServer:
    """Serves API groups from one store.

    interceptors: of grpc.aio, outermost first (telemetry, authorization).
    Services report NOT_SERVING until :meth:`wait_synced` would return, and from :meth:`stop` on.
    """

    def __init__(
        self,
        store: Store,
        groups: Sequence[ApiGroup],
        *,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        limits: CacheLimits | None = None,
        timing: WatchTiming = DEFAULT_TIMING,
    ) -> None:
        self.kinds = [
            ResourceServer(kind, store, limits=limits, timing=timing) for group in groups for kind in group.kinds
        ]
        self._interceptors = list(interceptors)
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        # Set once health says SERVING.
        self.serving = asyncio.Event()

    @property
    def services(self) -> list[str]:
        """Full names of the resource services."""
        return [kind.info.service_name for kind in self.kinds]

    async def start(
        self, addresses: Sequence[Endpoint], tls: ServerTls | None = None, *, insecure: bool = False
    ) -> list[Endpoint]:
        """Listens and follows the store; returns the addresses with the ports that were chosen.

        Unix sockets are served without TLS: the permissions of their directory say who may connect.
        Raises ValueError for an address that others reach without mutual TLS (unless ``insecure``), OSError if one
        cannot be used, TlsError for unusable files.
        """
        check_listen(addresses, tls, insecure=insecure)
        server = self._server = grpc.aio.server(interceptors=self._interceptors, options=list(_OPTIONS))
        server.add_generic_rpc_handlers(tuple(kind.handler() for kind in self.kinds))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        _add_reflection(server, (*self.services, health.SERVICE_NAME))
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        bound = [_bind(server, address, tls) for address in addresses]
        await server.start()
        for kind in self.kinds:
            name = f"cache {kind.info.resource_type}"
            self._tasks.append(asyncio.create_task(kind.cache.run(), name=name))
        self._tasks.append(asyncio.create_task(self._serve_when_synced(), name="health"))
        _log.info("listening", addresses=[str(address) for address in bound], kinds=len(self.kinds))
        return bound

    async def wait_synced(self) -> None:
        """Returns once every kind is loaded. Raises the error of a kind that cannot be followed at all."""
        for kind, task in zip(self.kinds, self._tasks, strict=False):
            synced = asyncio.ensure_future(kind.cache.synced.wait())
            try:
                await asyncio.wait((synced, task), return_when=asyncio.FIRST_COMPLETED)
            finally:
                synced.cancel()
            if task.done():
                task.result()

    async def stop(self, grace: float = 5.0) -> None:
        """Refuses new calls, gives running ones ``grace`` seconds (watches end at once), and ends all tasks."""
        await self._health.enter_graceful_shutdown()
        for kind in self.kinds:
            kind.cache.close()
        if self._server is not None:
            await self._server.stop(grace)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _serve_when_synced(self) -> None:
        await self.wait_synced()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        self.serving.set()

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *self.services):
            await self._health.set(service, status)


def _bind(server: grpc.aio.Server, address: Endpoint, tls: ServerTls | None) -> Endpoint:
    try:
        if tls is None or address.path:
            port = server.add_insecure_port(str(address))
        else:
            # Credentials that reload give their first certificate to one port only, so each port has its own.
            port = server.add_secure_port(str(address), tls.credentials())
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from None
    return address if address.path else Endpoint(host=address.host, port=port)


def _add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    servicer = reflection.aio.ReflectionServicer(
        (*services, reflection.SERVICE_NAME, _REFLECTION_V1), pool=default_pool()
    )
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_REFLECTION_V1, {"ServerReflectionInfo": method}),)
    )
