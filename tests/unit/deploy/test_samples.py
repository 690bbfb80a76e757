"""The files under deploy/ fit the programs: every sample is read by the program's own loader, with its own checks."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import apimachinery.daemon
import ironcore_net_server.main
import metalbond.main
import metalnet_daemon.main
import metalnet_daemon.metalnetlet.main
from dpservice import options as dpservice_options
from metalbond.inspection.show import DEFAULT_INSPECT
from tests.support.certificates import Authority

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "deploy" / "config"
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PREFIX = "/opt/ironcore/bin/"
ETC = "/etc/ironcore/"
# Programs whose main function feeds systemd's watchdog.
FED = {"ironcore-net-server", "metalnetlet", "metalnet-daemon"}


class StartedError(Exception):
    """The program got as far as starting: flags and files are accepted."""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The sample directory as an operator installs it, with certificates where the samples expect them."""
    authority = Authority(tmp_path)
    for name in ("ironcore-net-server", "metalnetlet", "metalnet-daemon"):
        authority.issue(name)
    for sample in CONFIG.iterdir():
        text = sample.read_text().replace(f"{ETC}tls/", f"{tmp_path}/").replace(ETC, f"{tmp_path}/")
        (tmp_path / sample.name).write_text(text)
    return tmp_path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("METALBOND_", "METALNET", "DP_CONF")):
            monkeypatch.delenv(name)


def parse(command: click.Command, arguments: list[str]) -> dict[str, Any]:
    """All parameters of a command line. Raises click.UsageError."""
    return command.make_context("test", list(arguments)).params


def start(
    monkeypatch: pytest.MonkeyPatch, module: Any, arguments: list[str], runner: str = "run_daemon"
) -> dict[str, Any]:
    """Run a program up to its event loop; returns its parsed parameters."""

    def stop(work: Any) -> None:
        if hasattr(work, "close"):
            work.close()
        raise StartedError

    monkeypatch.setattr(module, runner, stop)
    monkeypatch.setattr("apimachinery.flags.Logs.configure", lambda self: None)
    monkeypatch.setattr(metalbond.main, "_configure_logs", lambda verbose: None)
    with pytest.raises(StartedError):
        module.main.main(arguments, standalone_mode=False)
    return parse(module.main, arguments)


