"""Real DHCP clients and pings in a VM's place, against the engine on veth pairs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from tests.lab.namespace import Namespace, connect, run
from tests.support.dpservice import Dpservice

V4, V6 = "10.0.0.42", "2001:db8::42"
OPTIONS = (
    "--pf0=pf0", "--pf1=pf1", "--vf-pattern=vf", "--nic-type=tap", "--ipv6=fc00:1::1", "--enable-ipv6-overlay",
    "--dhcp-mtu=1450", "--dhcp-dns=8.8.8.8", "--dhcpv6-dns=2001:4860:4860::8888",
)  # fmt: skip
DEVICES = tuple(
    f"--vdev=net_af_packet{number},iface={name},blocksz=4096,framesz=2048,framecnt=256,qpairs=1"
    for number, name in enumerate(("pf0", "pf1", "vf0"))
)
# Prints what a client learned; stands in for the scripts that would configure the machine.
HOOK = """#!/bin/sh
echo "HOOK reason=$reason$1 ip=$new_ip_address$ip ip6=$new_ip6_address mtu=$new_interface_mtu$mtu" \\
  "dns=$new_domain_name_servers$dns$new_dhcp6_name_servers host=$new_host_name$hostname"
exit 0
"""


class Guest:
    """A VM's namespace; `eth0` is its device, `hook` a script for DHCP clients."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self.namespace = namespace
        self.directory = directory
        self.hook = directory / "hook"
        self.hook.write_text(HOOK)
        self.hook.chmod(0o755)

    def sh(self, command: str, timeout: float = 40) -> str:
        """Output of a shell command inside, standard error included."""
        return run([*self.namespace.prefix(), "sh", "-c", f"{command} 2>&1"], check=False, timeout=timeout)

    def wait_for(self, command: str, text: str) -> bool:
        """True as soon as the command prints the text; False after ten seconds."""
        return text in self.sh(f"for i in $(seq 100); do {command} | grep '{text}' && break; sleep 0.1; done")

    def dhclient(self, *options: str) -> str:
        files = f"-lf {self.directory}/leases{options[0]} -pf {self.directory}/pid{options[0]}"
        return self.sh(f"dhclient {' '.join(options)} -v {files} -sf {self.hook} eth0")

    def addresses(self) -> str:
        return self.namespace.ip("-o", "addr", "show", "dev", "eth0")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dpservice, Namespace]]:
    host, guest = Namespace(f"dpg{os.getpid()}h"), Namespace(f"dpg{os.getpid()}g")
    host.create()
    guest.create()
    try:
        for name in ("pf0", "pf1"):
            connect(host, name, host, f"{name}r", mtu=1600)
        connect(host, "vf0", guest, "eth0", mtu=1500)
        directory = tmp_path_factory.mktemp("dpservice")
        with Dpservice(directory, devices=DEVICES, base_options=OPTIONS, before=host.prefix()) as running:
            running.stub().Initialize(pb.InitializeRequest())
            request = pb.CreateInterfaceRequest(
                interface_id=b"vm",
                vni=100,
                ipv4_config=pb.IpConfig(primary_address=V4.encode()),
                ipv6_config=pb.IpConfig(primary_address=V6.encode()),
                device_name="net_af_packet2",
                hostname="vm-one",
            )
            assert running.stub().CreateInterface(request).status.code == 0
            yield running, guest
    finally:
        guest.delete()
        host.delete()


@pytest.fixture
def guest(engine: tuple[Dpservice, Namespace], tmp_path: Path) -> Iterator[Guest]:
    """A guest as after its boot; whatever a client leaves running in it is ended."""
    namespace = engine[1]
    # dhcpcd takes these over and does not give them back.
    for key, value in (("accept_ra", "1"), ("addr_gen_mode", "0"), ("autoconf", "1")):
        namespace.sysctl(f"net.ipv6.conf.eth0.{key}", value)
    namespace.ip("link", "set", "eth0", "down")
    namespace.ip("link", "set", "eth0", "up")
    fresh = Guest(namespace, tmp_path)
    assert fresh.wait_for("ip -6 addr show dev eth0 scope link -tentative", "fe80::")
    yield fresh
    for pid in namespace.pids():
        run(["kill", str(pid)], check=False)
    namespace.ip("addr", "flush", "dev", "eth0")


