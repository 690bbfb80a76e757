"""TLS 1.3 with identities, and what a policy allows to whom."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from metalbond import codec
from metalbond.codec import Hello
from metalbond.mesh import MeshConfig
from metalbond.policy import parse
from metalbond.server import MetalbondServer, ServerConfig
from metalbond.tls import TlsError, TlsFiles
from metalbond.types import Destination, NextHop, Route
from tests.support.certificates import Authority
from tests.support.metalbond import RawPeer, RecordingBackend, eventually, running_client

GOOD = Route(100, Destination.parse("10.7.0.1/32"), NextHop.to("fd00:7::1"))
FOREIGN_VNI = Route(101, *GOOD[1:])
FOREIGN_PREFIX = Route(100, Destination.parse("10.8.0.1/32"), NextHop.to("fd00:7::1"))
FOREIGN_HOP = Route(100, Destination.parse("10.7.0.2/32"), NextHop.to("fd00:8::1"))
POLICY = """
rules:
  - name: seven
    identities: [node-7]
    announce: {vnis: [100], prefixes: [10.7.0.0/16], next-hops: ["fd00:7::/64"], max-routes: 2}
  - name: listener
    identities: [listener]
    subscribe: {vnis: [100]}
  - name: servers
    identities: ["server-*"]
    mesh: true
