"""ironctl as a user runs it, against a server process."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.etcd import etcd_cluster
from tests.support.process import BIN, ServerProcess, server_process

TIMEOUT = 30.0

MANIFESTS = """\
apiVersion: networking.ironcore.dev/v1alpha1
kind: Network
metadata: {name: blue, labels: {tier: gold}}
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: NetworkInterface
metadata: {name: vm1, labels: {network: blue}}
spec:
  networkRef: {name: blue}
  ipFamilies: [IPv4]
  ips: [{value: 10.0.0.1}]
"""


@dataclass
class Done:
    code: int
    out: str
    err: str


@dataclass
class Shell:
    """Runs ironctl with $IRONCTL_SERVER set."""

    server: ServerProcess
    directory: Path

    async def start(self, *arguments: str, stdin: str | None = None) -> asyncio.subprocess.Process:
        environment = {**os.environ, "IRONCTL_SERVER": self.server.target}
        process = await asyncio.create_subprocess_exec(
            str(BIN / "ironctl"),
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        if stdin is not None and process.stdin is not None:
            process.stdin.write(stdin.encode())
            process.stdin.close()
        return process

    async def run(self, *arguments: str, stdin: str | None = None) -> Done:
        process = await self.start(*arguments, stdin=stdin)
        async with asyncio.timeout(TIMEOUT):
            out, err = await process.communicate()
        assert process.returncode is not None
        assert "Traceback" not in err.decode(), err.decode()
        return Done(process.returncode, out.decode(), err.decode())

    async def ok(self, *arguments: str, stdin: str | None = None) -> str:
        done = await self.run(*arguments, stdin=stdin)
        assert done.code == 0, done
        return done.out


@pytest.fixture
async def shell() -> AsyncIterator[Shell]:
    with tempfile.TemporaryDirectory(prefix="ironctl-") as directory:
        path = Path(directory)
        async with (
            etcd_cluster() as etcd,
            server_process(path, "api", etcd.endpoints, "--groups=networking", "--controllers=") as server,
        ):
            yield Shell(server, path)


async def test_the_life_of_objects(shell: Shell) -> None:
    assert (await shell.ok("apply", "-f", "-", stdin=MANIFESTS)).splitlines() == [
        "networks.networking/blue created",
        "networkinterfaces.networking/vm1 created",
    ]
    assert "unchanged" in await shell.ok("apply", "-f", "-", stdin=MANIFESTS)
    changed = MANIFESTS.replace("gold", "silver")
    assert (await shell.ok("apply", "-f", "-", stdin=changed)).splitlines() == [
        "networks.networking/blue configured",
        "networkinterfaces.networking/vm1 unchanged",
    ]

    header, row = (await shell.ok("get", "nic")).splitlines()
    assert header.split()[:2] == ["NAME", "NETWORK"]
    assert row.split()[:2] == ["vm1", "blue"]
    assert (await shell.ok("get", "net,nic", "-o", "name")).split() == [
        "networks.networking/blue",
        "networkinterfaces.networking/vm1",
    ]
    assert (await shell.ok("get", "nic", "--field-selector", "spec.networkRef.name=red", "-o", "name")) == ""
    assert (await shell.ok("get", "net", "-l", "tier in (silver)", "-o", "name")) == "networks.networking/blue\n"

    # What is shown can be applied again.
    shown = await shell.ok("get", "net/blue", "nic/vm1", "-o", "yaml")
    assert [document["kind"] for document in yaml.safe_load_all(shown)] == ["Network", "NetworkInterface"]
    assert "unchanged" in await shell.ok("apply", "-f", "-", stdin=shown)
    one = json.loads(await shell.ok("get", "nic", "vm1", "-o", "json"))
    assert one["spec"]["ips"] == [{"value": "10.0.0.1"}]

    described = await shell.ok("describe", "nic/vm1")
    assert "networkRef:" in described
    assert "Finalizers:  <none>" in described

    exists = await shell.run("create", "-f", "-", stdin=MANIFESTS)
    assert exists.code == 7
    assert exists.err.count("exists already") == 2

    assert (await shell.ok("delete", "-f", "-", stdin=MANIFESTS)).splitlines() == [
        "networkinterfaces.networking/vm1 deleted",
        "networks.networking/blue deleted",
    ]
    gone = await shell.run("get", "net", "blue")
    assert gone.code == 3
    assert 'networks.networking "default/blue" does not exist' in gone.err
    assert (await shell.run("delete", "net/blue", "--ignore-not-found")).code == 0


async def test_mistakes_change_nothing_and_show_the_field(shell: Shell) -> None:
    unknown = await shell.run("apply", "-f", "-", stdin=MANIFESTS.replace("networkRef", "networkReff"))
    assert unknown.code == 6
    assert 'spec.networkReff: is not known; did you mean "networkRef"?' in unknown.err
    assert (await shell.ok("get", "net", "-o", "name")) == ""
    wrong = await shell.run("apply", "-f", "-", stdin=MANIFESTS.replace("10.0.0.1", "10.0.0.300"))
    assert wrong.code == 6
    assert "  spec.ips[0].value: " in wrong.err
    for arguments, message in (
        (("get", "things"), "no kind is called"),
        (("get", "net", "--server", "nowhere"), "--server: 'nowhere': expected host:port"),
        (("get", "net", "-l", "=="), "--selector"),
        (("get", "net", "--field-selector", "spec.x=y"), "--field-selector"),
        (("delete", "net"), "--all"),
        (("apply",), "-f FILE"),
        (("wait", "net/blue", "--for", "soon"), "expected delete"),
    ):
        done = await shell.run(*arguments)
        assert done.code == 2, done
        assert message in done.err


async def test_a_dry_run_stores_nothing(shell: Shell) -> None:
    assert "created (dry run)" in await shell.ok("apply", "--dry-run", "-f", "-", stdin=MANIFESTS)
    assert (await shell.ok("get", "net,nic", "-o", "name")) == ""


async def test_no_server(shell: Shell) -> None:
    await shell.server.kill()
    done = await shell.run("get", "net", "--request-timeout", "500ms")
    assert done.code == 4
    assert f"no answer from {shell.server.target}" in done.err


async def test_delete_waits_for_finalizers_and_says_for_which(shell: Shell) -> None:
    manifest = MANIFESTS.split("---")[0].replace("labels:", "finalizers: [test.dev/work], labels:")
    await shell.ok("create", "-f", "-", stdin=manifest)
    late = await shell.run("delete", "net/blue", "--timeout", "300ms")
    assert late.code == 5
    assert "networks.networking/blue waits for test.dev/work" in late.err
    assert "waits for test.dev/work" in await shell.ok("describe", "net/blue")


async def test_wait_sees_what_comes_later(shell: Shell) -> None:
    early = await shell.run("wait", "net/blue", "--for=jsonpath={.metadata.labels.tier}=silver", "--timeout", "200ms")
    assert early.code == 5
    assert "networks.networking/blue" in early.err
    waiting = await shell.start("wait", "net/blue", "--for=jsonpath={.metadata.labels.tier}=silver")
    await shell.ok("apply", "-f", "-", stdin=MANIFESTS)
    assert waiting.returncode is None
    await shell.ok("apply", "-f", "-", stdin=MANIFESTS.replace("gold", "silver"))
    async with asyncio.timeout(TIMEOUT):
        out, _ = await waiting.communicate()
    assert (waiting.returncode, out) == (0, b"networks.networking/blue condition met\n")
    deleted = await shell.start("wait", "nic/vm1", "--for=delete")
    await shell.ok("delete", "nic", "--all")
    async with asyncio.timeout(TIMEOUT):
        out, _ = await deleted.communicate()
    assert (deleted.returncode, out) == (0, b"networkinterfaces.networking/vm1 condition met\n")


async def test_watch_goes_on_over_a_killed_server(shell: Shell) -> None:
    watching = await shell.start("watch", "net", "-o", "name")
    assert watching.stdout is not None
    try:
        await shell.ok("apply", "-f", "-", stdin=MANIFESTS)
        async with asyncio.timeout(TIMEOUT):
            assert await watching.stdout.readline() == b"ADDED networks.networking/blue\n"
            await shell.server.kill()
            await shell.server.start()
            await shell.ok("apply", "-f", "-", stdin=MANIFESTS.replace("gold", "silver"))
            assert await watching.stdout.readline() == b"MODIFIED networks.networking/blue\n"
            await shell.ok("delete", "net/blue")
            assert await watching.stdout.readline() == b"DELETED networks.networking/blue\n"
    finally:
        watching.terminate()
        _, err = await watching.communicate()
    assert err.count(b"API server lost") == 1
    assert b"Traceback" not in err
