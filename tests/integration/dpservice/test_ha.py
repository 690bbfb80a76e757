"""Two processes on one host: the active one is killed, and every flow goes on in the other."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as pb
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from tests.lab.namespace import Namespace
from tests.support.dpservice import Caller, Dpservice, ip, prefix, route

FLOWS = 1000
BATCH = 50  # frames at once: less than what a TAP queues
SECONDS = 60.0
VNI = 100
HOST, REMOTE = "fc00:1::1", "fc00:2::d000:0:1"
NAT_IP, SERVER = "203.0.113.1", "8.8.8.8"
NAT_UNDERLAY, VM2_UNDERLAY = "fc00:1::8000:0:3", "fc00:1::8000:0:2"
VM1, VM2 = "10.0.0.1", "10.0.0.2"
VM_MAC, ROUTER_MAC, GATEWAY_MAC = "52:54:00:00:00:01", "0a:00:00:00:00:fe", "02:00:00:00:00:01"
SYN, SYN_ACK, ACK = "S", "SA", "A"
_OUTGOING = 4  # of our own, seen on its way out


class Node:
    """One process of the pair, its devices, and the ends that VMs and the fabric have of them."""

    def __init__(self, name: str, number: int, namespace: Namespace, directory: Path) -> None:
        self.namespace = namespace
        self.name = name
        self.metrics = f"127.0.0.1:{9101 + number}"
        home = directory / name
        home.mkdir()
        devices = [
            f"--vdev=net_tap{index},iface={name}_{end}" for index, end in enumerate(("pf", "vf1", "vf2", "sync"))
        ]
        options = (f"--pf0={name}_pf", f"--vf-pattern={name}_vf", "--nic-type=tap", f"--ipv6={HOST}")
        pair = (f"--active-lockfile={directory}/active.lock", f"--sync-tap={name}_sync")
        self.service = Dpservice(
            home, *pair, f"--metrics-listen={self.metrics}", "--flow-table-size=16384", "--flow-timeout=300",
            devices=devices, base_options=options, before=namespace.prefix(),
        )  # fmt: skip
        self.ends: dict[str, socket.socket] = {}

    def configure(self) -> None:
        namespace = self.namespace
        self.join()
        router = (
            "neigh",
            "add",
            "fe80::1",
            "lladdr",
            ROUTER_MAC,
            "dev",
            f"{self.name}_pf",
            "router",
            "nud",
            "permanent",
        )
        namespace.ip("-6", *router)
        caller = Caller(self.service.channel())
        assert caller.code("Initialize") == 0
        for number, address in enumerate((VM1, VM2), start=1):
            assert caller.code(
                "CreateInterface", interface_id=f"vm{number}".encode(), vni=VNI, device_name=f"net_tap{number}",
                ipv4_config=pb.IpConfig(primary_address=address.encode()),
                ipv6_config=pb.IpConfig(primary_address=f"2001:db8::{number}".encode()),
                preferred_underlay_route=f"fc00:1::8000:0:{number}".encode(),
            ) == 0  # fmt: skip
        assert caller.code("CreateRoute", vni=VNI, route=route("0.0.0.0/0", REMOTE, VNI)) == 0
        nat = {"nat_ip": ip(NAT_IP), "min_port": 1024, "max_port": 65000}
        preferred = {"preferred_underlay_route": NAT_UNDERLAY.encode()}
        assert caller.code("CreateNat", interface_id=b"vm1", **nat, **preferred) == 0
        # Nothing may be opened towards the second VM.
        rule = pb.FirewallRule(
            id=b"none", direction=pb.INGRESS, action=pb.DROP, source_prefix=prefix("0.0.0.0/0"),
            destination_prefix=prefix("0.0.0.0/0"),
        )  # fmt: skip
        assert caller.code("CreateFirewallRule", interface_id=b"vm2", rule=rule) == 0
        for end in ("pf", "vf1", "vf2"):
            self.ends[end] = namespace.packet_socket(f"{self.name}_{end}")
            self.ends[end].settimeout(0.5)

    def join(self) -> None:
        """Connects its sync device, which is a new one in each of its lives."""
        self.namespace.ip("link", "set", f"{self.name}_sync", "master", "sync", "up")

    def metric(self, name: str) -> float:
        """Value of an HA metric."""
        url = f"http://{self.metrics}/metrics"
        text = self.namespace.call(lambda: urllib.request.urlopen(url, timeout=10).read().decode())
        found = re.search(rf"^dpservice_ha_{name} ([0-9.e+]+)$", text, re.MULTILINE)
        assert found, name
        return float(found[1])

    def received(self, end: str) -> Iterator[bytes]:
        """Frames that the engine sends there, until none comes for half a second."""
        while True:
            try:
                frame, address = self.ends[end].recvfrom(2048)
            except TimeoutError:
                return
            if address[2] != _OUTGOING:
                yield frame

    def close(self) -> None:
        for end in self.ends.values():
            end.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    namespace = Namespace(f"dph{os.getpid()}")
    namespace.create()
    with ExitStack() as stack:
        stack.callback(namespace.delete)
        namespace.ip("link", "add", "sync", "type", "bridge")
        namespace.ip("link", "set", "sync", "up")
        nodes = []
        for number, name in enumerate(("a", "b")):
            node = Node(name, number, namespace, tmp_path)
            stack.enter_context(node.service)
            stack.callback(node.close)
            node.configure()
            nodes.append(node)
        yield nodes[0], nodes[1]


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def from_vm(source: str, port: int, flags: str = "") -> bytes:
    segment = TCP(sport=port, dport=443, flags=flags) if flags else UDP(sport=port, dport=53) / b"question"
    return bytes(Ether(src=VM_MAC, dst=GATEWAY_MAC) / IP(src=source, dst=SERVER) / segment)


def from_fabric(underlay: str, destination: str, port: int, flags: str = "") -> bytes:
    segment = TCP(sport=443, dport=port, flags=flags) if flags else UDP(sport=53, dport=port) / b"answer"
    outer = IPv6(src=REMOTE, dst=underlay, nh=4, hlim=64)
    return bytes(Ether(src=ROUTER_MAC, dst=GATEWAY_MAC) / outer / IP(src=SERVER, dst=destination) / segment)


def ports_of(frame: bytes, inner: int) -> tuple[int, int] | None:
    """L4 ports of the IPv4 packet that begins at `inner`; None if there is none."""
    if len(frame) < inner + 28 or frame[inner] != 0x45:
        return None
    source, destination = struct.unpack_from("!HH", frame, inner + 20)
    return source, destination


def exchange(node: Node, into: str, out: str, frames: dict[int, bytes], flow: Callable[[bytes], int | None],
             tries: int = 5) -> tuple[dict[int, bytes], int]:  # fmt: skip
    """Sends each flow's frame; what comes out, by flow, and how many frames had to be sent again."""
    seen: dict[int, bytes] = {}
    again = 0
    for attempt in range(tries):
        missing = [number for number in frames if number not in seen]
        again += len(missing) if attempt else 0
        for first in range(0, len(missing), BATCH):
            batch = missing[first : first + BATCH]
            for number in batch:
                node.ends[into].send(frames[number])
            left = set(batch)
            for frame in node.received(out):
                number = flow(frame)
                if number is not None:
                    seen[number] = frame
                    left.discard(number)
                if not left:
                    break
        if len(seen) == len(frames):
            break
    return seen, again