LEARNED4 = f"ip={V4} ip6= mtu=1450 dns=8.8.8.8 host=vm-one"


def test_isc_dhclient(guest: Guest) -> None:
    first = guest.dhclient("-4", "-1")
    assert re.search(rf"(?s)DHCPDISCOVER.*DHCPOFFER.*DHCPREQUEST.*DHCPACK of {V4} from 169.254.0.1", first)
    assert f"reason=BOUND {LEARNED4}" in first
    lease = (guest.directory / "leases-4").read_text()
    assert "option dhcp-lease-time 4294967295;" in lease
    run(["kill", (guest.directory / "pid-4").read_text().strip()])
    # With a lease in its file it starts with the request.
    again = guest.dhclient("-4", "-1")
    assert f"reason=REBOOT {LEARNED4}" in again
    assert "DHCPDISCOVER" not in again
    released = guest.dhclient("-4", "-r")
    assert "DHCPRELEASE" in released


def test_isc_dhclient_6(guest: Guest) -> None:
    bound = guest.dhclient("-6", "-1")
    assert f"IAADDR {V6}" in bound
    assert "PRC: Bound to lease" in bound
    assert f"ip6={V6}" in bound
    released = guest.dhclient("-6", "-r")
    assert "XMT: Release on eth0" in released
    assert "reason=RELEASE6" in released


def test_isc_dhclient_6_information_request(guest: Guest) -> None:
    assert "dns=2001:4860:4860::8888" in guest.dhclient("-6", "-S", "-1")


@pytest.mark.parametrize("flags", ["", "-B", "-O staticroutes -O mtu -R"])
def test_busybox_udhcpc(guest: Guest, flags: str) -> None:
    text = guest.sh(f"busybox udhcpc -i eth0 -n -q -f -t 3 -T 3 -s {guest.hook} {flags}")
    assert f"reason=bound ip={V4}" in text
    assert "lease time 4294967295" in text


def test_dhcpcd_configures_both_families(guest: Guest) -> None:
    conf = guest.directory / "dhcpcd.conf"
    conf.write_text(
        "duid\noption rapid_commit\noption classless_static_routes, interface_mtu, domain_name_servers\n"
        "ia_na 1\nnohook resolv.conf, hostname\n"
    )
    text = guest.sh(f"dhcpcd -f {conf} -1 -B -d -t 25 -4 eth0")
    assert f"leased {V4} for infinity" in text
    assert f"{V4}/32" in guest.addresses()
    assert "default via 169.254.0.1" in guest.namespace.ip("route")
    text = guest.sh(f"dhcpcd -f {conf} -1 -B -d -t 25 -6 eth0")
    assert f"adding address {V6}/128" in text


def test_router_advertisement_gives_the_default_route(guest: Guest) -> None:
    # The kernel solicited when the device came up.
    assert guest.wait_for("ip -6 route show default", "default via fe80::1 dev eth0 proto ra")


def test_the_gateway_answers_ping(guest: Guest) -> None:
    guest.namespace.ip("addr", "add", f"{V4}/32", "dev", "eth0")
    guest.namespace.ip("route", "replace", "169.254.0.0/16", "dev", "eth0")
    assert " 0% packet loss" in guest.sh("ping -c 3 -i 0.2 -W 2 169.254.0.1")
    assert " 0% packet loss" in guest.sh("ping -6 -c 3 -i 0.2 -W 2 fe80::1%eth0")
    assert "lladdr" in guest.sh("ip neigh show 169.254.0.1 dev eth0")
