"""The service `ironcore.dpservice.v1.InspectionService`: looking into the engine. Available before Initialize, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.message import Message
from google.protobuf.text_format import MessageToString
from ironcore.dpservice.v1 import dpservice_pb2 as pb
from ironcore.dpservice.v1 import dpservice_pb2_grpc

from dpservice import _engine
from dpservice import inspection_values as values

NAME = pb.DESCRIPTOR.services_by_name["InspectionService"].full_name

_log = structlog.get_logger("grpc")

_DEFAULT_PAGE, _MAX_PAGE = 100, 1000
_EVENTS_PER_RESPONSE = 256
_WAIT_MILLISECONDS = 1000
_NOT_FOUND = 201
_DESCRIPTIONS = dict(_engine.drop_reasons())
_Context = grpc.aio.ServicerContext[Any, Any]
_Response = TypeVar("_Response", bound=Message)


class EventSignal:
    """Tells any number of coroutines that the engine has new events, with one waiting thread while somebody waits."""

    def __init__(self, engine: _engine.Engine) -> None:
        self._engine = engine
        self._watchers = 0
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> EventSignal:
        self._watchers += 1
        if self._task is None:
            # The number is read before the caller looks for events, so none falls between.
            self._task = asyncio.create_task(self._follow(self._engine.next_event()))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watchers -= 1
        if self._watchers == 0 and self._task is not None:
            self._task.cancel()
            self._task = None
            self._engine.interrupt_event_waits()

    async def wait_for(self, sequence: int) -> None:
        """Until the event with this number exists."""
        async with self._changed:
            while self._engine.next_event() <= sequence:
                await self._changed.wait()

    async def _follow(self, following: int) -> None:
        while True:
            if await asyncio.to_thread(self._engine.wait_event, following, _WAIT_MILLISECONDS):
                following = self._engine.next_event()
                async with self._changed:
                    self._changed.notify_all()


class InspectionService(dpservice_pb2_grpc.InspectionServiceServicer):
    """Calls run in `executor`, like all others of the process; a watcher costs none of its threads."""

    def __init__(self, engine: _engine.Engine, executor: Executor) -> None:
        self._engine = engine
        self._executor = executor
        self._signal = EventSignal(engine)

    async def _answer(
        self, context: _Context, call: Callable[[_engine.Engine, Any], _Response], request: Message
    ) -> _Response:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, call, self._engine, request)
        except values.InvalidArgument as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except _engine.StatusError as error:
            found = error.code != _NOT_FOUND
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT if found else grpc.StatusCode.NOT_FOUND,
                f"{error.name}: out of range" if found else "no such interface or uplink",
            )
        raise AssertionError("abort returned")

    async def ExplainPacket(  # noqa: N802 - name of the RPC
        self, request: pb.ExplainPacketRequest, context: _Context
    ) -> pb.ExplainPacketResponse:
        """What would happen to a packet."""
        return await self._answer(context, explain_packet, request)

    async def ListFlows(  # noqa: N802 - name of the RPC
        self, request: pb.ListFlowsRequest, context: _Context
    ) -> pb.ListFlowsResponse:
        """A page of flows."""
        return await self._answer(context, list_flows, request)

    async def GetCounters(  # noqa: N802 - name of the RPC
        self, request: pb.GetCountersRequest, context: _Context
    ) -> pb.GetCountersResponse:
        """Counters of ports and workers."""
        return await self._answer(context, get_counters, request)

    async def ListTables(  # noqa: N802 - name of the RPC
        self, request: pb.ListTablesRequest, context: _Context
    ) -> pb.ListTablesResponse:
        """How full tables are."""
        return await self._answer(context, list_tables, request)

    async def ListInterfaceState(  # noqa: N802 - name of the RPC
        self, request: pb.ListInterfaceStateRequest, context: _Context
    ) -> pb.ListInterfaceStateResponse:
        """All about one or all interfaces."""
        return await self._answer(context, list_interface_state, request)

    async def SetFlowLimits(  # noqa: N802 - name of the RPC
        self, request: pb.SetFlowLimitsRequest, context: _Context
    ) -> pb.SetFlowLimitsResponse:
        """Changes an interface's timeouts and quota."""
        return await self._answer(context, set_flow_limits, request)

    async def GetFlowLimits(  # noqa: N802 - name of the RPC
        self, request: pb.GetFlowLimitsRequest, context: _Context
    ) -> pb.GetFlowLimitsResponse:
        """An interface's timeouts and quota."""
        return await self._answer(context, get_flow_limits, request)

    async def WatchEvents(  # noqa: N802 - name of the RPC
        self, request: pb.WatchEventsRequest, context: _Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        """Events as they happen, until the client goes."""
        following = request.from_sequence if request.HasField("from_sequence") else self._engine.next_event()
        async with self._signal as signal:
            while True:
                batch = self._engine.read_events(following, _EVENTS_PER_RESPONSE)
                following = batch.next
                if batch.events or batch.lost:
                    yield pb.WatchEventsResponse(
                        events=map(values.event_message, batch.events), lost=batch.lost, next_sequence=batch.next
                    )
                else:
                    await signal.wait_for(following)


def explain_packet(engine: _engine.Engine, request: pb.ExplainPacketRequest) -> pb.ExplainPacketResponse:
    """Raises InvalidArgument and StatusError, like all calls here."""
    if request.WhichOneof("from") is None:
        raise values.InvalidArgument("from: give an interface or an uplink")
    frame = values.frame(engine, request)
    parts = engine.explain_packet(request.interface_id, request.uplink, frame)
    return pb.ExplainPacketResponse(parts=map(values.part_message, parts), frame=frame)


def list_flows(engine: _engine.Engine, request: pb.ListFlowsRequest) -> pb.ListFlowsResponse:
    """A page."""
    size = request.page_size or _DEFAULT_PAGE
    if size > _MAX_PAGE:
        raise values.InvalidArgument(f"page_size: {size} is not 0..{_MAX_PAGE}")
    try:
        start = int(request.page_token, 16) if request.page_token else 0
    except ValueError:
        raise values.InvalidArgument(f"page_token: '{request.page_token}' is none") from None
    if not 0 <= start < 1 << 64:
        raise values.InvalidArgument(f"page_token: '{request.page_token}' is none")
    page = engine.list_flows(values.flow_filter(request), start, size)
    return pb.ListFlowsResponse(
        flows=map(values.flow_message, page.flows), next_page_token=f"{page.next:x}" if page.next else ""
    )


def _drops(counters: dict[str, int]) -> list[pb.DropCounter]:
    return [
        pb.DropCounter(reason=reason, description=_DESCRIPTIONS[reason], packets=packets)
        for reason, packets in counters.items()
        if packets
    ]


def get_counters(engine: _engine.Engine, request: pb.GetCountersRequest) -> pb.GetCountersResponse:
    """All counters at about one moment."""
    counters = engine.counters()
    return pb.GetCountersResponse(
        ports=[
            pb.PortCounters(
                device=port.netdev_name,
                device_name=port.device_name,
                interface_id=port.interface_id,
                is_uplink=port.is_uplink,
                link_up=port.is_uplink and port.link_up,
                neighbour_known=port.is_uplink and port.neighbour_known,
                rx_packets=port.rx_packets,
                rx_bytes=port.rx_bytes,
                tx_packets=port.tx_packets,
                tx_bytes=port.tx_bytes,
                drops=_drops(port.drops),
            )
            for port in counters.ports
        ],
        workers=[
            pb.WorkerCounters(
                lcore=worker.lcore,
                packets=worker.packets,
                slow_path=worker.slow_path,
                flows_created=worker.flows_created,
                flows_redecided=worker.flows_redecided,
                flows_expired=worker.flows_expired,
                flows_evicted=worker.flows_evicted,
                flow_table_full=worker.flow_table_full,
                firewall_would_drop=worker.firewall_would_drop,
            )
            for worker in counters.workers
        ],
        drops=_drops(counters.drops),
    )


def list_tables(engine: _engine.Engine, request: pb.ListTablesRequest) -> pb.ListTablesResponse:
    """All tables."""
    return pb.ListTablesResponse(
        tables=[pb.Table(name=table.name, used=table.used, limit=table.capacity) for table in engine.counters().tables]
    )


def list_interface_state(
    engine: _engine.Engine, request: pb.ListInterfaceStateRequest
) -> pb.ListInterfaceStateResponse:
    """One or all."""
    if request.interface_id:
        states = [engine.get_interface_state(request.interface_id)]
    else:
        states = engine.list_interface_states()
    return pb.ListInterfaceStateResponse(interfaces=map(values.state_message, states))


def set_flow_limits(engine: _engine.Engine, request: pb.SetFlowLimitsRequest) -> pb.SetFlowLimitsResponse:
    """What is not set stays as it is."""
    limits = engine.get_interface_state(request.interface_id).limits
    timeouts = limits.timeouts
    for field, seconds in request.timeouts.ListFields():
        setattr(timeouts, field.name, seconds)
    quota = request.quota if request.HasField("quota") else limits.quota
    _log.info("request", method="SetFlowLimits", arguments=MessageToString(request, as_one_line=True))
    engine.set_flow_limits(request.interface_id, timeouts, quota)
    return pb.SetFlowLimitsResponse(
        limits=values.limits_message(engine.get_interface_state(request.interface_id).limits)
    )


def get_flow_limits(engine: _engine.Engine, request: pb.GetFlowLimitsRequest) -> pb.GetFlowLimitsResponse:
    """Limits and what is used of them."""
    state = engine.get_interface_state(request.interface_id)
    return pb.GetFlowLimitsResponse(limits=values.limits_message(state.limits), flows=state.flows)
