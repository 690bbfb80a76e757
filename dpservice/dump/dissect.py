"""Frames as one line of text, in the form that readers of the reference's trace know."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address

from ironcore.dpservice.v1 import trace_pb2 as pb

_ETHER_IPV4, _ETHER_ARP, _ETHER_IPV6 = 0x0800, 0x0806, 0x86DD
_ICMP, _IPIP, _TCP, _UDP, _IPV6, _ICMPV6 = 1, 4, 6, 17, 41, 58
_EXTENSIONS = (0, 43, 60)
_FRAGMENT = 44
# Letters in the order in which they are shown, with their bits.
_TCP_FLAGS = (("F", 0x01), ("S", 0x02), ("R", 0x04), ("P", 0x08), ("A", 0x10), ("U", 0x20), ("E", 0x40), ("C", 0x80))
_COLUMN = 14


def line(record: pb.TraceRecord) -> str:
    """`HH:MM:SS.mmm id: from -> to: layers`, in UTC."""
    seconds, rest = divmod(record.timestamp_ns, 1_000_000_000)
    clock = datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")
    source = record.node or f"PORT {record.port}"
    ends = "DROP" if record.event == pb.TRACE_EVENT_DROP else f"PORT {record.port}"
    target = record.next_node or ends
    arrow = "->" if record.node and record.next_node else ">>"
    head = f"{clock}.{rest // 1_000_000:03} {record.packet_id}: {source:<{_COLUMN}} {arrow} {target:<{_COLUMN}}"
    return f"{head}: {' / '.join(layers(record.data))}"


def layers(frame: bytes) -> Iterator[str]:
    """The headers of an Ethernet frame from the outside in; ends where bytes are missing or unknown."""
    if len(frame) < 14:
        return
    yield f"{_mac(frame[6:12])} -> {_mac(frame[:6])}"
    ether_type, payload = int.from_bytes(frame[12:14]), frame[14:]
    if ether_type == _ETHER_IPV4:
        yield from _ipv4(payload)
    elif ether_type == _ETHER_IPV6:
        yield from _ipv6(payload)
    elif ether_type == _ETHER_ARP:
        yield from _arp(payload)


def _mac(octets: bytes) -> str:
    return octets.hex(":")


def _arp(body: bytes) -> Iterator[str]:
    if len(body) >= 28:
        yield f"ARP {int.from_bytes(body[6:8])} {IPv4Address(body[14:18])} -> {IPv4Address(body[24:28])}"


def _ipv4(packet: bytes) -> Iterator[str]:
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return
    yield f"{IPv4Address(packet[12:16])} -> {IPv4Address(packet[16:20])}"
    if int.from_bytes(packet[6:8]) & 0x1FFF == 0:
        yield from _transport(packet[9], packet[(packet[0] & 15) * 4 :])


def _ipv6(packet: bytes) -> Iterator[str]:
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return
    yield f"{IPv6Address(packet[8:24]).exploded} -> {IPv6Address(packet[24:40]).exploded}"
    proto, rest = packet[6], packet[40:]
    while len(rest) >= 8 and (proto in _EXTENSIONS or proto == _FRAGMENT):
        if proto == _FRAGMENT and int.from_bytes(rest[2:4]) & 0xFFF8:
            return
        length = 8 if proto == _FRAGMENT else (rest[1] + 1) * 8
        proto, rest = rest[0], rest[length:]
    yield from _transport(proto, rest)


def _transport(proto: int, data: bytes) -> Iterator[str]:
    if proto == _IPIP:
        yield from _ipv4(data)
    elif proto == _IPV6:
        yield from _ipv6(data)
    elif proto == _UDP and len(data) >= 8:
        source, target, length = (int.from_bytes(data[at : at + 2]) for at in (0, 2, 4))
        yield f"UDP {source} -> {target} len {length}"
    elif proto == _TCP and len(data) >= 14:
        source, target = int.from_bytes(data[:2]), int.from_bytes(data[2:4])
        flags = "".join(letter for letter, bit in _TCP_FLAGS if data[13] & bit)
        sequence, acknowledged = int.from_bytes(data[4:8]), int.from_bytes(data[8:12])
        yield f"TCP {source} -> {target} [{flags}] seq {sequence} ack {acknowledged}"
    elif proto in (_ICMP, _ICMPV6) and len(data) >= 8:
        yield f"ICMP {data[0]}-{data[1]} id {int.from_bytes(data[4:6])} seq {int.from_bytes(data[6:8])}"
