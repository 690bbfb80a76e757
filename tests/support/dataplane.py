"""A dpservice process on TAP devices, its control interface in few words, and the packets at both ends of each."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ironcore.dpdk.v1 import dpdk_pb2 as pb
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.lab.namespace import Namespace
from tests.support.dpservice import Dpservice

HOST, REMOTE = "fc00:1::1", "fc00:2::d000:0:1"
VNI = 100
VM4, VM6 = "10.0.0.1", "2001:db8::1"
OUT4, OUT6 = "198.51.100.7", "2001:db8:9::9"
"""The first VM, and what lies outside."""
ROUTER_MAC, VM_MAC, GATEWAY_MAC = "0a:00:00:00:00:fe", "52:54:00:00:00:01", "02:00:00:00:00:01"
UPLINKS, VMS = ("pf0", "pf1"), ("vf0", "vf1", "vf2", "vf3")
OPTIONS = ("--pf0=pf0", "--pf1=pf1", "--vf-pattern=vf", "--nic-type=tap", f"--ipv6={HOST}", "--enable-ipv6-overlay",
           "--multipath=on", "--flow-label=on", "--meter-taps=on")  # fmt: skip
SECONDS = 20.0
"""How long a packet may take on a busy machine."""


class Wire:
    """The kernel's side of a TAP device: what is sent here the engine receives."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self.name = name
        self._socket = namespace.packet_socket(name)

    def close(self) -> None:
        self._socket.close()

    def send(self, packet: Packet | bytes) -> None:
        # A socket that was bound while its device was down, or whose device went down, says so once.
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._socket.sendall(bytes(packet))

    def received(self, seconds: float = SECONDS) -> Iterator[Packet]:
        """Frames from the engine as they come, until none has come for that long."""
        self._socket.settimeout(seconds)
        while True:
            try:
                frame, address = self._socket.recvfrom(65535)
            except (TimeoutError, BlockingIOError):
                return
            except OSError as error:
                if error.errno == errno.ENETDOWN:
                    continue  # said once when the device goes down
                raise
            if address[2] != socket.PACKET_OUTGOING:
                yield Ether(frame)

    def expect(self, wanted: Callable[[Packet], bool]) -> Packet:
        """The next frame of that kind; others are skipped."""
        return self.until(wanted)[-1]

    def until(self, wanted: Callable[[Packet], bool]) -> list[Packet]:
        """The frames up to the next one of that kind, which is the last of them."""
        deadline = time.monotonic() + SECONDS
        frames = []
        for packet in self.received():
            frames.append(packet)
            if wanted(packet):
                return frames
            if time.monotonic() > deadline:
                break
        raise AssertionError(f"nothing of the kind came out of {self.name}")

    def waiting(self) -> list[Packet]:
        """What has come already."""
        return list(self.received(0))


