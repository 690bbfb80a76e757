"""What the programs refuse before they start anything."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from metalnet_daemon.device.types import Device
from metalnet_daemon.main import PciFlags, device_pool
from metalnet_daemon.main import main as daemon
from metalnet_daemon.metalnetlet.main import main as metalnetlet
from metalnet_daemon.metalnetlet.main import parse_labels


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing option '--partition'"),
        (["--partition=a.b"], "--partition: partition 'a.b' is not a DNS label"),
        (["--partition=p1", "--node-label=x"], "--node-label: 'x' is not key=value"),
        (["--partition=p1", "--heartbeat-ttl=1"], "--heartbeat-ttl"),
        (["--partition=p1", "--apinet-server=nowhere"], "--apinet-server"),
        (["--partition=p1", "--metalnet-server-ca=/nonexistent"], "nonexistent"),
    ],
)
def test_bad_flags_of_the_metalnetlet(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(metalnetlet, arguments)
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.split())


def test_a_config_file_is_checked_with_its_paths(tmp_path: Path) -> None:
    config = tmp_path / "daemon.yaml"
    config.write_text("device-pool: [a=b]\nrouter: {address: nonsense}\n")
    result = CliRunner().invoke(daemon, [f"--config={config}"])
    assert result.exit_code == 2
    assert f"{config}: router.address:" in result.output
    config.write_text("device-pol: [a=b]\n")
    assert "did you mean 'device-pool'" in CliRunner().invoke(daemon, [f"--config={config}"]).output


def test_node_labels() -> None:
    assert parse_labels(("zone=z1", "example.org/rack=")) == {"zone": "z1", "example.org/rack": ""}
    with pytest.raises(click.UsageError, match="is not key=value"):
        parse_labels(("=x",))


def test_pool_entries_are_combined(tmp_path: Path) -> None:
    flags = PciFlags("0000:03:00.0", False, tmp_path / "mode")
    tap = (Device("tap0", "net_tap2"),)
    assert device_pool((tap,), flags) == list(tap)
    virtual = device_pool((None, tap), flags)
    assert len(virtual) == 127
    assert virtual[0].engine.endswith("_representor_vf0")
    (tmp_path / "mode").write_text("eswitch\n")
    assert device_pool((None,), flags)[0].engine.endswith("_representor_c0pf0vf0")
    with pytest.raises(click.UsageError, match="no device"):
        device_pool((), flags)
