"""Commands that create and delete: flags become an object, the object is sent, the answer is shown."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click
import yaml

from dpservice.cli import kinds, objects
from dpservice.cli.api import client_error
from dpservice.cli.frame import Group, Session, with_session
from dpservice.cli.objects import Object

_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "sctp": 132}


class Ip(click.ParamType[str]):
    """An IP address, in canonical text."""

    name = "ip"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Canonical text."""
        try:
            return str(ipaddress.ip_address(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Prefix(click.ParamType[str]):
    """`address/length`; host bits are kept."""

    name = "prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Canonical text."""
        try:
            return objects.prefix_text(objects.prefix_message(str(value)))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class LbPorts(click.ParamType[list[Object]]):
    """`tcp/80,udp/53`."""

    name = "ports"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Object]:
        """Ports as objects hold them."""
        ports = []
        for word in str(value).split(","):
            protocol, _, port = word.partition("/")
            if protocol.lower() not in _PROTOCOLS or not port.isdecimal():
                self.fail(f"'{word}' is not protocol/port, such as tcp/80", param, ctx)
            ports.append({"protocol": _PROTOCOLS[protocol.lower()], "port": int(port)})
        return ports


class ObjectFile(click.ParamType[Path]):
    """A file or directory, also as `file:` URL."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path, which exists."""
        parts = urlsplit(str(value))
        if parts.scheme not in ("", "file") or parts.netloc:
            self.fail(f"'{value}' is not on this machine", param, ctx)
        path = Path(unquote(parts.path)) if parts.scheme else Path(str(value))
        if not path.exists():
            self.fail(f"'{path}' does not exist", param, ctx)
        return path


UINT32 = click.IntRange(0, 2**32 - 1)
_UINT64 = click.IntRange(0, 2**64 - 1)
IP, PREFIX = Ip(), Prefix()


def _required(name: str, kind: Any = str) -> Any:
    return click.option(name, type=kind, required=True)


def _optional(name: str, kind: Any = str, default: Any = None) -> Any:
    return click.option(name, type=kind, default=default, show_default=default is not None)


_UNDERLAY = _optional("--underlay", IP, "::")


@click.group(cls=Group, invoke_without_command=True)
@click.option("-f", "--filename", "files", type=ObjectFile(), multiple=True)
@click.pass_context
def create(context: click.Context, files: tuple[Path, ...]) -> None:
    """Create one object, or all objects of files (-f)."""
    _from_files(context, files, kinds.create, "created")


@click.group(cls=Group, invoke_without_command=True)
@click.option("-f", "--filename", "files", type=ObjectFile(), multiple=True)
@click.pass_context
def delete(context: click.Context, files: tuple[Path, ...]) -> None:
    """Delete one object, or all objects of files (-f)."""
    _from_files(context, files, kinds.delete, "deleted")


def _from_files(context: click.Context, files: tuple[Path, ...], action: kinds.Action, operation: str) -> None:
    if context.invoked_subcommand is not None:
        return
    if not files:
        raise click.UsageError(f"{context.command.name} needs an object or --filename", context)
    items = [item for path in files for item in read_objects(path)]
    session = Session(context)
    with session.connect() as client:
        for item in items:
            session.show(action(client, item), "name", operation)


def read_objects(path: Path) -> list[Object]:
    """Objects of a JSON or YAML file, or of all such files of a directory in name order. Raises CliError."""
    if path.is_dir():
        suffixes = {".json", ".yaml", ".yml"}
        return [item for one in sorted(path.iterdir()) if one.suffix in suffixes for item in read_objects(one)]
    try:
        text = path.read_text()
        documents = _json_documents(text) if path.suffix == ".json" else list(yaml.safe_load_all(text))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise client_error(f"{path}: {error}") from None
    found = []
    for document in documents:
        for item in document.get("items", [document]) if isinstance(document, dict) else [document]:
            if not isinstance(item, dict):
                raise client_error(f"{path}: not an object with kind, metadata and spec")
            found.append(item)
    return found


def _json_documents(text: str) -> list[Any]:
    """JSON values one after the other. Raises ValueError."""
    decoder, documents, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        documents.append(document)
        rest = rest[end:].lstrip()
    return documents


def _pair(
    noun: str, kind: str, build: Callable[..., Object], create_options: list[Any], delete_options: list[Any]
) -> None:
    """Registers `create <noun>` and `delete <noun>`; `build` makes the object of either's flags."""

    def register(group: click.Group, action: kinds.Action, operation: str, options: list[Any]) -> None:
        def body(session: Session, **flags: Any) -> None:
            item = objects.make(kind, **build(**flags))
            with session.connect() as client:
                session.show(action(client, item), "name", operation)

        command = with_session(body)
        for option in reversed(options):
            command = option(command)
        group.command(noun, help=f"{group.name} {kind}".capitalize())(command)

    register(create, kinds.create, "created", create_options)
    register(delete, kinds.delete, "deleted", delete_options)


def _interface(id: str, **flags: Any) -> Object:  # noqa: A002 - named like the flag
    rates = {"total_rate": flags.get("total_meter_rate", 0), "public_rate": flags.get("public_meter_rate", 0)}
    boot = {"next_server": flags.get("pxe_server"), "boot_filename": flags.get("pxe_file_name")}
    return {
        "metadata": {"id": id},
        "spec": {
            "vni": flags.get("vni"),
            "device": flags.get("device"),
            "primary_ipv4": flags.get("ipv4"),
            "primary_ipv6": flags.get("ipv6"),
            "underlay_route": flags.get("underlay"),
            "pxe": boot,
            "metering": rates if "vni" in flags else {},
            "hostname": flags.get("hostname"),
        },
    }


def _owned(value_field: str, flag: str) -> Callable[..., Object]:
    def build(interface_id: str, underlay: str = "", **flags: Any) -> Object:
        spec = {value_field: flags.get(flag), "underlay_route": underlay}
        return {"metadata": {"interface_id": interface_id}, "spec": spec}

    return build


def _route(prefix: str, vni: int, next_hop_vni: int | None = None, next_hop_ip: str | None = None) -> Object:
    hop = {"vni": next_hop_vni, "address": next_hop_ip}
    return {"metadata": {"vni": vni}, "spec": {"prefix": prefix, "next_hop": hop}}


def _load_balancer(id: str, **flags: Any) -> Object:  # noqa: A002 - named like the flag
    spec = {
        "vni": flags.get("vni"),
        "loadbalanced_ip": flags.get("vip"),
        "loadbalanced_ports": flags.get("lbports"),
        "underlay_route": flags.get("underlay"),
    }
    return {"metadata": {"id": id}, "spec": spec}


def _lb_target(target_ip: str, lb_id: str) -> Object:
    return {"metadata": {"loadbalancer_id": lb_id}, "spec": {"target_ip": target_ip}}


def _nat(interface_id: str, **flags: Any) -> Object:
    spec = {
        "nat_ip": flags.get("nat_ip"),
        "min_port": flags.get("minport"),
        "max_port": flags.get("maxport"),
        "underlay_route": flags.get("underlay"),
    }
    return {"metadata": {"interface_id": interface_id}, "spec": spec}


def _neighbor_nat(nat_ip: str, vni: int, minport: int, maxport: int, underlayroute: str = "") -> Object:
    spec = {"vni": vni, "min_port": minport, "max_port": maxport, "underlay_route": underlayroute}
    return {"metadata": {"nat_ip": nat_ip}, "spec": spec}


def _firewall_rule(interface_id: str, rule_id: str, **flags: Any) -> Object:
    spec = {
        "id": rule_id,
        "direction": flags.get("direction"),
        "action": flags.get("action"),
        "priority": flags.get("priority"),
        "source_prefix": flags.get("src"),
        "destination_prefix": flags.get("dst"),
        "protocol_filter": {"Filter": _filter(flags)},
    }
    return {"metadata": {"interface_id": interface_id}, "spec": spec}


def _filter(flags: Any) -> Object:
    protocol = {"1": "icmp", "6": "tcp", "17": "udp"}.get(flags.get("protocol") or "", flags.get("protocol") or "")
    if protocol == "icmp":
        return {"Icmp": {"icmp_type": flags["icmp_type"], "icmp_code": flags["icmp_code"]}}
    if protocol not in ("tcp", "udp"):
        return {}
    ports: Object = {}
    for side in ("src", "dst"):
        low, high = flags[f"{side}_port_min"], flags[f"{side}_port_max"]
        if not all(port == -1 or 1 <= port <= 65535 for port in (low, high)) or low > high:
            raise click.UsageError(f"--{side}-port-min and --{side}-port-max must be -1, or 1..65535 in order")
        ports |= {f"{side}_port_lower": low, f"{side}_port_upper": high}
    return {protocol.title(): ports}


class Word(click.ParamType[str]):
    """One of some words or their numbers, in any case, as the word that objects use."""

    name = "word"

    def __init__(self, **words: tuple[str, ...]) -> None:
        self._words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The object's word."""
        found = [word for word, spellings in self._words.items() if str(value).lower() in spellings]
        if not found:
            self.fail(f"'{value}' is not one of {', '.join(self._words)}", param, ctx)
        return found[0]


_OWNER = _required("--interface-id")
_PORTS = [_required("--minport", UINT32), _required("--maxport", UINT32)]
_pair(
    "interface",
    "Interface",
    _interface,
    [
        _required("--id"),
        _required("--vni", UINT32),
        _required("--ipv4", IP),
        _required("--device"),
        _optional("--ipv6", IP, "::"),
        _UNDERLAY,
        _optional("--pxe-server"),
        _optional("--pxe-file-name"),
        _optional("--total-meter-rate", _UINT64, 0),
        _optional("--public-meter-rate", _UINT64, 0),
        _optional("--hostname"),
    ],
    [_required("--id")],
)
_pair(
    "prefix",
    "Prefix",
    _owned("prefix", "prefix"),
    [_required("--prefix", PREFIX), _OWNER, _UNDERLAY],
    [_required("--prefix", PREFIX), _OWNER],
)
_pair(
    "lbprefix",
    "LoadBalancerPrefix",
    _owned("prefix", "prefix"),
    [_required("--prefix", PREFIX), _OWNER, _UNDERLAY],
    [_required("--prefix", PREFIX), _OWNER],
)
_pair(
    "route",
    "Route",
    _route,
    [
        _required("--prefix", PREFIX),
        _required("--next-hop-vni", UINT32),
        _required("--next-hop-ip", IP),
        _required("--vni", UINT32),
    ],
    [_required("--prefix", PREFIX), _required("--vni", UINT32)],
)
_pair("virtualip", "VirtualIP", _owned("vip_ip", "vip"), [_required("--vip", IP), _OWNER, _UNDERLAY], [_OWNER])
_pair(
    "loadbalancer",
    "LoadBalancer",
    _load_balancer,
    [
        _required("--id"),
        _required("--vni", UINT32),
        _required("--vip", IP),
        _required("--lbports", LbPorts()),
        _UNDERLAY,
    ],
    [_required("--id")],
)
_TARGET = [_required("--target-ip", IP), _required("--lb-id")]
_pair("lbtarget", "LoadBalancerTarget", _lb_target, _TARGET, _TARGET)
_pair("nat", "Nat", _nat, [_OWNER, _required("--nat-ip", IP), *_PORTS, _UNDERLAY], [_OWNER])
_NEIGHBOR = [_required("--nat-ip", IP), _required("--vni", UINT32), *_PORTS]
_pair("neighbornat", "NeighborNat", _neighbor_nat, [*_NEIGHBOR, _required("--underlayroute", IP)], _NEIGHBOR)
_pair(
    "firewallrule",
    "FirewallRule",
    _firewall_rule,
    [
        _OWNER,
        _required("--rule-id"),
        _required("--direction", Word(Ingress=("ingress", "0"), Egress=("egress", "1"))),
        _required("--action", Word(Accept=("accept", "allow", "1"), Drop=("drop", "deny", "0"))),
        _required("--src", PREFIX),
        _required("--dst", PREFIX),
        _optional("--priority", click.IntRange(0, 65536), 1000),
        click.option("--protocol", type=click.Choice(["", "icmp", "1", "tcp", "6", "udp", "17"], case_sensitive=False)),
        *(
            _optional(f"--{name}", click.IntRange(-1), -1)
            for name in ("src-port-min", "src-port-max", "dst-port-min", "dst-port-max", "icmp-type", "icmp-code")
        ),
    ],
    [_required("--rule-id"), _OWNER],
)
