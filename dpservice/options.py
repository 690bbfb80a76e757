"""The command line and the config file: pure functions from words and lines to an `Options` value.

`dpservice [EAL options] -- [service options]`, where every service option may also stand in the config file by its long
name. Names, ranges and defaults follow the reference, so that its command lines and files keep working.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dpservice.getopt import ScanError, scan
from dpservice.listen import Address, TlsFiles, check_exposure, parse_address

DEFAULT_CONFIG = Path("/run/dpservice/dpservice.conf")
DEFAULT_GRPC_PORT = 1337

_MAX_NAME = 15
_MAX_ALLOW = 127
_MAX_LOCKFILE = 255
_MAX_DNS4 = 63
_MAX_DNS6 = 15


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
    wcmp: int = 100
    nic_type: str = "mellanox"
    stats: bool = True
    ipv6_overlay: bool = False
    offload: bool = True
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
    flow_table_size: int = 1 << 20
    underlay_type: bool = False
    static_underlay: bool = False

    def grpc_addresses(self) -> tuple[Address, ...]:
        """Where to serve: --grpc-listen, else both loopback addresses with --grpc-port."""
        if not self.grpc_listen:
            return (Address("::1", self.grpc_port), Address("127.0.0.1", self.grpc_port))
        return tuple(parse_address(text, self.grpc_port) for text in self.grpc_listen)

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

    def effective_eal_args(self) -> list[str]:
        """EAL arguments with the devices of the config file at the end."""
        allowed = [argument for device in (self.allow_pf0, self.allow_pf1) if device for argument in ("-a", device)]
        return [*self.eal_args, *allowed]


@dataclass(frozen=True, slots=True)
class Option:
    """One option. Without `argument` it is a flag that sets its field to `flag_value`."""

    name: str
    target: str
    argument: str = ""
    help: str = ""
    convert: Callable[[str], object] = field(default=str)
    flag_value: bool = True
    limit: int = 0
    """More than 0: a list of at most so many values."""
    own: bool = False
    """Not an option of the reference; abbreviations prefer the others."""


def _text(limit: int) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if len(text.encode(errors="surrogateescape")) > limit:
            raise ValueError(f"Value '{text}' is longer than {limit} characters")
        return text

    return convert


def _integer(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError(f"Value '{text}' is not a number")
        if not low <= int(text) <= high:
            raise ValueError(f"Value '{text}' is out of range {low}..{high}")
        return int(text)

    return convert


def _choice(*choices: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError(f"Value '{text}' is not one of {', '.join(choices)}")
        return text

    return convert


def _ipv6(text: str) -> bytes:
    try:
        return socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        raise ValueError(f"Value '{text}' is not an IPv6 address") from None


def _ipv4_lenient(text: str) -> bytes:
    try:
        return socket.inet_aton(text)
    except (OSError, ValueError):
        raise ValueError(f"Value '{text}' is not an IPv4 address") from None


def _listen(text: str) -> str:
    parse_address(text, DEFAULT_GRPC_PORT)
    return text


def _listen_tcp(text: str) -> str:
    if parse_address(text).path:
        raise ValueError(f"Value '{text}' is not host:port")
    return text


_NAME = _text(_MAX_NAME)
_OPTIONS = (
    Option("help", "", help="display this help and exit"),
    Option("version", "", help="display version and exit"),
    Option("pf0", "pf0", "IFNAME", "first physical interface (e.g. eth0)", _NAME),
    Option("pf1", "pf1", "IFNAME", "second physical interface (e.g. eth1)", _NAME),
    Option("ipv6", "ipv6", "ADDR6", "IPv6 underlay address of this host", _ipv6),
    Option("vf-pattern", "vf_pattern", "PATTERN", "interfaces with this in their name belong to VMs (e.g. vf)", _NAME),
    Option("dhcp-mtu", "dhcp_mtu", "SIZE", "MTU told by DHCPv4, 68..1500", _integer(68, 1500)),
    Option("dhcp-dns", "dhcp_dns", "IPv4", "name server told by DHCPv4 (repeatable)", _ipv4_lenient, limit=_MAX_DNS4),
    Option("dhcpv6-dns", "dhcpv6_dns", "ADDR6", "name server told by DHCPv6 (repeatable)", _ipv6, limit=_MAX_DNS6),
    Option("wcmp", "wcmp", "PERCENTAGE", "share of flows that leave by PF0, 0..100", _integer(0, 100)),
    Option("nic-type", "nic_type", "NICTYPE", "mellanox, tap or bluefield2", _choice("mellanox", "tap", "bluefield2")),
    Option(
        "no-stats", "stats", help="accepted and ignored: nothing is printed, see --metrics-listen", flag_value=False
    ),
    Option("enable-ipv6-overlay", "ipv6_overlay", help="neighbour discovery and router advertisements towards VMs"),
    Option("no-offload", "offload", help="forward in software only", flag_value=False),
    Option("color", "color", "MODE", "colours of text logs: never, always or auto", _choice("never", "always", "auto")),
    Option("log-format", "log_format", "FORMAT", "text or json", _choice("text", "json")),
    Option("grpc-port", "grpc_port", "PORT", "gRPC port, 1024..65535", _integer(1024, 65535)),
    Option("flow-timeout", "flow_timeout", "SECONDS", "idle time of flows not established, 1..300", _integer(1, 300)),
    Option("multiport-eswitch", "multiport_eswitch", help="the uplinks share one e-switch; needs --no-offload"),
    Option("active-lockfile", "active_lockfile", "PATH", "not supported: high availability", _text(_MAX_LOCKFILE)),
    Option("sync-tap", "sync_tap", "IFNAME", "not supported: high availability", _NAME),
    Option("debug-coredumps", "debug_coredumps", help="dump all memory when crashing"),
    Option("poll-mode", "poll_mode", "MODE", "adaptive or busy", _choice("adaptive", "busy"), own=True),
    Option(
        "grpc-listen",
        "grpc_listen",
        "ADDRESS",
        "host:port, [IPv6]:port or unix:/path (repeatable; default: loopback and --grpc-port)",
        _listen,
        limit=16,
        own=True,
    ),
    Option("tls-cert", "tls_cert", "FILE", "certificate of the gRPC server (PEM)", own=True),
    Option("tls-key", "tls_key", "FILE", "key of --tls-cert (PEM)", own=True),
    Option("tls-client-ca", "tls_client_ca", "FILE", "serve only clients with a certificate of this CA", own=True),
    Option("insecure", "insecure", help="serve beyond this machine without mutual TLS", own=True),
    Option(
        "metrics-listen", "metrics_listen", "ADDRESS", "serve Prometheus metrics at host:port", _listen_tcp, own=True
    ),
    Option(
        "log-level",
        "log_level",
        "LEVEL",
        "debug, info, warning or error",
        _choice("debug", "info", "warning", "error"),
        own=True,
    ),
    Option(
        "flow-table-size",
        "flow_table_size",
        "ENTRIES",
        "flow entries, two per connection, 1024..268435456",
        _integer(1024, 1 << 28),
        own=True,
    ),
    Option("enable-underlay-type", "underlay_type", help="generated underlay addresses tell their type", own=True),
    Option("enable-static-underlay-ip", "static_underlay", help="predictable underlay addresses (for tests)", own=True),
)
_BY_NAME = {option.name: option for option in _OPTIONS}
# Only the config file knows these.
_FILE_ONLY = {
    "a-pf0": Option("a-pf0", "allow_pf0", "DEVICE", convert=_text(_MAX_ALLOW)),
    "a-pf1": Option("a-pf1", "allow_pf1", "DEVICE", convert=_text(_MAX_ALLOW)),
}
_PREFERRED = frozenset(option.name for option in _OPTIONS if not option.own)
_SHORT = {"h": "help", "v": "version"}


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What the command line asks for: run with `options`, or only show "help" or "version"."""

    options: Options
    show: str = ""


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> CommandLine:
    """Reads the config file that `environment` names, then `arguments` (without program name). Raises UsageError."""
    options = parse_config(*_read_config(environment))
    eal, service = _split(arguments)
    command = parse_service_arguments(service, replace(options, eal_args=eal))
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


