"""The program `metalnetlet`."""

from __future__ import annotations

import re
import socket
import sys
from typing import NoReturn

import click

from apimachinery import flags
from apimachinery.client import Client, api_outage
from apimachinery.controller import ControllerContext, run_controllers
from apimachinery.daemon import run_daemon
from apimachinery.logs import Outage
from apimachinery.sdnotify import Notifier
from apimachinery.telemetry import Telemetry, setup_telemetry

from . import PartitionConfig, build

_LABEL = re.compile(r"[A-Za-z0-9./_-]{1,317}=[A-Za-z0-9._-]{0,63}")


def parse_labels(texts: tuple[str, ...]) -> dict[str, str]:
    """Labels from "key=value" texts. Raises click.UsageError."""
    labels = {}
    for text in texts:
        if not _LABEL.fullmatch(text):
            raise click.UsageError(f"--node-label: {text!r} is not key=value")
        key, _, value = text.partition("=")
        labels[key] = value
    return labels


@click.command(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "METALNETLET"})
@click.version_option(package_name="ironcore-network")
@flags.config_file
@click.option("--partition", "--name", "partition", required=True, help="Name of the partition, a DNS label.")
@flags.connect_options("apinet-server", default="127.0.0.1:8443", what="apinet API")
@flags.connect_options("metalnet-server", default="127.0.0.1:8443", what="metalnet API")
@click.option("--metalnet-namespace", default="default", show_default=True, help="Where metalnet objects are put.")
@click.option("--node-label", "node_labels", multiple=True, help="key=value for the partition's nodes. Repeatable.")
@click.option("--disable-network-peering", is_flag=True, help="Keep peered networks apart in this partition.")
@click.option("--heartbeat-ttl", type=click.IntRange(2, 3600), default=15, show_default=True, help="Seconds.")
@flags.metrics_options()
@flags.log_options
def main(
    partition: str,
    apinet_server: flags.Connect,
    metalnet_server: flags.Connect,
    metalnet_namespace: str,
    node_labels: tuple[str, ...],
    disable_network_peering: bool,
    heartbeat_ttl: int,
    observe: flags.Observe,
    logs: flags.Logs,
) -> NoReturn:
    """Mirror one partition between the apinet and the metalnet API."""
    try:
        config = PartitionConfig(
            partition,
            metalnet_namespace,
            parse_labels(node_labels),
            peering=not disable_network_peering,
            heartbeat_ttl=heartbeat_ttl,
        )
    except ValueError as error:
        raise click.UsageError(f"--partition: {error}") from None
    logs.configure()

    async def serve(notifier: Notifier) -> None:
        telemetry = setup_telemetry(
            "metalnetlet", page=observe.page, traces_to=observe.traces_to, trace_ratio=observe.trace_ratio
        )
        try:
            # Both may be one server, and its loss one outage.
            outages = {
                tuple(connect.targets): api_outage(connect.targets) for connect in (apinet_server, metalnet_server)
            }
            async with (
                _client(apinet_server, telemetry, outages[tuple(apinet_server.targets)]) as apinet,
                _client(metalnet_server, telemetry, outages[tuple(metalnet_server.targets)]) as metalnet,
            ):
                identity = f"metalnetlet-{socket.gethostname()}"
                both = build(config, ControllerContext(apinet, {}, identity), ControllerContext(metalnet, {}, identity))
                await run_controllers(both, on_synced=notifier.ready)
        finally:
            telemetry.stop()

    sys.exit(run_daemon(serve))


def _client(connect: flags.Connect, telemetry: Telemetry, outage: Outage) -> Client:
    targets = [str(target) for target in connect.targets]
    return Client(targets, connect.tls, interceptors=telemetry.client_interceptors(), outage=outage)
