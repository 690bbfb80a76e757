"""Metrics: what is served is documented and the other way round; the reference's dashboards find what they look for."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from dpservice.metrics import EngineCollector
from tests.support.observation import observation

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "operations.md"
OWN = ("dpservice_", "dps_", "dpdk_")


def exposition() -> str:
    registry = CollectorRegistry()
    registry.register(EngineCollector(lambda: observation(3), "v1", "host"))
    return generate_latest(registry).decode()


def test_the_document_names_all_metrics_and_no_others() -> None:
    families = set(re.findall(r"^# TYPE (\S+) ", exposition(), re.MULTILINE))
    assert all(name.startswith(OWN) for name in families)
    named = {
        name
        for name in re.findall(r"`(\w+)(?:\{[\w,]+\})?`", DOCUMENT.read_text())
        if name.startswith(OWN) and name != "dpdk_telemetry"
    }
    assert families - named == set()
    assert named - families == set()


def test_labels_in_the_document_are_those_of_the_metrics() -> None:
    samples: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)\{(.*?)\} ", exposition(), re.MULTILINE):
        samples[name] = set(re.findall(r'(\w+)="', labels))
    documented = re.findall(r"`((?:dps|dpdk|dpservice)_\w+)\{([\w,]+)\}`", DOCUMENT.read_text())
    assert len(documented) > 10
    wrong = [name for name, labels in documented if name in samples and samples[name] != set(labels.split(","))]
    assert wrong == []


def test_values_under_the_names_of_the_reference() -> None:
    lines = exposition().splitlines()
    for expected in (
        'dpdk_heap_info{info="Alloc_size",node="host"} 40.0',
        'dpdk_ethdev_link_status{name="net_tap1"} 0.0',
        'dpdk_ethdev_link_status{name="net_tap2"} 1.0',
        'dpdk_ethdev_bytes_total{name="net_tap2",stat="tx_good_bytes"} 42.0',
        'dpdk_ethdev_packets_total{name="net_tap0",stat="rx_good_packets"} 10.0',
        'dpdk_ethdev_misc{name="net_tap2",stat="rx_dropped"} 3.0',
        'dps_nat_used_ports_count{interface_id="vm"} 3.0',
        'dps_firewall_rules_count{interface_id="vm"} 2.0',
        'dps_graph_call_count{graph_node="rx-2-0",node="host"} 12.0',
        'dps_graph_call_count{graph_node="tx-0",node="host"} 30.0',
        'dps_graph_call_count{graph_node="drop",node="host"} 6.0',
        'dps_hash_table_saturation{stat="capacity",table="vni_table"} 20.0',
        'dps_hash_table_saturation{stat="entries",table="reverse_vnf_table"} 1.0',
        'dps_virtsvc_used_ports_count{address="UDP:169.254.1.1:53"} 4.0',
        'dps_hash_table_saturation{stat="capacity",table="virtsvc_table_0"} 64512.0',
        'dpservice_firewall_rule_hits_total{interface="vm",rule="a"} 1.0',
        "dpservice_ha_active 0.0",
        "dpservice_ha_peer 1.0",
        "dpservice_ha_abandoned_total 13.0",
        'dpservice_ha_messages_total{direction="received",type="dump"} 2.0',
        'dpservice_worker_firewall_would_drop_total{lcore="1"} 11.0',
    ):
        assert expected in lines
    assert all("gauge" in line for line in lines if line.startswith(("# TYPE dps_", "# TYPE dpdk_")))
