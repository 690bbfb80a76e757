"""The command line and the config file: pure functions from words and lines to an `Options` value.

`dpservice [EAL options] -- [service options]`, where every service option may also stand in the config file by its long
name. Names, ranges and defaults follow the reference, so that its command lines and files keep working.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpservice.getopt import ScanError, scan
from dpservice.listen import Address, TlsFiles, check_exposure, parse_address
from dpservice.option_table import FILE_ONLY_OPTIONS, OWN_OPTIONS, REFERENCE_OPTIONS, Option
from dpservice.option_values import DEFAULT_GRPC_PORT

DEFAULT_CONFIG = Path("/run/dpservice/dpservice.conf")


class UsageError(ValueError):
    """The command line or config file is wrong. The text is what to print; the process ends with status 1."""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything the process is told at start."""

    eal_args: tuple[str, ...] = ()
    pf0: str = ""
    pf1: str = ""
    ipv6: bytes = bytes(16)
    vf_pattern: str = ""
    dhcp_mtu: int = 1500
    dhcp_dns: tuple[bytes, ...] = ()
    dhcpv6_dns: tuple[bytes, ...] = ()
    udp_virtual_services: tuple[tuple[bytes, int, bytes, int], ...] = ()
    tcp_virtual_services: tuple[tuple[bytes, int, bytes, int], ...] = ()
    wcmp: int = 100
    nic_type: str = "mellanox"
    stats: bool = True
    ipv6_overlay: bool = False
    offload: bool = True
    graphtrace_level: int = 0
    color: str = "never"
    log_format: str = "text"
    grpc_port: int = DEFAULT_GRPC_PORT
    flow_timeout: int = 30
    multiport_eswitch: bool = False
    active_lockfile: str = ""
    sync_tap: str = ""
    debug_coredumps: bool = False
    allow_pf0: str = ""
    allow_pf1: str = ""
    poll_mode: str = "adaptive"
    grpc_listen: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    insecure: bool = False
    metrics_listen: str = ""
    log_level: str = "info"
    firewall: str = "enforce"
    reference_firewall_api: bool = False
    antispoof: bool = True
    ipv6_public: bool = True
    multipath: bool = True
    flow_label: bool = False
    capture: bool = True
    meter_taps: bool = True
    flow_table_size: int = 1 << 20
    flow_quota: int = 0
    timeout_tcp_established: int = 86_400
    timeout_tcp_forwarded: int = 3600
    # 0: flow_timeout.
    timeout_tcp_transitory: int = 0
    timeout_udp: int = 0
    timeout_icmp: int = 0
    timeout_other: int = 0
    max_vnis: int = 4096
    max_routes: int = 1 << 20
    max_underlay_addresses: int = 65_536
    max_nat_flows: int = 1 << 20
    max_public_addresses: int = 65_536
    max_neighbor_nats: int = 1 << 18
    max_load_balancers: int = 4096
    max_load_balancer_targets: int = 1000
    maglev_size: int = 0
    underlay_type: bool = False
    static_underlay: bool = False
    listen_everywhere: bool = False
    """Without --grpc-listen, serve everybody who reaches this machine. No option: a matter of the program."""

    def grpc_addresses(self) -> tuple[Address, ...]:
        """Where to serve: --grpc-listen, else all or both loopback addresses with --grpc-port."""
        if self.served_everywhere:
            return (Address("::", self.grpc_port),)
        if not self.grpc_listen:
            return (Address("::1", self.grpc_port), Address("127.0.0.1", self.grpc_port))
        return tuple(parse_address(text, self.grpc_port) for text in self.grpc_listen)

    @property
    def served_everywhere(self) -> bool:
        """True if everybody who reaches this machine is served without having been asked for it."""
        return self.listen_everywhere and not self.grpc_listen

    def metrics_address(self) -> Address | None:
        """Where to serve metrics, if at all."""
        return parse_address(self.metrics_listen) if self.metrics_listen else None

    def tls(self) -> TlsFiles | None:
        """TLS files of the gRPC server, if any."""
        if not self.tls_cert:
            return None
        return TlsFiles(
            Path(self.tls_cert), Path(self.tls_key), Path(self.tls_client_ca) if self.tls_client_ca else None
        )

    @property
    def telemetry(self) -> bool:
        """Whether this service serves DPDK telemetry itself: unless the EAL is told to, or told that nobody shall."""
        return not {"--telemetry", "--no-telemetry"} & set(self.eal_args)

    def effective_eal_args(self) -> list[str]:
        """EAL arguments with the devices of the config file at the end."""
        allowed = [argument for device in (self.allow_pf0, self.allow_pf1) if device for argument in ("-a", device)]
        return [*self.eal_args, *allowed, *(["--no-telemetry"] if self.telemetry else [])]


_BY_NAME = {option.name: option for option in (*REFERENCE_OPTIONS, *OWN_OPTIONS)}
_FILE_ONLY = {option.name: option for option in FILE_ONLY_OPTIONS}
# Own options never make an abbreviation of the reference's ambiguous.
_PREFERRED = frozenset(option.name for option in REFERENCE_OPTIONS)
_SHORT = {"h": "help", "v": "version"}


@dataclass(frozen=True, slots=True)
class Program:
    """One of the two names of the service."""

    name: str
    defaults: Options


