"""Commands that read: get and list."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

import click
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice.cli import objects
from dpservice.cli.api import Client, CliError
from dpservice.cli.commands import IP, UINT32, Word
from dpservice.cli.frame import Body, Group, Session, with_session
from dpservice.cli.objects import Object, ip_message

_SNAT_NO_DATA = 341
_NO_VM = 205


@click.group(cls=Group)
def get() -> None:
    """Show one object, or all of a kind."""


@click.group(cls=Group, name="list")
def list_() -> None:
    """Show all objects of a kind."""


def interfaces(client: Client, *, wide: bool = False) -> list[Object]:
    """All interfaces; `wide` adds VIP and NAT."""
    reply = client.call("ListInterfaces", pb.ListInterfacesRequest())
    return [_widened(client, objects.interface(one), wide) for one in reply.interfaces]


def _widened(client: Client, item: Object, wide: bool) -> Object:
    if wide:
        owner = item["metadata"]["id"].encode()
        vip = _optional_call(client, "GetVip", pb.GetVipRequest(interface_id=owner))
        nat = _optional_call(client, "GetNat", pb.GetNatRequest(interface_id=owner))
        item["spec"]["vip"] = vip.vip_ip.address.decode() if vip else ""
        item["spec"]["nat"] = f"{nat.nat_ip.address.decode()} <{nat.min_port}, {nat.max_port}>" if nat else ""
    return item


def _optional_call(client: Client, method: str, request: Any) -> Any:
    """The response, or None if there is nothing or the service does not know the call."""
    try:
        reply = client.call(method, request, ignore=frozenset({_SNAT_NO_DATA}))
    except CliError as error:
        if error.source == "grpc" and error.exit_status != 1:
            return None
        raise
    return reply if reply.status.code == 0 else None


def _sort(kind: str, items: Iterable[Object], column: str) -> list[Object]:
    """In the order of a column; in that of the kind for "" and words that name no column, as clients expect."""
    orders = _SORTS[kind]
    return sorted(items, key=orders.get(column.lower(), orders[""]))


def _field(*path: str) -> Callable[[Object], Any]:
    """A sort key: addresses and prefixes by value, the rest as it is; families and types never mix."""

    def key(item: Object) -> Any:
        value: Any = item
        for part in path:
            value = value.get(part, "")
        try:
            interface = ipaddress.ip_interface(value)
        except ValueError:
            return (0, 0, 0, value)
        return (interface.version, int(interface.ip), interface.network.prefixlen, value)

    return key


_SORTS: dict[str, dict[str, Callable[[Object], Any]]] = {
    "interface": {
        "": _field("metadata", "id"),
        "vni": _field("spec", "vni"),
        "device": _field("spec", "device"),
        "ipv4": _field("spec", "primary_ipv4"),
        "ipv6": _field("spec", "primary_ipv6"),
        "underlayroute": _field("spec", "underlay_route"),
    },
    "prefix": {"": _field("spec", "prefix"), "underlayroute": _field("spec", "underlay_route")},
    "route": {
        "": _field("spec", "prefix"),
        "nexthopvni": _field("spec", "next_hop", "vni"),
        "nexthopip": _field("spec", "next_hop", "address"),
    },
    "loadbalancer": {
        "": _field("metadata", "id"),
        "vni": _field("spec", "vni"),
        "ip": _field("spec", "loadbalanced_ip"),
        "underlayroute": _field("spec", "underlay_route"),
    },
    "lbtarget": {"": _field("spec", "target_ip")},
    "nat": {
        "": _field("spec", "vni"),
        "ip": _field("spec", "nat_ip"),
        "minport": _field("spec", "min_port"),
        "maxport": _field("spec", "max_port"),
        "underlayroute": _field("spec", "underlay_route"),
    },
    "firewallrule": {
        "": _field("spec", "id"),
        "direction": _field("spec", "direction"),
        "src": _field("spec", "source_prefix"),
        "dst": _field("spec", "destination_prefix"),
        "action": _field("spec", "action"),
        "protocol": lambda item: (str(item["spec"].get("protocol_filter", "")),),
        "priority": _field("spec", "priority"),
    },
}


def _sort_option(kind: str) -> Callable[[Body], Body]:
    columns = ", ".join(column for column in _SORTS[kind] if column)
    text = f"Column to sort by: {columns}." if columns else "Has no effect."
    return click.option("--sort-by", default="", help=text)


@get.command("interface")
@click.option("--id", "name", default="", help="Empty: all.")
@with_session
def get_interface(session: Session, name: str) -> None:
    """Show an interface."""
    with session.connect() as client:
        if not name:
            _show_interfaces(session, client, "")
            return
        reply = client.call("GetInterface", pb.GetInterfaceRequest(interface_id=name.encode()))
        session.show(_widened(client, objects.interface(reply.interface), session.wide), "table")


@list_.command("interface")
@_sort_option("interface")
@with_session
def list_interfaces(session: Session, sort_by: str) -> None:
    """Show all interfaces."""
    with session.connect() as client:
        _show_interfaces(session, client, sort_by)


def _show_interfaces(session: Session, client: Client, sort_by: str) -> None:
    items = _sort("interface", interfaces(client, wide=session.wide), sort_by)
    session.show(objects.make_list("Interface", items), "table")


def _prefixes(client: Client, method: str, kind: str, interface_id: str) -> list[Object]:
    owners: dict[str, int | None] = {interface_id: None}
    if not interface_id:
        owners = {item["metadata"]["id"]: item["spec"]["vni"] for item in interfaces(client)}
    else:
        request = pb.GetInterfaceRequest(interface_id=interface_id.encode())
        owners = {interface_id: client.call("GetInterface", request, ignore=frozenset({201})).interface.vni}
    found = []
    for owner, vni in owners.items():
        request_class = getattr(pb, f"{method}Request")
        reply = client.call(method, request_class(interface_id=owner.encode()))
        found += [objects.prefix(kind, owner, vni, one) for one in reply.prefixes]
    return found


def _register_prefixes(noun: str, method: str, kind: str) -> None:
    def body(session: Session, interface_id: str, sort_by: str = "") -> None:
        with session.connect() as client:
            items = _sort("prefix", _prefixes(client, method, kind, interface_id), sort_by)
            session.show(objects.make_list(kind, items), "table")

    for group in (get, list_):
        option = click.option("--interface-id", default="", help="Empty: all interfaces.")
        group.command(noun, help=f"Show prefixes ({kind}).")(option(_sort_option("prefix")(with_session(body))))


_register_prefixes("prefix", "ListPrefixes", "Prefix")
_register_prefixes("lbprefix", "ListLoadBalancerPrefixes", "LoadBalancerPrefix")


def _both(noun: str, *options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a body as `get <noun>` and `list <noun>`."""

    def register(body: Callable[..., None]) -> Callable[..., None]:
        for group in (get, list_):
            command = with_session(body)
            for option in reversed(options):
                command = option(command)
            group.command(noun, help=body.__doc__)(command)
        return body

    return register


