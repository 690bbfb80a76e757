"""Which table is full when the engine refuses: a status of the wire contract does not always tell."""

from __future__ import annotations

from google.protobuf.message import Message
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import _engine, convert

_BY_STATUS = {
    "VNI_INIT4": "vnis",
    "DNAT_CREATE": "public_addresses",
    "BACKIP_ADD": "load_balancer_targets",
    "LIMIT_REACHED": "next_hops",
}
_OUT_OF_MEMORY = {
    "CreateFirewallRule": "firewall_rules",
    "CreateLoadBalancer": "load_balancers",
    "CreateNeighborNat": "neighbor_nats",
}
_UNDERLAY = "underlay_addresses"


def full_table(engine: _engine.Engine, method: str, request: Message, status: str) -> str:
    """Name of the table that had no room for the request; empty if it was refused for another reason."""
    match status:
        case "OUT_OF_MEMORY":
            return _OUT_OF_MEMORY.get(method, "")
        case "VNF_INSERT":
            # Else the address is somebody's.
            full = any(table.name == _UNDERLAY and table.used >= table.capacity for table in engine.counters().tables)
            return _UNDERLAY if full else ""
        case "ROUTE_INSERT":
            return "" if _has_impossible_length(request) else "routes"
    return _BY_STATUS.get(status, "")


def _has_impossible_length(request: Message) -> bool:
    match request:
        case pb.CreatePrefixRequest():
            prefix = request.prefix
        case pb.CreateRouteRequest():
            prefix = request.route.prefix
        case _:
            return False
    return prefix.length > 8 * len(convert.ANY_IPV6 if prefix.ip.ipver == pb.IPV6 else convert.ANY_IPV4)
