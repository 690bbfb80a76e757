"""The gRPC server: the service, health and reflection on all configured addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import structlog
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from ironcore.dpdk.v1 import dpdk_pb2 as pb
from ironcore.dpservice.v1 import dpservice_pb2_grpc, trace_pb2_grpc

from dpservice.calls import SERVICE, Api, RpcError, answer
from dpservice.health import HealthService
from dpservice.inspection import NAME as INSPECTION
from dpservice.inspection import InspectionService
from dpservice.listen import Address, TlsFiles, server_credentials
from dpservice.trace import SERVICE_NAME as TRACE_SERVICE
from dpservice.trace import TraceService

_log = structlog.get_logger("grpc")

_OPTIONS = (
    # A client that fell silent (frozen, or its host is gone) is let go after at most 14 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Present versions of gRPC go by the second one, a minute by default; older ones by the first.
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.http2.ping_timeout_ms", 4_000),
    # One that only listens to its client would be allowed two pings and no more.
    ("grpc.http2.max_pings_without_data", 0),
    # Clients may ping this often; the default would end their connections for it ("too_many_pings").
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # Two processes on one port would share the clients between them without a word.
    ("grpc.so_reuseport", 0),
)
_STOP_GRACE_SECONDS = 2.0
FULL_TABLE = "full-table"
"""Trailer of a response: name of the table that had no room, which the status alone does not always tell."""
_Context = grpc.aio.ServicerContext[Message, Message]


class Server:
    """Serves one engine.

    Requests of all clients run one after the other in one thread: they stay totally ordered, and a slow one delays
    neither packets nor health answers. A request whose client went away is still carried out.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="rpc")
        self._server = grpc.aio.server(options=_OPTIONS)
        self.health = HealthService()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        trace_pb2_grpc.add_TraceServiceServicer_to_server(TraceService(api.engine), self._server)
        handlers = {method.name: self._handler(method.name) for method in SERVICE.methods}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
        inspection = InspectionService(api.engine, self._executor)
        dpservice_pb2_grpc.add_InspectionServiceServicer_to_server(inspection, self._server)
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        names = (SERVICE.full_name, INSPECTION, TRACE_SERVICE, health_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self, addresses: Sequence[Address], tls: TlsFiles | None) -> list[Address]:
        """Listens and reports SERVING; the addresses have real port numbers. Raises OSError or ValueError."""
        bound = []
        for address in addresses:
            try:
                # A unix socket needs no TLS: the permissions of its directory say who may connect.
                if tls is None or address.path:
                    port = self._server.add_insecure_port(str(address))
                else:
                    # Credentials that reload give their first certificate to one port only.
                    port = self._server.add_secure_port(str(address), server_credentials(tls))
            except RuntimeError as error:
                raise OSError(f"cannot listen on {address}: {error}") from None
            bound.append(address if address.path else Address(address.host, port))
        await self._server.start()
        await self.health.set_serving(True)
        return bound

    async def stop(self) -> None:
        """Reports NOT_SERVING, lets running requests end and closes all connections."""
        await self.health.set_serving(False)
        await self._server.stop(_STOP_GRACE_SECONDS)
        await asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)

    def _handler(self, method: str) -> grpc.RpcMethodHandler[Message, Message]:
        descriptor = SERVICE.methods_by_name[method]
        request_class: type[Message] = getattr(pb, descriptor.input_type.name)
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method),
            request_deserializer=request_class.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )

    def _unary(self, method: str) -> Callable[[Message, _Context], Awaitable[Message]]:
        async def handle(request: Message, context: _Context) -> Message:
            loop = asyncio.get_running_loop()
            try:
                answered = await loop.run_in_executor(self._executor, answer, self._api, method, request)
                if answered.full_table:
                    context.set_trailing_metadata(((FULL_TABLE, answered.full_table),))
                return answered.response
            except RpcError as error:
                await context.abort(error.code, error.text)
            except Exception:
                _log.exception("request crashed", method=method)
                await context.abort(grpc.StatusCode.INTERNAL, "internal error")
            raise AssertionError("abort returned")

        return handle
