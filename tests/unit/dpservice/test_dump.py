"""`dpservice-dump`: lines of text, pcap files, and the program against a server with canned records."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result
from ironcore.dpservice.v1 import trace_pb2 as pb
from ironcore.dpservice.v1 import trace_pb2_grpc
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.utils import PcapReader

from dpservice.dump.dissect import layers, line
from dpservice.dump.main import dump
from dpservice.dump.pcap import PcapWriter

ETHER = Ether(src="52:54:00:00:00:01", dst="02:00:00:00:00:fe")
MACS = "52:54:00:00:00:01 -> 02:00:00:00:00:fe"
NOON = 1_700_000_000_123_456_789  # 2023-11-14 22:13:20 UTC


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (
            ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1000, dport=53) / b"12345",
            [MACS, "10.0.0.1 -> 10.0.0.2", "UDP 1000 -> 53 len 13"],
        ),
        (
            ETHER / IP(src="10.0.0.1", dst="10.0.0.2", options=b"\1\1\1\0") / TCP(sport=1, dport=2, seq=7, ack=9),
            [MACS, "10.0.0.1 -> 10.0.0.2", "TCP 1 -> 2 [S] seq 7 ack 9"],
        ),
        (
            ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1, dport=2, flags="FSRPAUEC", seq=0, ack=0),
            [MACS, "10.0.0.1 -> 10.0.0.2", "TCP 1 -> 2 [FSRPAUEC] seq 0 ack 0"],
        ),
        (
            ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(type=8, code=0, id=77, seq=3),
            [MACS, "10.0.0.1 -> 10.0.0.2", "ICMP 8-0 id 77 seq 3"],
        ),
        (
            ETHER / IPv6(src="2001:db8::1", dst="fe80::1") / IPv6ExtHdrDestOpt() / ICMPv6EchoRequest(id=5, seq=6),
            [
                MACS,
                "2001:0db8:0000:0000:0000:0000:0000:0001 -> fe80:0000:0000:0000:0000:0000:0000:0001",
                "ICMP 128-0 id 5 seq 6",
            ],
        ),
        (
            ETHER / IPv6(src="fc00:1::1", dst="fc00:2::1") / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2),
            [
                MACS,
                "fc00:0001:0000:0000:0000:0000:0000:0001 -> fc00:0002:0000:0000:0000:0000:0000:0001",
                "10.0.0.1 -> 10.0.0.2",
                "UDP 1 -> 2 len 8",
            ],
        ),
        (
            ETHER / IPv6(src="fc00::1", dst="fc00::2") / IPv6(src="::1", dst="::2") / UDP(sport=1, dport=2),
            [
                MACS,
                "fc00:0000:0000:0000:0000:0000:0000:0001 -> fc00:0000:0000:0000:0000:0000:0000:0002",
                "0000:0000:0000:0000:0000:0000:0000:0001 -> 0000:0000:0000:0000:0000:0000:0000:0002",
                "UDP 1 -> 2 len 8",
            ],
        ),
        (ETHER / ARP(op=1, psrc="10.0.0.1", pdst="169.254.0.1"), [MACS, "ARP 1 10.0.0.1 -> 169.254.0.1"]),
        # Later fragments have no ports; what is not known ends the line.
        (ETHER / IP(src="10.0.0.1", dst="10.0.0.2", frag=5, proto=17) / b"12345678", [MACS, "10.0.0.1 -> 10.0.0.2"]),
        (
            ETHER / IPv6(src="::1", dst="::2") / IPv6ExtHdrFragment(offset=5, nh=17) / b"12345678",
            [MACS, "0000:0000:0000:0000:0000:0000:0000:0001 -> 0000:0000:0000:0000:0000:0000:0000:0002"],
        ),
        (ETHER / Dot1Q(vlan=5) / IP(), [MACS]),
    ],
)
def test_layers_from_the_outside_in(frame: Ether, expected: list[str]) -> None:
    assert list(layers(bytes(frame))) == expected


@pytest.mark.parametrize(
    "frame",
    [
        ETHER / IP() / UDP() / b"payload",
        ETHER / IPv6() / IPv6ExtHdrDestOpt() / IP() / TCP(),
        ETHER / IPv6() / IPv6ExtHdrFragment() / ICMPv6EchoRequest(),
        ETHER / ARP(),
    ],
)
def test_frames_may_end_anywhere(frame: Ether) -> None:
    whole = list(layers(bytes(frame)))
    for length in range(len(bytes(frame))):
        cut = list(layers(bytes(frame)[:length]))
        assert cut == whole[: len(cut)]


def record(**fields: object) -> pb.TraceRecord:
    data = bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1000, dport=53))
    return pb.TraceRecord(timestamp_ns=NOON, packet_id=12, length=len(data), data=data, **fields)  # type: ignore[arg-type]


LAYERS = f"{MACS} / 10.0.0.1 -> 10.0.0.2 / UDP 1000 -> 53 len 8"


@pytest.mark.parametrize(
    ("traced", "ends"),
    [
        (record(event=pb.TRACE_EVENT_RX, next_node="rx-3-0", port=3), "PORT 3         >> rx-3-0        "),
        (record(event=pb.TRACE_EVENT_TX, node="tx-4", port=4), "tx-4           >> PORT 4        "),
        (record(event=pb.TRACE_EVENT_NODE, node="cls", next_node="conntrack"), "cls            -> conntrack     "),
        (record(event=pb.TRACE_EVENT_DROP, node="firewall", port=3), "firewall       >> DROP          "),
    ],
)
def test_lines(traced: pb.TraceRecord, ends: str) -> None:
    assert line(traced) == f"22:13:20.123 12: {ends}: {LAYERS}"


def test_pcap_is_read_by_others() -> None:
    file = BytesIO()
    writer = PcapWriter(file)
    frame = bytes(ETHER / IP() / UDP() / bytes(100))
    writer.write(NOON, frame, len(frame))
    writer.write(NOON + 1_000_000_000, frame[:64], len(frame))
    file.seek(0)
    first, second = PcapReader(file)
    assert bytes(first) == frame
    assert float(first.time) == pytest.approx(NOON / 1e9, abs=1e-5)
    assert second.wirelen == len(frame)
    assert len(bytes(second)) == 64


class CannedTrace(trace_pb2_grpc.TraceServiceServicer):
    """Streams what it is given and then ends."""

    def __init__(self) -> None:
        self.responses: list[pb.TracePacketsResponse] = []
        self.requests: list[pb.TracePacketsRequest] = []
        self.busy = False

    def TracePackets(  # noqa: N802
        self, request: pb.TracePacketsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.TracePacketsResponse]:
        self.requests.append(request)
        if self.busy:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "packets are being traced already")
        yield pb.TracePacketsResponse()
        yield from self.responses

    def StopTrace(  # noqa: N802
        self, request: pb.StopTraceRequest, context: grpc.ServicerContext
    ) -> pb.StopTraceResponse:
        return pb.StopTraceResponse(recorded=7, lost=2)


@pytest.fixture
def service() -> Iterator[tuple[CannedTrace, str]]:
    canned = CannedTrace()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_pb2_grpc.add_TraceServiceServicer_to_server(canned, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield canned, f"127.0.0.1:{port}"
    server.stop(None).wait()


def run(address: str, *arguments: str) -> Result:
    return CliRunner().invoke(dump, ["--address", address, *arguments])


RECORDS = [
    record(event=pb.TRACE_EVENT_RX, next_node="rx-3-0", port=3),
    record(event=pb.TRACE_EVENT_DROP, node="firewall", port=3, drop_reason="firewall"),
]


def test_shows_all_records_and_counts_lost_ones(service: tuple[CannedTrace, str]) -> None:
    canned, address = service
    canned.responses = [pb.TracePacketsResponse(records=RECORDS), pb.TracePacketsResponse(lost=5)]
    result = run(address, "--drops", "--nodes", "rx.*", "--filter", "udp")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [line(one) for one in RECORDS]
    assert "5 records lost" in result.stderr
    assert canned.requests == [pb.TracePacketsRequest(drops=True, nodes=True, node_pattern="rx.*", filter="udp")]


def test_ends_after_as_many_as_asked_for(service: tuple[CannedTrace, str]) -> None:
    canned, address = service
    canned.responses = [pb.TracePacketsResponse(records=RECORDS * 100)]
    assert len(run(address, "-c", "3").stdout.splitlines()) == 3


def test_names_reasons_when_asked(service: tuple[CannedTrace, str]) -> None:
    canned, address = service
    canned.responses = [pb.TracePacketsResponse(records=RECORDS)]
    assert run(address, "--reasons").stdout.splitlines() == [line(RECORDS[0]), line(RECORDS[1]) + " (firewall)"]
    assert canned.requests[0].drops


def test_writes_a_file(service: tuple[CannedTrace, str], tmp_path: Path) -> None:
    canned, address = service
    canned.responses = [pb.TracePacketsResponse(records=RECORDS)]
    file = tmp_path / "trace.pcap"
    result = run(address, "--pcap", str(file))
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert [bytes(packet) for packet in PcapReader(str(file))] == [one.data for one in RECORDS]
    assert canned.requests[0].snap_length == 9100
    missing = run(address, "--pcap", str(tmp_path / "no" / "such"))
    assert missing.exit_code == 1
    assert "No such file" in missing.output


def test_stops_the_trace_of_others(service: tuple[CannedTrace, str]) -> None:
    assert run(service[1], "--stop").stdout == "trace ended, 7 records, 2 lost\n"


def test_errors_are_told(service: tuple[CannedTrace, str], monkeypatch: pytest.MonkeyPatch) -> None:
    canned, address = service
    canned.busy = True
    busy = run(address)
    assert busy.exit_code == 1
    assert "packets are being traced already" in busy.output
    assert run(address, "--tls-cert", "x").exit_code == 2
    assert run(address, "--tls-ca", "/no/such").exit_code == 1
    monkeypatch.setattr("dpservice.dump.main._CONNECT_SECONDS", 0.2)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = run(f"127.0.0.1:{unused.getsockname()[1]}")
    assert gone.exit_code == 1
    assert "cannot connect" in gone.output
