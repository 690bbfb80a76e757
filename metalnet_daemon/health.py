"""Health of the daemon over gRPC (grpc.health.v1): SERVING once the host was synced and while the engine answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from apimachinery.endpoints import Endpoint
from apimachinery.tls import ServerTls
from apimachinery.transport import server_options

# Names that may be asked for: the whole process, and what it depends on.
WHOLE: Final = ""
ENGINE: Final = "engine"
API: Final = "api"
ROUTES: Final = "routes"

_LOOK_SECONDS = 0.5
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@contextlib.asynccontextmanager
async def serve_health(
    addresses: Sequence[Endpoint], tls: ServerTls | None, states: Callable[[], dict[str, bool]]
) -> AsyncIterator[list[int]]:
    """Serve while the block runs; yields the ports. states: whether each named part is well, asked twice a second.

    Raises OSError if an address cannot be bound.
    """
    if not addresses:
        yield []
        return
    server = grpc.aio.server(options=server_options())
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection((health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    ports = [_bind(server, address, tls) for address in addresses]
    await server.start()
    follower = asyncio.create_task(_follow(servicer, states), name="health")
    try:
        yield ports
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        await servicer.enter_graceful_shutdown()
        await server.stop(1.0)


async def _follow(servicer: health.aio.HealthServicer, states: Callable[[], dict[str, bool]]) -> None:
    while True:
        for name, well in states().items():
            await servicer.set(name, _SERVING if well else _NOT_SERVING)
        await asyncio.sleep(_LOOK_SECONDS)


def _bind(server: grpc.aio.Server, address: Endpoint, tls: ServerTls | None) -> int:
    try:
        if tls is None or address.path:
            return server.add_insecure_port(str(address))
        return server.add_secure_port(str(address), tls.credentials())
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from None