def test_sample_of_the_server(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = str(installed / "ironcore-net-server.yaml")
    values = start(monkeypatch, ironcore_net_server.main, ["--config", config])
    assert values["groups"] == ("networking", "ipam", "apinet", "metalnet")
    assert values["controllers"] == ("garbage", "nodes", "apinetlet", "metalnetlet")
    assert (
        values["min_vni"]
        > parse(metalnet_daemon.main.main, ["--config", f"{installed}/metalnet-daemon.yaml"])["public_vni"]
    )


def test_sample_of_the_server_with_a_cluster(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alternative that the sample shows in comments is as good as the one that is in force."""
    path = installed / "ironcore-net-server.yaml"
    lines = path.read_text().splitlines()
    Authority(installed, "etcd-ca").issue("etcd")
    switched = [re.sub(r"^# (etcd)", r"\1", line) for line in lines if not line.startswith("data-dir:")]
    path.write_text("\n".join(switched))
    values = start(monkeypatch, ironcore_net_server.main, ["--config", str(path)])
    assert len(values["etcd_endpoints"]) == 3 and values["etcd_ca"] == installed / "etcd-ca.pem"


def test_sample_of_the_metalnetlet(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = start(monkeypatch, metalnet_daemon.metalnetlet.main, ["--config", f"{installed}/metalnetlet.yaml"])
    assert values["partition"] == "two"


def test_sample_of_the_node_daemon(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = start(monkeypatch, metalnet_daemon.main, ["--config", f"{installed}/metalnet-daemon.yaml"])
    assert len(values["metalbond_servers"]) == 2
    assert [device.name for device in values["pools"][0]] == ["vf0", "vf1", "vf2", "vf3"]


def test_sample_of_the_engine(installed: Path) -> None:
    """Config file and EAL arguments together, as the unit starts the engine, and as the node daemon knows it."""
    words = shlex.split(environment_file(installed / "dpservice.env")["EAL_ARGS"])
    command = dpservice_options.parse([*words, "--"], {"DP_CONF": str(installed / "dpservice.conf")})
    engine = command.options
    assert engine.eal_args == tuple(words)
    assert engine.telemetry
    devices = [
        dict(part.partition("=")[::2] for part in f"name={word[7:]}".split(",")) for word in words if "--vdev=" in word
    ]
    assert [device["iface"] for device in devices[:2]] == [engine.pf0, engine.pf1]
    daemon = parse(metalnet_daemon.main.main, ["--config", f"{installed}/metalnet-daemon.yaml"])
    pool = {device.name: device.engine for device in daemon["pools"][0]}
    assert pool == {device["iface"]: device["name"] for device in devices[2:]}
    assert all(engine.vf_pattern in name for name in pool)
    assert engine.ipv6[:8] == daemon["underlay_prefix"].network_address.packed[:8]
    assert str(daemon["dpservice"]) in {str(address) for address in engine.grpc_addresses()}


def test_sample_of_the_route_server(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = environment_file(installed / "metalbond.env")
    known = {
        f"METALBOND_SERVER_{option.name.upper()}" for option in metalbond.main.server.params if option.name is not None
    }
    assert variables.keys() <= known
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    seen: dict[str, Any] = {}

    async def serve(instance: Any, listen: list[str], security: Any, opening: Any) -> None:
        seen.update(listen=listen, config=instance.config)

    def opened(windows: Any, *_: Any) -> None:
        seen.update(windows=windows)

    monkeypatch.setattr(metalbond.main, "opened", opened)
    monkeypatch.setattr(metalbond.main, "_serve", serve)
    monkeypatch.setattr(metalbond.main, "_configure_logs", lambda verbose: None)
    metalbond.main.main.main(["server"], standalone_mode=False)
    assert seen["listen"] == ["[2001:db8::21]:4711"] and seen["config"].max_hold == 300
    windows = seen["windows"]
    assert windows.metrics == "127.0.0.1:9094" and windows.http == "[::1]:4712"
    assert windows.inspect == DEFAULT_INSPECT and not windows.insecure


def test_every_metrics_page_has_its_own_port(installed: Path) -> None:
    pages = re.findall(
        r"^(?:metrics: |metrics-listen |METALBOND_SERVER_METRICS=)(\S+)$", all_text(CONFIG), re.MULTILINE
    )
    assert len(pages) == len(set(pages)) == 5


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_fit_programs_users_and_samples(unit: Path) -> None:
    service = settings(unit)
    program, *words = shlex.split(service["ExecStart"][0])
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert program == PREFIX + unit.stem and unit.stem in scripts
    assert service["Type"] == ["notify"] and service["Restart"] == ["always"]
    assert service["User"] == service["Group"]
    assert service["User"][0] in users()
    paths = [
        word for word in (*words, *service.get("EnvironmentFile", []), *service.get("Environment", [])) if ETC in word
    ]
    assert paths
    for path in paths:
        assert (CONFIG / path.partition(ETC)[2]).is_file(), path
    assert ("WatchdogSec" in service) == (unit.stem in FED)


def test_only_programs_with_the_common_main_function_feed_the_watchdog() -> None:
    modules: dict[str, Any] = {
        "ironcore-net-server": ironcore_net_server.main,
        "metalnetlet": metalnet_daemon.metalnetlet.main,
        "metalnet-daemon": metalnet_daemon.main,
    }
    assert modules.keys() == FED
    run: Callable[..., Any] = apimachinery.daemon.run_daemon
    assert all(module.run_daemon is run for module in modules.values())
    assert not hasattr(metalbond.main, "run_daemon")


def test_state_directories_are_where_the_programs_write(installed: Path) -> None:
    """ProtectSystem=strict leaves nothing else writable."""
    server = parse(ironcore_net_server.main.main, ["--config", f"{installed}/ironcore-net-server.yaml"])
    daemon = parse(metalnet_daemon.main.main, ["--config", f"{installed}/metalnet-daemon.yaml"])
    for name, directory in (("ironcore-net-server", server["data_dir"]), ("metalnet-daemon", daemon["state_dir"])):
        service = settings(ROOT / "deploy" / "systemd" / f"{name}.service")
        assert directory == Path("/var/lib") / service["StateDirectory"][0]


def test_every_user_may_read_the_configuration() -> None:
    lines = [line.split() for line in statements(ROOT / "deploy" / "sysusers.d" / "ironcore.conf")]
    members = {line[1] for line in lines if line[0] == "m" and line[2] == "ironcore"}
    assert members == users()
    for kind, path, mode, owner, group, *_ in map(
        str.split, statements(ROOT / "deploy" / "tmpfiles.d" / "ironcore.conf")
    ):
        assert (kind, mode, owner, group) == ("d", "0750", "root", "ironcore") and f"{path}/".startswith(ETC)


def users() -> set[str]:
    lines = statements(ROOT / "deploy" / "sysusers.d" / "ironcore.conf")
    return {line.split()[1] for line in lines if line.startswith("u ")}


def statements(path: Path) -> Iterator[str]:
    """Lines that are neither empty nor comments."""
    return (line for line in path.read_text().splitlines() if line and not line.startswith("#"))


def settings(unit: Path) -> dict[str, list[str]]:
    """Settings of all sections; names are unique over those in use."""
    found: dict[str, list[str]] = {}
    for line in statements(unit):
        name, separator, value = line.partition("=")
        if separator:
            found.setdefault(name, []).append(value)
    return found


def environment_file(path: Path) -> dict[str, str]:
    """Variables of an environment file as systemd reads it: one per line, quotes around the whole value."""
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in statements(path))}


def all_text(directory: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(directory.iterdir()))