DPSERVICE = Program("dpservice", Options())
DROP_IN = Program(
    "dpservice-bin",
    replace(
        Options(),
        listen_everywhere=True,
        firewall="observe",
        reference_firewall_api=True,
        antispoof=False,
        ipv6_public=False,
        multipath=False,
        capture=False,
        meter_taps=False,
    ),
)
"""Takes the place of the reference's executable: its defaults, where this service's own are safer or go further."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What the command line asks for: run with `options`, or only show "help" or "version"."""

    options: Options
    show: str = ""


def parse(arguments: Sequence[str], environment: Mapping[str, str], program: Program = DPSERVICE) -> CommandLine:
    """Reads the config file that `environment` names, then `arguments` (without program name). Raises UsageError."""
    options = parse_config(*_read_config(environment), program.defaults)
    eal, service = _split(arguments)
    command = parse_service_arguments(service, replace(options, eal_args=eal), program.name)
    if not command.show:
        check(command.options)
    return command


def _split(arguments: Sequence[str]) -> tuple[tuple[str, ...], Sequence[str]]:
    if len(arguments) == 1 and arguments[0] in ("-h", "--help", "-v", "--version"):
        return (), arguments
    if "--" not in arguments:
        return tuple(arguments), ()
    separator = list(arguments).index("--")
    return tuple(arguments[:separator]), arguments[separator + 1 :]


def parse_service_arguments(arguments: Sequence[str], base: Options, program: str = DPSERVICE.name) -> CommandLine:
    """Applies service options to `base`; stops at the first --help or --version. Raises UsageError."""
    long = {name: bool(option.argument) for name, option in _BY_NAME.items()}
    options = base
    try:
        for name, value in scan(arguments, long, _SHORT, preferred=_PREFERRED):
            if name in ("help", "version"):
                return CommandLine(options, name)
            options = _apply(options, _BY_NAME[name], value)
    except ScanError as error:
        raise UsageError(f"{program}: {error}") from None
    return CommandLine(options)


def parse_config(path: str, text: str, base: Options = DPSERVICE.defaults) -> Options:
    """Reads `key [value]` lines. Comments start in column 0; words after the second are ignored. Raises UsageError."""
    options = base
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or line.startswith("#"):
            continue
        words = re.split(r"[ \t]+", line.strip(" \t"))
        option = _FILE_ONLY.get(words[0]) or _BY_NAME.get(words[0])
        where = f"{path}:{number}"
        if option is None or not option.target:
            raise UsageError(f"{where}: unknown key '{words[0]}'")
        if option.argument and len(words) < 2:
            raise UsageError(f"{where}: key '{words[0]}' requires a value")
        try:
            options = _apply(options, option, words[1] if option.argument else "")
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
    return options


def _apply(options: Options, option: Option, text: str) -> Options:
    if not option.argument:
        return _with(options, option.target, option.flag_value)
    try:
        value = option.convert(text)
        if option.limit:
            values = (*getattr(options, option.target), value)
            if len(values) > option.limit:
                raise ValueError(f"More than {option.limit} values")
            return _with(options, option.target, values)
    except ValueError as error:
        raise UsageError(f"{error}\nInvalid argument for '--{option.name}'") from None
    return _with(options, option.target, value)


def _with(options: Options, target: str, value: object) -> Options:
    changes: dict[str, Any] = {target: value}
    return replace(options, **changes)


def _read_config(environment: Mapping[str, str]) -> tuple[str, str]:
    named = environment.get("DP_CONF")
    if named == "":
        return "", ""
    path = Path(named) if named is not None else DEFAULT_CONFIG
    try:
        return str(path), path.read_text(errors="surrogateescape")
    except FileNotFoundError:
        if named is None:
            return "", ""
        raise UsageError(f"{path}: No such file or directory (from DP_CONF)") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def check(options: Options) -> None:
    """Refuses combinations that cannot work. Raises UsageError."""
    if options.multiport_eswitch and options.offload:
        raise UsageError("--multiport-eswitch needs --no-offload")
    if bool(options.tls_cert) != bool(options.tls_key) or (options.tls_client_ca and not options.tls_cert):
        raise UsageError("--tls-cert and --tls-key belong together, and --tls-client-ca needs both")
    try:
        if not options.served_everywhere:
            check_exposure(options.grpc_addresses(), options.tls(), insecure=options.insecure)
        metrics = options.metrics_address()
        # Metrics are never encrypted.
        check_exposure([metrics] if metrics else [], None, insecure=options.insecure)
    except ValueError as error:
        raise UsageError(str(error)) from None


def usage(program: Program = DPSERVICE) -> str:
    """Text of --help."""
    lines = [f"Usage: {program.name} [EAL options] -- [service options]", "", "Service options:"]
    short = {name: letter for letter, name in _SHORT.items()}
    for option in _BY_NAME.values():
        letter = f"-{short[option.name]}, " if option.name in short else "    "
        name = f"--{option.name}={option.argument}" if option.argument else f"--{option.name}"
        lines.append(f" {letter}{name:<34} {option.help}")
    lines += [
        "",
        f"The same names work in the config file ($DP_CONF, else {DEFAULT_CONFIG}): one 'key value' per line.",
    ]
    return "\n".join(lines)
