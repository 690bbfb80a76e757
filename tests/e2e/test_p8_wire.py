"""Clients and peers of others work unchanged: DHCP clients, callers of dpservice, peers of metalbond."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from scapy.layers.dhcp import BOOTP, DHCP

from metalbond import codec
from metalbond.types import Destination, NextHop, Route
from tests.lab.guest import DEVICE, Guest
from tests.lab.machines import Placement
from tests.lab.process import Process
from tests.lab.reflection import ReflectedService
from tests.lab.region import FAMILIES, Region, wait_until
from tests.lab.stack import METALBOND_PORT
from tests.lab.topology import CONTROL_ADDRESS, GUEST_MTU
from tests.support.metalbond import RawPeer

pytestmark = pytest.mark.timeout(120, func_only=True)

LAB = Path(__file__).parents[1] / "lab"
PROTO = Path(__file__).parents[2] / "proto"
SERVICE = "dpdkironcore.v1.DPDKironcore"
ROUTERS = {"ipv4": "169.254.0.1", "ipv6": "fe80::1"}
NAME_SERVERS = {"ipv4": "192.0.2.53", "ipv6": "2001:db8::53"}
_BYTES_FIELDS = ("id", "primary_ipv4", "primary_ipv6")
HEADERS = {"ipv4": 20 + 8, "ipv6": 40 + 8}


@pytest.fixture(scope="module")
def machine(lab: Region) -> Iterator[Placement]:
    """A guest that has no DHCP client yet, on another host than vm1."""
    lab.repair()
    with lab.visitor("vm7", 2, ("10.20.0.7", "fd20::7")) as place:
        yield place


def dhcpcd(guest: Guest) -> Process:
    guest.start_dhcp()
    assert guest.dhcp is not None
    return guest.dhcp


def dhclient(family: int) -> Callable[[Guest], Process]:
    """ISC dhclient with the distribution's configuration and scripts."""

    def start(guest: Guest) -> Process:
        files = f"-lf {guest.home}/dhclient{family}.leases -pf {guest.home}/dhclient{family}.pid"
        return started(guest.client(f"dhclient{family}", f"dhclient -{family} -d {files} {DEVICE}"))

    return start


def udhcpc(guest: Guest) -> Process:
    options = f"-O staticroutes -O mtu -s {LAB}/udhcpc.script"
    return started(guest.client("udhcpc", f"busybox udhcpc -i {DEVICE} -f -t 5 -T 2 {options}"))


def started(process: Process) -> Process:
    process.start()
    return process


# busybox of Debian has no client for IPv6.
CLIENTS: dict[str, list[tuple[Callable[[Guest], Process], tuple[str, ...]]]] = {
    "dhcpcd": [(dhcpcd, FAMILIES)],
    "dhclient": [(dhclient(4), ("ipv4",)), (dhclient(6), ("ipv6",))],
    "udhcpc": [(udhcpc, ("ipv4",)), (dhclient(6), ("ipv6",))],
}


def leased_mtu(guest: Guest) -> int:
    """What dhcpcd was told, from the message that it keeps: it never raises a device's MTU, it limits routes."""
    options = BOOTP((guest.home / "lib" / f"{DEVICE}.lease").read_bytes())[DHCP].options
    return next(int(option[1]) for option in options if option[0] == "interface-mtu")


MTU_LEARNED = {"dhcpcd": leased_mtu, "dhclient": Guest.mtu, "udhcpc": Guest.mtu}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_dhcp_client_configures_its_machine(region: Region, machine: Placement, name: str) -> None:
    guest = machine.guest
    guest.reboot(machine.hypervisor.namespace, machine.device)
    guest.namespace.ip("link", "set", DEVICE, "mtu", "1400")
    with contextlib.ExitStack() as stack:
        for client, families in CLIENTS[name]:
            process = client(guest)
            stack.callback(process.stop)
            try:
                for family in families:
                    guest.wait_address(getattr(machine, family))
                    wait_until(lambda: guest.default_router(family) == ROUTERS[family], f"{family} route", 15)  # noqa: B023
                    wait_until(lambda: NAME_SERVERS[family] in guest.name_servers(), f"{family} name server", 15)  # noqa: B023
            except TimeoutError as error:
                raise AssertionError(f"{error}\n{guest.namespace.ip('route')}\n{process.log_tail(40)}") from error
            assert process.running
        assert MTU_LEARNED[name](guest) == GUEST_MTU
        for family in FAMILIES:
            address = region.address("vm1", family)
            guest.wait_reachable(address)
            result = guest.ping(address, size=guest.mtu() - HEADERS[family])
            assert result.sent == result.received > 0, f"{family}: {result}"
        region.expect_ping("vm1", "vm7")


