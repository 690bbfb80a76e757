"""Options of the command line for TLS, policy and mesh."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from metalbond import cli
from metalbond.client import DEFAULT_GRACE, DEFAULT_SETTLE
from metalbond.codec import MAX_IDENTITY
from metalbond.mesh import MeshConfig
from metalbond.policy_file import PolicyFile
from metalbond.tls import TlsFiles

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_ENDPOINTS = cli.Parsed("host:port[,...]", cli.split_list(cli.endpoint))


@dataclass(frozen=True, slots=True)
class TlsOptions:
    files: TlsFiles | None
    name: str


@dataclass(frozen=True, slots=True)
class ServerSecurity:
    listen: tuple[str, ...]
    """Addresses with TLS."""
    policy: PolicyFile | None
    mesh: MeshConfig
    identity: bytes


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--tls-certificate, --tls-key, --tls-ca, --tls-name → argument `tls: TlsOptions`."""

    @functools.wraps(command)
    def wrapped(
        *arguments: Any,
        tls_certificate: Path | None,
        tls_key: Path | None,
        tls_ca: Path | None,
        tls_name: str,
        **rest: Any,
    ) -> Any:
        files = None
        if tls_certificate and tls_key and tls_ca:
            files = TlsFiles(tls_certificate, tls_key, tls_ca)
        elif tls_certificate or tls_key or tls_ca:
            raise click.UsageError("--tls-certificate, --tls-key and --tls-ca are only usable together")
        return command(*arguments, tls=TlsOptions(files, tls_name), **rest)

    for option in reversed(_TLS):
        wrapped = option(wrapped)
    return wrapped


def server_security_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--listen-tls, --policy, --mesh, --mesh-grace, --mesh-settle, --identity → argument `security: ServerSecurity`."""

    @functools.wraps(command)
    def wrapped(
        *arguments: Any,
        listen_tls: tuple[list[str], ...],
        policy: Path | None,
        mesh: tuple[list[str], ...],
        mesh_grace: float,
        mesh_settle: float,
        identity: str,
        **rest: Any,
    ) -> Any:
        name = identity.encode()
        if len(name) > MAX_IDENTITY:
            raise click.UsageError(f"--identity: {len(name)} bytes, at most {MAX_IDENTITY}")
        security = ServerSecurity(
            tuple(cli.flatten(listen_tls)),
            PolicyFile(policy) if policy else None,
            MeshConfig(tuple(cli.flatten(mesh)), mesh_grace, mesh_settle),
            name,
        )
        return command(*arguments, security=security, **rest)

    for option in reversed(_SERVER):
        wrapped = option(wrapped)
    return wrapped


_TLS = (
    click.option("--tls-certificate", type=_FILE, help="Own certificate with its chain (PEM), for TLS 1.3."),
    click.option("--tls-key", type=_FILE, help="Its key (PEM)."),
    click.option("--tls-ca", type=_FILE, help="CA (PEM) that the other side's certificate must be of."),
    click.option("--tls-name", default="", help="What a dialled server's certificate must name, if not its host."),
)
_SERVER = (
    click.option(
        "--listen-tls",
        type=_ENDPOINTS,
        multiple=True,
        help="Address to serve with TLS 1.3, for clients with a certificate; may be repeated.",
    ),
    click.option("--policy", type=_FILE, help="What peers may do (YAML); read again after SIGHUP and when it changes."),
    click.option(
        "--mesh", type=_ENDPOINTS, multiple=True, help="Another server, whose clients' routes are taken over."
    ),
    click.option(
        "--mesh-grace",
        type=click.FloatRange(0),
        default=DEFAULT_GRACE,
        show_default=True,
        help="Seconds for which routes of a lost server stay.",
    ),
    click.option(
        "--mesh-settle",
        type=click.FloatRange(0),
        default=DEFAULT_SETTLE,
        show_default=True,
        help="Seconds for which routes stay that a server has not sent again after it came back.",
    ),
    click.option(
        "--identity",
        default="",
        help="Name of this server in its mesh; by default that of its certificate, or made up.",
    ),
)
