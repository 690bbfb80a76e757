"""Flags: precedence of command line, environment, file and default; every wrong setting is named."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from apimachinery import flags
from apimachinery.endpoints import Endpoint

_seen: dict[str, Any] = {}


@click.command()
@flags.config_file
@flags.listen_options("127.0.0.1:8443")
@flags.connect_options("apinet-server", "127.0.0.1:1", envvar="TEST_APINET_SERVER")
@flags.log_options
@flags.metrics_options()
@click.option("--count", type=int, default=3)
@click.option("--label", default="x")
def command(**values: Any) -> None:
    _seen.clear()
    _seen.update(values)


def invoke(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(command, arguments, env=environment)


def config(tmp_path: Path, text: str, name: str = "config.yaml") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_defaults() -> None:
    assert invoke().exit_code == 0
    assert _seen["listen"] == flags.Listen((Endpoint("127.0.0.1", 8443),), None)
    assert _seen["apinet_server"] == flags.Connect((Endpoint("127.0.0.1", 1),), None)
    assert _seen["logs"] == flags.Logs("info", "text")
    assert _seen["observe"] == flags.Observe(None, None, 0.01)


def test_precedence(tmp_path: Path) -> None:
    file = config(tmp_path, "apinet-server: file:1\nlog: {level: debug, format: json}\ncount: 5\n")
    assert invoke("--config", file, "--count", "7", TEST_APINET_SERVER="env:1").exit_code == 0
    assert _seen["logs"] == flags.Logs("debug", "json")
    assert _seen["count"] == 7
    assert _seen["apinet_server"].targets == (Endpoint("env", 1),)
    assert invoke("--config", file).exit_code == 0
    assert _seen["apinet_server"].targets == (Endpoint("file", 1),)
    assert _seen["count"] == 5


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", 'listen = ["[::1]:1", "unix:/x"]\n[metrics]\ninsecure = true\n'),
        ("c.json", '{"listen": ["[::1]:1", "unix:/x"], "metrics_insecure": true}'),
        ("c.yaml", "listen:\n- '[::1]:1'\n- unix:/x\nmetrics: {insecure: true}\n"),
    ],
)
def test_forms_of_the_file(tmp_path: Path, name: str, text: str) -> None:
    assert invoke("--config", config(tmp_path, text, name)).exit_code == 0
    assert _seen["listen"].addresses == (Endpoint("::1", 1), Endpoint(path="/x"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log: {level: loud}", "log.level: 'loud' is not one of"),
        ("log: {leve: debug}", "log.leve: no such setting; did you mean 'log-level'?"),
        ("zzzzzz: 1", "zzzzzz: no such setting"),
        ("config: other.yaml", "config: no such setting"),
        ("count: '4'", "count: expected an integer, got '4'"),
        ("count: true", "count: expected an integer, got True"),
        ("label: 1.10", "label: expected a text (in quotes), got 1.1"),
        ("insecure: 1", "insecure: expected true or false, got 1"),
        ("listen: 127.0.0.1:1", "listen: expected a list, got '127.0.0.1:1'"),
        ("listen: [nowhere]", "listen: 'nowhere': expected host:port"),
        ("trace: {ratio: 2.0}", "trace.ratio: 2.0 is not in the range"),
        ("log-level: info\nlog: {level: debug}", "log.level: --log-level is set twice"),
        ("count: 1\ncount: 2", "count: appears twice"),
        ("[1, 2]", "expected settings by name"),
        ("a: [", "line 2"),
        ("a: 1\n---\nb: 1", "one document is allowed"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = config(tmp_path, text)
    result = invoke("--config", file)
    assert result.exit_code == flags.ExitCode.USAGE
    shown = " ".join(result.output.split())
    assert message in shown
    assert file in shown


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.yaml", "binary"):
        result = invoke("--config", str(tmp_path / name))
        assert result.exit_code == flags.ExitCode.USAGE
        assert str(tmp_path / name) in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "0.0.0.0:1"], "--insecure"),
        (["--listen", "127.0.0.1:1", "--listen", "[2001:db8::1]:1"], "[2001:db8::1]:1 can be reached"),
        (["--listen", "::1:1"], "needs brackets"),
        (["--tls-cert", "/absent"], "--tls-cert and --tls-key"),
        (["--tls-cert", "/absent", "--tls-key", "/absent"], "/absent: No such file"),
        (["--tls-client-ca", "/absent"], "--tls-client-ca needs"),
        (["--metrics", "0.0.0.0:1"], "--metrics-insecure"),
        (["--metrics", "unix:/x"], "needs host:port"),
        (["--apinet-server", "a:0"], "--apinet-server: 'a:0': port must be 1..65535"),
        (["--apinet-server", "a:1", "--apinet-server-ca", "/absent"], "/absent: No such file"),
        (["--traces-to", "collector"], "expected host:port"),
    ],
)
def test_wrong_flags_are_refused(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == flags.ExitCode.USAGE
    assert message in " ".join(result.output.split())


def test_insecure_allows_any_address() -> None:
    assert invoke("--listen", "0.0.0.0:1", "--insecure").exit_code == 0
    assert invoke("--metrics", "0.0.0.0:1", "--metrics-insecure").exit_code == 0
