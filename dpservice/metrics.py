"""Every metric of the process. Values are read from the engine when somebody asks; workers know nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dpservice import _engine
from dpservice.listen import Address

_PORT_COUNTERS = (
    ("rx_packets", "Packets received"),
    ("rx_bytes", "Bytes received"),
    ("tx_packets", "Packets sent"),
    ("tx_bytes", "Bytes sent"),
)
_WORKER_COUNTERS = (
    ("packets", "Packets processed"),
    ("slow_path", "Packets that needed a decision"),
    ("polls", "Loop iterations"),
    ("busy_cycles", "TSC cycles of iterations that had packets"),
    ("sleeps", "Sleeps for lack of packets"),
    ("flows_created", "Flows entered into the table"),
    ("flows_redecided", "Flows decided again after a change of routes or interfaces"),
    ("flows_expired", "Flows removed after their idle time"),
    ("flow_table_full", "Packets forwarded without a flow because the table was full"),
)


class EngineCollector(Collector):
    """`read` gives a consistent snapshot of the engine's counters; it is called once per scrape."""

    def __init__(self, read: Callable[[], _engine.EngineCounters], version: str) -> None:
        self._read = read
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """All families of one scrape."""
        counters = self._read()
        info = GaugeMetricFamily("dpservice_info", "Version of the service", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        yield GaugeMetricFamily("dpservice_tsc_hertz", "Cycles per second", value=counters.tsc_hz)
        yield from _ports(counters.ports)
        yield from _drops(counters)
        yield from _workers(counters.workers)
        yield from _tables(counters.tables)


def _ports(ports: list[_engine.PortCounters]) -> Iterator[Metric]:
    labels = ["device", "netdev", "interface"]
    for name, text in _PORT_COUNTERS:
        family = CounterMetricFamily(f"dpservice_port_{name}", text, labels=labels)
        for port in ports:
            family.add_metric([port.device_name, port.netdev_name, port.interface_id], getattr(port, name))
        yield family
    states = (("link_up", "1 if the uplink is up"), ("neighbour_known", "1 if the uplink router's MAC is known"))
    for name, text in states:
        gauge = GaugeMetricFamily(f"dpservice_uplink_{name}", text, labels=["device", "netdev"])
        for port in ports:
            if port.is_uplink:
                gauge.add_metric([port.device_name, port.netdev_name], float(getattr(port, name)))
        yield gauge


def _drops(counters: _engine.EngineCounters) -> Iterator[Metric]:
    total = CounterMetricFamily("dpservice_drops", "Packets dropped, by reason", labels=["reason"])
    for reason, count in counters.drops.items():
        total.add_metric([reason], count)
    yield total
    # Only what happened: reasons times ports would be thousands of zeros.
    by_port = CounterMetricFamily(
        "dpservice_port_drops", "Packets dropped, by port and reason", labels=["device", "interface", "reason"]
    )
    for port in counters.ports:
        for reason, count in port.drops.items():
            if count:
                by_port.add_metric([port.device_name, port.interface_id, reason], count)
    yield by_port


def _workers(workers: list[_engine.WorkerCounters]) -> Iterator[Metric]:
    for name, text in _WORKER_COUNTERS:
        family = CounterMetricFamily(f"dpservice_worker_{name}", text, labels=["lcore"])
        for worker in workers:
            family.add_metric([str(worker.lcore)], getattr(worker, name))
        yield family


def _tables(tables: list[_engine.TableLevel]) -> Iterator[Metric]:
    for name, text in (("used", "Entries in use"), ("capacity", "Entries that fit")):
        gauge = GaugeMetricFamily(f"dpservice_table_{name}", text, labels=["table"])
        for table in tables:
            gauge.add_metric([table.name], getattr(table, name))
        yield gauge


def serve(engine: _engine.Engine, address: Address) -> tuple[int, Callable[[], None]]:
    """Serves metrics over HTTP in a thread; returns the port and a function that stops it. Raises OSError."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(engine.counters, engine.version()))
    server, thread = start_http_server(address.port, address.host, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), stop