OUTER = 54  # Ethernet and outer header
SOURCES = range(10000, 10000 + FLOWS)


def source_of_delivered(frame: bytes) -> int | None:
    found = ports_of(frame, 14)
    return found[1] if found and found[1] in SOURCES else None


def source_of_sent(frame: bytes) -> int | None:
    found = ports_of(frame, OUTER)
    return found[0] if found and found[0] in SOURCES else None


def test_a_killed_engine_costs_no_flow(pair: tuple[Node, Node], record_property: Callable[[str, object], None]) -> None:
    active, standby = pair
    eventually(lambda: active.metric("active") == 1)
    assert standby.metric("active") == 0

    # The first VM asks by UDP behind its NAT, the second opens connections by TCP.
    nat_port: dict[int, int] = {}
    for first in range(0, FLOWS, BATCH):
        for port in SOURCES[first : first + BATCH]:
            active.ends["vf1"].send(from_vm(VM1, port))
        # Ports are kept per source: the answers tell them apart.
        chosen = []
        for frame in active.received("pf"):
            if (found := ports_of(frame, OUTER)) and frame[OUTER + 9] == socket.IPPROTO_UDP:
                chosen.append(found[0])
            if len(chosen) == BATCH:
                break
        assert len(set(chosen)) == BATCH
        for port in chosen:
            active.ends["pf"].send(from_fabric(NAT_UNDERLAY, NAT_IP, port))
        inside = []
        for frame in active.received("vf1"):
            if (number := source_of_delivered(frame)) is not None:
                inside.append(number)
            if len(inside) == BATCH:
                break
        nat_port |= dict(zip(inside, chosen, strict=True))
    assert set(nat_port) == set(SOURCES)
    for sender, flags in (("vf2", SYN), ("pf", SYN_ACK), ("vf2", ACK)):
        if sender == "vf2":
            frames = {port: from_vm(VM2, port, flags) for port in SOURCES}
            seen, _ = exchange(active, "vf2", "pf", frames, source_of_sent)
        else:
            frames = {port: from_fabric(VM2_UNDERLAY, VM2, port, flags) for port in SOURCES}
            seen, _ = exchange(active, "pf", "vf2", frames, source_of_delivered)
        assert len(seen) == FLOWS

    eventually(lambda: standby.metric("replicated") == 2 * FLOWS and active.metric("in_sync") == 1)
    assert active.metric("lost_total") == 0
    # The standby takes nothing.
    standby.ends["vf1"].send(from_vm(VM1, SOURCES[0]))
    assert not [frame for frame in standby.received("pf") if ports_of(frame, OUTER)]

    probe = from_fabric(NAT_UNDERLAY, NAT_IP, nat_port[SOURCES[0]])
    standby.ends["vf1"].settimeout(0.001)
    begin = time.monotonic()
    os.kill(active.service.process.pid, signal.SIGKILL)
    while not any(source_of_delivered(frame) == SOURCES[0] for frame in standby.received("vf1")):
        assert time.monotonic() < begin + SECONDS
        standby.ends["pf"].send(probe)
    outage = time.monotonic() - begin
    standby.ends["vf1"].settimeout(0.5)
    assert standby.metric("restored_total") == 2 * FLOWS
    assert standby.metric("pending") == standby.metric("abandoned_total") == 0

    # The first packet of each comes from outside: nothing but what was replicated would let it in.
    lost = 0
    answers = {port: from_fabric(NAT_UNDERLAY, NAT_IP, nat_port[port]) for port in SOURCES}
    seen, again = exchange(standby, "pf", "vf1", answers, source_of_delivered)
    assert set(seen) == set(SOURCES)
    lost += again
    segments = {port: from_fabric(VM2_UNDERLAY, VM2, port, ACK) for port in SOURCES}
    seen, again = exchange(standby, "pf", "vf2", segments, source_of_delivered)
    assert set(seen) == set(SOURCES)
    lost += again
    # Outwards every flow has the port that it had.
    by_port = {nat: port for port, nat in nat_port.items()}
    questions = {port: from_vm(VM1, port) for port in SOURCES}
    seen, again = exchange(
        standby, "vf1", "pf", questions, lambda frame: by_port.get((ports_of(frame, OUTER) or (0, 0))[0])
    )
    assert set(seen) == set(SOURCES)
    lost += again
    seen, again = exchange(standby, "vf2", "pf", {port: from_vm(VM2, port, ACK) for port in SOURCES}, source_of_sent)
    assert set(seen) == set(SOURCES)
    lost += again
    record_property("outage_seconds", outage)
    record_property("lost_of_4000", lost)
    print(f"outage {outage * 1000:.1f} ms, {lost} of {4 * FLOWS} packets afterwards lost")


def test_a_lock_file_that_cannot_be_had_ends_the_process_in_order(tmp_path: Path) -> None:
    service = Dpservice(tmp_path, "--active-lockfile=/nonexistent/lock")
    service.process.start()
    service.process.wait_ended(SECONDS)
    assert service.process.stop() == 0
    assert "lock file" in service.process.log_since()


def test_a_stopping_engine_lets_go_of_the_lock(pair: tuple[Node, Node]) -> None:
    active, standby = pair
    eventually(lambda: active.metric("active") == 1)
    assert active.service.process.stop() == 0
    eventually(lambda: standby.metric("active") == 1)
    active.service.process.start()
    active.service.process.wait_ready()
    active.join()
    eventually(lambda: active.metric("peer") == 1)
    assert (active.metric("active"), standby.metric("active")) == (0, 1)
