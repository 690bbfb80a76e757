"""`metalbond client --install-routes` against the kernel, in network namespaces.

The tunnel is a VXLAN-GPE device in external mode: like ip6tnl, which not every kernel has, it carries bare IP packets
and takes the outer addresses from the routes.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.lab.namespace import Namespace
from tests.support.metalbond import Process, eventually, process

SERVER = "[fd00::1]:4711"
MAKE_TUNNEL = ("link", "add", "tun", "type", "vxlan", "external", "gpe", "dstport", "4790", "udp6zerocsumrx")


@pytest.fixture
def hosts() -> Iterator[list[Namespace]]:
    """Two hosts on one underlay with a tunnel device and one guest address per IP version each."""
    hosts = [Namespace(f"mb{os.getpid()}-{name}") for name in "ab"]
    try:
        for host in hosts:
            host.create()
        a, b = hosts
        a.ip("link", "add", "under", "type", "veth", "peer", "name", "under", "netns", b.name)
        for number, host in enumerate(hosts, 1):
            host.ip("addr", "add", f"fd00::{number}/64", "dev", "under", "nodad")
            host.ip("link", "set", "under", "up")
            host.ip(*MAKE_TUNNEL)
            host.ip("link", "set", "tun", "up")
            host.ip("addr", "add", f"10.0.0.{number}/32", "dev", "lo")
            host.ip("addr", "add", f"fd10::{number}/128", "dev", "lo", "nodad")
        yield hosts
    finally:
        for host in hosts:
            host.delete()


@contextlib.asynccontextmanager
async def server(host: Namespace) -> AsyncIterator[Process]:
    async with process("server", "--listen", SERVER, "--keepalive", "1", prefix=host.prefix()) as child:
        await child.logged("listening")
        yield child


def client(host: Namespace, *arguments: str) -> contextlib.AbstractAsyncContextManager[Process]:
    return process("client", "--server", SERVER, "--keepalive", "1", "--settle", "0", *arguments, prefix=host.prefix())


def routes(host: Namespace, version: int, table: int = 100) -> list[str]:
    """Lines of `ip route show` with one line per route."""
    try:
        text = host.ip(f"-{version}", "route", "show", "table", str(table), "proto", "254")
    except Exception as error:
        if "FIB table does not exist" in str(error):
            return []
        raise
    return [" ".join(line.split()) for line in text.replace("\n\t", " ").splitlines()]


def targets(host: Namespace, version: int, table: int = 100) -> dict[str, list[str]]:
    """Destination to underlay addresses."""
    return {
        line.split()[0]: [word for before, word in zip(line.split(), line.split()[1:], strict=False) if before == "dst"]
        for line in routes(host, version, table)
    }


INSTALL = ("--subscribe", "100", "--install-routes", "100#100", "--tun", "tun")


async def test_packets_reach_the_other_host_through_installed_routes(hosts: list[Namespace]) -> None:
    a, b = hosts
    for host in hosts:
        for version in (4, 6):
            host.ip(f"-{version}", "rule", "add", "to", "10.0.0.0/24" if version == 4 else "fd10::/64", "table", "100")
    async with (
        server(a),
        client(a, *INSTALL, "--announce", "100#10.0.0.1/32#fd00::1,100#fd10::1/128#fd00::1"),
        client(b, *INSTALL, "--announce", "100#10.0.0.2/32#fd00::2,100#fd10::2/128#fd00::2"),
    ):
        await eventually(lambda: targets(a, 4) == {"10.0.0.2": ["fd00::2"]})
        await eventually(lambda: targets(a, 6) == {"fd10::2": ["fd00::2"]})
        await eventually(
            lambda: targets(b, 4) == {"10.0.0.1": ["fd00::1"]} and targets(b, 6) == {"fd10::1": ["fd00::1"]}
        )
        for source, destination in (("10.0.0.1", "10.0.0.2"), ("fd10::1", "fd10::2")):
            assert "1 received" in a.exec("ping", "-c1", "-W5", "-I", source, destination)


async def test_hops_come_and_go_one_by_one_and_manual_changes_are_undone(hosts: list[Namespace]) -> None:
    a, _ = hosts
    async with server(a), client(a, *INSTALL, "--cleanup") as installer:
        await installer.logged("synced")
        async with client(a, "--announce", "100#10.7.0.0/16#fd00::8,100#fd17::/64#fd00::8"):
            async with client(a, "--announce", "100#10.7.0.0/16#fd00::9,100#fd17::/64#fd00::9") as second:
                both = ["fd00::8", "fd00::9"]
                await eventually(
                    lambda: targets(a, 4) == {"10.7.0.0/16": both} and targets(a, 6) == {"fd17::/64": both}
                )
                a.ip("route", "del", "10.7.0.0/16", "table", "100")
                a.ip("-6", "route", "flush", "table", "100")
                a.ip("route", "add", "10.66.0.0/16", "dev", "tun", "table", "100", "proto", "254")
                a.ip("route", "add", "10.67.0.0/16", "dev", "tun", "table", "100", "proto", "static")
                await eventually(
                    lambda: targets(a, 4) == {"10.7.0.0/16": both} and targets(a, 6) == {"fd17::/64": both}
                )
                a.ip("link", "set", "tun", "down")
                await eventually(lambda: not routes(a, 4))
                a.ip("link", "set", "tun", "up")
                await eventually(
                    lambda: targets(a, 4) == {"10.7.0.0/16": both} and targets(a, 6) == {"fd17::/64": both}
                )
                await second.stop(signal.SIGTERM)
            await eventually(
                lambda: targets(a, 4) == {"10.7.0.0/16": both[:1]} and targets(a, 6) == {"fd17::/64": both[:1]}
            )
            assert await installer.stop(signal.SIGTERM) == 0
        assert routes(a, 4) == routes(a, 6) == []


async def test_a_killed_client_leaves_its_routes_and_the_next_one_corrects_them(hosts: list[Namespace]) -> None:
    a, _ = hosts
    async with server(a), client(a, "--announce", "100#10.7.0.0/16#fd00::8,100#10.8.0.0/16#fd00::8") as owner:
        async with client(a, *INSTALL) as installer:
            await eventually(lambda: targets(a, 4).keys() == {"10.7.0.0/16", "10.8.0.0/16"})
            await installer.stop(signal.SIGKILL)
        await owner.stop(signal.SIGTERM)
        assert targets(a, 4).keys() == {"10.7.0.0/16", "10.8.0.0/16"}
        async with client(a, "--announce", "100#10.8.0.0/16#fd00::9"), client(a, *INSTALL) as installer:
            await eventually(lambda: targets(a, 4) == {"10.8.0.0/16": ["fd00::9"]})
            assert await installer.stop(signal.SIGTERM) == 0
        assert targets(a, 4) == {"10.8.0.0/16": ["fd00::9"]}


async def test_a_replaced_tunnel_gets_the_routes_again(hosts: list[Namespace]) -> None:
    a, _ = hosts
    async with server(a), client(a, "--announce", "100#10.7.0.0/16#fd00::8"), client(a, *INSTALL) as installer:
        await eventually(lambda: targets(a, 4) == {"10.7.0.0/16": ["fd00::8"]})
        a.ip("link", "del", "tun")
        refused = await installer.logged("kernel refuses routes, retrying")
        assert "tun: no such device" in str(refused["errors"])
        a.ip(*MAKE_TUNNEL)
        a.ip("link", "set", "tun", "up")
        await eventually(lambda: targets(a, 4) == {"10.7.0.0/16": ["fd00::8"]})
        await installer.logged("kernel takes routes again")


async def test_table_zero_is_the_main_table_and_other_versions_can_be_left_out(hosts: list[Namespace]) -> None:
    a, _ = hosts
    flags = ("--subscribe", "100", "--install-routes", "100#0", "--tun", "tun", "--ipv4-only")
    before = a.ip("-6", "route", "show")
    async with (
        server(a),
        client(a, "--announce", "100#fd17::/64#fd00::8,100#10.7.0.0/16#fd00::8"),
        client(a, *flags) as installer,
    ):
        await installer.logged("not a route for the kernel, more like it are only counted", reason="not_ipv4")
        await eventually(lambda: targets(a, 4, 254) == {"10.7.0.0/16": ["fd00::8"]})
    assert a.ip("-6", "route", "show") == before


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("absent", "absent: no such device"),
        ("lo", "lo: a device of kind physical, must be a tunnel in external mode"),
        ("under", "under: a device of kind veth, must be a tunnel in external mode"),
    ],
)
async def test_an_unfit_device_is_refused_with_what_to_do(hosts: list[Namespace], device: str, message: str) -> None:
    async with client(hosts[0], "--subscribe", "5", "--install-routes", "5#5", "--tun", device) as installer:
        await eventually(lambda: "Error" in installer.text)
        assert await installer.stop(signal.SIGCONT) == 1
    assert f"--install-routes: {message}" in installer.text
    assert "type ip6tnl mode any external" in installer.text or "CONFIG_IPV6_TUNNEL" in installer.text


async def test_a_client_without_the_capability_says_so(hosts: list[Namespace]) -> None:
    words = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
    arguments = ("client", "--server", SERVER, "--subscribe", "5", "--install-routes", "5#5", "--tun", "tun")
    async with process(*arguments, prefix=[*hosts[0].prefix(), *words]) as installer:
        await eventually(lambda: "Error" in installer.text)
        assert await installer.stop(signal.SIGCONT) == 1
    assert "needs the capability NET_ADMIN" in installer.text