class Host:
    """The engine's host. Calls fail the test if the engine refuses; those that create return the underlay address."""

    def __init__(self, service: Dpservice, namespace: Namespace) -> None:
        self.namespace = namespace
        self.channel = service.channel()
        self.stub = service.stub()
        self.wires = {name: Wire(namespace, name) for name in (*UPLINKS, *VMS)}

    def close(self) -> None:
        for wire in self.wires.values():
            wire.close()

    def call(self, method: str, **fields: object) -> str:
        request = getattr(pb, f"{method}Request")(**fields)
        reply = getattr(self.stub, method)(request, timeout=30)
        assert reply.status.code == 0, f"{method}: {reply.status.message}"
        return bytes(getattr(reply, "underlay_route", b"")).decode()

    def reset(self) -> None:
        """Remove everything that tests have created."""
        for balancer in self.stub.ListLoadBalancers(pb.ListLoadBalancersRequest()).loadbalancers:
            self.call("DeleteLoadBalancer", loadbalancer_id=balancer.id)
        for interface in self.stub.ListInterfaces(pb.ListInterfacesRequest()).interfaces:
            for prefix in self.stub.ListPrefixes(pb.ListPrefixesRequest(interface_id=interface.id)).prefixes:
                self.call("DeletePrefix", interface_id=interface.id, prefix=prefix)
            request = pb.ListLoadBalancerPrefixesRequest(interface_id=interface.id)
            for prefix in self.stub.ListLoadBalancerPrefixes(request).prefixes:
                self.call("DeleteLoadBalancerPrefix", interface_id=interface.id, prefix=prefix)
            self.call("DeleteInterface", interface_id=interface.id)
        for wire in self.wires.values():
            wire.waiting()

    def interface(self, number: int, vni: int, ipv4: str, ipv6: str = "::", **fields: object) -> str:
        """An interface vm<number> on vf<number>."""
        return self.call(
            "CreateInterface",
            interface_id=f"vm{number}".encode(),
            vni=vni,
            ipv4_config=pb.IpConfig(primary_address=ipv4.encode()),
            ipv6_config=pb.IpConfig(primary_address=ipv6.encode()),
            device_name=f"net_tap{len(UPLINKS) + number}",
            **fields,
        )

    def route(self, vni: int, prefix: str, nexthop: str = REMOTE) -> None:
        route = pb.Route(prefix=prefix_of(prefix), nexthop_vni=vni, nexthop_address=address_of(nexthop))
        self.call("CreateRoute", vni=vni, route=route)

    def send_and_expect(self, source: str, packet: Packet, target: str, inner: Callable[[Packet], bool]) -> Packet:
        """Send a packet into one device; the frame that leaves by another one."""
        self.wires[source].send(packet)
        return self.wires[target].expect(inner)

    def out(self, packet: Packet, source: str = "vf0", uplink: str = "pf0") -> Packet:
        """The frame that leaves by the uplink for what a VM sends."""
        return self.send_and_expect(source, from_vm(packet), uplink, has_tag(tag_of(packet).decode()))

    def into(self, underlay: str, packet: Packet, device: str = "vf0", uplink: str = "pf0") -> Packet:
        """What a VM gets of a packet that the fabric brings."""
        frame = from_fabric(underlay, packet)
        return inner_of(self.send_and_expect(uplink, frame, device, has_tag(tag_of(packet).decode())))

    def dropped(self, source: str, packets: list[Packet], marker: Packet, target: str) -> None:
        """Fail if any of these leaves the engine before a marker that is sent after them and has to pass.

        All packets must have a payload of their own, by `tagged`.
        """
        for packet in packets:
            self.wires[source].send(packet)
        self.wires[source].send(marker)
        unwanted = {tag_of(packet) for packet in packets}
        frames = self.wires[target].until(has_tag(tag_of(marker).decode()))
        for wire in self.wires.values():
            frames += wire.waiting()
        assert not [frame.summary() for frame in frames if tag_of(frame) in unwanted]


def address_of(text: str) -> pb.IpAddress:
    return pb.IpAddress(ipver=pb.IPV6 if ":" in text else pb.IPV4, address=text.encode())


def prefix_of(text: str) -> pb.Prefix:
    address, length = text.split("/")
    return pb.Prefix(ip=address_of(address), length=int(length))


_TAG = b"tag:"


def tagged(tag: str, length: int = 32) -> Raw:
    """A payload to know a packet by, wherever its headers have changed."""
    return Raw((_TAG + tag.encode() + b";").ljust(length, b"."))


def tag_of(packet: Packet) -> bytes:
    """The tag in a frame; empty if there is none."""
    _, found, rest = bytes(packet).partition(_TAG)
    return rest.partition(b";")[0] if found else b""


def has_tag(tag: str) -> Callable[[Packet], bool]:
    return lambda packet: tag_of(packet) == tag.encode()


def ip(source: str, destination: str, **fields: object) -> Packet:
    return (IPv6 if ":" in source else IP)(src=source, dst=destination, **fields)


