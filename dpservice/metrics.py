"""Every metric of the process. Values are read from the engine when somebody asks; workers know nothing of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dpservice import _engine
from dpservice.listen import Address
from dpservice.observation import (
    Observation,
    heap_statistics,
    node_packets,
    observe,
    port_statistics,
    table_saturation,
    virtual_service_ports,
)

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
    ("flows_evicted", "Flows given up for others because the table or a quota was full"),
    ("flow_table_full", "Packets whose flow found no room"),
    ("firewall_would_drop", "Flows that an observing firewall let pass"),
)


_PAIR_STATES = (
    ("peer", "1 if another engine answers on the sync port"),
    ("in_sync", "1 if active and the other has acknowledged everything, or standby and told everything once"),
    ("replicated", "Connections that a standby would take over"),
    ("pending", "Connections taken over that wait for their interface or route"),
)
_PAIR_COUNTERS = (
    ("wrong_role", "Messages ignored because they do not fit this engine's role"),
    ("unknown", "Messages of a type that this engine does not know"),
    ("malformed", "Messages that cannot be read"),
    ("gaps", "Frames missing in the reliable stream"),
    ("resent", "Frames sent again"),
    ("resyncs", "Times that everything was told"),
    ("lost", "Changes that were not told when they happened"),
    ("refused", "Connections that a standby had no room for"),
    ("conflicts", "NAT ports that another mapping had"),
    ("restored", "Connections taken over"),
    ("abandoned", "Connections given up in a takeover"),
    ("discarded", "Packets that had waited since before a takeover"),
)


class EngineCollector(Collector):
    """`read` gives a snapshot of the engine; it is called once per scrape. `host` is the label `node`."""

    def __init__(self, read: Callable[[], Observation], version: str, host: str) -> None:
        self._read = read
        self._version = version
        self._host = host

    def collect(self) -> Iterator[Metric]:
        """All families of one scrape."""
        observation = self._read()
        counters = observation.counters
        info = GaugeMetricFamily("dpservice_info", "Version of the service", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        yield GaugeMetricFamily("dpservice_tsc_hertz", "Cycles per second", value=counters.tsc_hz)
        yield from _ports(counters.ports)
        yield from _drops(counters)
        yield from _workers(counters.workers)
        yield from _tables(counters.tables)
        yield from _pair(counters.ha)
        yield _rule_hits(observation)
        yield from _reference(observation, self._host)


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


def _pair(pair: _engine.HaCounters) -> Iterator[Metric]:
    active = float(pair.state is _engine.HaState.ACTIVE)
    yield GaugeMetricFamily("dpservice_ha_active", "1 if this engine forwards", value=active)
    for name, text in _PAIR_STATES:
        yield GaugeMetricFamily(f"dpservice_ha_{name}", text, value=float(getattr(pair, name)))
    for name, text in _PAIR_COUNTERS:
        yield CounterMetricFamily(f"dpservice_ha_{name}", text, value=getattr(pair, name))
    messages = CounterMetricFamily("dpservice_ha_messages", "Messages of a pair", labels=["type", "direction"])
    for message in pair.messages:
        messages.add_metric([message.type, "sent"], message.sent)
        messages.add_metric([message.type, "received"], message.received)
    yield messages


def _rule_hits(observation: Observation) -> Metric:
    labels = ["interface", "rule"]
    family = CounterMetricFamily("dpservice_firewall_rule_hits", "Flows that a rule decided", labels=labels)
    for interface, rules in observation.rule_hits.items():
        for rule, hits in rules.items():
            family.add_metric([interface, rule], hits)
    return family


def _reference(observation: Observation, host: str) -> Iterator[Metric]:
    """The names, labels and types (all gauges) of the reference's exporter, for its dashboards."""
    yield _gauge(
        "dpdk_heap_info",
        "Heap of the EAL, all NUMA nodes",
        ["node", "info"],
        (((host, name), value) for name, value in _heap_sums(observation.heaps).items()),
    )
    yield from _reference_ports(observation.counters.ports)
    used = (((name,), flows) for name, flows in observation.nat_flows.items())
    yield _gauge("dps_nat_used_ports_count", "Flows that use NAT ports", ["interface_id"], used)
    services = (((address,), ports) for address, ports in virtual_service_ports(observation).items())
    yield _gauge("dps_virtsvc_used_ports_count", "Ports in use by virtual service", ["address"], services)
    rules = (((name,), len(hits)) for name, hits in observation.rule_hits.items())
    yield _gauge("dps_firewall_rules_count", "Firewall rules", ["interface_id"], rules)
    nodes = (((host, name), packets) for name, packets in node_packets(observation.counters).items())
    yield _gauge("dps_graph_call_count", "Packets by graph node", ["node", "graph_node"], nodes)
    levels = (
        ((table, stat), value)
        for table, level in table_saturation(observation).items()
        for stat, value in level.items()
    )
    yield _gauge("dps_hash_table_saturation", "Capacity and entries of tables", ["table", "stat"], levels)


def _heap_sums(heaps: Sequence[_engine.Heap]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for heap in heaps:
        for name, value in heap_statistics(heap).items():
            sums[name] = sums.get(name, 0) + value
    return sums


def _reference_ports(ports: list[_engine.PortCounters]) -> Iterator[Metric]:
    kinds: dict[str, list[tuple[tuple[str, ...], int]]]
    kinds = {"bytes_total": [], "packets_total": [], "errors_total": [], "misc": []}
    for port in ports:
        for stat, value in port_statistics(port).items():
            kind = next((kind for kind in kinds if kind.removesuffix("_total") in stat), "misc")
            kinds[kind].append(((port.device_name, stat), value))
    links = (((port.device_name,), int(port.link_up)) for port in ports if "representor" not in port.device_name)
    yield _gauge("dpdk_ethdev_link_status", "1 if the port is up", ["name"], links)
    for kind, values in kinds.items():
        yield _gauge(f"dpdk_ethdev_{kind}", "Counters of ports", ["name", "stat"], values)


def _gauge(name: str, text: str, labels: list[str], values: Iterable[tuple[tuple[str, ...], int]]) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        gauge.add_metric(list(label_values), value)
    return gauge


def serve(engine: _engine.Engine, address: Address) -> tuple[int, Callable[[], None]]:
    """Serves metrics over HTTP in a thread; returns the port and a function that stops it. Raises OSError."""
    host = os.environ.get("NODE_NAME") or socket.gethostname()
    registry = CollectorRegistry()
    registry.register(EngineCollector(lambda: observe(engine), engine.version(), host))
    server, thread = start_http_server(address.port, address.host, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), stop
