"""TLS, users and passwords between store and etcd."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from etcd3 import etcdrpc

from apimachinery.etcd.client import EtcdClient
from apimachinery.store import Store, StoreDenied, StoreUnavailable
from apimachinery.tls import ClientTls
from tests.support.certificates import Authority
from tests.support.etcd import EtcdCluster, etcd_cluster, etcd_store, next_changes, put


@pytest.fixture
async def cluster() -> AsyncIterator[EtcdCluster]:
    async with etcd_cluster() as running:
        yield running


@pytest.fixture
async def store(cluster: EtcdCluster) -> AsyncIterator[Store]:
    async with etcd_store(cluster) as connected:
        yield connected


async def test_mutual_tls(tmp_path: Path) -> None:
    ours, strangers = Authority(tmp_path, "ours"), Authority(tmp_path, "strangers")
    server, client, stranger = ours.issue("server"), ours.issue("client"), strangers.issue("stranger")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = (
        f"--listen-client-urls=unix://m0:0,https://127.0.0.1:{port}",
        f"--cert-file={server.certificate}",
        f"--key-file={server.key}",
        f"--trusted-ca-file={ours.ca}",
        "--client-cert-auth",
    )

    async def answers(tls: ClientTls, endpoint: str = f"https://127.0.0.1:{port}") -> bool:
        async with EtcdClient([endpoint], tls=tls, timeout=0.5) as connection, Store(connection) as store:
            try:
                return await store.current_revision() > 0
            except StoreUnavailable:
                return False

    async with etcd_cluster(1, *flags):
        good = ClientTls(ours.ca, client.certificate, client.key)
        assert await answers(good)
        assert await answers(good, f"127.0.0.1:{port}")
        assert await answers(good, f"https://localhost:{port}")
        assert not await answers(ClientTls(ours.ca))
        assert not await answers(ClientTls(ours.ca, stranger.certificate, stranger.key))
        assert not await answers(ClientTls(strangers.ca, client.certificate, client.key))
        assert not await answers(good, f"http://127.0.0.1:{port}")


async def test_user_and_password(cluster: EtcdCluster, store: Store) -> None:
    calls = store.client.call
    await calls(lambda stubs: stubs.auth.UserAdd, etcdrpc.AuthUserAddRequest(name="root", password="r"))
    await calls(lambda stubs: stubs.auth.UserGrantRole, etcdrpc.AuthUserGrantRoleRequest(user="root", role="root"))
    await calls(lambda stubs: stubs.auth.RoleAdd, etcdrpc.AuthRoleAddRequest(name="ours"))
    everything = {"permType": 2, "key": b"/", "range_end": b"0"}
    await calls(
        lambda stubs: stubs.auth.RoleGrantPermission,
        etcdrpc.AuthRoleGrantPermissionRequest(name="ours", perm=everything),
    )
    for name, roles in (("server", ["ours"]), ("stranger", [])):
        await calls(lambda stubs: stubs.auth.UserAdd, etcdrpc.AuthUserAddRequest(name=name, password="p"))
        for role in roles:
            await calls(lambda stubs: stubs.auth.UserGrantRole, etcdrpc.AuthUserGrantRoleRequest(user=name, role=role))
    await calls(lambda stubs: stubs.auth.AuthEnable, etcdrpc.AuthEnableRequest())

    async with EtcdClient(cluster.endpoints, user="server", password="p") as client, Store(client) as server:
        revision = await put(server, "/a")
        # A restarted member has forgotten its tokens.
        (member,) = cluster.members
        await member.kill()
        await member.start()
        assert await server.get("/a") is not None
        async with contextlib.aclosing(server.watch("/", after_revision=revision - 1)) as items:
            assert len(await next_changes(items, 1)) == 1
    async with EtcdClient(cluster.endpoints, user="stranger", password="p") as client, Store(client) as stranger:
        with pytest.raises(StoreDenied):
            await stranger.get("/a")
        with pytest.raises(StoreDenied):
            await anext(stranger.watch("/", after_revision=0))
    async with EtcdClient(cluster.endpoints, user="server", password="wrong") as client, Store(client) as wrong:
        with pytest.raises(StoreDenied, match="authentication failed"):
            await wrong.get("/a")
