"""Frames from descriptions: what a VM or another host would send. Pure, with correct lengths and checksums."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_IPIP, _IPV6_IN_IP = 4, 41
_IPV4_ADDRESS_LENGTH = 4
_ETHERTYPE_IPV4, _ETHERTYPE_IPV6 = 0x0800, 0x86DD
_TTL = 64
_DONT_FRAGMENT = 0x4000
_FLAGS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10, "U": 0x20, "E": 0x40, "C": 0x80}


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet. Addresses are 4 or 16 bytes, both of one family; ports and identifiers 0..65535."""

    source: bytes
    destination: bytes
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    tcp_flags: int = _FLAGS["S"]
    icmp_type: int = 0
    icmp_code: int = 0
    icmp_id: int = 0
    payload: bytes = field(default=b"", repr=False)


def tcp_flags(text: str) -> int:
    """Bits of flags by their letters, FSRPAUEC; no letter: SYN. Raises ValueError."""
    bits = 0
    for letter in text.upper():
        if letter not in _FLAGS:
            raise ValueError(f"'{letter}' is no TCP flag, they are {''.join(_FLAGS)}")
        bits |= _FLAGS[letter]
    return bits or _FLAGS["S"]


def ip_packet(packet: Packet) -> bytes:
    """The packet with its IP header. Raises ValueError if the addresses are of two families."""
    if len(packet.source) != len(packet.destination):
        raise ValueError("source and destination are of different families")
    segment = _segment(packet)
    if len(packet.source) == _IPV4_ADDRESS_LENGTH:
        start = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(segment), 0, _DONT_FRAGMENT, _TTL, packet.protocol)
        addresses = packet.source + packet.destination
        return start + struct.pack("!H", _checksum(start + addresses)) + addresses + segment
    return _ipv6_header(packet.source, packet.destination, packet.protocol, len(segment)) + segment


def from_vm(vm_mac: bytes, gateway_mac: bytes, packet: bytes) -> bytes:
    """The frame in which a VM sends an IP packet."""
    return gateway_mac + vm_mac + struct.pack("!H", _ethertype(packet)) + packet


def from_underlay(outer_source: bytes, outer_destination: bytes, packet: bytes) -> bytes:
    """The frame in which another host's IP packet arrives; its MACs do not matter."""
    inner = _IPV6_IN_IP if packet[0] >> 4 == 6 else _IPIP
    outer = _ipv6_header(outer_source, outer_destination, inner, len(packet))
    return bytes(12) + struct.pack("!H", _ETHERTYPE_IPV6) + outer + packet


def _ethertype(packet: bytes) -> int:
    return _ETHERTYPE_IPV6 if packet[0] >> 4 == 6 else _ETHERTYPE_IPV4


def _ipv6_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    return struct.pack("!IHBB", 6 << 28, length, protocol, _TTL) + source + destination


def _segment(packet: Packet) -> bytes:
    # The header with a checksum of zero, and where the checksum goes.
    ports = struct.pack("!HH", packet.source_port, packet.destination_port)
    if packet.protocol == TCP:
        segment, at = ports + struct.pack("!IIBBHHH", 0, 0, 5 << 4, packet.tcp_flags, 65535, 0, 0), 16
    elif packet.protocol == UDP:
        segment, at = ports + struct.pack("!HH", 8 + len(packet.payload), 0), 6
    elif packet.protocol in (ICMP, ICMPV6):
        segment, at = struct.pack("!BBHHH", packet.icmp_type, packet.icmp_code, 0, packet.icmp_id, 1), 2
    else:
        return packet.payload
    segment += packet.payload
    pseudo = b""
    if packet.protocol != ICMP:
        pseudo = packet.source + packet.destination + struct.pack("!II", len(segment), packet.protocol)
    value = _checksum(pseudo + segment)
    if packet.protocol == UDP and value == 0:
        value = 0xFFFF
    return segment[:at] + struct.pack("!H", value) + segment[at + 2 :]


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
