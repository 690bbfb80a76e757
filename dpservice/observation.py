"""What is observed from outside: one snapshot of the engine, and its numbers under the names that the reference's
dashboards and telemetry clients know. Workers know nothing of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dpservice import _engine, convert

# Names of the reference's tables and of what stands for them here. A NAT mapping fills both of its NAT tables.
REFERENCE_TABLES = {
    "interface_table": "interfaces",
    "conntrack_table": "flows",
    "dnat_table": "public_addresses",
    "nat_portmap_table": "nat_flows",
    "nat_portoverload_table": "nat_flows",
    "loadbalancer_table": "load_balancers",
    "loadbalancer_id_table": "load_balancers",
    "vni_table": "vnis",
    "vnf_table": "underlay_addresses",
    "reverse_vnf_table": "underlay_addresses",
}


@dataclass(frozen=True, slots=True)
class Observation:
    """State at one time; calls in between may make its parts differ by a moment."""

    counters: _engine.EngineCounters
    nat_flows: Mapping[str, int] = field(default_factory=dict)
    """By interface that has a NAT: flows that use its ports."""
    rule_hits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By interface, then by firewall rule: flows that the rule decided."""
    heaps: Sequence[_engine.Heap] = ()
    virtual_services: Sequence[_engine.VirtualServiceInfo] = ()


def observe(engine: _engine.Engine) -> Observation:
    """Reads everything."""
    flows: dict[tuple[int, bytes], int] = {}
    for nat in engine.list_local_nats(convert.ANY_IPV4):
        key = (nat.vni, nat.inside)
        # NATs of both families serve the same flows if they belong to one address.
        flows[key] = max(nat.flows, flows.get(key, 0))
    nat_flows: dict[str, int] = {}
    rule_hits: dict[str, Mapping[str, int]] = {}
    for interface in engine.list_interfaces():
        own = [flows[key] for key in ((interface.vni, interface.ipv4), (interface.vni, interface.ipv6)) if key in flows]
        if own:
            nat_flows[interface.id] = sum(own)
        try:
            rules = engine.list_firewall_rules(interface.id)
        except _engine.StatusError:
            continue  # deleted a moment ago
        rule_hits[interface.id] = {info.rule.id.decode(errors="backslashreplace"): info.hits for info in rules}
    return Observation(engine.counters(), nat_flows, rule_hits, _engine.heaps(), engine.virtual_services())


def node_packets(counters: _engine.EngineCounters) -> dict[str, int]:
    """Packets by node of the reference's graph, as far as this engine has a counterpart."""
    nodes = {}
    for port, counted in enumerate(counters.ports):
        nodes[f"rx-{port}-0"] = counted.rx_packets
        nodes[f"tx-{port}"] = counted.tx_packets
    nodes["cls"] = sum(worker.packets for worker in counters.workers)
    nodes["drop"] = sum(counters.drops.values())
    return nodes


def table_saturation(observation: Observation) -> dict[str, dict[str, int]]:
    """Capacity and entries by the reference's table name."""
    levels = {level.name: level for level in observation.counters.tables}
    saturation = {
        name: {"capacity": levels[own].capacity, "entries": levels[own].used}
        for name, own in REFERENCE_TABLES.items()
        if own in levels
    }
    for number, service in enumerate(observation.virtual_services):
        saturation[f"virtsvc_table_{number}"] = {"capacity": service.ports, "entries": service.used_ports}
    return saturation


def virtual_service_ports(observation: Observation) -> dict[str, int]:
    """Ports in use by virtual service, `UDP:<IPv4>:<port>`."""
    used = {}
    for service in observation.virtual_services:
        protocol = "UDP" if service.config.protocol == socket.IPPROTO_UDP else "TCP"
        address = convert.address_text(service.config.virtual_address).decode()
        used[f"{protocol}:{address}:{service.config.virtual_port}"] = service.used_ports
    return used


def port_statistics(port: _engine.PortCounters) -> dict[str, int]:
    """What the engine counts of a port, by the driver's names."""
    return {
        "rx_good_packets": port.rx_packets,
        "tx_good_packets": port.tx_packets,
        "rx_good_bytes": port.rx_bytes,
        "tx_good_bytes": port.tx_bytes,
        # Packets that came in by this port and ended in the engine, whatever the reason.
        "rx_dropped": sum(port.drops.values()),
    }


def heap_statistics(heap: _engine.Heap) -> dict[str, int]:
    """Numbers of a heap by the EAL's names."""
    return {
        "Heap_size": heap.total_bytes,
        "Free_size": heap.free_bytes,
        "Alloc_size": heap.allocated_bytes,
        "Greatest_free_size": heap.greatest_free_bytes,
        "Alloc_count": heap.allocated_count,
        "Free_count": heap.free_count,
    }


def blocks(nodes: Mapping[str, int]) -> Iterator[tuple[str, dict[str, int]]]:
    """Nodes in blocks of 256, as telemetry names them."""
    items = list(nodes.items())
    for start in range(0, max(len(items), 1), 256):
        yield f"Node_{start}_to_{start + 255}", dict(items[start : start + 256])
