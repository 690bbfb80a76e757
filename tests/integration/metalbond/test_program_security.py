"""The program with TLS, a policy and a mesh, as an operator runs it."""

import signal
from pathlib import Path

import pytest

from metalbond.types import Destination, NextHop, Route
from tests.support.certificates import Authority
from tests.support.metalbond import process, running_client, server_process

ROUTE = Route(7, Destination.parse("20.0.0.1/32"), NextHop.to("fd00::1"))


def tls(authority: Authority, name: str) -> list[str]:
    pair = authority.issue(name)
    return [
        *("--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key)),
        *("--tls-ca", str(authority.ca), "--tls-name", "localhost"),
    ]


async def test_two_meshed_servers_with_tls_and_a_policy_that_changes(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    policy = tmp_path / "policy.yaml"
    text = "rules: [{name: nodes, identities: [node-*], announce: {vnis: [VNI]}, subscribe: {}}, "
    text += "{name: servers, identities: [server-*], mesh: true}]\n"
    policy.write_text(text.replace("VNI", "8"))
    one, two = tls(authority, "server-1"), tls(authority, "server-2")
    async with process("server", "--listen-tls", "127.0.0.1:0", "--policy", str(policy), *one) as first:
        address = (await first.logged("listening"))["addresses"][0]  # type: ignore[index]
        async with process("server", "--listen-tls", "127.0.0.1:0", "--mesh", address, *two) as second:
            await first.logged("server of the mesh established", identity="server-2", rule="servers")
            other = (await second.logged("listening"))["addresses"][0]  # type: ignore[index]
            node = ("client", "--keepalive", "1")
            announcing = ("--server", address, "--announce", "7#20.0.0.1/32#fd00::1", *tls(authority, "node-1"))
            async with (
                process(*node, *announcing) as announcer,
                process(*node, "--server", other, "--subscribe", "7", *tls(authority, "node-2")) as watcher,
            ):
                await first.logged("message refused, more like it are only counted", reason="policy_vni")
                policy.write_text("rules: []\n")
                await first.logged("policy cannot be used, the old one stays")
                policy.write_text(text.replace("VNI", "7"))
                await first.logged("policy loaded", rules=2)
                await watcher.logged("route added", vni=7, destination="20.0.0.1/32", hop="fd00::1")
                first._process.send_signal(signal.SIGHUP)
                assert await announcer.stop() == 0
                await watcher.logged("route removed", vni=7, destination="20.0.0.1/32", hop="fd00::1")
            assert [entry["event"] for entry in first.log].count("policy loaded") == 2
        assert await first.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--listen-tls", "[::1]:0"], "--listen-tls needs"),
        (["--tls-key", __file__], "only usable together"),
        (["--tls-key", __file__, "--tls-certificate", __file__, "--tls-ca", __file__], "test_program_security.py"),
        (["--policy", __file__], "test_program_security.py: "),
        (["--policy", "/nowhere"], "/nowhere"),
        (["--mesh", "host"], "host:port"),
        (["--identity", "x" * 65], "--identity"),
    ],
)
async def test_wrong_options_end_the_server_with_their_name(arguments: list[str], text: str) -> None:
    async with process("server", *arguments) as child:
        assert await child.stop(signal.SIGCONT) == 2
        assert text in child.text


async def test_a_server_without_tls_still_meshes() -> None:
    async with (
        server_process() as (_, address),
        server_process("[::1]:0", "--mesh", address) as (_, other),
        running_client([address]) as (a, _),
        running_client([other]) as (b, seen),
    ):
        b.subscribe(7)
        a.announce(*ROUTE)
        await seen.wait_for(ROUTE)
