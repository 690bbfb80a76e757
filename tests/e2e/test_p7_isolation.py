"""Tenants are isolated: no forged source leaves a guest, equal addresses never meet, and no frame of a guest hurts."""

from __future__ import annotations

import collections
import contextlib
import functools
import random
import socket
from collections.abc import Iterable, Iterator, Set

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt
from scapy.packet import Packet

from tests.lab.guest import DEVICE
from tests.lab.hostile import GATEWAY_IPV4, GATEWAY_IPV6, MARK, STRANGER_IPV4, STRANGER_IPV6, Attacker
from tests.lab.region import FAMILIES, Region, wait_until

pytestmark = pytest.mark.timeout(120, func_only=True)

SEED = 20
RATE = 100
# Frames that fit into the ring between a guest and its engine.
BURST = 128
NOISE = 16384
# What a guest's kernel and DHCP client may add at any time: group memberships, and ARP in defence of the address.
BACKGROUND = {"link_local", "arp_not_gateway"}
PORT = 4242


def attacker(region: Region, name: str, victim: str) -> Attacker:
    """The guest as an attacker of another one of its network."""
    third = region.stack.interfaces(region.hypervisor("vm6"))[0]
    place, target = region.places[name], region.places[victim]
    mac = place.guest.mac()
    return Attacker(mac, place.ipv4, place.ipv6, target.ipv4, target.ipv6, third.underlay_route.decode(), SEED)


class Wire:
    """A guest's cable: what the guest sends as it likes, and how its engine judges it."""

    def __init__(self, region: Region, guest: str) -> None:
        self._region, self._guest = region, guest
        self._socket = region.guests[guest].namespace.packet_socket(DEVICE)

    def drops(self) -> collections.Counter[str]:
        return self._region.stack.drops(self._region.hypervisor(self._guest), self._region.places[self._guest].device)

    def send(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            self._socket.send(frame)

    def expect_drops(self, frames: Iterable[bytes], names: Set[str]) -> set[str]:
        """Send frames and wait until each has been dropped under one of the names; returns those that occurred."""
        before, sent = self.drops(), list(frames)

        def judged(count: int) -> bool:
            found = self.drops() - before
            return sum(found[name] for name in names) >= count

        for start in range(0, len(sent), BURST):
            burst = sent[start : start + BURST]
            self.send(burst)
            try:
                wait_until(functools.partial(judged, start + len(burst)), "drops", 10)
            except TimeoutError:
                raise AssertionError(f"{start + len(burst)} frames, drops {self.drops() - before}") from None
        found = self.drops() - before
        assert found.keys() <= names | BACKGROUND, found
        assert names & BACKGROUND or sum(found[name] for name in names) == len(sent), found
        return set(found) & names

    def received_until(self, last: bytes) -> list[bytes]:
        """Frames that arrived, up to the one that contains `last`."""
        frames = []
        while not frames or last not in frames[-1]:
            frames.append(self._socket.recv(65535))
        return frames

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def wires(region: Region, *guests: str) -> Iterator[list[Wire]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(Wire(region, guest))) for guest in guests]


def forged(region: Region, start: Packet, target: str, family: str) -> Iterator[Packet]:
    """Packets to a guest under every kind of source that is not the sender's."""
    others = [region.address(name, family) for name in ("vm2", "vm3", "vm4")]
    if family == "ipv4":
        sources = [*others, STRANGER_IPV4, GATEWAY_IPV4, "0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1"]
    else:
        sources = [*others, STRANGER_IPV6, "::", "::1", "::ffff:10.20.0.1", "ff02::1", "fc00:1::1"]
    for source in sources:
        if family == "ipv4":
            ip = start / IP(src=source, dst=region.address(target, family))
            yield from (ip / ICMP() / MARK, ip / TCP(dport=PORT, flags="S") / MARK, ip / UDP(dport=PORT) / MARK)
        else:
            ip = start / IPv6(src=source, dst=region.address(target, family))
            yield from (ip / ICMPv6EchoRequest(data=MARK), ip / TCP(dport=PORT, flags="S") / MARK)
            yield from (ip / UDP(dport=PORT) / MARK, ip / IPv6ExtHdrDestOpt() / UDP(dport=PORT) / MARK)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["vm2", "vm3"])
def test_no_forged_source_leaves_a_guest(region: Region, target: str, family: str) -> None:
    me = attacker(region, "vm1", target)
    last = b"the honest one, number %d" % random.Random(f"{target} {family}").randrange(1 << 30)
    honest = IP(src=me.ipv4, dst=me.victim_ipv4) if family == "ipv4" else IPv6(src=me.ipv6, dst=me.victim_ipv6)
    with wires(region, "vm1", target) as (sender, receiver):
        frames = [bytes(packet) for packet in forged(region, me.ether, target, family)]
        assert sender.expect_drops(frames, {"spoofed_source"}) == {"spoofed_source"}
        sender.send([bytes(me.ether / honest / UDP(dport=PORT) / last)])
        assert not [frame.hex() for frame in receiver.received_until(last) if MARK in frame]


