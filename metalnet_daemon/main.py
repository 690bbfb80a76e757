"""The program `metalnet-daemon`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import socket
import sys
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, NoReturn

import click

from apimachinery import flags
from apimachinery.client import Client, api_outage
from apimachinery.daemon import run_daemon
from apimachinery.endpoints import Endpoint
from apimachinery.sdnotify import Notifier
from apimachinery.telemetry import setup_telemetry

from .daemon import Daemon, DaemonConfig
from .device.pci import find_virtual_functions
from .device.pool import combine, parse_pool
from .device.types import Device, PciAddress
from .rim.host import HostConfig
from .route_servers import RouteServers, route_server_options

PCI_POOL = "pci"
MODE_FILE = "mode"
MAX_VNI = (1 << 24) - 1


class PoolType(click.ParamType[tuple[Device, ...] | None]):
    """Option value "NAME=ENGINE_NAME" with ranges, see `device.pool.parse_pool`; None for "pci"."""

    name = "devices"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Device, ...] | None:
        """Parses the text; click shows the error with the flag's name."""
        if value == PCI_POOL or value is None or isinstance(value, tuple):
            return None if value == PCI_POOL else value
        try:
            return tuple(parse_pool(str(value)))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class UnderlayType(click.ParamType[IPv6Network]):
    """Option value: the /64 of underlay addresses, or any address in it."""

    name = "prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IPv6Network:
        """Parses the text; click shows the error with the flag's name."""
        try:
            network = IPv6Network(str(value), strict=False)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if network.prefixlen not in (64, 128):
            self.fail(f"{value}: underlay addresses of a host share a /64", param, ctx)
        return IPv6Network((int(network.network_address) >> 64 << 64, 64))


class RouterType(click.ParamType[IPv6Address]):
    """Option value: an IPv6 address."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IPv6Address:
        """Parses the text; click shows the error with the flag's name."""
        try:
            return IPv6Address(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True, slots=True)
class PciFlags:
    """How to find virtual functions."""

    base: str | None
    multiport: bool
    mode_file: Path


def device_pool(entries: tuple[tuple[Device, ...] | None, ...], pci: PciFlags) -> list[Device]:
    """The devices of all --device-pool entries. Raises click.UsageError."""
    devices: list[Device] = []
    try:
        for entry in entries:
            devices += _functions(pci) if entry is None else entry
        pool = combine(devices)
    except ValueError as error:
        raise click.UsageError(f"--device-pool: {error}") from None
    if not pool:
        raise click.UsageError("--device-pool: no device")
    return pool


def _functions(pci: PciFlags) -> list[Device]:
    multiport = pci.multiport
    # Written by the tool that configures the NIC; it knows better than a flag.
    with contextlib.suppress(OSError):
        multiport = pci.mode_file.read_text().strip() == "eswitch"
    return find_virtual_functions(PciAddress.parse(pci.base) if pci.base else None, multiport=multiport)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "METALNET_DAEMON"})
@click.version_option(package_name="ironcore-network")
@flags.config_file
@click.option("--node-name", default=socket.gethostname, show_default="host name", help="Node to act for.")
@flags.connect_options("api-server", default="127.0.0.1:8443")
@click.option(
    "--dpservice",
    "--dp-service-address",
    "dpservice",
    type=flags.EndpointType(connect=True),
    default="127.0.0.1:1337",
    show_default=True,
    help="Packet engine of this host: host:port or unix:/path.",
)
@route_server_options
@click.option(
    "--public-vni",
    type=click.IntRange(1, MAX_VNI),
    default=100,
    show_default=True,
    help="Network id under which public addresses and default routers are announced.",
)
@click.option(
    "--router-address",
    type=RouterType(),
    help="Underlay address of the default router while none is announced.",
)
@click.option(
    "--underlay-prefix",
    type=UnderlayType(),
    help="The engine's own /64 (its --ipv6): addresses of interfaces are then the same after each of its restarts. "
    "Learned from the engine if not given, which leaves the first interface with one change.",
)
@click.option(
    "--device-pool",
    "pools",
    type=PoolType(),
    multiple=True,
    required=True,
    help='Devices for interfaces: "dtapvf_{0..3}=net_tap{2..5}" (name=name in the engine), or "pci" for the virtual '
    "functions of the SmartNICs. Repeatable.",
)
@click.option("--pf-pci-base-addr", help="With pci: PF whose functions to generate if none is in sysfs.")
@click.option("--multiport-eswitch", is_flag=True, help="With pci: NICs run in multiport e-switch mode.")
@click.option(
    "--state-dir",
    "--metalnet-dir",
    "state_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default="/var/lib/metalnet",
    show_default=True,
    help="Device claims and snapshots of the desired state.",
)
@click.option("--heartbeat-ttl", type=click.IntRange(2, 3600), default=15, show_default=True, help="Seconds.")
@click.option(
    "--route-settle-time",
    type=click.FloatRange(0, 3600),
    default=15.0,
    show_default=True,
    help="Seconds after the start in which learned routes are added and changed, but old ones not yet removed.",
)
@click.option(
    "--resync-interval",
    type=click.FloatRange(1, 86400),
    default=300.0,
    show_default=True,
    help="Seconds between complete comparisons with what the engine really has.",
)
@flags.listen_options()
@flags.metrics_options()
@flags.log_options
def main(
    node_name: str,
    api_server: flags.Connect,
    dpservice: Endpoint,
    route_servers: RouteServers,
    public_vni: int,
    router_address: IPv6Address | None,
    underlay_prefix: IPv6Network | None,
    pools: tuple[tuple[Device, ...] | None, ...],
    pf_pci_base_addr: str | None,
    multiport_eswitch: bool,
    state_dir: Path,
    heartbeat_ttl: int,
    route_settle_time: float,
    resync_interval: float,
    listen: flags.Listen,
    observe: flags.Observe,
    logs: flags.Logs,
) -> NoReturn:
    """Program this hypervisor's packet engine as the API and the learned routes want it.

    Survives the loss of any of them: what is programmed keeps forwarding, and comes into line when they are back.
    """
    pool = device_pool(pools, PciFlags(pf_pci_base_addr, multiport_eswitch, state_dir / MODE_FILE))
    logs.configure()
    config = DaemonConfig(
        node=node_name,
        state_directory=state_dir,
        engine=str(dpservice),
        route_servers=route_servers,
        pool=pool,
        host=HostConfig(
            public_vni=public_vni,
            router=router_address,
            underlay=underlay_prefix,
            resync_seconds=resync_interval,
            version=importlib.metadata.version("ironcore-network"),
        ),
        heartbeat_ttl=heartbeat_ttl,
        settle_seconds=route_settle_time,
        listen=listen,
    )

    async def serve(notifier: Notifier) -> None:
        telemetry = setup_telemetry(
            "metalnet-daemon", page=observe.page, traces_to=observe.traces_to, trace_ratio=observe.trace_ratio
        )
        try:
            targets = [str(target) for target in api_server.targets]
            async with Client(
                targets,
                api_server.tls,
                interceptors=telemetry.client_interceptors(),
                outage=api_outage(api_server.targets),
            ) as client:
                await Daemon(config, client, notifier).run()
        finally:
            telemetry.stop()

    sys.exit(run_daemon(serve))
