"""What a malicious guest may send, sorted by how it must end. The same seed gives the same frames."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_RelayForward, DHCP6_Solicit, DHCP6OptClientId, DHCP6OptIA_NA
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

GATEWAY_IPV4, GATEWAY_IPV6 = "169.254.0.1", "fe80::1"
# Nobody has these in the networks of the lab.
STRANGER_IPV4, STRANGER_IPV6 = "10.20.0.99", "fd20::99"
MARK = b"from a malicious guest"
ETHERNET = 14
_LONGEST = 1514


@dataclass(frozen=True)
class Attack:
    """Frames of one kind, and the names of the drops in which all of them must end; none: they are delivered."""

    name: str
    frames: tuple[bytes, ...]
    drops: frozenset[str]


@dataclass(frozen=True)
class Attacker:
    """Makes attacks of a guest with these addresses against another one of its network.

    IPv4 fragments are noise only: the AF_PACKET driver has the kernel put them together before the engine sees them.
    underlay: an underlay address of a third guest, which only hosts may use.
    """

    mac: str
    ipv4: str
    ipv6: str
    victim_ipv4: str
    victim_ipv6: str
    underlay: str
    seed: int

    @property
    def ether(self) -> Packet:
        """Start of a frame from this guest; engines do not look at the destination."""
        return Ether(src=self.mac, dst="02:00:00:00:00:fe")

    @property
    def _ip(self) -> Packet:
        return self.ether / IP(src=self.ipv4, dst=self.victim_ipv4)

    @property
    def _ip6(self) -> Packet:
        return self.ether / IPv6(src=self.ipv6, dst=self.victim_ipv6)

    def attacks(self) -> list[Attack]:
        """All kinds whose end is known."""
        return [
            _attack("unknown Ethernet types", self._unknown_types(), "ethertype_unsupported"),
            _attack("VLAN tags", self._vlan(), "vlan_tagged"),
            _attack("truncated IP", self._truncated(), "truncated"),
            _attack("IP headers that lie", self._lies(), "ip_malformed", "truncated"),
            _attack("broken ARP", self._arp(), "arp_malformed", "arp_not_gateway"),
            _attack("broken ND", self._nd(), "nd_malformed", "nd_not_gateway", "nd_from_guest"),
            _attack("broken DHCP", self._dhcp(), "dhcp4_malformed", "dhcp4_relayed", "dhcp4_message_type"),
            _attack("broken DHCPv6", self._dhcp6(), "dhcp6_malformed", "dhcp6_message_type"),
            _attack("broken pings of the gateway", self._gateway_pings(), "icmp_malformed"),
            _attack("ICMP that is not forwarded", self._icmp(), "icmp_type_unsupported", "icmp_error_malformed"),
            _attack("chains of extension headers", self._chains(), "ip_extension_headers", "truncated"),
            _attack("fragments", self._bad_fragments(), "truncated", "spoofed_source"),
            _attack("group addresses as senders", self._group_senders(), "guest_eth_source"),
            _attack("overlay packets", self._overlay(), "no_route", "spoofed_source"),
            _attack("what no router forwards", self._link_local(), "link_local"),
        ]

    def odd(self) -> Attack:
        """What looks strange and is allowed, so that the victim gets it."""
        return _attack("options, chains and fragments that are allowed", self._odd())

    def noise(self, count: int) -> Iterator[bytes]:
        """Good frames with random changes behind the Ethernet addresses, cuts and random bytes; any end is right."""
        chance = random.Random(self.seed)
        seeds = [
            bytes(frame)
            for frame in (
                self._ip / UDP(sport=9, dport=9) / MARK,
                self._ip / TCP(sport=9, dport=9) / MARK,
                self._ip / ICMP() / MARK,
                self.ether / IP(src=self.ipv4, dst=self.victim_ipv4, flags="MF", frag=1, proto=17) / MARK,
                self._ip6 / UDP(sport=9, dport=9) / MARK,
                self._ip6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(m=1) / UDP() / MARK,
                self._ip6 / ICMPv6EchoRequest() / MARK,
                self.ether / ARP(hwsrc=self.mac, psrc=STRANGER_IPV4, pdst=GATEWAY_IPV4),
                self._solicitation(GATEWAY_IPV6),
                self.ether / IPv6(src=self.ipv6, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=self.ipv6),
                self._discover(),
                self._solicit(),
            )
        ]
        for _ in range(count):
            frame = bytearray(chance.choice(seeds))
            if chance.random() < 0.2:
                frame[ETHERNET:] = chance.randbytes(chance.randrange(1, _LONGEST - ETHERNET))
            for _ in range(chance.randrange(6)):
                frame[chance.randrange(ETHERNET - 2, len(frame))] = chance.randrange(256)
            if chance.random() < 0.2:
                del frame[chance.randrange(ETHERNET + 1, len(frame)) :]
            yield bytes(frame)

    def _unknown_types(self) -> Iterator[Packet]:
        chance = random.Random(self.seed)
        for ether_type in (0x0000, 0x0026, 0x05DC, 0x0600, 0x0801, 0x8035, 0x8847, 0x8863, 0x88CC, 0x88E5, 0xFFFF):
            for length in (1, 46, chance.randrange(2, 1500), 1500):
                yield Ether(src=self.mac, dst="ff:ff:ff:ff:ff:ff", type=ether_type) / chance.randbytes(length)

    def _vlan(self) -> Iterator[Packet]:
        for tag in (Dot1Q(vlan=1), Dot1Q(vlan=0), Dot1Q(vlan=4095), Dot1AD(vlan=5) / Dot1Q(vlan=6)):
            for inner in (self._ip / UDP() / MARK, self._ip6 / UDP() / MARK, self._arp_request()):
                yield self.ether / tag / inner.payload

    def _truncated(self) -> Iterator[bytes]:
        for packet in (
            self._ip / TCP() / b"x",
            self._ip / UDP() / b"x",
            self._ip / ICMP(),
            self._ip6 / TCP(),
            self._ip6 / IPv6ExtHdrHopByHop() / UDP() / b"x",
            self._ip6 / ICMPv6EchoRequest(),
        ):
            frame = bytes(packet)
            for length in range(ETHERNET + 1, len(frame), 3):
                yield frame[:length]

    def _lies(self) -> Iterator[Packet]:
        for change in (
            {"version": 5}, {"version": 6}, {"version": 0}, {"ihl": 0}, {"ihl": 4}, {"ihl": 15}, {"ihl": 15, "len": 59},
            {"len": 0}, {"len": 19}, {"len": 27}, {"len": 1500}, {"len": 65535},
        ):  # fmt: skip
            packet = self._ip / UDP(sport=9, dport=9) / MARK[:2]
            for field, value in change.items():
                setattr(packet[IP], field, value)
            yield packet
        for change in ({"version": 4}, {"version": 7}, {"plen": 65535}, {"plen": 1200}, {"plen": 0}, {"plen": 7}):
            packet = self._ip6 / UDP(sport=9, dport=9) / MARK
            for field, value in change.items():
                setattr(packet[IPv6], field, value)
            yield packet

    def _arp_request(self) -> Packet:
        return self.ether / ARP(hwsrc=self.mac, psrc=self.ipv4, pdst=GATEWAY_IPV4)

    def _arp(self) -> Iterator[Packet | bytes]:
        request = self._arp_request()
        for change in ({"hwtype": 6}, {"ptype": 0x86DD}, {"hwlen": 8}, {"plen": 16}, {"hwlen": 255, "plen": 255}):
            packet = request.copy()
            for field, value in change.items():
                setattr(packet[ARP], field, value)
            yield packet
        for length in range(ETHERNET + 1, len(bytes(request)), 4):
            yield bytes(request)[:length]
        # Under its own address, the guest's DHCP client would take it for a conflict.
        yield self.ether / ARP(hwsrc="ff:ff:ff:ff:ff:ff", psrc=STRANGER_IPV4, pdst=GATEWAY_IPV4)
        # The claims of an ARP spoofer, as requests and replies.
        for claimed in (self.victim_ipv4, GATEWAY_IPV4):
            for operation in (1, 2):
                yield self.ether / ARP(op=operation, hwsrc=self.mac, psrc=claimed, pdst=self.victim_ipv4)
            yield self.ether / ARP(op=2, hwsrc=self.mac, psrc=claimed, pdst=claimed)

    def _solicitation(self, target: str) -> Packet:
        return self.ether / IPv6(src=self.ipv6, dst=GATEWAY_IPV6, hlim=255) / ICMPv6ND_NS(tgt=target)

    def _nd(self) -> Iterator[Packet]:
        yield self._solicitation(self.victim_ipv6)
        good = self._solicitation(GATEWAY_IPV6)
        for layer, field, value in (
            (IPv6, "hlim", 64), (ICMPv6ND_NS, "cksum", 0x1234), (ICMPv6ND_NS, "code", 1), (IPv6, "src", "ff02::1"),
        ):  # fmt: skip
            packet = good.copy()
            setattr(packet[layer], field, value)
            yield packet
        for option in (b"\1\0\2\2\2\2\2\2", b"\1\2\2\2\2\2\2\2", b"\1", b"\1\1" + b"\2" * 14, b"\x0e\xff" + b"\0" * 6):
            yield good / Raw(option)
        yield self.ether / IPv6(src="::", dst=GATEWAY_IPV6, hlim=255) / ICMPv6ND_NS(tgt=GATEWAY_IPV6)
        yield self.ether / IPv6(src=self.ipv6, dst="ff02::2", hlim=3) / ICMPv6ND_RS()
        yield self.ether / IPv6(src=self.ipv6, dst="ff02::2", hlim=255) / ICMPv6ND_RS() / Raw(b"\1\0" + b"\0" * 6)
        # The claims of a rogue router.
        for source in (self.ipv6, GATEWAY_IPV6):
            for target in ("ff02::1", self.victim_ipv6):
                start = self.ether / IPv6(src=source, dst=target, hlim=255)
                yield start / ICMPv6ND_RA()
                yield start / ICMPv6ND_Redirect(tgt=self.ipv6, dst=self.victim_ipv6)

    def _bootp(self, **fields: object) -> Packet:
        udp = self.ether / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
        return udp / BOOTP(chaddr=bytes.fromhex(self.mac.replace(":", "")), xid=7, **fields)

    def _discover(self) -> Packet:
        return self._bootp() / DHCP(options=[("message-type", "discover"), "end"])

    def _dhcp(self) -> Iterator[Packet]:
        discover = DHCP(options=[("message-type", "discover"), "end"])
        for fields in ({"op": 2}, {"htype": 6}, {"hlen": 16}, {"options": b"\0\0\0\0"}):
            yield self._bootp(**fields) / discover
        for relay in ("10.9.9.9", self.victim_ipv4, "255.255.255.255"):
            yield self._bootp(giaddr=relay) / discover
        for kind in (2, 5, 6, 9, 14, 255):
            yield self._bootp() / DHCP(options=[("message-type", kind), "end"])
        cookie = b"c\x82Sc"
        for options in (b"", b"\x35", b"\x35\xff\1", b"\x35\1\1\x3d\xc8\1", b"\x34\1\1\x35\1\1\xff"):
            yield self._bootp(options=cookie, file=b"\xfa\xfa" * 64) / Raw(options)
        yield self.ether / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / Raw(b"\1\1\6\0" * 9)
        lie = self._discover()
        lie[UDP].len = 1400
        yield lie

    def _dhcp6_start(self) -> Packet:
        return self.ether / IPv6(src="fe80::1234", dst="ff02::1:2") / UDP(sport=546, dport=547)

    def _solicit(self) -> Packet:
        return self._dhcp6_start() / DHCP6_Solicit(trid=7) / DHCP6OptClientId(duid=b"\0\3\0\1abcdef") / DHCP6OptIA_NA()

    def _dhcp6(self) -> Iterator[Packet]:
        for kind in (0, 2, 7, 10, 12, 13, 255):
            packet = self._solicit()
            packet[DHCP6_Solicit].msgtype = kind
            yield packet
        for options in (
            b"\0", b"\0\1", b"\0\1\xff\xff", b"\0\1\0\x0a\0", b"\0\3\0\4\0\0\0\0", b"\0\1\x04\0" + b"d" * 1024,
            b"\0\3\0\x14" + b"\0" * 12 + b"\0\5\0\x18", b"\0\3\0\x18" + b"\0" * 12 + b"\0\5\0\x08" + b"\0" * 8,
        ):  # fmt: skip
            yield self._dhcp6_start() / DHCP6_Solicit(trid=7) / Raw(options)
        yield self._dhcp6_start() / Raw(b"\1\0")
        yield self._dhcp6_start() / DHCP6_RelayForward(linkaddr="::", peeraddr="fe80::1") / Raw(b"\0\x09\xff\xff")
        lie = self._solicit()
        lie[UDP].len = 4
        yield lie

    def _gateway_pings(self) -> Iterator[Packet]:
        for size in (0, 56, 1400):
            yield self.ether / IP(src=self.ipv4, dst=GATEWAY_IPV4) / ICMP(chksum=0x1234) / Raw(b"x" * size)
            yield self.ether / IPv6(src=self.ipv6, dst=GATEWAY_IPV6) / ICMPv6EchoRequest(cksum=0x1234, data=b"x" * size)

    def _icmp(self) -> Iterator[Packet]:
        for kind, code in ((3, 0), (3, 13), (4, 0), (5, 1), (8, 1), (9, 0), (10, 0), (11, 0), (12, 0), (13, 0)):
            yield self._ip / ICMP(type=kind, code=code) / Raw(MARK)

    def _chains(self) -> Iterator[Packet]:
        for length in (9, 10, 40, 80):
            yield self._chain([IPv6ExtHdrDestOpt()] * length)
            yield self._chain([IPv6ExtHdrHopByHop(), IPv6ExtHdrRouting()] * length)
        for header in (IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting):
            yield self._ip6 / header(len=255) / UDP() / MARK
        for next_header in (0, 43, 44, 51, 60):
            yield self.ether / IPv6(src=self.ipv6, dst=self.victim_ipv6, nh=next_header) / Raw(b"\x3b\0\0\0")

    def _chain(self, headers: Iterable[Packet]) -> Packet:
        packet = self._ip6
        for header in headers:
            packet = packet / header.copy()
        return packet / UDP(sport=9, dport=9) / MARK

    def _bad_fragments(self) -> Iterator[Packet]:
        for size in (0, 4, 7):
            yield self._ip6 / IPv6ExtHdrFragment(m=1, nh=17) / Raw(b"x" * size)
        for offset in (1, 100, 8191):
            later = IPv6ExtHdrFragment(offset=offset, nh=17) / MARK
            yield self.ether / IPv6(src=STRANGER_IPV6, dst=self.victim_ipv6) / later

    def _group_senders(self) -> Iterator[Packet]:
        for mac in ("ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01"):
            for packet in (
                self._arp_request(),
                self._solicitation(GATEWAY_IPV6),
                self._discover(),
                self._solicit(),
            ):
                packet[Ether].src = mac
                yield packet

    def _overlay(self) -> Iterator[Packet]:
        inner = IP(src=self.victim_ipv4, dst=self.ipv4) / UDP() / MARK
        inner6 = IPv6(src=self.victim_ipv6, dst=self.ipv6) / UDP() / MARK
        for source in (self.ipv6, self.underlay):
            for payload in (inner, inner6):
                yield self.ether / IPv6(src=source, dst=self.underlay) / payload

    def _link_local(self) -> Iterator[Packet]:
        for target in ("255.255.255.255", "224.0.0.1", "224.0.0.251", "0.0.0.0"):
            yield self.ether / IP(src=self.ipv4, dst=target) / UDP(sport=9, dport=9) / MARK
        for target in ("ff01::1", "ff02::5", "ff02::fb", "fe80::2", "febf::2"):
            yield self.ether / IPv6(src=self.ipv6, dst=target) / UDP(sport=9, dport=9) / MARK
        yield self.ether / IPv6(src="fe80::1234", dst=self.victim_ipv6) / UDP(sport=9, dport=9) / MARK
        yield self.ether / IPv6(src="fe80::1234", dst=self.victim_ipv6, hlim=255) / ICMPv6EchoRequest(data=MARK)

    def _odd(self) -> Iterator[Packet]:
        source_route = b"\x83\x0b\4" + b"\1\2\3\4" * 2 + b"\0"
        for options in (b"\1" * 40, b"\7\x27\4" + b"\0" * 37, source_route, b"\x44\xff\xff\xff"):
            packet = self.ether / IP(src=self.ipv4, dst=self.victim_ipv4, ihl=5 + len(options) // 4)
            frame = bytearray(bytes(packet / UDP(sport=9, dport=9) / MARK))
            frame[34:34] = options
            whole = len(frame) - ETHERNET
            frame[16:18] = whole.to_bytes(2, "big")
            yield Raw(bytes(frame))
        for length in range(1, 9):
            yield self._chain([IPv6ExtHdrDestOpt()] * length)
        for more, offset in ((1, 0), (1, 1), (0, 1), (0, 8191)):
            yield self._ip6 / IPv6ExtHdrFragment(m=more, offset=offset, nh=17) / Raw(MARK)
        for protocol in (0, 2, 4, 41, 47, 50, 59, 89, 132, 255):
            yield self.ether / IP(src=self.ipv4, dst=self.victim_ipv4, proto=protocol) / Raw(MARK)
        for flags in ("", "FPU", "SF", "FSRPAUEC"):
            yield self._ip / TCP(sport=0, dport=0, flags=flags, dataofs=15) / Raw(MARK)
        yield self._ip / UDP(sport=0, dport=0, len=3, chksum=0xDEAD) / MARK


def _attack(name: str, packets: Iterable[Packet | bytes], *drops: str) -> Attack:
    return Attack(name, tuple(bytes(packet) for packet in packets), frozenset(drops))
