"""Inspection commands against a server with canned answers: what is asked, what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from ironcore.dpservice.v1 import dpservice_pb2 as pb
from ironcore.dpservice.v1 import dpservice_pb2_grpc

from dpservice.cli.main import run


class Canned(dpservice_pb2_grpc.InspectionServiceServicer):
    """Answers by method name. Remembers requests."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {}
        self.requests: list[Any] = []

    def __getattribute__(self, name: str) -> Any:
        if not name[0].isupper():
            return super().__getattribute__(name)

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            copy = type(request)()
            copy.CopyFrom(request)
            self.requests.append(copy)
            if name not in self.answers:
                context.abort(grpc.StatusCode.NOT_FOUND, "no such interface or uplink")
            return iter(self.answers[name]) if name == "WatchEvents" else self.answers[name].pop(0)

        return answer


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Canned]:
    canned = Canned()
    server = grpc.server(ThreadPoolExecutor(2))
    dpservice_pb2_grpc.add_InspectionServiceServicer_to_server(canned, server)
    server.add_insecure_port(f"unix:{tmp_path}/dp.sock")
    server.start()
    yield canned
    server.stop(0).wait()


Cli = Callable[..., tuple[int, str]]


@pytest.fixture
def cli(service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: str) -> tuple[int, str]:
        status = run(["--address", f"unix:{tmp_path}/dp.sock", *arguments])
        return status, capsys.readouterr().out

    return call


STEP = pb.ExplainedStep(stage="route", outcome="/0 to fc00:2::1")
SENT = pb.ExplainedPart(
    steps=[STEP], verdict=pb.PACKET_VERDICT_SENT, device="pf0", outer_destination="fc00:2::1", output=b"12345"
)
DROPPED = pb.ExplainedPart(
    verdict=pb.PACKET_VERDICT_DROPPED, drop_reason="no_route", drop_description="no route", reply=b"1"
)


def test_explain_from_a_vm_takes_its_own_address(service: Canned, cli: Cli) -> None:
    state = pb.InterfaceState(id="vm0", ipv4="10.0.0.1", ipv6="2001:db8::1")
    service.answers["ListInterfaceState"] = [pb.ListInterfaceStateResponse(interfaces=[state])]
    service.answers["ExplainPacket"] = [pb.ExplainPacketResponse(parts=[SENT])]
    status, output = cli("explain", "--interface-id", "vm0", "--dst", "8.8.8.8", "--protocol", "udp", "--dst-port=53")
    assert status == 0
    assert output.splitlines() == [
        "Part  Stage    Outcome",
        "1     route    /0 to fc00:2::1",
        "1     verdict  SENT by pf0 to fc00:2::1, 5 bytes",
    ]
    asked = service.requests[-1]
    assert asked.interface_id == "vm0"
    assert (asked.description.source, asked.description.protocol, asked.description.destination_port) == (
        "10.0.0.1", 17, 53,
    )  # fmt: skip


def test_explain_on_an_uplink(service: Canned, cli: Cli) -> None:
    service.answers["ExplainPacket"] = [pb.ExplainPacketResponse(parts=[DROPPED])]
    status, output = cli(
        "explain", "--uplink=0", "--to-interface=vm0", "--src=2001:db8::9", "--dst=2001:db8::1", "--protocol=icmp"
    )
    assert status == 0
    assert output.splitlines()[-1] == "1     verdict  DROPPED no_route (no route), the sender is told"
    asked = service.requests[-1]
    assert asked.WhichOneof("from") == "uplink"
    assert (asked.description.protocol, asked.description.icmp_type) == (58, 128)
    assert asked.description.to_interface_id == "vm0"


def test_explain_a_frame_as_json(service: Canned, cli: Cli) -> None:
    service.answers["ExplainPacket"] = [pb.ExplainPacketResponse(parts=[SENT, DROPPED])]
    status, output = cli("-o", "json", "explain", "--interface-id", "vm0", "--frame", "00:11 22")
    assert status == 0
    assert service.requests[-1].frame == b"\x00\x11\x22"
    parts = json.loads(output)["spec"]["parts"]
    assert [part["verdict"] for part in parts] == ["PACKET_VERDICT_SENT", "PACKET_VERDICT_DROPPED"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--dst", "1.1.1.1"], "give one of --interface-id and --uplink"),
        (["--uplink=0", "--interface-id=a", "--dst", "1.1.1.1"], "give one of --interface-id and --uplink"),
        (["--uplink=0"], "give one of --dst and --frame"),
        (["--uplink=0", "--dst=1.1.1.1"], "give --src"),
        (["--uplink=0", "--dst=1.1.1.1", "--protocol=300"], "'300' is neither icmp"),
        (["--uplink=0", "--frame=0g"], "non-hexadecimal"),
    ],
)
def test_explain_refuses(cli: Cli, words: list[str], text: str) -> None:
    status, output = cli("explain", *words)
    assert status == 1
    assert text in output


