"""The process: options, engine, server, and an orderly end.

Exit status: 0 after SIGINT or SIGTERM and for --help and --version, 1 for every failure to start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from importlib.metadata import version
from pathlib import Path

import structlog

from dpservice import _engine, logs, metrics
from dpservice.calls import Api
from dpservice.notify import notify
from dpservice.options import DPSERVICE, DROP_IN, Options, Program, UsageError, parse, usage
from dpservice.server import Server
from dpservice.telemetry import TelemetryServer

_log = structlog.get_logger("service")

_NIC_TYPES = {
    "mellanox": _engine.NicType.MELLANOX,
    "tap": _engine.NicType.TAP,
    "bluefield2": _engine.NicType.BLUEFIELD2,
}
_POLL_MODES = {"adaptive": _engine.PollMode.ADAPTIVE, "busy": _engine.PollMode.BUSY}
_FIREWALL_MODES = {
    "enforce": _engine.FirewallMode.ENFORCE,
    "observe": _engine.FirewallMode.OBSERVE,
    "off": _engine.FirewallMode.OFF,
}
_ROLE_SECONDS = 0.2
_ALL_MEMORY = "0x7f"


def main() -> None:
    """Entry point of `dpservice`."""
    sys.exit(run(sys.argv[1:], DPSERVICE))


def drop_in() -> None:
    """Entry point of `dpservice-bin`."""
    sys.exit(run(sys.argv[1:], DROP_IN))


def run(arguments: list[str], program: Program) -> int:
    """Runs until a signal; returns the exit status."""
    try:
        command = parse(arguments, os.environ, program)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 1
    if command.show == "help":
        print(usage(program))
        return 0
    if command.show == "version":
        print(f"DP Service version {service_version()}")
        return 0

    options = command.options
    logs.configure(options.log_level, options.log_format, options.color)
    if options.debug_coredumps:
        with contextlib.suppress(OSError):
            Path("/proc/self/coredump_filter").write_text(_ALL_MEMORY)
    try:
        # The EAL pins this thread to the main lcore; threads made later inherit that and leave the workers alone.
        engine = _engine.Engine(engine_options(options))
        engine.start()
    except (_engine.EngineError, MemoryError) as error:
        _log.error("engine cannot start", error=str(error) or "out of memory")
        return 1
    telemetry = _telemetry(engine) if options.telemetry else None
    try:
        return asyncio.run(_serve(engine, options))
    finally:
        if telemetry is not None:
            telemetry.stop()
        engine.stop()


def service_version() -> str:
    """The version that GetVersion and --version tell."""
    return "v" + version("ironcore-network")


def engine_options(options: Options) -> _engine.EngineOptions:
    """What the engine needs to know of the options."""
    engine = _engine.EngineOptions()
    engine.eal_args = options.effective_eal_args()
    engine.pf0, engine.pf1, engine.vf_pattern = options.pf0, options.pf1, options.vf_pattern
    engine.underlay = options.ipv6
    engine.nic_type = _NIC_TYPES[options.nic_type]
    engine.poll_mode = _POLL_MODES[options.poll_mode]
    engine.dhcp_mtu = options.dhcp_mtu
    engine.dhcp_dns, engine.dhcpv6_dns = list(options.dhcp_dns), list(options.dhcpv6_dns)
    engine.enable_ipv6_overlay = options.ipv6_overlay
    engine.wcmp = options.wcmp
    engine.firewall = _FIREWALL_MODES[options.firewall]
    engine.antispoof, engine.ipv6_public = options.antispoof, options.ipv6_public
    engine.multipath, engine.flow_label_entropy = options.multipath, options.flow_label
    engine.meter_software_devices = options.meter_taps
    engine.capture_in_software = options.capture
    engine.virtual_services = virtual_services(options)
    engine.flow_table_size, engine.flow_quota = options.flow_table_size, options.flow_quota
    engine.flow_timeouts = flow_timeouts(options)
    engine.max_vnis, engine.max_routes_per_vni = options.max_vnis, options.max_routes
    engine.max_underlay_addresses, engine.max_nat_flows = options.max_underlay_addresses, options.max_nat_flows
    engine.max_public_addresses, engine.max_neighbor_nats = options.max_public_addresses, options.max_neighbor_nats
    engine.max_load_balancers = options.max_load_balancers
    engine.max_load_balancer_targets = options.max_load_balancer_targets
    engine.maglev_size = options.maglev_size
    engine.active_lockfile, engine.sync_tap = options.active_lockfile, options.sync_tap
    engine.underlay_type_byte, engine.underlay_static = options.underlay_type, options.static_underlay
    engine.version = service_version()
    return engine


def virtual_services(options: Options) -> list[_engine.VirtualService]:
    """The services of the options, UDP before TCP: their order numbers their underlay addresses."""
    by_protocol = (
        (socket.IPPROTO_UDP, options.udp_virtual_services),
        (socket.IPPROTO_TCP, options.tcp_virtual_services),
    )
    found = []
    for protocol, services in by_protocol:
        for address, port, server, server_port in services:
            texts = socket.inet_ntop(socket.AF_INET, address), socket.inet_ntop(socket.AF_INET6, server)
            found.append(_engine.parse_virtual_service(protocol, f"{texts[0]},{port},{texts[1]},{server_port}"))
    return found


def flow_timeouts(options: Options) -> _engine.FlowTimeouts:
    """Idle times: --flow-timeout for everything but established TCP, where nothing more particular is said."""
    timeouts = _engine.FlowTimeouts()
    timeouts.tcp_established = options.timeout_tcp_established
    timeouts.tcp_transitory = options.timeout_tcp_transitory or options.flow_timeout
    timeouts.tcp_forwarded = options.timeout_tcp_forwarded
    timeouts.udp = options.timeout_udp or options.flow_timeout
    timeouts.icmp = options.timeout_icmp or options.flow_timeout
    timeouts.other = options.timeout_other or options.flow_timeout
    return timeouts


def _telemetry(engine: _engine.Engine) -> TelemetryServer | None:
    try:
        server = TelemetryServer(engine, Path(_engine.runtime_directory()))
    except OSError as error:
        # Nobody is off the network for it.
        _log.warning("no telemetry", error=str(error))
        return None
    _log.info("serving telemetry", path=str(server.path))
    return server


async def _follow_role(engine: _engine.Engine, stopped: asyncio.Event) -> None:
    """Tells the log what this engine of a pair is; sets `stopped` when it can never become the active one."""
    known = None
    while (state := engine.ha_state()) is not _engine.HaState.FAILED:
        if state is not known:
            _log.info("role in the pair", role=state.name.lower())
            known = state
        await asyncio.sleep(_ROLE_SECONDS)
    _log.error("the lock file cannot be had, stopping")
    stopped.set()


async def _serve(engine: _engine.Engine, options: Options) -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        _log.info("stopping", signal=signal.Signals(number).name)
        stopped.set()
        # A second signal ends the process at once.
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)

    if options.served_everywhere and not options.tls_client_ca:
        _log.warning("everybody who reaches this machine controls the engine: see --grpc-listen and --tls-client-ca")
    server = Server(
        Api(
            engine,
            multipath=options.multipath,
            drop_rules=not options.reference_firewall_api,
            ipv6_public=options.ipv6_public,
        )
    )
    stop_metrics = None
    try:
        bound = await server.start(options.grpc_addresses(), options.tls())
        metrics_address = options.metrics_address()
        if metrics_address is not None:
            port, stop_metrics = metrics.serve(engine, metrics_address)
            _log.info("serving metrics", host=metrics_address.host, port=port)
    except (OSError, ValueError) as error:
        _log.error("cannot serve", error=str(error))
        await server.stop()
        return 1
    _log.info("serving", addresses=[str(address) for address in bound], version=service_version())
    notify("READY=1")
    role = loop.create_task(_follow_role(engine, stopped)) if options.active_lockfile else None
    await stopped.wait()
    notify("STOPPING=1")
    if role is not None:
        role.cancel()
        # The other engine of the pair can go on at once, whatever is still to be done here.
        await loop.run_in_executor(None, engine.resign)
    await server.stop()
    if stop_metrics is not None:
        await loop.run_in_executor(None, stop_metrics)
    return 0
