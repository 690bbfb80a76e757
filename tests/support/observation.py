"""An observation of an engine that does not exist."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from dpservice import _engine
from dpservice.observation import Observation


def observation(ports: int = 2) -> Observation:
    """One worker, `ports` ports with numbers that tell them apart, one interface `vm` with a NAT and two rules."""
    all_ports = [
        SimpleNamespace(
            device_name=f"net_tap{number}", netdev_name=f"dtap{number}", is_uplink=number < 2, link_up=number != 1,
            neighbour_known=number == 0, interface_id="vm" if number == 2 else "", rx_packets=10 + number,
            rx_bytes=20 + number, tx_packets=30 + number, tx_bytes=40 + number,
            drops={"no_route": number, "firewall": 1},
        )
        for number in range(ports)
    ]  # fmt: skip
    worker = SimpleNamespace(
        lcore=1, packets=100, slow_path=1, polls=2, busy_cycles=3, sleeps=4, flows_created=5, flows_redecided=6,
        flows_expired=7, flows_evicted=8, flow_table_full=9, firewall_would_drop=11,
    )  # fmt: skip
    names = ["flows", "underlay_addresses", "vnis", "routes", "nat_flows", "public_addresses", "neighbor_nats",
             "load_balancers", "load_balancer_targets", "interfaces", "packet_buffers"]  # fmt: skip
    tables = [SimpleNamespace(name=name, used=number, capacity=10 * number) for number, name in enumerate(names)]
    drops = {"no_route": sum(range(ports)), "firewall": ports}
    pair = SimpleNamespace(
        state=_engine.HaState.STANDBY, peer=True, in_sync=False, wrong_role=1, unknown=2, malformed=3, gaps=4, resent=5,
        resyncs=6, lost=7, replicated=8, refused=9, conflicts=10, restored=11, pending=12, abandoned=13, discarded=14,
        messages=[SimpleNamespace(type="dump", sent=1, received=2)],
    )  # fmt: skip
    counters = SimpleNamespace(ports=all_ports, workers=[worker], tables=tables, drops=drops, tsc_hz=10**9, ha=pair)
    heap = SimpleNamespace(
        socket=0, total_bytes=100, free_bytes=60, allocated_bytes=40, greatest_free_bytes=50, allocated_count=4,
        free_count=2,
    )  # fmt: skip
    config = SimpleNamespace(protocol=17, virtual_address=bytes([169, 254, 1, 1]), virtual_port=53)
    service = SimpleNamespace(config=config, used_ports=4, ports=64512)
    rules = {"vm": {"a": 1, "b": 0}}
    return Observation(cast(Any, counters), {"vm": 3}, rules, cast(Any, [heap]), cast(Any, [service]))
