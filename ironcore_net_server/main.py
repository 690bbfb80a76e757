"""The program `ironcore-net-server`: API groups and controllers on one store, in one process."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from apimachinery import flags
from apimachinery.controller import CONTROLLERS_ENTRY_POINT
from apimachinery.daemon import run_daemon
from apimachinery.errors import InvalidArgument
from apimachinery.etcd.client import parse_endpoint
from apimachinery.formats import check_dns_label
from apimachinery.resource import GroupRegistry
from apimachinery.tls import ClientTls, TlsError
from ironcore_net_server.apinet.settings import (
    DEFAULT_MIN_NETWORK_ID,
    DEFAULT_QUARANTINE_SECONDS,
    MAX_NETWORK_ID,
    MAX_QUARANTINE_SECONDS,
    MIN_NETWORK_ID,
    ApinetSettings,
)
from ironcore_net_server.server import Etcd, ServerConfig, serve

_FILE = click.Path(path_type=Path, dir_okay=False)
# What these controllers read and write must be served by the same process.
_GROUPS_OF_CONTROLLERS: Final = {"apinetlet": ("networking", "ipam", "apinet"), "metalnetlet": ("apinet", "metalnet")}
_NETWORK_ID = click.IntRange(MIN_NETWORK_ID, MAX_NETWORK_ID)


def _split(values: Iterable[str]) -> tuple[str, ...]:
    """Repeated flags and lists with commas are the same; empty parts and repetitions drop out."""
    return tuple(dict.fromkeys(part.strip() for value in values for part in value.split(",") if part.strip()))


def _check_names(flag: str, wanted: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise click.UsageError(f"--{flag}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _check_controllers(
    controllers: Iterable[str], groups: Iterable[str], partition: str, api_net_namespace: str
) -> None:
    for name in controllers:
        missing = sorted(set(_GROUPS_OF_CONTROLLERS.get(name, ())) - set(groups))
        if missing:
            raise click.UsageError(f"--controllers: {name} needs --groups {', '.join(missing)}")
    if "metalnetlet" in controllers and not partition:
        raise click.UsageError("--controllers: metalnetlet needs --partition")
    wrong = check_dns_label(partition) if partition else None
    if wrong is not None:
        raise click.UsageError(f"--partition: {wrong}")
    wrong = check_dns_label(api_net_namespace)
    if wrong is not None:
        raise click.UsageError(f"--api-net-namespace: {wrong}")


def _etcd(values: dict[str, Any]) -> Etcd:
    endpoints = _split(values["etcd_endpoints"])
    if bool(endpoints) == (values["data_dir"] is not None):
        raise click.UsageError("give either --data-dir (a private etcd is started there) or --etcd-endpoints")
    remote = [name for name in ("user", "password_file", "ca", "cert", "key") if values[f"etcd_{name}"]]
    if remote and not endpoints:
        raise click.UsageError(f"--etcd-{remote[0].replace('_', '-')} needs --etcd-endpoints")
    for endpoint in endpoints:
        try:
            parse_endpoint(endpoint)
        except ValueError as error:
            raise click.UsageError(f"--etcd-endpoints: {error}") from None
    if bool(values["etcd_user"]) != bool(values["etcd_password_file"]):
        raise click.UsageError("--etcd-user and --etcd-password-file must be given together")
    password = ""
    if values["etcd_password_file"]:
        try:
            password = values["etcd_password_file"].read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"--etcd-password-file: {error}") from None
    tls = None
    if values["etcd_ca"] or values["etcd_cert"]:
        tls = ClientTls(values["etcd_ca"], values["etcd_cert"], values["etcd_key"])
        try:
            tls.credentials()
        except TlsError as error:
            raise click.UsageError(f"--etcd-ca, --etcd-cert, --etcd-key: {error}") from None
    return Etcd(values["data_dir"], endpoints, values["etcd_user"] or "", password, tls)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="ironcore-network")
@flags.config_file
@flags.listen_options("127.0.0.1:8443")
@flags.log_options
@flags.metrics_options()
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Directory of a private etcd.")
@click.option("--etcd-endpoints", multiple=True, help="etcd cluster: http(s)://host:port or unix:///path. Repeatable.")
@click.option("--etcd-ca", type=_FILE, help="CA of the cluster (PEM).")
@click.option("--etcd-cert", type=_FILE, help="Certificate for the cluster (PEM).")
@click.option("--etcd-key", type=_FILE, help="Key of --etcd-cert (PEM).")
@click.option("--etcd-user", help="User of the cluster.")
@click.option("--etcd-password-file", type=_FILE, help="File with the password of --etcd-user.")
@click.option(
    "--groups", multiple=True, default=("networking", "ipam", "apinet"), help="API groups to serve. Repeatable."
)
@click.option(
    "--controllers",
    multiple=True,
    default=("garbage", "nodes", "apinetlet"),
    help='Controllers to run while this process leads; "" for none. Repeatable.',
)
@click.option(
    "--public-prefix", multiple=True, help="Public addresses to hand out, as CIDR, in this order. Repeatable."
)
@click.option("--min-vni", type=_NETWORK_ID, default=DEFAULT_MIN_NETWORK_ID, help="Lowest network id to hand out.")
@click.option("--max-vni", type=_NETWORK_ID, default=MAX_NETWORK_ID, help="Highest network id to hand out.")
@click.option(
    "--quarantine",
    type=click.IntRange(0, MAX_QUARANTINE_SECONDS),
    default=DEFAULT_QUARANTINE_SECONDS,
    help="Seconds before a released address or network id is handed out again.",
)
@click.option(
    "--api-net-namespace", default="default", help="apinet namespace that the apinetlet mirrors tenants into."
)
@click.option("--partition", default="", help="Partition of the metalnetlet, if it runs here.")
def main(
    listen: flags.Listen,
    logs: flags.Logs,
    observe: flags.Observe,
    groups: tuple[str, ...],
    controllers: tuple[str, ...],
    public_prefix: tuple[str, ...],
    min_vni: int,
    max_vni: int,
    quarantine: int,
    api_net_namespace: str,
    partition: str,
    **etcd: Any,
) -> NoReturn:
    """Serve the API of virtual networks from etcd, hand out addresses and network ids, and run controllers."""
    store = _etcd(etcd)
    groups, controllers = _split(groups), _split(controllers)
    if not groups:
        raise click.UsageError("--groups: at least one group is needed")
    _check_names("groups", groups, GroupRegistry().names())
    _check_names("controllers", controllers, importlib.metadata.entry_points(group=CONTROLLERS_ENTRY_POINT).names)
    _check_controllers(controllers, groups, partition, api_net_namespace)
    options: dict[str, object] = {
        "groups": groups,
        "public_prefixes": _split(public_prefix),
        "min_vni": min_vni,
        "max_vni": max_vni,
        "quarantine_seconds": quarantine,
        "api_net_namespace": api_net_namespace,
        "partition": partition,
    }
    try:
        ApinetSettings.from_options(options)
    except InvalidArgument as error:
        flag = {"public_prefixes": "public-prefix"}.get(error.violations[0].field, "min-vni")
        raise click.UsageError(f"--{flag}: {error.violations[0].message}") from None
    logs.configure()
    config = ServerConfig(listen, observe, store, groups, controllers, options)
    sys.exit(run_daemon(lambda notifier: serve(config, notifier)))


if __name__ == "__main__":
    main()
