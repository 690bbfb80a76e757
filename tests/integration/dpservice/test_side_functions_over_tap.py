"""What else the engine does to packets, through a real dpservice process on TAP devices: virtual services, copies,
traces, rates, sizes, public IPv6 addresses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as pb
from ironcore.dpservice.v1 import trace_pb2, trace_pb2_grpc
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPerror6, IPv6, in6_chksum
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import checksum

from tests.support.dataplane import (
    GATEWAY_MAC,
    HOST,
    OUT4,
    OUT6,
    ROUTER_MAC,
    VM4,
    VM6,
    VNI,
    Host,
    address_of,
    ends,
    from_fabric,
    from_vm,
    has_tag,
    inner_of,
    ip,
    outer_of,
    tag_of,
    tagged,
    tap_host,
    udp,
    with_right_checksums,
)

VIP6, NAT6 = "2001:db8:99::9", "2001:db8:99::1"
SINK = "fc00:9::9"
VIRTUAL, SERVER, OTHER_SERVER = "169.254.1.53", "fc00:77::53", "fc00:77::54"
OPTIONS = (
    f"--udp-virtsvc={VIRTUAL},53,{SERVER},5353",
    f"--tcp-virtsvc={VIRTUAL},80,{SERVER},8080",
    "--ipv6-public=on",
)
ROOM = 1500 - 40
"""Of a device on both sides, behind an outer header on one."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with tap_host(f"dps{os.getpid()}", tmp_path_factory.mktemp("dpservice"), *OPTIONS) as host:
        yield host


def without_overlay(source: str, destination: str, transport: Packet) -> Packet:
    """A packet of the fabric itself."""
    return Ether(src=ROUTER_MAC, dst=GATEWAY_MAC) / IPv6(src=source, dst=destination) / transport


@pytest.mark.parametrize(
    ("transport", "port", "server_port", "address"),
    [(UDP, 53, 5353, "fc00:1::d0ff:4000:0:0"), (TCP, 80, 8080, "fc00:1::d0ff:4000:100:0")],
    ids=["UDP", "TCP"],
)
def test_virtual_service(
    host: Host, transport: Callable[..., Packet], port: int, server_port: int, address: str
) -> None:
    for number in range(2):  # by decision, then by the flow's program
        sent = ip(VM4, VIRTUAL) / transport(sport=1000, dport=port) / tagged(f"ask{number}")
        request = host.out(sent)
        assert ends(request[IPv6]) == (address, SERVER)
        with_right_checksums(request[IPv6])
        assert request.dport == server_port
        answer = transport(sport=server_port, dport=request.sport) / tagged(f"tell{number}")
        frame = host.send_and_expect("pf0", without_overlay(SERVER, address, answer), "vf0", has_tag(f"tell{number}"))
        received = inner_of(frame)
        assert (ends(received), received.sport, received.dport) == ((VIRTUAL, VM4), port, 1000)


def test_virtual_service_answers_come_from_its_server_only(host: Host) -> None:
    request = host.out(udp(VM4, VIRTUAL, 1000, 53, "ask"))

    def answer(source: str, port: int, tag: str) -> Packet:
        return without_overlay(source, request[IPv6].src, UDP(sport=5353, dport=port) / tagged(tag))

    forged = [
        answer(OTHER_SERVER, request.sport, "other server"),
        answer(SERVER, request.sport + 1, "nobody's port"),
    ]
    host.dropped("pf0", forged, answer(SERVER, request.sport, "its server"), "vf0")


def is_copy(tag: str) -> Callable[[Packet], bool]:
    return lambda frame: IPv6 in frame and frame[IPv6].dst == SINK and tag_of(frame) == tag.encode()


def test_capture_to_a_udp_sink(host: Host, underlay: str) -> None:
    interfaces = [
        pb.CapturedInterface(interface_type=pb.SINGLE_VF, vf_name=b"vm0"),
        pb.CapturedInterface(interface_type=pb.SINGLE_PF, pf_index=1),
    ]
    config = pb.CaptureConfig(
        sink_node_ip=address_of(SINK), udp_src_port=3000, udp_dst_port=3100, interfaces=interfaces
    )
    host.call("CaptureStart", capture_config=config)
    try:
        sent = from_vm(udp(VM4, OUT4, 1000, 53, "from the VM"))
        arrived = from_fabric(underlay, udp(OUT4, VM4, 53, 1000, "from the fabric"))
        for device, original, tag in (("vf0", sent, "from the VM"), ("pf1", arrived, "from the fabric")):
            copy = host.send_and_expect(device, original, "pf0", is_copy(tag))
            outer = copy[IPv6]
            assert (ends(outer), outer.nh, outer.hlim) == ((HOST, SINK), 17, 64)
            assert (outer[UDP].sport, outer[UDP].dport, outer[UDP].chksum) == (3000, 3100, 0)
            assert bytes(outer[UDP].payload) == bytes(original)
        # The packets themselves go on.
        host.wires["vf0"].expect(has_tag("from the fabric"))
    finally:
        host.call("CaptureStop")
    host.wires["pf0"].waiting()
    # A copy would leave before the next packet does.
    host.out(udp(VM4, OUT4, 1000, 53, "after"))
    host.wires["vf0"].send(from_vm(udp(VM4, OUT4, 1000, 53, "later")))
    assert not [frame for frame in host.wires["pf0"].until(has_tag("later")) if is_copy("after")(frame)]


def records_of(
    stream: Iterator[trace_pb2.TracePacketsResponse], tag: str, last: trace_pb2.TraceEvent
) -> list[trace_pb2.TraceRecord]:
    """What is told about a packet, up to its last event."""
    found: list[trace_pb2.TraceRecord] = []
    for response in stream:
        for record in response.records:
            if tag_of(record.data) == tag.encode():
                found.append(record)
                if record.event == last:
                    return found
    raise AssertionError(f"the trace ended before {tag}")


