"""Two uplinks of a real dpservice process share the flows, and one carries them all while the other is down."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from ironcore.dpservice.v1 import dpservice_pb2 as own
from ironcore.dpservice.v1 import dpservice_pb2_grpc as own_grpc
from scapy.packet import Packet

from tests.support.dataplane import (
    OUT4,
    OUT6,
    SECONDS,
    UPLINKS,
    VM4,
    VM6,
    Host,
    connect_router,
    from_vm,
    tag_of,
    tap_host,
    udp,
)

FLOWS = 32


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with tap_host(f"dpu{os.getpid()}", tmp_path_factory.mktemp("dpservice"), "--wcmp=50") as host:
        yield host


def packets(round_: str) -> list[Packet]:
    """One of each flow; half of the flows are IPv4."""
    return [
        udp(vm, outside, 1000 + number, 53, f"{round_}:{vm}:{number}")
        for vm, outside in ((VM4, OUT4), (VM6, OUT6))
        for number in range(FLOWS)
    ]


def uplinks(host: Host, round_: str) -> dict[str, str]:
    """By which uplink each flow leaves."""
    for packet in packets(round_):
        host.wires["vf0"].send(from_vm(packet))
    found: dict[str, str] = {}
    deadline = time.monotonic() + SECONDS
    while len(found) < 2 * FLOWS:
        assert time.monotonic() < deadline, f"{2 * FLOWS - len(found)} packets are missing"
        for name in UPLINKS:
            for frame in host.wires[name].received(0.05):
                began, _, flow = tag_of(frame).decode().partition(":")
                if began == round_:
                    found[flow] = name
    return found


def wait_for(stub: own_grpc.InspectionServiceStub, wanted: own.EventType.ValueType, uplink: str) -> None:
    """Until that has happened to it, now or before."""
    for reply in stub.WatchEvents(own.WatchEventsRequest(from_sequence=0), timeout=SECONDS):
        if any((event.type, event.subject) == (wanted, uplink) for event in reply.events):
            return
    raise AssertionError("the watch has ended")


def test_flows_of_both_families_change_over_and_come_back(host: Host) -> None:
    stub = own_grpc.InspectionServiceStub(host.channel)
    before = uplinks(host, "both")
    for vm in (VM4, VM6):
        assert {name for flow, name in before.items() if flow.startswith(vm)} == set(UPLINKS)
    assert uplinks(host, "again") == before

    host.namespace.ip("link", "set", "pf0", "down")
    wait_for(stub, own.EVENT_TYPE_LINK_DOWN, "pf0")
    assert set(uplinks(host, "one").values()) == {"pf1"}, "established flows too"

    connect_router(host.namespace, "pf0")
    wait_for(stub, own.EVENT_TYPE_LINK_UP, "pf0")
    assert uplinks(host, "both again") == before
