"""The gRPC service `ironcore.dpservice.v1.TraceService`: streams packets that the engine's workers copy.

Add it to a server with `trace_pb2_grpc.add_TraceServiceServicer_to_server`; it needs no Initialize.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import structlog
from ironcore.dpservice.v1 import trace_pb2 as pb
from ironcore.dpservice.v1 import trace_pb2_grpc

from dpservice import _engine

_log = structlog.get_logger("trace")

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["TraceService"].full_name
_Context = grpc.aio.ServicerContext[pb.TracePacketsRequest, pb.TracePacketsResponse]
_BATCH = 256
_POLL_SECONDS = 0.02
_EVENTS = {
    _engine.TraceEvent.RX: pb.TRACE_EVENT_RX,
    _engine.TraceEvent.TX: pb.TRACE_EVENT_TX,
    _engine.TraceEvent.DROP: pb.TRACE_EVENT_DROP,
    _engine.TraceEvent.NODE: pb.TRACE_EVENT_NODE,
}


def _options(request: pb.TracePacketsRequest) -> _engine.TraceOptions:
    options = _engine.TraceOptions()
    options.drops, options.nodes = request.drops, request.nodes
    options.node_pattern, options.filter = request.node_pattern, request.filter
    options.snap_length = request.snap_length or options.snap_length
    options.ring_size = request.ring_size or options.ring_size
    return options


def _message(record: _engine.TraceRecord) -> pb.TraceRecord:
    return pb.TraceRecord(
        timestamp_ns=record.timestamp_ns,
        packet_id=record.packet_id,
        event=_EVENTS[record.event],
        node=record.node,
        next_node=record.next_node,
        port=record.port,
        drop_reason=record.drop_reason or "",
        length=record.length,
        data=record.data,
    )


class TraceService(trace_pb2_grpc.TraceServiceServicer):
    """Serves the one trace of an engine.

    Records are read in a thread. Starting and stopping is not: between the engine's step and ours nothing may be
    awaited, where a client that goes would cancel us.
    """

    def __init__(self, engine: _engine.Engine) -> None:
        self._engine = engine
        self._running: _Context | None = None

    async def TracePackets(  # noqa: N802 - name of the RPC
        self, request: pb.TracePacketsRequest, context: _Context
    ) -> AsyncIterator[pb.TracePacketsResponse]:
        """Until the client goes or somebody stops the trace."""
        await self._start(request, context)
        _log.info("trace started", drops=request.drops, nodes=request.nodes, filter=request.filter)
        try:
            yield pb.TracePacketsResponse()
            while self._running is context:
                records = await asyncio.to_thread(self._engine.trace_read, _BATCH)
                if records:
                    status = await asyncio.to_thread(self._engine.trace_status)
                    yield pb.TracePacketsResponse(records=map(_message, records), lost=status.lost)
                if len(records) < _BATCH:
                    await asyncio.sleep(_POLL_SECONDS)
        finally:
            if self._running is context:
                self._stop()
            _log.info("trace ended")

    async def StopTrace(  # noqa: N802 - name of the RPC
        self, request: pb.StopTraceRequest, context: grpc.aio.ServicerContext[pb.StopTraceRequest, pb.StopTraceResponse]
    ) -> pb.StopTraceResponse:
        """Ends the trace of whichever client."""
        if self._running is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nobody traces packets")
        self._stop()
        status = self._engine.trace_status()
        return pb.StopTraceResponse(recorded=status.recorded, lost=status.lost)

    async def _start(self, request: pb.TracePacketsRequest, context: _Context) -> None:
        # The client before is gone, and its call about to notice.
        if self._running is not None and self._running.done():
            self._stop()
        try:
            self._engine.trace_start(_options(request))
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except _engine.StatusError as error:
            if error.name == "ALREADY_ACTIVE":
                await context.abort(grpc.StatusCode.ALREADY_EXISTS, "packets are being traced already")
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no memory for a trace")
        self._running = context

    def _stop(self) -> None:
        self._running = None
        self._engine.trace_stop()