def test_trace(host: Host) -> None:
    tracer = trace_pb2_grpc.TraceServiceStub(host.channel)
    stream = tracer.TracePackets(trace_pb2.TracePacketsRequest(drops=True, nodes=True), timeout=60)
    assert not next(stream).records
    sent = udp(VM4, OUT4, 1000, 53, "traced")
    frame = host.out(sent)
    records = records_of(stream, "traced", trace_pb2.TRACE_EVENT_TX)
    first, *steps, last = records
    assert {record.packet_id for record in records} == {first.packet_id}
    assert (first.event, first.data) == (trace_pb2.TRACE_EVENT_RX, bytes(from_vm(sent)))
    assert [step.node for step in steps] == [
        f"rx-{first.port}-0",
        "cls",
        "conntrack",
        "ipv4_lookup",
        "firewall",
        "ipip_encap",
    ]
    assert (last.node, last.data) == (f"tx-{last.port}", bytes(frame))
    host.wires["vf0"].send(from_vm(udp("10.0.0.99", OUT4, 1000, 53, "forged")))
    dropped = records_of(stream, "forged", trace_pb2.TRACE_EVENT_DROP)
    assert (dropped[-1].drop_reason, dropped[-1].packet_id != first.packet_id) == ("spoofed_source", True)
    stream.cancel()


def test_total_rate(running: Host) -> None:
    running.interface(0, VNI, VM4, VM6, metering_parameters=pb.MeteringParams(total_rate=1))
    running.route(VNI, "198.51.0.0/16")  # no default route: the total rate counts everything
    try:
        # The bucket holds 131 072 bytes, and a second brings as many again.
        count, length = 600, 1400
        for number in range(count):
            packet = ip(VM4, OUT4) / UDP(sport=1, dport=2) / tagged(f"total{number}", length - 28)
            running.wires["vf0"].send(from_vm(packet))
        # The gateway's answer is not metered, and comes when everything before it was looked at.
        ping = from_vm(ip(VM4, "169.254.0.1") / ICMP(type=8, id=7) / tagged("ping"))
        running.send_and_expect("vf0", ping, "vf0", has_tag("ping"))
        passed = sum(tag_of(frame).startswith(b"total") for frame in running.wires["pf0"].waiting())
        assert 131072 // length <= passed < count
    finally:
        running.reset()


@pytest.mark.parametrize(("vm", "outside"), [(VM4, OUT4), (VM6, OUT6)], ids=["IPv4", "IPv6"])
def test_who_sends_too_much_at_once_is_told_what_fits(host: Host, vm: str, outside: str) -> None:
    def of_length(length: int, tag: str) -> Packet:
        packet = ip(vm, outside) / UDP(sport=1000, dport=53)
        if IP in packet:
            packet[IP].flags = "DF"
        return packet / tagged(tag, length - len(packet))

    def is_error(frame: Packet) -> bool:
        return IPerror in frame or IPerror6 in frame

    for number in range(2):  # by decision, then by the flow's program
        big = of_length(ROOM + 1, f"too big{number}")
        received = host.send_and_expect("vf0", from_vm(big), "vf0", is_error).payload
        assert received.dst == vm
        message = bytes(received.payload)
        if vm == VM4:
            error = received[ICMP]
            assert (error.type, error.code, error.nexthopmtu) == (3, 4, ROOM)
            assert checksum(message) == checksum(bytes(received)[:20]) == 0
            quoted = received[IPerror]
        else:
            assert received[ICMPv6PacketTooBig].mtu == ROOM
            assert in6_chksum(58, received, message) == 0
            quoted = received[IPerror6]
        assert bytes(big).startswith(bytes(quoted)[:28])
        fits = of_length(ROOM, f"fits{number}")
        host.wires["vf0"].send(from_vm(fits))
        *others, frame = host.wires["pf0"].until(has_tag(f"fits{number}"))
        assert bytes(inner_of(frame)) == bytes(fits)
        assert not [other for other in others if tag_of(other).startswith(b"too big")]


def test_public_ipv6_addresses(host: Host) -> None:
    underlay = host.call("CreateVip", interface_id=b"vm0", vip_ip=address_of(VIP6))
    frame = host.out(udp(VM6, OUT6, 1000, 53, "vip out"))
    assert outer_of(frame).nh == 41
    translated = inner_of(frame)
    assert (ends(translated), translated.sport) == ((VIP6, OUT6), 1000)
    back = host.into(underlay, udp(OUT6, VIP6, 53, 1000, "vip back"))
    assert (ends(back), back.dport) == ((OUT6, VM6), 1000)
    host.call("DeleteVip", interface_id=b"vm0")
    underlay = host.call("CreateNat", interface_id=b"vm0", nat_ip=address_of(NAT6), min_port=1024, max_port=1032)
    translated = inner_of(host.out(udp(VM6, OUT6, 2000, 53, "nat out")))
    assert ends(translated) == (NAT6, OUT6)
    assert 1024 <= translated.sport < 1032
    back = host.into(underlay, udp(OUT6, NAT6, 53, translated.sport, "nat back"))
    assert (ends(back), back.dport) == ((OUT6, VM6), 2000)
    other = 1024 + (translated.sport - 1023) % 8
    unasked = from_fabric(underlay, udp(OUT6, NAT6, 53, other, "unasked"))
    host.dropped("pf0", [unasked], from_fabric(underlay, udp(OUT6, NAT6, 53, translated.sport, "asked")), "vf0")
