"""Objects as text: JSON, YAML, aligned columns, or one line per object."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from dpservice.cli.api import CliError
from dpservice.cli.objects import Object

MODES = ("json", "yaml", "table", "name")

Column = tuple[str, Callable[[Object], Any]]


def _at(*path: str) -> Callable[[Object], Any]:
    def get(item: Object) -> Any:
        value: Any = item
        for key in path:
            value = value.get(key, "") if isinstance(value, Mapping) else ""
        return value

    return get


def _spec(*path: str) -> Callable[[Object], Any]:
    return _at("spec", *path)


def _meta(*path: str) -> Callable[[Object], Any]:
    return _at("metadata", *path)


_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}


def _ports(item: Object) -> str:
    ports = item["spec"].get("loadbalanced_ports", [])
    return ",".join(f"{_PROTOCOLS.get(port['protocol'], port['protocol'])}/{port['port']}" for port in ports)


def _nat_type(item: Object) -> str:
    return "Neighbor" if item["spec"].get("underlay_route") else "Local"


def _capture_columns(place: str) -> list[Column]:
    """Columns of a capture whose configuration is in the metadata or the spec."""
    return [
        ("SinkNodeIP", _at(place, "capture_config", "sink_node_ip")),
        ("UdpSrcPort", _at(place, "capture_config", "udp_src_port")),
        ("UdpDstPort", _at(place, "capture_config", "udp_dst_port")),
        ("PF Interfaces", lambda item: ",".join(item["spec"].get("interfaces", {}).get("pf", []))),
        ("VF Interfaces", lambda item: ",".join(item["spec"].get("interfaces", {}).get("vf", []))),
    ]


_PREFIX_COLUMNS: list[Column] = [
    ("VNI", _meta("vni")),
    ("Prefix", _spec("prefix")),
    ("UnderlayRoute", _spec("underlay_route")),
    ("InterfaceID", _meta("interface_id")),
]
_ONLY_CREATED = "VirtualFunction"
"""Told by the creation of an interface and by nothing else."""
COLUMNS: dict[str, list[Column]] = {
    "Interface": [
        ("ID", _meta("id")),
        ("VNI", _spec("vni")),
        ("Device", _spec("device")),
        ("IPv4", _spec("primary_ipv4")),
        ("IPv6", _spec("primary_ipv6")),
        ("UnderlayRoute", _spec("underlay_route")),
        ("TotalTx", _spec("metering", "total_rate")),
        ("PublicTx", _spec("metering", "public_rate")),
        ("Hostname", _spec("hostname")),
        (_ONLY_CREATED, _spec("virtual_function", "name")),
    ],
    "Prefix": _PREFIX_COLUMNS,
    "LoadBalancerPrefix": _PREFIX_COLUMNS,
    "Route": [
        ("Prefix", _spec("prefix")),
        ("VNI", _meta("vni")),
        ("NextHopVNI", _spec("next_hop", "vni")),
        ("NextHopIP", _spec("next_hop", "address")),
    ],
    "VirtualIP": [
        ("InterfaceID", _meta("interface_id")),
        ("VirtualIP", _spec("vip_ip")),
        ("UnderlayRoute", _spec("underlay_route")),
    ],
    "LoadBalancer": [
        ("ID", _meta("id")),
        ("VNI", _spec("vni")),
        ("LbVipIP", _spec("loadbalanced_ip")),
        ("Lbports", _ports),
        ("UnderlayRoute", _spec("underlay_route")),
    ],
    "LoadBalancerTarget": [
        ("IpVersion", lambda item: "IPv6" if ":" in item["spec"]["target_ip"] else "IPv4"),
        ("Address", _spec("target_ip")),
    ],
    "Nat": [
        ("InterfaceID", _meta("interface_id")),
        ("NatIP", _spec("nat_ip")),
        ("MinPort", _spec("min_port")),
        ("MaxPort", _spec("max_port")),
        ("UnderlayRoute", _spec("underlay_route")),
    ],
    # Entries of a list tell both addresses; the NAT of one interface its public one only, under the inner one's name.
    "NatList": [
        ("VNI", _spec("vni")),
        ("IP", _spec("nat_ip")),
        ("MinPort", _spec("min_port")),
        ("MaxPort", _spec("max_port")),
        ("UnderlayRoute", _spec("underlay_route")),
        ("NatIP", _spec("actual_nat_ip")),
        ("NatType", _nat_type),
    ],
    "NeighborNat": [
        ("VNI", _spec("vni")),
        ("NatIP", _meta("nat_ip")),
        ("MinPort", _spec("min_port")),
        ("MaxPort", _spec("max_port")),
        ("UnderlayRoute", _spec("underlay_route")),
    ],
    "FirewallRule": [
        ("InterfaceID", _meta("interface_id")),
        ("RuleID", _spec("id")),
        ("Direction", _spec("direction")),
        ("Src", _spec("source_prefix")),
        ("Dst", _spec("destination_prefix")),
        ("Action", _spec("action")),
        ("Protocol", lambda item: next(iter(item["spec"].get("protocol_filter", {}).get("Filter", {})), "any")),
        ("Priority", _spec("priority")),
    ],
    "Initialized": [("UUID", _spec("uuid"))],
    "Vni": [
        ("VNI", _meta("vni")),
        ("VniType", _meta("vni_type")),
        ("inUse", lambda item: str(item["spec"]["in_use"]).lower()),
    ],
    "Version": [
        ("ServiceProto", _spec("service_protocol")),
        ("ServiceVersion", _spec("service_version")),
        ("ClientName", _meta("client_name")),
        ("ClientProto", _meta("client_protocol")),
        ("ClientVersion", _meta("client_version")),
    ],
    "CaptureStart": _capture_columns("metadata"),
    "ExplainedStep": [
        ("Part", _meta("part")),
        ("Stage", _spec("stage")),
        ("Outcome", _spec("outcome")),
    ],
    "Flow": [
        ("VNI", _spec("vni")),
        ("InterfaceID", _spec("interface_id")),
        ("Protocol", _spec("summary", "protocol")),
        ("Original", _spec("summary", "original")),
        ("Does", _spec("summary", "does")),
        ("Reply", _spec("summary", "reply")),
        ("State", _spec("tcp_state")),
        ("Packets", _spec("summary", "packets")),
        ("Age", _spec("summary", "age")),
        ("Expires", _spec("summary", "expires")),
    ],
    "EngineTable": [
        ("Table", _meta("name")),
        ("Used", _spec("used")),
        ("Limit", _spec("limit")),
        ("Level", _spec("level")),
    ],
    "PortCounters": [
        ("Device", _meta("device")),
        ("InterfaceID", _spec("interface_id")),
        ("RxPackets", _spec("rx_packets")),
        ("RxBytes", _spec("rx_bytes")),
        ("TxPackets", _spec("tx_packets")),
        ("TxBytes", _spec("tx_bytes")),
        ("Dropped", _spec("dropped")),
    ],
    "InterfaceState": [
        ("ID", _meta("id")),
        ("VNI", _spec("vni")),
        ("Device", _spec("device")),
        ("IPv4", _spec("ipv4")),
        ("IPv6", _spec("ipv6")),
        ("UnderlayRoute", _spec("underlay")),
        ("MAC", _spec("mac")),
        ("Public", _spec("public")),
        ("Rules", _spec("firewall_rules")),
        ("Flows", _spec("flows")),
        ("NatFlows", _spec("nat_flows")),
    ],
    "FlowLimits": [
        ("InterfaceID", _meta("interface_id")),
        ("Quota", _spec("quota")),
        ("Flows", _spec("flows")),
        ("TcpEstablished", _spec("tcp_established")),
        ("TcpForwarded", _spec("tcp_forwarded")),
        ("TcpTransitory", _spec("tcp_transitory")),
        ("Udp", _spec("udp")),
        ("Icmp", _spec("icmp")),
        ("Other", _spec("other")),
    ],
    "CaptureStop": [("Stopped Interface", _spec("iface_cnt"))],
    "CaptureStatus": [("Operation Status", _spec("operation_status")), *_capture_columns("spec")],
}
WIDE_COLUMNS: dict[str, list[Column]] = {"Interface": [("Nat", _spec("nat")), ("VirtualIP", _spec("vip"))]}

_NAMES: dict[str, Callable[[Object], Any]] = {
    "Interface": _meta("id"),
    "Prefix": _spec("prefix"),
    "LoadBalancerPrefix": _spec("prefix"),
    "Route": _spec("prefix"),
    "VirtualIP": lambda item: _spec("vip_ip")(item) or _meta("interface_id")(item),
    "LoadBalancer": _meta("id"),
    "LoadBalancerTarget": _spec("target_ip"),
    "Nat": lambda item: _spec("nat_ip")(item) or _meta("interface_id")(item),
    "NeighborNat": _meta("nat_ip"),
    "FirewallRule": _spec("id"),
    "Initialized": _spec("uuid"),
    "ExplainedStep": lambda item: f"{_spec('stage')(item)}: {_spec('outcome')(item)}",
    "Flow": _spec("summary", "original"),
    "EngineTable": _meta("name"),
    "PortCounters": _meta("device"),
    "InterfaceState": _meta("id"),
    "FlowLimits": _meta("interface_id"),
    "Vni": _meta("vni"),
    "Version": _spec("service_version"),
}


def render(item: Object, mode: str, *, operation: str = "", pretty: bool = False, wide: bool = False) -> str:
    """Text of an object or a list object, without the final newline."""
    if mode == "json":
        return json.dumps(item, indent=4 if pretty else None)
    if mode == "yaml":
        return yaml.safe_dump(item, sort_keys=False).rstrip("\n")
    items = item.get("items", [item])
    if mode == "name":
        return "\n".join(_line(one, operation) for one in items)
    return _table(items, item["kind"], wide=wide)


def _line(item: Object, operation: str) -> str:
    get = _NAMES.get(item["kind"])
    name = get(item) if get else ""
    words = f"{item['kind'].lower()}/{name} {operation}".rstrip()
    if operation != "created":
        return words
    if item["kind"] == "Route":
        return f"{words}, next hop: {_spec('next_hop', 'address')(item)}"
    underlay = _spec("underlay_route")(item)
    return f"{words}, underlay route: {underlay}" if underlay else words


def _table(items: Sequence[Object], kind: str, *, wide: bool) -> str:
    one = kind.removesuffix("List")
    columns = (COLUMNS.get(kind) or COLUMNS[one]) + (WIDE_COLUMNS.get(one, []) if wide else [])
    columns = [(title, get) for title, get in columns if title != _ONLY_CREATED or any(map(get, items))]
    lines = [[title for title, _ in columns], *([str(get(item)) for _, get in columns] for item in items)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def render_error(error: CliError, mode: str, *, pretty: bool = False) -> str:
    """Text of an error in the form that was asked for."""
    if mode not in ("json", "yaml"):
        return str(error)
    return render(
        {
            "kind": "Error",
            "metadata": {},
            "spec": {"source": error.source},
            "status": {"code": error.code, "message": error.message},
        },
        mode,
        pretty=pretty,
    )