def _flow(port: int) -> pb.Flow:
    match = pb.PacketFields(source="10.0.0.1", destination="8.8.8.8", protocol=6, source_port=port, destination_port=80)
    program = pb.FlowProgram(
        action=pb.PACKET_ACTION_ENCAPSULATE, outer_destination="fc00:2::1", translation=pb.TRANSLATION_SOURCE,
        new_address="203.0.113.1", new_port=1024,
    )  # fmt: skip
    return pb.Flow(
        vni=100, interface_id="vm0", original=pb.FlowDirection(match=match, program=program, packets=3), tcp_state="syn"
    )


def test_flows_of_all_pages(service: Canned, cli: Cli) -> None:
    service.answers["ListFlows"] = [
        pb.ListFlowsResponse(flows=[_flow(1)], next_page_token="2a"),
        pb.ListFlowsResponse(next_page_token="3b"),
        pb.ListFlowsResponse(flows=[_flow(2)]),
    ]
    status, output = cli("flows", "--interface-id=vm0", "--port=80", "--protocol=tcp", "--translated")
    assert status == 0
    assert [request.page_token for request in service.requests] == ["", "2a", "3b"]
    first = service.requests[0]
    assert (first.interface_id, first.port, first.protocol, first.translated_only) == ("vm0", 80, 6, True)
    assert not first.HasField("vni")
    lines = output.splitlines()
    assert len(lines) == 3
    assert "10.0.0.1:1 > 8.8.8.8:80" in lines[1]
    assert "source 203.0.113.1:1024, to fc00:2::1" in lines[1]


def test_flows_stop_at_the_limit(service: Canned, cli: Cli) -> None:
    service.answers["ListFlows"] = [pb.ListFlowsResponse(flows=[_flow(1), _flow(2)], next_page_token="1")]
    status, output = cli("-o", "json", "flows", "--limit=2")
    assert status == 0
    assert len(json.loads(output)["items"]) == 2


def test_unknown_interface(cli: Cli) -> None:
    status, output = cli("flows", "--interface-id=nobody")
    assert status == 1
    assert "no such interface or uplink" in output


def test_events(service: Canned, cli: Cli) -> None:
    events = [
        pb.Event(sequence=7, type=pb.EVENT_TYPE_LINK_DOWN, subject="pf0"),
        pb.Event(sequence=8, type=pb.EVENT_TYPE_VIP_CREATED, subject="vm0", vni=100, detail="203.0.113.9"),
    ]
    service.answers["WatchEvents"] = [pb.WatchEventsResponse(events=events, lost=5, next_sequence=9)]
    status, output = cli("events")
    assert status == 0
    assert service.requests[-1].HasField("from_sequence")
    lines = output.splitlines()
    assert lines[0] == "... 5 events lost"
    assert lines[1].split()[1:] == ["7", "link_down", "pf0"]
    assert lines[2].split()[1:] == ["8", "vip_created", "vm0", "vni", "100", "203.0.113.9"]
    status, output = cli("events", "--new", "--count=1", "-o", "json")
    assert not service.requests[-1].HasField("from_sequence")
    assert json.loads(output) == {"lost": 5}


def test_tables_counters_state_and_limits(service: Canned, cli: Cli) -> None:
    table = pb.Table(name="flows", used=1, limit=4)
    service.answers["ListTables"] = [pb.ListTablesResponse(tables=[table, pb.Table(name="routes", used=9)])]
    assert cli("tables")[1].splitlines() == [
        "Table   Used  Limit  Level",
        "flows   1     4      25.0%",
        "routes  9",
    ]
    drop = pb.DropCounter(reason="no_route", packets=3)
    service.answers["GetCounters"] = [
        pb.GetCountersResponse(ports=[pb.PortCounters(device="vf0", interface_id="vm0", rx_packets=5, drops=[drop])])
    ]
    assert "no_route=3" in cli("counters")[1]
    public = pb.PublicAddress(address="203.0.113.1", min_port=1024, max_port=2048)
    state = pb.InterfaceState(id="vm0", vm_mac="02:00:00:00:00:01", public_addresses=[public])
    service.answers["ListInterfaceState"] = [pb.ListInterfaceStateResponse(interfaces=[state])]
    output = cli("state")[1]
    assert "203.0.113.1:1024-2047" in output
    assert "02:00:00:00:00:01?" in output
    limits = pb.FlowLimits(timeouts=pb.FlowTimeouts(tcp_established=9, udp=7), quota=5)
    service.answers["SetFlowLimits"] = [pb.SetFlowLimitsResponse()]
    service.answers["GetFlowLimits"] = [pb.GetFlowLimitsResponse(limits=limits, flows=2)] * 2
    status, output = cli("limits", "--interface-id=vm0", "--quota=5", "--udp=7")
    assert status == 0
    asked = service.requests[-2]
    assert (asked.quota, asked.timeouts.udp, asked.timeouts.icmp) == (5, 7, 0)
    assert output.splitlines()[1].split()[:3] == ["vm0", "5", "2"]
    cli("limits", "--interface-id=vm0")
    assert isinstance(service.requests[-1], pb.GetFlowLimitsRequest)
    assert not isinstance(service.requests[-2], pb.SetFlowLimitsRequest)
