"""The program `metalbond`. Each option can also be set in the environment: METALBOND_SERVER_LISTEN and so on."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import click
import structlog
import uvloop

from metalbond import cli
from metalbond.client import DEFAULT_GRACE, DEFAULT_HOLD, DEFAULT_KEEPALIVE, DEFAULT_SETTLE, MetalbondClient
from metalbond.inspection.show import show
from metalbond.kernel.installer import KernelRoutes
from metalbond.kernel.options import KernelConfig, kernel_options
from metalbond.kernel.program import installed
from metalbond.metrics import client_registry, server_registry
from metalbond.notify import notify
from metalbond.observe import Windows, opened, window_options
from metalbond.security import ServerSecurity, TlsOptions, server_security_options, tls_options
from metalbond.server import DEFAULT_MAX_HOLD, MetalbondServer, ServerConfig
from metalbond.session import MAX_KEEPALIVE
from metalbond.tls import TlsError
from metalbond.types import Destination, NextHop, Route

log = structlog.get_logger(__name__)

DEFAULT_LISTEN = "[::1]:4711"

_ENDPOINTS = cli.Parsed("host:port[,...]", cli.split_list(cli.endpoint))
_VNIS = cli.Parsed("vni[,...]", cli.split_list(cli.vni))
_ROUTES = cli.Parsed("vni#prefix#nexthop[#type[#from#to]][,...]", cli.split_list(cli.announcement))
# 0 has always meant the default in this program.
_KEEPALIVE = click.option(
    "--keepalive", type=click.IntRange(0, MAX_KEEPALIVE), default=0, help="Seconds between keepalives; 0 means 5."
)
_VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Log debug messages.")


@click.group(context_settings={"auto_envvar_prefix": "METALBOND", "help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ironcore-network")
def main() -> None:
    """Distribute routes between hypervisors and routers."""


@main.command()
@click.option(
    "--listen",
    type=_ENDPOINTS,
    multiple=True,
    help="Address to serve without TLS; may be repeated. Without a policy any peer may announce anything there. "
    "Default: [::1]:4711, if there is no --listen-tls.",
)
@server_security_options
@tls_options
@_KEEPALIVE
@click.option(
    "--max-hold",
    type=click.IntRange(0, 86_400),
    default=DEFAULT_MAX_HOLD,
    show_default=True,
    help="Longest time in seconds for which routes of a lost peer stay, if it asked for that.",
)
@window_options
@_VERBOSE
def server(
    listen: tuple[list[str], ...],
    security: ServerSecurity,
    tls: TlsOptions,
    keepalive: int,
    max_hold: int,
    windows: Windows,
    verbose: bool,
) -> None:
    """Take routes from clients and give them to those that subscribe."""
    windows.check(tls.files)
    _configure_logs(verbose)
    config = ServerConfig(keepalive=keepalive or DEFAULT_KEEPALIVE, max_hold=max_hold, identity=security.identity)
    plain = cli.flatten(listen) or ([] if security.listen else [DEFAULT_LISTEN])
    if security.listen and tls.files is None:
        raise click.UsageError("--listen-tls needs --tls-certificate, --tls-key and --tls-ca")
    try:
        policy = security.policy.load() if security.policy else None
        instance = MetalbondServer(config, policy=policy, mesh=security.mesh, tls=tls.files, tls_name=tls.name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    run(_serve(instance, plain, security, opened(windows, instance, server_registry(instance), tls.files)))


async def _serve(
    instance: MetalbondServer, listen: list[str], security: ServerSecurity, opening: AbstractAsyncContextManager[None]
) -> None:
    stopped = _stop_signal()
    try:
        await instance.start(listen, security.listen)
    except OSError as error:
        raise click.ClickException(f"--listen {', '.join([*listen, *security.listen])}: {error}") from None
    try:
        async with opening:
            following = asyncio.create_task(security.policy.follow(instance.set_policy)) if security.policy else None
            notify("READY=1")
            await stopped.wait()
            notify("STOPPING=1")
            if following is not None:
                following.cancel()
    finally:
        await instance.close()


@main.command()
@click.option("--server", "servers", type=_ENDPOINTS, multiple=True, required=True, help="Server; may be repeated.")
@click.option("--subscribe", type=_VNIS, multiple=True, help="VNI whose routes are wanted; may be repeated.")
@click.option(
    "--announce",
    type=_ROUTES,
    multiple=True,
    help="Route to announce, VNI#PREFIX#NEXTHOP[#TYPE[#FROM#TO]] with TYPE std, lb or nat; may be repeated.",
)
@tls_options
@_KEEPALIVE
@click.option("--local-address", help="Source address of connections.")
@click.option("--identity", default="", help="Unique name that survives restarts: servers then hold routes for it.")
@click.option(
    "--hold",
    type=click.IntRange(0, 86_400),
    default=DEFAULT_HOLD,
    show_default=True,
    help="Seconds for which servers keep announced routes after a lost session. Needs --identity.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=DEFAULT_GRACE,
    show_default=True,
    help="Seconds for which routes of a lost server stay.",
)
@click.option(
    "--settle",
    type=click.FloatRange(0),
    default=DEFAULT_SETTLE,
    show_default=True,
    help="Seconds for which routes stay that a server has not sent again after it came back.",
)
@kernel_options
@window_options
@_VERBOSE
def client(
    servers: tuple[list[str], ...],
    subscribe: tuple[list[int], ...],
    announce: tuple[list[Route], ...],
    tls: TlsOptions,
    keepalive: int,
    local_address: str | None,
    identity: str,
    hold: int,
    grace: float,
    settle: float,
    kernel: KernelConfig | None,
    windows: Windows,
    verbose: bool,
) -> None:
    """Announce routes, subscribe to others, and log or install what comes."""
    windows.check(tls.files)
    _configure_logs(verbose)
    routes = KernelRoutes(kernel.tables, kernel.device, ipv4_only=kernel.ipv4_only) if kernel else None
    try:
        instance = MetalbondClient(
            cli.flatten(servers),
            keepalive or DEFAULT_KEEPALIVE,
            backend=routes or LogBackend(),
            local_address=local_address,
            grace_seconds=grace,
            settle_seconds=settle,
            identity=identity,
            hold_seconds=hold,
            tls=tls.files,
            tls_name=tls.name,
        )
    except TlsError as error:
        raise click.UsageError(str(error)) from None
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None
    opening = opened(windows, instance, client_registry(instance, routes), tls.files)
    work = _follow(instance, cli.flatten(subscribe), cli.flatten(announce), opening)
    run(installed(work, routes, kernel, instance, cli.flatten(subscribe), settle) if routes and kernel else work)


class LogBackend:
    """Routes go to the log."""

    def route_added(self, vni: int, destination: Destination, hop: NextHop) -> None:
        log.info("route added", vni=vni, destination=str(destination), hop=str(hop))

    def route_removed(self, vni: int, destination: Destination, hop: NextHop) -> None:
        log.info("route removed", vni=vni, destination=str(destination), hop=str(hop))


async def _follow(
    instance: MetalbondClient, vnis: list[int], routes: list[Route], opening: AbstractAsyncContextManager[None]
) -> None:
    stopped = _stop_signal()
    # Announced first, so that own routes are known as such before any route arrives.
    for route in routes:
        instance.announce(*route)
    for vni in vnis:
        instance.subscribe(vni)
    await instance.start()
    try:
        async with opening:
            ready = asyncio.create_task(_notify_when_ready(instance, vnis))
            await stopped.wait()
            ready.cancel()
            notify("STOPPING=1")
    finally:
        await instance.close(withdraw=True)


async def _notify_when_ready(instance: MetalbondClient, vnis: list[int]) -> None:
    await instance.wait_connected()
    for vni in vnis:
        await instance.wait_synced(vni)
    log.info("synced", servers={name: state.name for name, state in instance.server_states().items()})
    notify("READY=1")


def _stop_signal() -> asyncio.Event:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end on the fast loop, with a collector that fits: routes are many, live long and form no cycles, and
    at the default threshold of 700 objects the search for cycles takes half of the time.
    """
    gc.set_threshold(100_000, 50, 50)
    uvloop.run(work)


def _configure_logs(verbose: bool) -> None:
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


main.add_command(show)

if __name__ == "__main__":
    main()
