"""What the metrics page shows of a server and a client that work, and traces that span both."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import cast

import grpc
import pytest
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_pb2
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from apimachinery import telemetry
from apimachinery.client import Client, KindClient
from apimachinery.endpoints import Endpoint
from apimachinery.errors import ApiError, NotFound
from apimachinery.resource import ApiGroup, ResourceHooks, ResourceKind
from apimachinery.scheme import kind_info
from apimachinery.server_app import ApiServer
from apimachinery.store import Compacted, CompareFailed, Store, Txn
from apimachinery.telemetry import ClientTelemetry, ServerTelemetry, setup_telemetry
from apimachinery.watch_cache import CacheLimits
from tests.support.api import collect
from tests.support.etcd import EtcdCluster, etcd_cluster, etcd_store

SERVICE = "ironcore.networking.v1.NetworkService"


NETWORKS = kind_info(network_pb2.Network).prefix()


def network(name: str) -> network_pb2.Network:
    return network_pb2.Network(metadata=meta_pb2.ObjectMeta(name=name))


async def trouble(cluster: EtcdCluster, store: Store, networks: KindClient[network_pb2.Network]) -> None:
    """Resets of each kind that a client can cause, a lost race, a lost lease, and an etcd that ends."""
    for number in range(4):
        await networks.create(network(f"later-{number}"))
    for revision in (1, 10**9):
        await collect(networks.watch(resource_version=revision), 2)
    await store.commit(Txn().put("/x", b""))
    with contextlib.suppress(CompareFailed):
        await store.commit(Txn().require_absent("/x").put("/x", b""))
    lease = await store.lease(3)
    await store.revoke_lease(lease.id)
    (member,) = cluster.members
    stream = networks.watch()
    await collect(stream, 1)
    await member.kill()
    await member.start()
    await member.ready()
    # Through the watch of etcd, so that has been attached again.
    await networks.create(network("last"))
    await collect(stream, 1)
    await stream.aclose()
    # The next renewal finds it out.
    await lease.lost.wait()
    await cluster.compact(await store.current_revision())
    async with contextlib.aclosing(store.watch("/x", after_revision=1)) as items:
        assert isinstance(await anext(items), Compacted)


async def scenario() -> dict[str, object]:
    """A server with the interceptor on a real store, one good and one bad call, one watch; then trouble."""
    shown = setup_telemetry("test", page=Endpoint("127.0.0.1", 0))
    try:
        async with etcd_cluster() as etcd, etcd_store(etcd) as store:
            server = ApiServer(
                store,
                [ApiGroup("test", [ResourceKind(network_pb2.Network, ResourceHooks())])],
                interceptors=shown.server_interceptors(),
                limits=CacheLimits(history_events=2),
            )
            (bound,) = await server.start([Endpoint("127.0.0.1", 0)])
            await server.wait_synced()
            async with Client(str(bound), interceptors=shown.client_interceptors()) as client:
                networks = client.kind(network_pb2.Network)
                await networks.create(network("a"))
                assert await networks.find("", "b") is None
                stream = networks.watch()
                await collect(stream, 2)
                url = f"http://127.0.0.1:{shown.metrics_port}/metrics"
                during = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
                await stream.aclose()
                await trouble(etcd, store, networks)
                after = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
            await server.stop(0)
    finally:
        shown.stop()
    return {"during": during, "after": after}


def samples(page: str, name: str) -> dict[str, float]:
    """Label text → value of every sample of one name."""
    found = {}
    for line in page.splitlines():
        if line.startswith((name + "{", name + " ")):
            labels, _, value = line[len(name) :].rpartition(" ")
            found[labels] = float(value)
    return found


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Of a process of its own: the meter provider of a process can be set only once."""
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
    return cast(dict[str, str], json.loads(done.stdout.splitlines()[-1]))


def value_of(page: str, name: str, **labels: str) -> float:
    """Sum of the samples with these labels; without any sample, an error."""
    wanted = [f'{key}="{text}"' for key, text in labels.items()]
    found = [v for text, v in samples(page, name).items() if all(label in text for label in wanted)]
    assert found, f"{name} {labels} is not on the page"
    return sum(found)


def test_calls_are_counted_by_method_and_code(pages: dict[str, str]) -> None:
    value = functools.partial(value_of, pages["during"])
    for side in ("server", "client"):
        requests = f"ironcore_rpc_{side}_requests_total"
        assert value(requests, method=f"/{SERVICE}/Create", code="OK") == 1
        assert value(requests, method=f"/{SERVICE}/Get", code="NOT_FOUND") == 1
        assert value(f"ironcore_rpc_{side}_duration_seconds_count", method=f"/{SERVICE}/Create") == 1
    assert value("ironcore_rpc_server_streams", method=f"/{SERVICE}/Watch") == 1


def test_a_cache_shows_what_it_holds(pages: dict[str, str]) -> None:
    value = functools.partial(value_of, kind="networks.networking")
    during, after = pages["during"], pages["after"]
    assert value(during, "ironcore_cache_objects") == 1
    assert value(during, "ironcore_cache_watchers") == 1
    assert value(during, "ironcore_cache_history_events") == 1
    assert value(during, "ironcore_cache_lag") == 0
    assert value(after, "ironcore_cache_objects") == 6
    assert value(after, "ironcore_cache_history_events") == 2
    assert value(after, "ironcore_cache_history_bytes") > value(during, "ironcore_cache_history_bytes") > 0
    assert value(after, "ironcore_cache_encoded_bytes_total") > value(during, "ironcore_cache_encoded_bytes_total") > 0
    assert "ironcore_cache_resets_total{" not in during
    assert value(after, "ironcore_cache_resets_total", reason="history") == 1
    assert value(after, "ironcore_cache_resets_total", reason="foreign") == 1


def test_the_store_counts_what_it_does_and_loses(pages: dict[str, str]) -> None:
    during, after = pages["during"], pages["after"]
    assert value_of(during, "ironcore_store_transactions_total", result="ok") == 1
    assert value_of(during, "ironcore_store_transaction_duration_seconds_count") == 1
    assert value_of(after, "ironcore_store_transactions_total", result="ok") == 7
    assert value_of(after, "ironcore_store_transactions_total", result="conflict") == 1
    assert "ironcore_store_watch_restarts_total{" not in during
    assert value_of(after, "ironcore_store_watch_restarts_total", prefix=NETWORKS) >= 1
    assert value_of(after, "ironcore_store_leases_lost_total") == 1
    assert value_of(after, "ironcore_store_watch_compactions_total", prefix="/x") == 1


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
