"""Every feature of the packet path through a real dpservice process on TAP devices: scapy packets in, packets out."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as pb
from ironcore.dpservice.v1 import dpservice_pb2 as own
from ironcore.dpservice.v1 import dpservice_pb2_grpc as own_grpc
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror, fragment
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from tests.support.dataplane import (
    OUT4,
    OUT6,
    REMOTE,
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
    prefix_of,
    tag_of,
    tagged,
    tap_host,
    udp,
)

VM4_2, VM6_2 = "10.0.0.2", "2001:db8::2"
VIP, NAT, BALANCED = "203.0.113.9", "203.0.113.1", "203.0.113.5"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with tap_host(f"dpf{os.getpid()}", tmp_path_factory.mktemp("dpservice")) as host:
        yield host


@pytest.mark.parametrize(
    ("vm", "outside", "version"), [(VM4, OUT4, 4), (VM6, OUT6, 6)], ids=["IPv4 overlay", "IPv6 overlay"]
)
def test_overlay_both_ways(host: Host, underlay: str, vm: str, outside: str, version: int) -> None:
    for number in range(2):  # by decision, then by the flow's program
        sent = udp(vm, outside, 1000, 53, f"out{version}{number}")
        frame = host.out(sent)
        outer = outer_of(frame)
        assert (outer.src, outer.dst, outer.nh) == (underlay, REMOTE, 41 if version == 6 else 4)
        assert bytes(inner_of(frame)) == bytes(sent)
        answer = udp(outside, vm, 53, 1000, f"in{version}{number}")
        assert bytes(host.into(underlay, answer)) == bytes(answer)


def test_vms_of_one_network_meet_and_those_of_two_do_not(host: Host) -> None:
    host.interface(1, VNI, VM4_2, VM6_2)
    host.interface(2, VNI + 1, VM4_2, VM6_2)
    for source, destination in ((VM4, VM4_2), (VM6, VM6_2)):
        sent = udp(source, destination, 1, 2, f"local{destination}")
        frame = host.send_and_expect("vf0", from_vm(sent), "vf1", has_tag(f"local{destination}"))
        assert bytes(inner_of(frame)) == bytes(sent)
    assert not [frame for frame in host.wires["vf2"].waiting() if tag_of(frame)]


def test_virtual_ip(host: Host) -> None:
    underlay = host.call("CreateVip", interface_id=b"vm0", vip_ip=address_of(VIP))
    translated = inner_of(host.out(udp(VM4, OUT4, 1000, 53, "vip out")))
    assert (ends(translated), translated.sport) == ((VIP, OUT4), 1000)
    back = host.into(underlay, udp(OUT4, VIP, 53, 1000, "vip back"))
    assert (ends(back), back.dport) == ((OUT4, VM4), 1000)
    opened = host.into(underlay, ip(OUT4, VIP) / TCP(sport=7, dport=80, flags="S") / tagged("vip in"))
    assert ends(opened) == (OUT4, VM4)
    answer = inner_of(host.out(ip(VM4, OUT4) / TCP(sport=80, dport=7, flags="SA") / tagged("vip answer")))
    assert (ends(answer), answer.sport) == ((VIP, OUT4), 80)


def add_nat(host: Host, first: int = 1024, last: int = 1032) -> str:
    return host.call("CreateNat", interface_id=b"vm0", nat_ip=address_of(NAT), min_port=first, max_port=last)


def test_nat_out_and_back(host: Host) -> None:
    underlay = add_nat(host)
    translated = inner_of(host.out(udp(VM4, OUT4, 1000, 53, "nat out")))
    assert ends(translated) == (NAT, OUT4)
    assert 1024 <= translated.sport < 1032
    back = host.into(underlay, udp(OUT4, NAT, 53, translated.sport, "nat back"))
    assert (ends(back), back.dport) == ((OUT4, VM4), 1000)
    echo = inner_of(host.out(ip(VM4, OUT4) / ICMP(type=8, id=77) / tagged("ping")))
    reply = host.into(underlay, ip(OUT4, NAT) / ICMP(type=0, id=echo[ICMP].id) / tagged("pong"))
    assert (ends(reply), reply[ICMP].id) == ((OUT4, VM4), 77)


def test_what_nobody_asked_for_does_not_pass_a_nat(host: Host, underlay: str) -> None:
    nat_underlay = add_nat(host)
    unsolicited = [from_fabric(nat_underlay, udp(OUT4, NAT, 53, port, f"unasked{port}")) for port in range(1024, 1032)]
    host.dropped("pf0", unsolicited, from_fabric(underlay, udp(OUT4, VM4, 1, 2, "asked")), "vf0")


def test_nat_exhaustion_concerns_one_destination(host: Host) -> None:
    add_nat(host, 1024, 1026)
    for port in (1, 2):
        host.out(udp(VM4, OUT4, port, 53, f"fits{port}"))
    host.dropped(
        "vf0",
        [from_vm(udp(VM4, OUT4, 3, 53, "too many"))],
        from_vm(udp(VM4, "198.51.100.8", 3, 53, "elsewhere")),
        "pf0",
    )


def test_nat64(host: Host) -> None:
    underlay = add_nat(host)
    frame = host.out(udp(VM6, f"64:ff9b::{OUT4}", 1000, 53, "six"))
    assert outer_of(frame).nh == 4
    translated = inner_of(frame)
    assert (translated.version, ends(translated)) == (4, (NAT, OUT4))
    back = host.into(underlay, udp(OUT4, NAT, 53, translated.sport, "four"))
    assert (back.version, ends(back), back.dport) == (6, ("64:ff9b::c633:6407", VM6), 1000)
    assert back[UDP].chksum != 0


def test_ports_of_a_neighbour_are_forwarded(host: Host) -> None:
    underlay = add_nat(host)
    neighbour = "fc00:7::d000:0:3"
    host.call(
        "CreateNeighborNat",
        nat_ip=address_of(NAT),
        vni=VNI,
        min_port=2000,
        max_port=3000,
        underlay_route=neighbour.encode(),
    )
    try:
        sent = udp(OUT4, NAT, 53, 2500, "neighbour")
        frame = host.send_and_expect("pf1", from_fabric(underlay, sent), "pf1", has_tag("neighbour"))
        assert outer_of(frame).dst == neighbour
        assert bytes(inner_of(frame)) == bytes(sent)
    finally:
        host.call("DeleteNeighborNat", nat_ip=address_of(NAT), vni=VNI, min_port=2000, max_port=3000)


def add_balancer(host: Host, *targets: str) -> str:
    underlay = host.call(
        "CreateLoadBalancer",
        loadbalancer_id=b"lb",
        loadbalanced_ip=address_of(BALANCED),
        vni=VNI,
        loadbalanced_ports=[pb.LbPort(port=80, protocol=pb.TCP)],
    )
    for target in targets:
        host.call("CreateLoadBalancerTarget", loadbalancer_id=b"lb", target_ip=address_of(target))
    return underlay


def to_balancer(source_port: int, tag: str, flags: str = "S") -> Packet:
    return ip(OUT4, BALANCED) / TCP(sport=source_port, dport=80, flags=flags) / tagged(tag)


def test_load_balancer_spreads_and_keeps_flows_on_other_hosts(host: Host) -> None:
    underlay = add_balancer(host, "fc00:3::d000:0:1", "fc00:4::d000:0:1", "fc00:5::d000:0:1")

    def target_of(port: int, tag: str, flags: str) -> str:
        sent = to_balancer(port, tag, flags)
        frame = host.send_and_expect("pf1", from_fabric(underlay, sent), "pf1", has_tag(tag))
        assert bytes(inner_of(frame)) == bytes(sent)
        target: str = outer_of(frame).dst
        return target

    chosen = {port: target_of(port, f"syn{port}", "S") for port in range(1000, 1030)}
    assert len(set(chosen.values())) == 3
    host.call("CreateLoadBalancerTarget", loadbalancer_id=b"lb", target_ip=address_of("fc00:6::d000:0:1"))
    assert {port: target_of(port, f"ack{port}", "A") for port in chosen} == chosen


def test_errors_about_unknown_flows_reach_their_target(host: Host) -> None:
    underlay = add_balancer(host, "fc00:3::d000:0:1", "fc00:4::d000:0:1", "fc00:5::d000:0:1")

    def target_of(sent: Packet, tag: str) -> str:
        frame = host.send_and_expect("pf1", from_fabric(underlay, sent), "pf1", has_tag(tag))
        assert bytes(inner_of(frame)) == bytes(sent)
        target: str = outer_of(frame).dst
        return target

    targets = set()
    for port in range(2000, 2020):
        answer = ip(BALANCED, OUT4) / TCP(sport=80, dport=port, flags="A") / tagged(f"quoted{port}")
        error = ip("192.0.2.1", BALANCED) / ICMP(type=3, code=4, nexthopmtu=1300) / bytes(answer)
        target = target_of(error, f"quoted{port}")
        assert target_of(to_balancer(port, f"later{port}"), f"later{port}") == target
        targets.add(target)
    assert len(targets) == 3


def test_load_balancer_with_a_target_on_this_host(host: Host) -> None:
    target = host.call("CreateLoadBalancerPrefix", interface_id=b"vm0", prefix=prefix_of(f"{BALANCED}/32"))
    underlay = add_balancer(host, target)
    request = to_balancer(999, "local target")
    assert bytes(host.into(underlay, request)) == bytes(request)
    answer = ip(BALANCED, OUT4) / TCP(sport=80, dport=999, flags="SA") / tagged("direct answer")
    assert bytes(inner_of(host.out(answer))) == bytes(answer)


def test_load_balancer_serves_its_ports_only(host: Host) -> None:
    underlay = add_balancer(host, "fc00:3::d000:0:1")
    other_port = ip(OUT4, BALANCED) / TCP(sport=1, dport=81, flags="S") / tagged("port 81")
    host.dropped("pf0", [from_fabric(underlay, other_port)], from_fabric(underlay, to_balancer(1, "port 80")), "pf0")


def allow(host: Host, destination_port: int) -> None:
    rule = pb.FirewallRule(
        id=b"web",
        direction=pb.INGRESS,
        action=pb.ACCEPT,
        priority=1000,
        source_prefix=prefix_of("0.0.0.0/0"),
        destination_prefix=prefix_of(f"{VM4}/32"),
        protocol_filter=pb.ProtocolFilter(
            tcp=pb.TcpFilter(
                src_port_lower=-1, src_port_upper=-1, dst_port_lower=destination_port, dst_port_upper=destination_port
            )
        ),
    )
    host.call("CreateFirewallRule", interface_id=b"vm0", rule=rule)


def test_firewall_accepts_drops_and_lets_answers_in(host: Host, underlay: str) -> None:
    allow(host, 80)

    def syn(port: int, tag: str) -> Packet:
        return ip(OUT4, VM4) / TCP(sport=7, dport=port, flags="S") / tagged(tag)

    host.into(underlay, syn(80, "allowed"))
    unwanted = [from_fabric(underlay, syn(81, "port 81")), from_fabric(underlay, udp(OUT4, VM4, 53, 1000, "unasked"))]
    host.dropped("pf0", unwanted, from_fabric(underlay, syn(80, "allowed again")), "vf0")
    host.out(udp(VM4, OUT4, 1000, 53, "question"))
    host.into(underlay, udp(OUT4, VM4, 53, 1000, "answer"))
    rule = host.stub.GetFirewallRule(pb.GetFirewallRuleRequest(interface_id=b"vm0", rule_id=b"web")).rule
    assert rule.protocol_filter.tcp.dst_port_lower == 80


def test_alias_prefix(host: Host) -> None:
    host.interface(1, VNI, VM4_2)
    underlay = host.call("CreatePrefix", interface_id=b"vm0", prefix=prefix_of("10.9.0.0/24"))
    host.into(underlay, udp(OUT4, "10.9.0.5", 1, 2, "alias from outside"))
    host.send_and_expect("vf1", from_vm(udp(VM4_2, "10.9.0.6", 1, 2, "alias local")), "vf0", has_tag("alias local"))
    assert ends(inner_of(host.out(udp("10.9.0.7", OUT4, 1, 2, "alias out")))) == ("10.9.0.7", OUT4)


def test_spoofed_sources_do_not_leave(host: Host) -> None:
    forged = [
        from_vm(udp(source, OUT6 if ":" in source else OUT4, 1, 2, f"forged{source}"))
        for source in ("10.0.0.99", "10.9.0.5", "0.0.0.1", "2001:db8::99")
    ]
    host.dropped("vf0", forged, from_vm(udp(VM4, OUT4, 1, 2, "honest")), "pf0")


def test_fragments_follow_their_first_through_a_nat(host: Host) -> None:
    add_nat(host)
    whole = ip(VM4, OUT4, id=99) / UDP(sport=1000, dport=53) / tagged("fragmented", 600)
    fragments = fragment(whole, fragsize=256)
    assert len(fragments) == 3
    for one in fragments:
        host.wires["vf0"].send(from_vm(one))

    def ours(frame: Packet) -> bool:
        return IP in frame and frame[IP].id == 99

    pieces = [host.wires["pf0"].expect(ours)[IP] for _ in fragments]
    assert {ends(piece) for piece in pieces} == {(NAT, OUT4)}
    payload = b"".join(bytes(piece.payload)[: piece.len - 20] for piece in sorted(pieces, key=lambda piece: piece.frag))
    datagram = inner_of(from_vm(IP(bytes(IP(src=NAT, dst=OUT4, proto=17) / payload))))
    assert 1024 <= datagram[UDP].sport < 1032
    assert bytes(datagram[UDP].payload) == bytes(whole[UDP].payload)


def test_icmp_errors_are_translated_in_both_headers(host: Host) -> None:
    underlay = add_nat(host)
    sent = inner_of(host.out(udp(VM4, OUT4, 1000, 53, "too long")))
    error = ip("192.0.2.1", NAT) / ICMP(type=3, code=4, nexthopmtu=1300) / bytes(sent)
    frame = host.send_and_expect(
        "pf0", from_fabric(underlay, error), "vf0", lambda frame: ICMP in frame and frame[ICMP].type == 3
    )
    received = frame[IP]
    assert (ends(received), received[ICMP].nexthopmtu) == (("192.0.2.1", VM4), 1300)
    assert (ends(received[IPerror]), received[UDPerror].sport) == ((VM4, OUT4), 1000)


def test_public_rate(running: Host) -> None:
    running.interface(0, VNI, VM4, VM6, metering_parameters=pb.MeteringParams(total_rate=1000, public_rate=1))
    running.route(VNI, "0.0.0.0/0")
    running.route(VNI, "198.51.0.0/16")
    try:
        # The bucket holds 135 168 bytes, and a second brings 131 072 more.
        count, length = 600, 1400
        packets = [
            from_vm(ip(VM4, "192.0.2.9") / UDP(sport=1, dport=2) / tagged(f"public{number}", length - 28))
            for number in range(count)
        ]
        for packet in packets:
            running.wires["vf0"].send(packet)
        running.wires["vf0"].send(from_vm(udp(VM4, OUT4, 1, 2, "not public")))
        passed = 0
        for frame in running.wires["pf0"].received():
            if tag_of(frame) == b"not public":
                break
            passed += tag_of(frame).startswith(b"public")
        assert 135168 // length <= passed < count
    finally:
        running.reset()


def test_flows_spread_over_next_hops_and_flow_labels(host: Host) -> None:
    host.route(VNI, "0.0.0.0/0", "fc00:3::d000:0:1")
    frames = [host.out(udp(VM4, OUT4, port, 53, f"flow{port}")) for port in range(1000, 1040)]
    outers = [outer_of(frame) for frame in frames]
    assert {outer.dst for outer in outers} == {REMOTE, "fc00:3::d000:0:1"}
    labels = {outer.fl for outer in outers}
    assert len(labels) > 30
    assert 0 not in labels
    again = outer_of(host.out(udp(VM4, OUT4, 1000, 53, "flow again")))
    assert (again.dst, again.fl) == (outers[0].dst, outers[0].fl)


def test_ipv6_extension_headers_pass(host: Host, underlay: str) -> None:
    from scapy.layers.inet6 import IPv6ExtHdrDestOpt

    sent = ip(VM6, OUT6) / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2) / tagged("extension")
    frame = host.out(sent)
    assert bytes(frame[IPv6].payload)[: len(sent)] == bytes(sent)
    assert outer_of(frame).src == underlay


def test_an_interface_has_its_quota_of_connections(host: Host, underlay: str) -> None:
    def segment(port: int, flags: str, tag: str) -> Packet:
        return ip(VM4, OUT4) / TCP(sport=port, dport=80, flags=flags) / tagged(tag)

    for port in (1, 2, 3):
        host.out(segment(port, "A", f"open{port}"))
        host.into(underlay, ip(OUT4, VM4) / TCP(sport=80, dport=port, flags="A") / tagged(f"answer{port}"))
    limits = own_grpc.InspectionServiceStub(host.channel)
    assert limits.SetFlowLimits(own.SetFlowLimitsRequest(interface_id="vm0", quota=3)).limits.quota == 3
    established = from_vm(segment(1, "A", "established"))
    host.dropped("vf0", [from_vm(segment(4, "S", "too many"))], established, "pf0")
    limits.SetFlowLimits(own.SetFlowLimitsRequest(interface_id="vm0", quota=4))
    host.out(segment(4, "S", "room"))
