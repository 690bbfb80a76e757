"""Which route servers to dial, and how: the --metalbond flags."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from apimachinery import flags
from apimachinery.endpoints import Endpoint
from metalbond.tls import Tls, TlsError, TlsFiles

_FILE = click.Path(path_type=Path, dir_okay=False)


class AddressType(click.ParamType[str]):
    """Option value: an IP address."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Checks the text; click shows the error with the flag's name."""
        try:
            return str(ip_address(str(value)))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True, slots=True)
class RouteServers:
    """What the flags say. addresses: "host:port"; none: no routes are exchanged. keepalive in seconds. tls_name: what
    the servers' certificates must name, if not the hosts that are dialled.
    """

    addresses: tuple[str, ...] = ()
    local_address: str | None = None
    keepalive: int = 3
    tls: TlsFiles | None = None
    tls_name: str = ""


def _build(
    metalbond_servers: tuple[Endpoint, ...],
    metalbond_local_address: str | None,
    metalbond_keepalive: int,
    metalbond_ca: Path | None,
    metalbond_cert: Path | None,
    metalbond_key: Path | None,
    metalbond_tls_name: str,
) -> RouteServers:
    for server in metalbond_servers:
        if server.path:
            raise click.UsageError(f"--metalbond-server: {server} is not host:port")
    tls = None
    if metalbond_ca and metalbond_cert and metalbond_key:
        tls = TlsFiles(metalbond_cert, metalbond_key, metalbond_ca)
        try:
            Tls(tls, server_side=False)
        except TlsError as error:
            raise click.UsageError(f"--metalbond-ca, -cert, -key: {error}") from None
    elif metalbond_ca or metalbond_cert or metalbond_key or metalbond_tls_name:
        raise click.UsageError("TLS to route servers needs --metalbond-ca, --metalbond-cert and --metalbond-key")
    addresses = tuple(str(server) for server in dict.fromkeys(metalbond_servers))
    return RouteServers(addresses, metalbond_local_address, metalbond_keepalive, tls, metalbond_tls_name)


def route_server_options(function: Any) -> Any:
    """--metalbond-server and what belongs to it → argument `route_servers: RouteServers`."""
    decorate: flags.Decorator[Any] = flags.option_group(
        "route_servers",
        _build,
        click.option(
            "--metalbond-server",
            "--metalbond-peer",
            "metalbond_servers",
            type=flags.EndpointType(connect=True),
            multiple=True,
            help="Route server, host:port. Repeatable: all are told everything. Without one no routes are exchanged.",
        ),
        click.option(
            "--metalbond-local-address", type=AddressType(), help="Source address of connections to route servers."
        ),
        click.option(
            "--metalbond-keepalive", type=click.IntRange(1, 3600), default=3, show_default=True, help="Seconds."
        ),
        click.option(
            "--metalbond-ca", type=_FILE, help="CA of the route servers (PEM); with the next two: TLS to all of them."
        ),
        click.option(
            "--metalbond-cert", type=_FILE, help="Own certificate chain (PEM); its common name must be the node's."
        ),
        click.option("--metalbond-key", type=_FILE, help="Key of the certificate (PEM)."),
        click.option(
            "--metalbond-tls-name", default="", help="Name to expect in route servers' certificates, if not the host."
        ),
    )
    return decorate(function)