@_both("route", click.option("--vni", type=UINT32, default=0, help="0: all."), _sort_option("route"))
def routes(session: Session, vni: int, sort_by: str) -> None:
    """Show routes to other hosts."""
    with session.connect() as client:
        reply = client.call("ListRoutes", pb.ListRoutesRequest(vni=vni))
    items = _sort("route", (objects.route(vni, one) for one in reply.routes), sort_by)
    session.show(objects.make_list("Route", items), "table")


@get.command("virtualip")
@click.option("--interface-id", default="", help="Empty: all interfaces that have one.")
@with_session
def get_virtual_ip(session: Session, interface_id: str) -> None:
    """Show the public address of an interface."""
    with session.connect() as client:
        owners = [interface_id] if interface_id else [item["metadata"]["id"] for item in interfaces(client)]
        if not owners:
            raise CliError("server", _NO_VM, "NO_VM", f"[error code {_NO_VM}] NO_VM", 2)
        for owner in owners:
            ignore = frozenset() if interface_id else frozenset({_SNAT_NO_DATA})
            reply = client.call("GetVip", pb.GetVipRequest(interface_id=owner.encode()), ignore=ignore)
            if reply.status.code == 0:
                spec = {"vip_ip": reply.vip_ip.address.decode(), "underlay_route": reply.underlay_route.decode()}
                session.show(objects.make("VirtualIP", {"interface_id": owner}, spec), "table")


