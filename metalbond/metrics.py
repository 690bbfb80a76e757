"""Every metric of the room. Values are read when somebody asks for them; the hot paths know nothing of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from metalbond.client import MetalbondClient
from metalbond.kernel.installer import KernelRoutes
from metalbond.server import MetalbondServer
from metalbond.session import SessionState
from metalbond.stats import Stats


class _Gauges(Protocol):
    def __call__(self) -> Iterable[tuple[str, str, str, dict[str, float]]]:
        """(name, help, label name, value by label value); an empty label name stands for a single value at ""."""


class _Collector(Collector):
    def __init__(self, stats: Stats, gauges: _Gauges) -> None:
        self._stats = stats
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        stats = self._stats
        yield _counter("updates_received", "UPDATE messages received", stats.updates_received)
        yield _counter("updates_sent", "UPDATE messages written", stats.updates_sent)
        yield _counters("updates_refused", "Messages that were ignored", "reason", stats.updates_refused)
        yield _counter("sessions_established", "Sessions that became ESTABLISHED", stats.sessions_established)
        yield _counters("sessions_lost", "Sessions that ended", "reason", stats.sessions_lost)
        yield _counter("dials_failed", "Connections that could not be set up", stats.dials_failed)
        yield _counter("accepts_refused", "Connections refused because of too many peers", stats.accepts_refused)
        for name, text, label, values in self._gauges():
            gauge = GaugeMetricFamily(f"metalbond_{name}", text, labels=[label] if label else [])
            for key, value in values.items():
                gauge.add_metric([key] if label else [], value)
            yield gauge


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"metalbond_{name}", text, value=value)


def _counters(name: str, text: str, label: str, values: Counter[str]) -> Metric:
    family = CounterMetricFamily(f"metalbond_{name}", text, labels=[label])
    for key, value in list(values.items()):
        family.add_metric([key], value)
    return family


def _by_state(states: Counter[SessionState]) -> dict[str, float]:
    return {state.name: states[state] for state in SessionState}


def server_registry(server: MetalbondServer) -> CollectorRegistry:
    """Registry to expose, for example with prometheus_client.start_http_server."""

    def gauges() -> Iterable[tuple[str, str, str, dict[str, float]]]:
        yield "peers", "Connected peers", "state", _by_state(server.sessions())
        yield "held_peers", "Lost peers whose routes are kept", "", {"": server.held_peers}
        yield "routes", "Routes in the table", "", {"": len(server.distributor)}
        yield "subscriptions", "Subscriptions of all peers", "", {"": server.distributor.subscriptions()}

    return _registry(server.stats, gauges)


class _KernelCollector(Collector):
    def __init__(self, routes: KernelRoutes) -> None:
        self._routes = routes

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("metalbond_kernel_routes", "Routes in the kernel", value=self._routes.installed)
        yield _counters("kernel_operations", "Changes of the kernel's routes", "operation", self._routes.applied)
        yield _counters("kernel_refused", "Routes that the kernel cannot have", "reason", self._routes.refused)


def client_registry(client: MetalbondClient, kernel: KernelRoutes | None = None) -> CollectorRegistry:
    """Registry to expose, for example with prometheus_client.start_http_server."""

    def gauges() -> Iterable[tuple[str, str, str, dict[str, float]]]:
        yield "servers", "Configured servers", "state", _by_state(Counter(client.server_states().values()))
        yield "routes", "Routes by kind", "kind", {kind: float(n) for kind, n in client.table_sizes().items()}

    registry = _registry(client.stats, gauges)
    if kernel is not None:
        registry.register(_KernelCollector(kernel))
    return registry


def _registry(stats: Stats, gauges: _Gauges) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Collector(stats, gauges))
    return registry