def parse_service_arguments(arguments: Sequence[str], base: Options) -> CommandLine:
    """Applies service options to `base`; stops at the first --help or --version. Raises UsageError."""
    long = {name: bool(option.argument) for name, option in _BY_NAME.items()}
    options = base
    try:
        for name, value in scan(arguments, long, _SHORT, preferred=_PREFERRED):
            if name in ("help", "version"):
                return CommandLine(options, name)
            options = _apply(options, _BY_NAME[name], value)
    except ScanError as error:
        raise UsageError(f"dpservice: {error}") from None
    return CommandLine(options)


def parse_config(path: str, text: str) -> Options:
    """Reads `key [value]` lines. Comments start in column 0; words after the second are ignored. Raises UsageError."""
    options = Options()
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
    for name, value in (("active-lockfile", options.active_lockfile), ("sync-tap", options.sync_tap)):
        if value:
            raise UsageError(f"--{name}: high availability is not supported, the engine would be active at once")
    if bool(options.tls_cert) != bool(options.tls_key) or (options.tls_client_ca and not options.tls_cert):
        raise UsageError("--tls-cert and --tls-key belong together, and --tls-client-ca needs both")
    try:
        check_exposure(options.grpc_addresses(), options.tls(), insecure=options.insecure)
        metrics = options.metrics_address()
        # Metrics are never encrypted.
        check_exposure([metrics] if metrics else [], None, insecure=options.insecure)
    except ValueError as error:
        raise UsageError(str(error)) from None


def usage() -> str:
    """Text of --help."""
    lines = ["Usage: dpservice [EAL options] -- [service options]", "", "Service options:"]
    short = {name: letter for letter, name in _SHORT.items()}
    for option in _OPTIONS:
        letter = f"-{short[option.name]}, " if option.name in short else "    "
        name = f"--{option.name}={option.argument}" if option.argument else f"--{option.name}"
        lines.append(f" {letter}{name:<34} {option.help}")
    lines += [
        "",
        f"The same names work in the config file ($DP_CONF, else {DEFAULT_CONFIG}): one 'key value' per line.",
    ]
    return "\n".join(lines)
