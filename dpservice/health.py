"""The health service (`grpc.health.v1`) as clients of this service know it.

Where it differs from the public protocol: Check of an unknown name answers SERVICE_UNKNOWN with status OK, Watch of one
ends with NOT_FOUND.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2

from dpservice.calls import SERVICE

NAMES = frozenset({"", SERVICE.full_name})


class HealthService:
    """One status for the whole process, independent of Initialize."""

    def __init__(self) -> None:
        self._status = health_pb2.HealthCheckResponse.NOT_SERVING
        self._changed = asyncio.Condition()

    async def set_serving(self, serving: bool) -> None:
        """Changes the status and tells all watchers."""
        async with self._changed:
            response = health_pb2.HealthCheckResponse
            self._status = response.SERVING if serving else response.NOT_SERVING
            self._changed.notify_all()

    async def Check(  # noqa: N802 - name of the RPC
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse],
    ) -> health_pb2.HealthCheckResponse:
        """Status now."""
        known = request.service in NAMES
        return health_pb2.HealthCheckResponse(
            status=self._status if known else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        )

    async def List(  # noqa: N802 - name of the RPC
        self,
        request: health_pb2.HealthListRequest,
        context: grpc.aio.ServicerContext[health_pb2.HealthListRequest, health_pb2.HealthListResponse],
    ) -> health_pb2.HealthListResponse:
        """Status of all names."""
        status = health_pb2.HealthCheckResponse(status=self._status)
        return health_pb2.HealthListResponse(statuses=dict.fromkeys(NAMES, status))

    async def Watch(  # noqa: N802 - name of the RPC
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse],
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Status now and after each change, until the client goes."""
        if request.service not in NAMES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Service not found")
        sent = None
        while True:
            async with self._changed:
                while self._status == sent:
                    await self._changed.wait()
                sent = self._status
            yield health_pb2.HealthCheckResponse(status=sent)
