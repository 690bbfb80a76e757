"""What the metrics page shows of a server and a client that work, and traces that span both."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_pb2
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from apimachinery import telemetry
from apimachinery.client import Client
from apimachinery.endpoints import Endpoint
from apimachinery.errors import ApiError, NotFound
from apimachinery.resource import ApiGroup, ResourceHooks, ResourceKind
from apimachinery.server_app import ApiServer
from apimachinery.telemetry import ClientTelemetry, ServerTelemetry, setup_telemetry
from tests.support.api import collect
from tests.support.etcd import etcd_cluster, etcd_store

SERVICE = "ironcore.networking.v1.NetworkService"


async def scenario() -> dict[str, object]:
    """A server with the interceptor on a real store, one good and one bad call, one watch."""
    shown = setup_telemetry("test", page=Endpoint("127.0.0.1", 0))
    try:
        async with etcd_cluster() as etcd, etcd_store(etcd) as store:
            server = ApiServer(
                store,
                [ApiGroup("test", [ResourceKind(network_pb2.Network, ResourceHooks())])],
                interceptors=shown.server_interceptors(),
            )
            (bound,) = await server.start([Endpoint("127.0.0.1", 0)])
            await server.wait_synced()
            async with Client(str(bound), interceptors=shown.client_interceptors()) as client:
                networks = client.kind(network_pb2.Network)
                await networks.create(network_pb2.Network(metadata=meta_pb2.ObjectMeta(name="a")))
                assert await networks.find("", "b") is None
                stream = networks.watch()
                await collect(stream, 2)
                url = f"http://127.0.0.1:{shown.metrics_port}/metrics"
                during = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
                await stream.aclose()
            await server.stop(0)
    finally:
        shown.stop()
    return {"page": during}


def samples(page: str, name: str) -> dict[str, float]:
    """Label text → value of every sample of one name."""
    found = {}
    for line in page.splitlines():
        if line.startswith(name + "{"):
            labels, _, value = line[len(name) :].rpartition(" ")
            found[labels] = float(value)
    return found


def test_calls_are_counted_by_method_and_code() -> None:
    """In a process of its own: the meter provider of a process can be set only once."""
    code = (
        "import asyncio, importlib.util, json, sys\n"
        f"spec = importlib.util.spec_from_file_location('scenario', {str(Path(__file__))!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(json.dumps(asyncio.run(module.scenario())))\n"
    )
    root = Path(telemetry.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    page = json.loads(done.stdout.splitlines()[-1])["page"]

    def value(name: str, **labels: str) -> float:
        wanted = [f'{key}="{text}"' for key, text in labels.items()]
        return sum(v for text, v in samples(page, name).items() if all(label in text for label in wanted))

    for side in ("server", "client"):
        requests = f"ironcore_rpc_{side}_requests_total"
        assert value(requests, method=f"/{SERVICE}/Create", code="OK") == 1
        assert value(requests, method=f"/{SERVICE}/Get", code="NOT_FOUND") == 1
        assert value(f"ironcore_rpc_{side}_duration_seconds_count", method=f"/{SERVICE}/Create") == 1
    assert value("ironcore_rpc_server_streams", method=f"/{SERVICE}/Watch") == 1


async def test_a_trace_spans_client_and_server(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))

    async def get(
        request: meta_pb2.GetRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> network_pb2.Network:
        if request.name == "missing":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no")
        return network_pb2.Network()

    server = grpc.aio.server(interceptors=[ServerTelemetry(traces=True)])
    handler = grpc.unary_unary_rpc_method_handler(
        get, meta_pb2.GetRequest.FromString, network_pb2.Network.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Get": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Client(f"127.0.0.1:{port}", interceptors=[ClientTelemetry(traces=True)]) as client:
            networks = client.kind(network_pb2.Network)
            await networks.get("", "a")
            with pytest.raises(NotFound):
                await networks.get("", "missing")
            with pytest.raises(ApiError):
                await networks.delete("", "unknown-method")
    finally:
        await server.stop(0)
    finished = {(span.kind.name, span.context.trace_id): span for span in spans.get_finished_spans()}
    servers = [span for (kind, _), span in finished.items() if kind == "SERVER"]
    assert len(servers) == 2
    for span in servers:
        caller = finished["CLIENT", span.context.trace_id]
        assert span.parent is not None
        assert span.parent.span_id == caller.context.span_id
        assert span.name == f"{SERVICE}/Get"
