"""Packets of a real engine, traced over gRPC and by `dpservice-dump`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as dpdk
from ironcore.dpservice.v1 import trace_pb2 as pb
from ironcore.dpservice.v1 import trace_pb2_grpc
from scapy.layers.l2 import ARP, Ether

from tests.support.dpservice import EXECUTABLE, UPLINKS, Dpservice

DUMP = EXECUTABLE.with_name("dpservice-dump")
DEVICE = f"net_null{UPLINKS}"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dpservice]:
    with Dpservice(tmp_path_factory.mktemp("trace")) as running:
        stub = running.stub()
        stub.Initialize(dpdk.InitializeRequest())
        created = stub.CreateInterface(
            dpdk.CreateInterfaceRequest(
                interface_id=b"vm",
                device_name=DEVICE,
                vni=100,
                ipv4_config=dpdk.IpConfig(primary_address=b"10.0.0.1"),
                ipv6_config=dpdk.IpConfig(primary_address=b"::"),
            )
        )
        assert created.status.code == 0, created.status
        yield running


@pytest.fixture
def tracer(service: Dpservice) -> trace_pb2_grpc.TraceServiceStub:
    return trace_pb2_grpc.TraceServiceStub(service.channel())


def records(stream: Iterator[pb.TracePacketsResponse]) -> Iterator[pb.TraceRecord]:
    for response in stream:
        yield from response.records


def refusal(stream: Iterator[pb.TracePacketsResponse]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as refused:
        next(stream)
    return refused.value


def test_the_gateways_announcements_are_seen(tracer: trace_pb2_grpc.TraceServiceStub) -> None:
    stream = tracer.TracePackets(pb.TracePacketsRequest(filter="arp"), timeout=60)
    assert not next(stream).records
    record = next(records(stream))  # it repeats them every few seconds
    stream.cancel()
    assert record.event == pb.TRACE_EVENT_TX
    assert record.node == f"tx-{record.port}"
    frame = Ether(record.data)
    assert frame[ARP].psrc == "169.254.0.1"
    assert record.length == len(record.data)


def test_one_trace_at_a_time(tracer: trace_pb2_grpc.TraceServiceStub) -> None:
    first = tracer.TracePackets(pb.TracePacketsRequest(), timeout=60)
    next(first)
    assert refusal(tracer.TracePackets(pb.TracePacketsRequest(), timeout=60)).code() == grpc.StatusCode.ALREADY_EXISTS
    assert tracer.StopTrace(pb.StopTraceRequest(), timeout=60).lost == 0
    assert list(records(first)) is not None  # ends
    with pytest.raises(grpc.RpcError) as nothing:
        tracer.StopTrace(pb.StopTraceRequest(), timeout=60)
    assert nothing.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    again = tracer.TracePackets(pb.TracePacketsRequest(), timeout=60)
    next(again)
    again.cancel()


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (pb.TracePacketsRequest(filter="no such filter"), "filter 'no such filter'"),
        (pb.TracePacketsRequest(node_pattern="["), "node pattern '['"),
        (pb.TracePacketsRequest(snap_length=63), "snap_length"),
        (pb.TracePacketsRequest(ring_size=1), "ring_size"),
    ],
)
def test_bad_fields_are_named(
    tracer: trace_pb2_grpc.TraceServiceStub, request_: pb.TracePacketsRequest, text: str
) -> None:
    # The client before may have gone a moment ago: its trace ends when the engine notices.
    error = refusal(tracer.TracePackets(request_, timeout=60))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert text in error.details()


def test_the_program_shows_lines(service: Dpservice, tmp_path: Path) -> None:
    words = [str(DUMP), "--address", service.target, "--filter", "arp", "-c", "1"]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    (line,) = shown.stdout.splitlines()
    assert " >> PORT " in line
    assert "169.254.0.1 -> " in line
    file = tmp_path / "trace.pcap"
    subprocess.run([*words, "--pcap", str(file)], capture_output=True, timeout=60, check=True)
    assert file.stat().st_size > 24 + 16 + 42 - 1
