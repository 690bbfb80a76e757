"""Frames from descriptions, against scapy."""

from __future__ import annotations

import ipaddress

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from dpservice import packets

V4 = ("10.0.0.1", "192.0.2.9")
V6 = ("2001:db8::1", "2001:db8:9::9")


def _packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def _ip(ends: tuple[str, str]) -> ScapyPacket:
    if ":" in ends[0]:
        return IPv6(src=ends[0], dst=ends[1], hlim=64)
    return IP(src=ends[0], dst=ends[1], ttl=64, id=0, flags="DF")


@pytest.mark.parametrize("ends", [V4, V6])
@pytest.mark.parametrize("length", [0, 1, 333])
@pytest.mark.parametrize("protocol", [packets.TCP, packets.UDP, packets.ICMP, 132])
def test_bytes_are_those_of_scapy(ends: tuple[str, str], length: int, protocol: int) -> None:
    is_v6 = ends is V6
    if protocol == packets.ICMP and is_v6:
        protocol = packets.ICMPV6
    built = packets.ip_packet(
        packets.Packet(
            _packed(ends[0]), _packed(ends[1]), protocol, source_port=1000, destination_port=53, tcp_flags=0x12,
            icmp_type=128 if is_v6 else 8, icmp_id=7, payload=bytes(length),
        )
    )  # fmt: skip
    layers = {
        packets.TCP: TCP(sport=1000, dport=53, flags="SA", window=65535),
        packets.UDP: UDP(sport=1000, dport=53),
        packets.ICMP: ICMP(type=8, id=7, seq=1),
        packets.ICMPV6: ICMPv6EchoRequest(id=7, seq=1),
    }
    expected = _ip(ends) / layers[protocol] if protocol in layers else _ip(ends)
    if protocol not in layers:
        setattr(expected, "nh" if is_v6 else "proto", protocol)
    assert built == bytes(expected / Raw(bytes(length)))


def test_udp_checksum_is_never_zero() -> None:
    # The sum over this packet is 0xffff, whose complement stands for "no checksum".
    for port in range(65536):
        packet = packets.Packet(_packed(V4[0]), _packed(V4[1]), packets.UDP, source_port=port)
        assert packets.ip_packet(packet)[26:28] != b"\0\0"
        if packets.ip_packet(packet)[26:28] == b"\xff\xff":
            return
    pytest.fail("no such packet")


def test_frames() -> None:
    packet = packets.ip_packet(packets.Packet(_packed(V4[0]), _packed(V4[1]), packets.TCP))
    frame = Ether(packets.from_vm(b"\x02" * 6, b"\x04" * 6, packet))
    assert (frame.src, frame.dst, frame.type) == ("02:02:02:02:02:02", "04:04:04:04:04:04", 0x800)
    outer = Ether(packets.from_underlay(_packed(V6[0]), _packed(V6[1]), packet))[IPv6]
    assert (outer.src, outer.dst, outer.nh, outer.plen) == (*V6, 4, len(packet))
    assert bytes(outer.payload) == packet
    six = packets.ip_packet(packets.Packet(_packed(V6[0]), _packed(V6[1]), packets.TCP))
    assert Ether(packets.from_vm(b"\x02" * 6, b"\x04" * 6, six)).type == 0x86DD
    assert Ether(packets.from_underlay(_packed(V6[0]), _packed(V6[1]), six))[IPv6].nh == 41


def test_families_must_agree() -> None:
    with pytest.raises(ValueError, match="different families"):
        packets.ip_packet(packets.Packet(_packed(V4[0]), _packed(V6[1]), packets.TCP))


@pytest.mark.parametrize(("text", "bits"), [("", 0x02), ("S", 0x02), ("sa", 0x12), ("FPU", 0x29), ("RCE", 0xC4)])
def test_tcp_flags(text: str, bits: int) -> None:
    assert packets.tcp_flags(text) == bits


def test_unknown_tcp_flag() -> None:
    with pytest.raises(ValueError, match="'X' is no TCP flag"):
        packets.tcp_flags("SX")