"""


class Pki:
    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        other = directory / "other"
        other.mkdir()
        self.stranger = Authority(other, "other")

    def files(self, name: str) -> TlsFiles:
        pair = self.authority.issue(name)
        return TlsFiles(pair.certificate, pair.key, self.authority.ca)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


@contextlib.asynccontextmanager
async def secure_server(pki: Pki, policy: str = "", **options: object) -> AsyncIterator[tuple[MetalbondServer, str]]:
    server = MetalbondServer(
        ServerConfig(keepalive=1, hello_timeout=2.0),
        policy=parse(policy) if policy else None,
        tls=pki.files("server-1"),
        tls_name="localhost",
        **options,  # type: ignore[arg-type]
    )
    await server.start([], ["127.0.0.1:0"])
    try:
        yield server, server.addresses[0]
    finally:
        await server.close()


def secure(pki: Pki, address: str, name: str, **options: object) -> contextlib.AbstractAsyncContextManager:
    return running_client([address], tls=pki.files(name), tls_name="localhost", **options)


async def test_routes_pass_over_tls_and_the_certificate_names_the_peer(pki: Pki) -> None:
    async with secure_server(pki) as (server, address):
        async with (
            secure(pki, address, "a", identity="a", hold_seconds=60) as (a, _),
            secure(pki, address, "b") as (b, seen),
        ):
            many = [Route(100, Destination((0x0A000000 + n).to_bytes(4), 32), GOOD.hop) for n in range(5000)]
            a.set_announcements(100, {route[1:] for route in many})
            b.subscribe(100)
            await seen.wait(lambda routes: len(routes) == len(many))
            shown = {view.identity: view for view in server.peers()}
            assert shown.keys() == {"a", "b"}
            assert all(view.proven for view in shown.values())
            assert {peer.peer.connection._sock.version() for peer in server._peers.values()} == {"TLSv1.3"}  # type: ignore[attr-defined]
        await eventually(lambda: server.held_peers == 1)


async def test_nobody_enters_without_a_certificate_of_the_authority(pki: Pki) -> None:
    stranger = pki.stranger.issue("a")
    async with secure_server(pki) as (server, address):
        plain = await RawPeer.connect_ipv4(address)
        await plain.send(codec.encode_hello(Hello(5)))
        await plain.closed()
        plain.close()
        async with running_client(
            [address], tls=TlsFiles(stranger.certificate, stranger.key, pki.authority.ca), tls_name="localhost"
        ):
            await eventually(lambda: server.stats.sessions_lost["tls"] >= 2)
        assert not server.stats.sessions_established
        assert all(view.reason.startswith("tls: ") for view in server.peers())


async def test_a_client_believes_only_servers_of_its_authority_and_with_the_right_name(pki: Pki) -> None:
    pair = pki.authority.issue("a")
    async with secure_server(pki) as (server, address):
        for files, name in [
            (TlsFiles(pair.certificate, pair.key, pki.stranger.ca), "localhost"),
            (TlsFiles(pair.certificate, pair.key, pki.authority.ca), "elsewhere"),
        ]:
            async with running_client([address], tls=files, tls_name=name) as (client, _):
                await eventually(lambda: client.stats.dials_failed >= 1)
                assert not client.stats.sessions_established
        assert not server.stats.sessions_established


async def test_tls_before_1_3_is_refused(pki: Pki) -> None:
    files = pki.files("a")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.ca)
    async with secure_server(pki) as (server, address):
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(
                "127.0.0.1", int(address.rpartition(":")[2]), ssl=context, server_hostname="localhost"
            )
        await eventually(lambda: server.stats.sessions_lost["tls"] == 1)


async def test_a_silent_handshake_ends(pki: Pki) -> None:
    async with secure_server(pki) as (server, address):
        silent = await RawPeer.connect_ipv4(address)
        await silent.closed()
        silent.close()
        assert "no handshake within 2 s" in server.peers()[0].reason


async def test_a_peer_cannot_say_another_name_than_its_certificate(pki: Pki) -> None:
    async with secure_server(pki) as (server, address):
        async with secure(pki, address, "a", identity="b"):
            await eventually(lambda: server.stats.sessions_lost["identity"] >= 1)
            assert not server.stats.sessions_established
        async with secure(pki, address, "a", identity="a/second"):
            await eventually(lambda: server.stats.sessions_established == 1)


async def test_renewed_files_are_used_and_unusable_ones_are_not(pki: Pki, tmp_path: Path) -> None:
    async with secure_server(pki) as (server, address):
        (tmp_path / "server-1.pem").write_text("nothing")
        async with secure(pki, address, "a") as (a, _):
            await a.wait_connected()
        pki.files("server-1")
        async with secure(pki, address, "b") as (b, _):
            await b.wait_connected()
        assert server.stats.sessions_established == 2


def test_files_that_cannot_be_used_are_named(pki: Pki, tmp_path: Path) -> None:
    files = pki.files("a")
    other = pki.files("b")
    for broken, name in [
        (TlsFiles(tmp_path / "none", files.key, files.ca), "none"),
        (TlsFiles(files.certificate, other.key, files.ca), "b.key"),
        (TlsFiles(files.certificate, files.key, files.key), "a.key"),
    ]:
        with pytest.raises(TlsError, match=name):
            MetalbondServer(tls=broken)


async def test_only_what_the_rule_allows_is_announced_and_the_rest_is_counted(pki: Pki) -> None:
    async with (
        secure_server(pki, POLICY) as (server, address),
        secure(pki, address, "node-7") as (a, _),
        secure(pki, address, "listener") as (b, seen),
    ):
        b.subscribe(100)
        b.subscribe(101)
        b.announce(*FOREIGN_VNI)
        for route in (FOREIGN_VNI, FOREIGN_PREFIX, FOREIGN_HOP, GOOD):
            a.announce(*route)
        await seen.wait_for(GOOD)
        more = [Route(100, Destination((0x0A070100 + n).to_bytes(4), 32), GOOD.hop) for n in range(3)]
        for route in more:
            a.announce(*route)
        await eventually(lambda: server.stats.updates_refused["policy_max_routes"] == 2)
        assert len(seen.routes) == 2
        await eventually(lambda: server.stats.updates_refused["policy_announce"] == 1)
        shown = {view.identity: view for view in server.peers()}
        assert shown["node-7"].refused == {
            "policy_vni": 1,
            "policy_prefix": 1,
            "policy_next_hop": 1,
            "policy_max_routes": 2,
        }
        assert shown["node-7"].rule == "seven"
        assert shown["listener"].refused == {"policy_subscribe": 1, "policy_announce": 1}
        assert shown["listener"].subscriptions == (100,)


async def test_a_peer_without_a_rule_is_refused(pki: Pki) -> None:
    async with secure_server(pki, POLICY) as (server, address), secure(pki, address, "nobody"):
        await eventually(lambda: server.stats.sessions_lost["policy"] >= 1)
        assert not server.stats.sessions_established
        assert any("no rule for 'nobody' at 127.0.0.1" in view.reason for view in server.peers())


async def test_another_policy_takes_effect_on_live_sessions(pki: Pki) -> None:
    async with (
        secure_server(pki, POLICY) as (server, address),
        secure(pki, address, "node-7") as (a, _),
        secure(pki, address, "listener", settle_seconds=60.0) as (b, seen),
    ):
        b.subscribe(100)
        a.announce(*GOOD)
        a.announce(*FOREIGN_PREFIX)
        await seen.wait_for(GOOD)
        await eventually(lambda: server.stats.updates_refused["policy_prefix"] == 1)
        # More is allowed: the peer is asked again, by a new session, for what was refused.
        server.set_policy(parse(POLICY.replace("10.7.0.0/16", "10.0.0.0/8")))
        await seen.wait_for(GOOD, FOREIGN_PREFIX)
        # Less is allowed: withdrawn at once.
        server.set_policy(parse(POLICY.replace("10.7.0.0/16", "10.8.0.0/16")))
        await seen.wait_for(FOREIGN_PREFIX)
        # Nothing is allowed.
        server.set_policy(parse(POLICY.replace("[node-7]", "[other]")))
        await seen.wait_for()
        await eventually(lambda: server.stats.sessions_lost["policy"] >= 1)
        server.set_policy(None)
        await seen.wait_for(GOOD, FOREIGN_PREFIX)


async def test_only_servers_may_mesh_and_they_prove_it(pki: Pki) -> None:
    async with secure_server(pki, POLICY) as (first, address):
        second = MetalbondServer(
            ServerConfig(keepalive=1, identity=b"server-2"),
            mesh=MeshConfig((address,)),
            tls=pki.files("server-2"),
            tls_name="localhost",
        )
        await second.start(["[::1]:0"])
        fraud = MetalbondServer(mesh=MeshConfig((address,)), tls=pki.files("node-7"), tls_name="localhost")
        await fraud.start(["[::1]:0"])
        try:
            async with secure(pki, address, "node-7") as (a, _):
                a.announce(*GOOD)
                backend = RecordingBackend()
                async with running_client(second.addresses, backend) as (b, _):
                    b.subscribe(100)
                    await backend.wait_for(GOOD)
            await eventually(lambda: first.stats.sessions_lost["policy"] >= 1)
            assert len(fraud.distributor) == 0
        finally:
            await second.close()
            await fraud.close()
