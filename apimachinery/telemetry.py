"""Metrics and traces of a process: set-up, the Prometheus page, and interceptors for gRPC servers and clients."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import HTTPServer
from typing import Any, TypeAlias, cast

import grpc
import structlog
from opentelemetry import metrics as otel_metrics
from opentelemetry import propagate, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import SpanKind
from prometheus_client import start_http_server

from apimachinery import metrics
from apimachinery.endpoints import Endpoint

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer("ironcore")

# Seconds; from a cache hit to a stuck store.
_DURATION_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)


@dataclass
class Telemetry:
    """What `setup_telemetry` started; `stop` ends it."""

    meters: MeterProvider | None = None
    tracers: TracerProvider | None = None
    page: tuple[HTTPServer, threading.Thread] | None = field(default=None, repr=False)

    @property
    def metrics_port(self) -> int:
        """TCP port of the page; 0 without one."""
        return int(self.page[0].server_port) if self.page is not None else 0

    def server_interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """For `grpc.aio.server`; empty if nobody looks."""
        wanted = self.meters is not None or self.tracers is not None
        return [ServerTelemetry(traces=self.tracers is not None)] if wanted else []

    def client_interceptors(self) -> list[grpc.aio.ClientInterceptor]:
        """For `grpc.aio` channels; empty if nobody looks."""
        wanted = self.meters is not None or self.tracers is not None
        return [ClientTelemetry(traces=self.tracers is not None)] if wanted else []

    def stop(self) -> None:
        """Sends what is left and closes the page. Blocks for seconds at most when a trace collector is away."""
        if self.page is not None:
            server, thread = self.page
            server.shutdown()
            server.server_close()
            thread.join()
        if self.tracers is not None:
            self.tracers.shutdown()
        if self.meters is not None:
            self.meters.shutdown()


def setup_telemetry(
    service: str, *, page: Endpoint | None = None, traces_to: Endpoint | None = None, trace_ratio: float = 0.01
) -> Telemetry:
    """Starts metrics and, if `traces_to` (OTLP over gRPC, plain text) is given, traces. Call once per process.

    service:     name in traces.
    page:        TCP address of the Prometheus page; None: no page. Port 0 takes any.
    trace_ratio: share of new traces that is recorded, 0..1. A caller's decision is followed.

    Raises OSError if the page's address cannot be bound. A trace collector that is away costs nothing but its spans.
    """
    resource = Resource.create({"service.name": service})
    telemetry = Telemetry()
    if page is not None:
        durations = View(
            instrument_unit="s", aggregation=ExplicitBucketHistogramAggregation(_DURATION_BUCKETS), instrument_name="*"
        )
        telemetry.page = start_http_server(page.port, page.host)
        telemetry.meters = MeterProvider([PrometheusMetricReader()], resource=resource, views=[durations])
        otel_metrics.set_meter_provider(telemetry.meters)
        _log.info("metrics page", address=str(Endpoint(host=page.host, port=telemetry.metrics_port)))
    if traces_to is not None:
        # Imported here: it costs 100 ms, and only traced processes need it.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=str(traces_to), insecure=True, timeout=5)
        telemetry.tracers = TracerProvider(sampler=ParentBasedTraceIdRatio(trace_ratio), resource=resource)
        telemetry.tracers.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(telemetry.tracers)
    return telemetry


# What an interceptor sees of a handler depends on a method that it does not know, hence Any.
_Context = grpc.aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class ServerTelemetry(grpc.aio.ServerInterceptor):
    """Counts and times every call of a server; with `traces`, continues the caller's trace."""

    def __init__(self, *, traces: bool = False) -> None:
        self._traces = traces
        self._wrapped: dict[str, tuple[_Handler, _Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """The method's handler, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None  # unknown method: gRPC answers UNIMPLEMENTED
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._wrap(method, handler))
        return known[1]

    def _wrap(self, method: str, handler: _Handler) -> _Handler:
        make: Callable[..., _Handler]
        observed: Callable[[Any, _Context], object]
        if handler.response_streaming:
            behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
            streaming = handler.request_streaming
            make = grpc.stream_stream_rpc_method_handler if streaming else grpc.unary_stream_rpc_method_handler
            if inspect.isasyncgenfunction(behaviour):
                observed = self._observed_generator(method, behaviour)
            else:
                observed = self._observed_call(method, cast(Any, behaviour), stream=True)
        else:
            behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
            streaming = handler.request_streaming
            make = grpc.stream_unary_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
            observed = self._observed_call(method, cast(Any, behaviour), stream=False)
        return make(observed, handler.request_deserializer, handler.response_serializer)

    def _observed_call(
        self, method: str, behaviour: Callable[[Any, _Context], Awaitable[Any]], *, stream: bool
    ) -> Callable[[Any, _Context], Awaitable[Any]]:
        async def observed(request: Any, context: _Context) -> Any:
            with self._observe(method, context, stream=stream):
                return await behaviour(request, context)

        return observed

    def _observed_generator(
        self, method: str, behaviour: Callable[[Any, _Context], AsyncGenerator[Any, None]]
    ) -> Callable[[Any, _Context], AsyncGenerator[Any, None]]:
        async def observed(request: Any, context: _Context) -> AsyncGenerator[Any, None]:
            with self._observe(method, context, stream=True):
                async with contextlib.aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response

        return observed

    @contextlib.contextmanager
    def _observe(self, method: str, context: _Context, *, stream: bool) -> Iterator[None]:
        begin = time.monotonic()
        code = "UNKNOWN"
        attributes = {"method": method}
        if stream:
            metrics.RPC_SERVER_STREAMS.add(1, attributes)
        try:
            with self._span(method, context):
                yield
            code = _code_name(context.code())
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except grpc.aio.AbortError:
            code = _code_name(context.code())
            raise
        finally:
            if stream:
                metrics.RPC_SERVER_STREAMS.add(-1, attributes)
            else:
                metrics.RPC_SERVER_DURATION.record(time.monotonic() - begin, attributes)
            metrics.RPC_SERVER_REQUESTS.add(1, {"method": method, "code": code})

    def _span(self, method: str, context: _Context) -> contextlib.AbstractContextManager[object]:
        if not self._traces:
            return contextlib.nullcontext()
        carrier = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        return _tracer.start_as_current_span(
            method.lstrip("/"), context=propagate.extract(carrier), kind=SpanKind.SERVER
        )


class ClientTelemetry(grpc.aio.UnaryUnaryClientInterceptor):
    """Counts and times the unary calls of a client; with `traces`, passes the trace on."""

    def __init__(self, *, traces: bool = False) -> None:
        self._traces = traces

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[grpc.aio.UnaryUnaryCall[Any, Any]]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> grpc.aio.UnaryUnaryCall[Any, Any]:
        """Calls on and waits for the end."""
        method = client_call_details.method
        name = method.decode() if isinstance(method, bytes) else method
        begin = time.monotonic()
        with self._span(name) as carrier:
            if carrier:
                metadata = grpc.aio.Metadata(*(client_call_details.metadata or ()), *carrier.items())
                client_call_details = grpc.aio.ClientCallDetails(
                    client_call_details.method,
                    client_call_details.timeout,
                    metadata,
                    client_call_details.credentials,
                    client_call_details.wait_for_ready,
                )
            call = await continuation(client_call_details, request)
            code = await call.code()
        metrics.RPC_CLIENT_DURATION.record(time.monotonic() - begin, {"method": name})
        metrics.RPC_CLIENT_REQUESTS.add(1, {"method": name, "code": code.name})
        return call

    @contextlib.contextmanager
    def _span(self, method: str) -> Iterator[dict[str, str]]:
        carrier: dict[str, str] = {}
        if not self._traces:
            yield carrier
            return
        with _tracer.start_as_current_span(method.lstrip("/"), kind=SpanKind.CLIENT):
            propagate.inject(carrier)
            yield carrier


def _code_name(code: object) -> str:
    # A handler that set no code leaves 0 or None; others are numbers or StatusCode members.
    if isinstance(code, grpc.StatusCode):
        return code.name
    return _CODE_NAMES.get(code or 0, "UNKNOWN") if isinstance(code, int | None) else "UNKNOWN"


_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
