"""Looking into a real engine: two VMs in namespaces that ping each other, explanations, flows, events, limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from ironcore.dpdk.v1 import dpdk_pb2
from ironcore.dpservice.v1 import dpservice_pb2 as pb
from ironcore.dpservice.v1 import dpservice_pb2_grpc

from tests.lab.namespace import Namespace, connect, run
from tests.support.dpservice import Dpservice

OPTIONS = (
    "--pf0=pf0", "--pf1=pf1", "--vf-pattern=vf", "--nic-type=tap", "--ipv6=fc00:1::1", "--enable-ipv6-overlay",
)  # fmt: skip
DEVICES = tuple(
    f"--vdev=net_af_packet{number},iface={name},blocksz=4096,framesz=2048,framecnt=256,qpairs=1"
    for number, name in enumerate(("pf0", "pf1", "vf0", "vf1"))
)
CLI = Path(sys.executable).with_name("dpservice-cli")


class Site:
    """An engine with two VMs in VNI 100, 10.0.0.1 ("vm0") and 10.0.0.2 ("vm1")."""

    def __init__(self, service: Dpservice, guests: list[Namespace]) -> None:
        self.service = service
        self.guests = guests
        self.stub = dpservice_pb2_grpc.InspectionServiceStub(service.channel())

    def cli(self, *words: str) -> Any:
        """JSON that dpservice-cli prints."""
        command = [str(CLI), "--address", self.service.target, "-o", "json", *words]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)

    def explain(self, destination: str, protocol: int = 1, **fields: Any) -> pb.ExplainPacketResponse:
        description = pb.PacketDescription(source="10.0.0.1", destination=destination, protocol=protocol, **fields)
        return self.stub.ExplainPacket(pb.ExplainPacketRequest(interface_id="vm0", description=description), timeout=30)

    def flows(self, **filters: Any) -> list[pb.Flow]:
        found: list[pb.Flow] = []
        request = pb.ListFlowsRequest(**filters)
        while True:
            page = self.stub.ListFlows(request, timeout=30)
            found += page.flows
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    host = Namespace(f"dpi{os.getpid()}h")
    guests = [Namespace(f"dpi{os.getpid()}g{number}") for number in range(2)]
    for namespace in (host, *guests):
        namespace.create()
    try:
        for name in ("pf0", "pf1"):
            connect(host, name, host, f"{name}r", mtu=1600)
        for number, guest in enumerate(guests):
            connect(host, f"vf{number}", guest, "eth0", mtu=1500)
            guest.ip("addr", "add", f"10.0.0.{number + 1}/32", "dev", "eth0")
            guest.ip("route", "add", "169.254.0.1", "dev", "eth0")
            guest.ip("route", "add", "default", "via", "169.254.0.1")
        directory = tmp_path_factory.mktemp("dpservice")
        with Dpservice(directory, devices=DEVICES, base_options=OPTIONS, before=host.prefix()) as running:
            running.stub().Initialize(dpdk_pb2.InitializeRequest())
            for number in range(2):
                request = dpdk_pb2.CreateInterfaceRequest(
                    interface_id=f"vm{number}".encode(),
                    vni=100,
                    ipv4_config=dpdk_pb2.IpConfig(primary_address=f"10.0.0.{number + 1}".encode()),
                    ipv6_config=dpdk_pb2.IpConfig(primary_address=b"::"),
                    device_name=f"net_af_packet{number + 2}",
                )
                assert running.stub().CreateInterface(request).status.code == 0
            yield Site(running, guests)
    finally:
        for namespace in (*guests, host):
            namespace.delete()


def test_explanation_and_packet_agree(site: Site) -> None:
    before = site.explain("10.0.0.2", icmp_type=8, icmp_id=1)
    assert before.parts[0].verdict == pb.PACKET_VERDICT_DELIVERED
    assert before.parts[0].interface_id == "vm1"
    assert site.flows() == []
    run([*site.guests[0].prefix(), "ping", "-c", "3", "-i", "0.2", "-W", "10", "10.0.0.2"], timeout=60)
    flows = site.flows(interface_id="vm0", protocol=1)
    assert len(flows) == 1
    assert (flows[0].original.packets, flows[0].reply.packets) == (3, 3)
    assert flows[0].original.match.source == "10.0.0.1"
    # The same packet as the ping's belongs to that flow now.
    after = site.explain("10.0.0.2", icmp_type=8, icmp_id=flows[0].original.match.icmp_id)
    assert after.parts[0].used_flow
    assert after.parts[0].flow.original.packets == 3
    assert site.flows(vni=101) == []
    assert len(site.flows(address="10.0.0.2")) == 1


def test_drops_are_explained(site: Site) -> None:
    part = site.explain("8.8.8.8", 17, source_port=1, destination_port=53).parts[0]
    assert (part.verdict, part.drop_reason) == (pb.PACKET_VERDICT_DROPPED, "no_route")
    steps = site.cli("explain", "--interface-id=vm0", "--dst=10.0.0.2", "--protocol=udp", "--dst-port=9")
    assert steps["spec"]["parts"][0]["verdict"] == "PACKET_VERDICT_DELIVERED"
    arrives = site.cli("explain", "--uplink=0", "--to-interface=vm1", "--src=10.9.9.9", "--dst=10.0.0.2")
    assert arrives["spec"]["parts"][0]["interface_id"] == "vm1"


def test_wrong_questions(site: Site) -> None:
    def refused(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=30)
        return caught.value.code(), caught.value.details()

    explain = site.stub.ExplainPacket
    invalid, unknown = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
    assert refused(explain, pb.ExplainPacketRequest()) == (invalid, "from: give an interface or an uplink")
    assert refused(explain, pb.ExplainPacketRequest(uplink=0)) == (invalid, "packet: give a description or a frame")
    bad = pb.PacketDescription(source="x", destination="10.0.0.2")
    code, text = refused(explain, pb.ExplainPacketRequest(interface_id="vm0", description=bad))
    assert (code, text) == (invalid, "source: 'x' is not an IP address")
    assert refused(explain, pb.ExplainPacketRequest(interface_id="vm9", frame=b"1"))[0] == unknown
    assert refused(explain, pb.ExplainPacketRequest(uplink=7, frame=b"1"))[0] == unknown
    assert refused(site.stub.ListFlows, pb.ListFlowsRequest(page_size=1001))[0] == invalid
    assert refused(site.stub.ListFlows, pb.ListFlowsRequest(page_token="zz"))[0] == invalid
    assert refused(site.stub.ListFlows, pb.ListFlowsRequest(page_token="f" * 15))[0] == invalid
    assert refused(site.stub.ListFlows, pb.ListFlowsRequest(interface_id="vm9"))[0] == unknown
    assert refused(site.stub.GetFlowLimits, pb.GetFlowLimitsRequest(interface_id="vm9"))[0] == unknown


def test_limits(site: Site) -> None:
    shown = site.cli("limits", "--interface-id=vm1", "--quota=9", "--udp=12")["spec"]
    assert (shown["quota"], shown["udp"], shown["tcp_established"]) == (9, 12, 86400)
    too_long = pb.SetFlowLimitsRequest(interface_id="vm1", timeouts=pb.FlowTimeouts(udp=1 << 25))
    with pytest.raises(grpc.RpcError) as caught:
        site.stub.SetFlowLimits(too_long, timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    limits = site.stub.GetFlowLimits(pb.GetFlowLimitsRequest(interface_id="vm1"), timeout=30).limits
    assert (limits.quota, limits.timeouts.udp) == (9, 12)


def test_state_tables_and_counters(site: Site) -> None:
    states = site.stub.ListInterfaceState(pb.ListInterfaceStateRequest(), timeout=30).interfaces
    assert [(state.id, state.ipv4, state.ipv6) for state in states] == [
        ("vm0", "10.0.0.1", ""),
        ("vm1", "10.0.0.2", ""),
    ]
    tables = {table["metadata"]["name"]: table["spec"] for table in site.cli("tables")["items"]}
    assert tables["flows"]["limit"] == 4096
    assert tables["interfaces"]["used"] == 2
    ports = {port.interface_id for port in site.stub.GetCounters(pb.GetCountersRequest(), timeout=30).ports}
    assert {"vm0", "vm1"} <= ports


def test_watchers_get_every_event(site: Site) -> None:
    past = site.stub.WatchEvents(pb.WatchEventsRequest(from_sequence=0), timeout=60)
    first = next(past)
    assert pb.EVENT_TYPE_INTERFACE_CREATED in [event.type for event in first.events]
    assert [event.sequence for event in first.events] == list(range(1, len(first.events) + 1))
    following = first.next_sequence
    watchers = [site.stub.WatchEvents(pb.WatchEventsRequest(from_sequence=following), timeout=60) for _ in range(3)]
    vip = dpdk_pb2.IpAddress(ipver=dpdk_pb2.IPV4, address=b"203.0.113.9")
    created = site.service.stub().CreateVip(dpdk_pb2.CreateVipRequest(interface_id=b"vm0", vip_ip=vip))
    assert created.status.code == 0
    for watcher in watchers:
        response = next(watcher)
        event = response.events[0]
        assert (event.sequence, event.type, event.subject, event.vni, event.detail) == (
            following, pb.EVENT_TYPE_VIP_CREATED, "vm0", 100, "203.0.113.9",
        )  # fmt: skip
        assert response.lost == 0
        watcher.cancel()
    past.cancel()


def test_reflection_knows_the_service(site: Site) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(site.service.channel())
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    services = next(stub.ServerReflectionInfo(iter([request]), timeout=30)).list_services_response.service
    assert "ironcore.dpservice.v1.InspectionService" in [service.name for service in services]