def contract(file: FileDescriptorProto) -> FileDescriptorProto:
    """Without the JSON names, which compilers add and generated code leaves out."""
    messages = list(file.message_type)
    while messages:
        message = messages.pop()
        messages += message.nested_type
        for field in message.field:
            field.ClearField("json_name")
    return file


def test_a_client_made_from_reflection_alone_lists_interfaces(region: Region, tmp_path: Path) -> None:
    described = tmp_path / "dpdk.binpb"
    arguments = ["protoc", f"-I{PROTO}", f"--descriptor_set_out={described}", "ironcore/dpdk/v1/dpdk.proto"]
    assert protoc.main(arguments) == 0
    published = FileDescriptorSet.FromString(described.read_bytes()).file[0]
    for hypervisor in region.topology.hypervisors:
        with grpc.insecure_channel(region.stack.engine_target(hypervisor)) as channel:
            service = ReflectedService(channel, SERVICE)
            found = FileDescriptorProto()
            service.descriptor.file.CopyToProto(found)
            assert contract(found) == contract(published)
            answer = service.call("ListInterfaces")
        assert answer["status"].get("code", 0) == 0
        listed = answer["interfaces"]
        ids, *families = ([base64.b64decode(one[field]).decode() for one in listed] for field in _BYTES_FIELDS)
        placed = [place for place in region.places.values() if place.hypervisor == hypervisor]
        found_guests = zip((one["hostname"] for one in listed), *families, strict=True)
        assert sorted(found_guests) == sorted((place.guest.name, place.ipv4, place.ipv6) for place in placed)
        shown = json.loads(region.stack.engine_cli(hypervisor, "-o", "json", "list", "interfaces"))["items"]
        assert sorted(item["metadata"]["id"] for item in shown) == sorted(ids)


async def test_a_peer_of_the_original_protocol_sees_every_route_and_adds_its_own(region: Region) -> None:
    interfaces = [one for hypervisor in region.topology.hypervisors for one in region.stack.interfaces(hypervisor)]
    expected = {
        Route(one.vni, Destination.parse(address.decode()), NextHop.to(one.underlay_route.decode()))
        for one in interfaces
        for address in (one.primary_ipv4, one.primary_ipv6)
    }
    assert len(expected) == 2 * len(interfaces) >= 12
    before = region.programmed()
    address = (CONTROL_ADDRESS, METALBOND_PORT)
    peer = RawPeer(region.topology.fabric.call(lambda: socket.create_connection(address, 10)))
    try:
        # A keepalive interval and nothing else: what the original program says.
        await peer.send(bytes.fromhex("010002010805"))
        hello = await peer.receive()
        assert hello is not None
        assert codec.decode_hello(hello[1]).is_server
        await peer.send(codec.KEEPALIVE)
        assert await peer.receive() == (codec.MessageType.KEEPALIVE, b"")
        vnis = {route.vni for route in expected}
        await peer.send(*(codec.encode_subscription(vni, True) for vni in vnis))
        updates = await peer.receive_updates(len(expected))
        assert sorted(updates) == sorted((True, route) for route in expected)
        blue = region.stack.interfaces(region.hypervisor("vm2"))
        vni = next(one.vni for one in blue if one.hostname == "vm2")
        own = Route(vni, Destination.parse("10.20.0.200/32"), NextHop.to("fc00:9::1"))
        shown = base64.b64encode(b"10.20.0.200").decode()
        await peer.send(codec.KEEPALIVE, codec.encode_update(True, own))
        for hypervisor in region.topology.hypervisors:
            wait_until(
                lambda: any(shown in text for text in region.stack.programmed(hypervisor)["routes"]),  # noqa: B023
                f"{hypervisor.name} has the route",
                10,
            )
        await peer.send(codec.KEEPALIVE, codec.encode_update(False, own))
        region.wait_programmed(before, 10)
    finally:
        peer.close()