def udp(source: str, destination: str, sport: int, dport: int, tag: str) -> Packet:
    return ip(source, destination) / UDP(sport=sport, dport=dport) / tagged(tag)


def ends(packet: Packet) -> tuple[str, str]:
    return packet.src, packet.dst


def from_vm(packet: Packet) -> Packet:
    """The IP packet as a VM sends it."""
    return Ether(src=VM_MAC, dst=GATEWAY_MAC) / packet


def from_fabric(underlay: str, packet: Packet, source: str = REMOTE) -> Packet:
    """The IP packet as another host sends it to this one."""
    next_header = 41 if packet.version == 6 else 4
    return Ether(src=ROUTER_MAC, dst=GATEWAY_MAC) / IPv6(src=source, dst=underlay, nh=next_header) / packet


def outer_of(frame: Packet) -> Packet:
    """The outer header of a frame on an uplink."""
    outer = frame[IPv6]
    assert outer.hlim == 64
    assert len(outer.payload) >= outer.plen
    return outer


def inner_of(frame: Packet) -> Packet:
    """The IP packet in a frame on an uplink or of a VM, with all its checksums right."""
    outer = frame.payload
    packet = outer.payload if isinstance(outer, IPv6) and outer.nh in (4, 41) else outer
    return with_right_checksums(packet)


def with_right_checksums(packet: Packet) -> Packet:
    """The packet itself; fails if any checksum in it differs from what its bytes need."""
    assert isinstance(packet, IP | IPv6)
    fresh = packet.copy()
    layer: Packet | None = fresh
    while layer is not None and not isinstance(layer, Raw):
        for name in ("chksum", "cksum"):
            if getattr(layer, name, None) is None or (isinstance(layer, UDP) and layer.chksum == 0):
                continue
            delattr(layer, name)
        layer = layer.payload or None
    assert bytes(fresh) == bytes(packet), f"wrong checksum: {packet.summary()}"
    return packet


def connect_router(namespace: Namespace, uplink: str) -> None:
    """Bring the device up, with the fabric's router behind it."""
    namespace.ip("link", "set", uplink, "up")
    namespace.ip("neigh", "replace", "fe80::1", "lladdr", ROUTER_MAC, "dev", uplink, "nud", "permanent")
    metric = str(100 + UPLINKS.index(uplink))
    namespace.ip("-6", "route", "add", "default", "via", "fe80::1", "dev", uplink, "metric", metric)


@contextlib.contextmanager
def tap_host(name: str, directory: Path, *options: str) -> Iterator[Host]:
    """A host whose engine has its devices in a namespace of that name; the fabric's router is known."""
    namespace = Namespace(name)
    devices = [f"--vdev=net_tap{number},iface={device}" for number, device in enumerate((*UPLINKS, *VMS))]
    with contextlib.ExitStack() as stack:
        namespace.create()
        stack.callback(namespace.delete)
        namespace.sysctl("net.ipv6.conf.default.router_solicitations", "0")
        service = Dpservice(directory, *options, devices=devices, base_options=OPTIONS, before=namespace.prefix())
        stack.enter_context(service)
        for device in UPLINKS:
            connect_router(namespace, device)
        for device in VMS:
            namespace.sysctl(f"net.ipv6.conf.{device}.disable_ipv6", "1")
        host = Host(service, namespace)
        stack.callback(host.close)
        host.call("Initialize")
        _wait_for_router(host)
        yield host


def _wait_for_router(host: Host) -> None:
    """Return once the engine knows its router, which it learns from the kernel."""
    host.interface(0, 1, "10.0.0.1")
    host.route(1, "0.0.0.0/0")
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        host.wires["vf0"].send(from_vm(ip("10.0.0.1", "10.0.0.2") / UDP(sport=1, dport=2) / tagged("router")))
        for frame in host.wires["pf0"].received(0.2):
            if tag_of(frame) == b"router":
                host.reset()
                return
    raise AssertionError("the engine does not find its router")