@_both("loadbalancer", click.option("--id", "name", default="", help="Empty: all."), _sort_option("loadbalancer"))
def load_balancers(session: Session, name: str, sort_by: str) -> None:
    """Show load balancers."""
    with session.connect() as client:
        if name:
            one = client.call("GetLoadBalancer", pb.GetLoadBalancerRequest(loadbalancer_id=name.encode()))
            session.show(objects.load_balancer(one, name), "table")
            return
        reply = client.call("ListLoadBalancers", pb.ListLoadBalancersRequest())
    found = (objects.load_balancer(one, "") for one in reply.loadbalancers)
    session.show(objects.make_list("LoadBalancer", _sort("loadbalancer", found, sort_by)), "table")


@_both("lbtarget", click.option("--lb-id", default="", help="Empty: all."), _sort_option("lbtarget"))
def lb_targets(session: Session, lb_id: str, sort_by: str) -> None:
    """Show targets of a load balancer."""
    with session.connect() as client:
        reply = client.call(
            "ListLoadBalancerTargets", pb.ListLoadBalancerTargetsRequest(loadbalancer_id=lb_id.encode())
        )
    found = (
        objects.make("LoadBalancerTarget", {"loadbalancer_id": lb_id}, {"target_ip": one.address.decode()})
        for one in reply.target_ips
    )
    session.show(objects.make_list("LoadBalancerTarget", _sort("lbtarget", found, sort_by)), "table")


@get.command("nat")
@click.option("--interface-id", default="", help="Empty: every interface, up to the first without a NAT.")
@with_session
def get_nat(session: Session, interface_id: str) -> None:
    """Show the NAT of an interface."""
    with session.connect() as client:
        owners = [interface_id] if interface_id else [item["metadata"]["id"] for item in interfaces(client)]
        for owner in owners:
            reply = client.call("GetNat", pb.GetNatRequest(interface_id=owner.encode()))
            spec = {
                "nat_ip": reply.nat_ip.address.decode(),
                "min_port": reply.min_port,
                "max_port": reply.max_port,
                "underlay_route": reply.underlay_route.decode(),
            }
            session.show(objects.make("Nat", {"interface_id": owner}, spec), "table")


@list_.command("nat")
@click.option("--nat-ip", type=IP, default="0.0.0.0", show_default=True, help="0.0.0.0: all.")
@click.option(
    "--nat-type",
    type=Word(any=("any", "0", ""), local=("local", "1"), neighbor=("neigh", "neighbor", "2")),
    default="any",
    show_default=True,
)
@_sort_option("nat")
@with_session
def list_nats(session: Session, nat_ip: str, nat_type: str, sort_by: str) -> None:
    """Show NATs of this host and of neighbours."""
    entries: list[pb.NatEntry] = []
    with session.connect() as client:
        if nat_type in ("any", "local"):
            entries += client.call("ListLocalNats", pb.ListLocalNatsRequest(nat_ip=ip_message(nat_ip))).nat_entries
        if nat_type in ("any", "neighbor"):
            entries += client.call(
                "ListNeighborNats", pb.ListNeighborNatsRequest(nat_ip=ip_message(nat_ip))
            ).nat_entries
    session.show(objects.make_list("Nat", _sort("nat", map(objects.nat_entry, entries), sort_by)), "table")


@_both(
    "firewallrule",
    click.option("--interface-id", default="", help="Empty: all interfaces."),
    click.option("--rule-id", default="", help="Empty: all rules."),
    _sort_option("firewallrule"),
)
def firewall_rules(session: Session, interface_id: str, rule_id: str, sort_by: str) -> None:
    """Show firewall rules."""
    if rule_id and not interface_id:
        raise click.UsageError("--rule-id needs --interface-id")
    with session.connect() as client:
        if rule_id:
            request = pb.GetFirewallRuleRequest(interface_id=interface_id.encode(), rule_id=rule_id.encode())
            session.show(objects.firewall_rule(interface_id, client.call("GetFirewallRule", request).rule), "table")
            return
        owners = [interface_id] if interface_id else [item["metadata"]["id"] for item in interfaces(client)]
        found = [
            objects.firewall_rule(owner, rule)
            for owner in owners
            for rule in client.call("ListFirewallRules", pb.ListFirewallRulesRequest(interface_id=owner.encode())).rules
        ]
    session.show(objects.make_list("FirewallRule", _sort("firewallrule", found, sort_by)), "table")