def test_claims_to_be_another_guest_or_the_router_reach_nobody(region: Region) -> None:
    guests = ("vm2", "vm3")
    known = {name: neighbours(region, name) for name in guests}
    for victim in guests:
        me = attacker(region, "vm1", victim)
        claims = [attack for attack in me.attacks() if attack.name in ("broken ARP", "broken ND")]
        assert len(claims) == 2
        with wires(region, "vm1", victim) as (sender, receiver):
            for attack in claims:
                assert sender.expect_drops(attack.frames, attack.drops) == attack.drops
            sender.send([bytes(me.ether / IP(src=me.ipv4, dst=me.victim_ipv4) / UDP(dport=PORT) / b"honest")])
            heard = receiver.received_until(b"honest")
        assert not [frame.hex() for frame in heard if bytes.fromhex(me.mac.replace(":", "")) in frame]
    assert {name: neighbours(region, name) for name in guests} == known
    region.expect_ping("vm2", "vm3")


def neighbours(region: Region, name: str) -> dict[str, str]:
    """Whom a guest takes for its gateways: address → MAC."""
    region.guests[name].ping(GATEWAY_IPV4, count=1)
    region.guests[name].ping(f"{GATEWAY_IPV6}%{DEVICE}", count=1)
    lines = region.guests[name].namespace.ip("neigh", "show", "dev", DEVICE).splitlines()
    return {words[0]: words[words.index("lladdr") + 1] for words in map(str.split, lines) if "lladdr" in words}


def datagrams(region: Region, name: str, family: str) -> socket.socket:
    """A UDP socket of a guest."""
    kind = socket.AF_INET if family == "ipv4" else socket.AF_INET6
    return region.guests[name].namespace.call(lambda: socket.socket(kind, socket.SOCK_DGRAM))


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_addresses_in_two_networks_never_meet(region: Region, family: str) -> None:
    """The same addresses and ports at the same time: what one pair says, only that pair hears."""
    pairs = {"blue": ("vm1", "vm3"), "red": ("vm5", "vm6")}
    near, far = ({region.address(pair[end], family) for pair in pairs.values()} for end in (0, 1))
    assert len(near) == len(far) == 1
    with contextlib.ExitStack() as stack:
        ends: dict[str, list[socket.socket]] = {}
        for network, guests in pairs.items():
            for name in guests:
                end = stack.enter_context(datagrams(region, name, family))
                end.bind((region.address(name, family), PORT))
                end.settimeout(5)
                ends.setdefault(network, []).append(end)
        for number in range(50):
            for network, (left, right) in ends.items():
                for source, target, address in ((left, right, *far), (right, left, *near)):
                    text = f"{network} {number}".encode()
                    source.sendto(text, (address, PORT))
                    assert target.recv(100) == text
        # On one host: vm2 means the one of its own network.
        with datagrams(region, "vm2", family) as vm2:
            vm2.sendto(b"blue at home", (*near, PORT))
            assert ends["blue"][0].recv(100) == b"blue at home"
        for end in (end for both in ends.values() for end in both):
            end.setblocking(False)
            with pytest.raises(BlockingIOError):
                end.recv(100)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_address_of_another_network_does_not_exist(region: Region, family: str) -> None:
    with wires(region, "vm5", "vm2") as (sender, receiver), datagrams(region, "vm5", family) as stranger:
        before = sender.drops()
        for _ in range(5):
            stranger.sendto(MARK, (region.address("vm2", family), PORT))
        wait_until(lambda: (sender.drops() - before)["no_route"] == 5, "the packets are dropped", 10)
        with datagrams(region, "vm1", family) as honest:
            honest.sendto(b"honest", (region.address("vm2", family), PORT))
        assert not [frame.hex() for frame in receiver.received_until(b"honest") if MARK in frame]


def test_no_frame_of_a_guest_hurts_anybody(region: Region) -> None:
    me = attacker(region, "vm4", "vm2")
    honest = IP(src=me.ipv4, dst=me.victim_ipv4)
    engines = {name: engine.pid for name, engine in region.stack.engines.items()}
    programmed = region.programmed()
    pings = [region.guests["vm1"].start_ping(region.address("vm3", family), rate=RATE) for family in FAMILIES]
    try:
        for ping in pings:
            ping.wait_received(1)
        with wires(region, "vm4", "vm2") as (sender, receiver):
            for attack in me.attacks():
                assert sender.expect_drops(attack.frames, attack.drops) == attack.drops, attack.name
            odd = me.odd()
            sender.send(odd.frames)
            arrived = [receiver.received_until(MARK)[-1] for _ in odd.frames]
            assert len(arrived) == len(odd.frames)
            noise = list(me.noise(NOISE))
            for start in range(0, NOISE, BURST):
                end = b"the end of burst %d" % start
                sender.send([*noise[start : start + BURST], bytes(me.ether / honest / UDP(dport=PORT) / end)])
                receiver.received_until(end)
        for ping in pings:
            ping.wait_received(RATE // 2)
    finally:
        results = [ping.stop() for ping in pings]
    for result in results:
        assert result.sent == result.received > RATE // 2, result
    assert all(engine.running for engine in region.stack.engines.values())
    assert {name: engine.pid for name, engine in region.stack.engines.items()} == engines
    assert region.programmed() == programmed
    # The culprit is a guest like any other as soon as it behaves.
    region.guests["vm4"].wait_reachable(region.address("vm1", "ipv4"))
    region.expect_ping("vm4", "vm1")
    region.expect_ping("vm2", "vm4")
