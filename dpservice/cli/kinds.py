"""Creating and deleting objects by kind: the commands build objects from flags, `-f` reads them from files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice.cli import objects
from dpservice.cli.api import Client, client_error
from dpservice.cli.objects import Object, ip_message, prefix_message

Action = Callable[[Client, Object], Object]


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be done with objects of one kind. Both return the object as it was made or removed."""

    create: Action
    delete: Action


def create(client: Client, item: Object) -> Object:
    """Creates an object of any kind. Raises CliError, also for objects that lack a field or hold a wrong one."""
    return _run(client, item, "create")


def delete(client: Client, item: Object) -> Object:
    """Deletes an object of any kind. Raises CliError."""
    return _run(client, item, "delete")


def _run(client: Client, item: Object, verb: str) -> Object:
    kind = KINDS.get(str(item.get("kind", "")))
    if kind is None:
        raise client_error(f"unknown kind '{item.get('kind', '')}'")
    try:
        shaped: Object = {"metadata": {}, "spec": {}} | item
        return (kind.create if verb == "create" else kind.delete)(client, shaped)
    except KeyError as error:
        raise client_error(f"{item['kind']}: field {error} is missing") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise client_error(f"{item['kind']}: {error}") from None


def _done(item: Object, **spec: object) -> Object:
    return objects.make(item["kind"], item["metadata"], item["spec"] | spec)


def _preferred(item: Object) -> bytes:
    return str(item["spec"].get("underlay_route", "")).encode()


def _id(item: Object, field: str = "interface_id") -> bytes:
    return str(item["metadata"][field]).encode()


def _create_interface(client: Client, item: Object) -> Object:
    spec = item["spec"]
    boot, metering = spec.get("pxe", {}), spec.get("metering", {})
    request = pb.CreateInterfaceRequest(
        interface_type=pb.VIRTUAL,
        interface_id=_id(item, "id"),
        vni=spec["vni"],
        ipv4_config=pb.IpConfig(primary_address=str(spec.get("primary_ipv4", "0.0.0.0")).encode()),
        ipv6_config=pb.IpConfig(primary_address=str(spec.get("primary_ipv6", "::")).encode()),
        device_name=spec["device"],
        metering_parameters=pb.MeteringParams(
            total_rate=metering.get("total_rate", 0), public_rate=metering.get("public_rate", 0)
        ),
        preferred_underlay_route=_preferred(item),
        hostname=spec.get("hostname", ""),
    )
    if boot.get("next_server") and boot.get("boot_filename"):
        request.pxe_config.CopyFrom(pb.PxeConfig(next_server=boot["next_server"], boot_filename=boot["boot_filename"]))
    reply = client.call("CreateInterface", request)
    return _done(item, underlay_route=reply.underlay_route.decode(), virtual_function={"name": reply.vf.name})


def _delete_interface(client: Client, item: Object) -> Object:
    client.call("DeleteInterface", pb.DeleteInterfaceRequest(interface_id=_id(item, "id")))
    return _done(item)


def _create_prefix(client: Client, item: Object) -> Object:
    request = pb.CreatePrefixRequest(
        interface_id=_id(item), prefix=prefix_message(item["spec"]["prefix"]), preferred_underlay_route=_preferred(item)
    )
    return _done(item, underlay_route=client.call("CreatePrefix", request).underlay_route.decode())


def _delete_prefix(client: Client, item: Object) -> Object:
    prefix = prefix_message(item["spec"]["prefix"])
    client.call("DeletePrefix", pb.DeletePrefixRequest(interface_id=_id(item), prefix=prefix))
    return _done(item)


def _create_lb_prefix(client: Client, item: Object) -> Object:
    request = pb.CreateLoadBalancerPrefixRequest(
        interface_id=_id(item), prefix=prefix_message(item["spec"]["prefix"]), preferred_underlay_route=_preferred(item)
    )
    return _done(item, underlay_route=client.call("CreateLoadBalancerPrefix", request).underlay_route.decode())


def _delete_lb_prefix(client: Client, item: Object) -> Object:
    prefix = prefix_message(item["spec"]["prefix"])
    client.call("DeleteLoadBalancerPrefix", pb.DeleteLoadBalancerPrefixRequest(interface_id=_id(item), prefix=prefix))
    return _done(item)


_WEIGHT = 100


def _create_route(client: Client, item: Object) -> Object:
    hop = item["spec"]["next_hop"]
    route = pb.Route(
        prefix=prefix_message(item["spec"]["prefix"]),
        nexthop_vni=hop["vni"],
        nexthop_address=ip_message(hop["address"]),
        weight=_WEIGHT,
    )
    client.call("CreateRoute", pb.CreateRouteRequest(vni=item["metadata"]["vni"], route=route))
    return _done(item)


def _delete_route(client: Client, item: Object) -> Object:
    route = pb.Route(prefix=prefix_message(item["spec"]["prefix"]), weight=_WEIGHT)
    client.call("DeleteRoute", pb.DeleteRouteRequest(vni=item["metadata"]["vni"], route=route))
    return _done(item)


def _create_vip(client: Client, item: Object) -> Object:
    request = pb.CreateVipRequest(
        interface_id=_id(item), vip_ip=ip_message(item["spec"]["vip_ip"]), preferred_underlay_route=_preferred(item)
    )
    return _done(item, underlay_route=client.call("CreateVip", request).underlay_route.decode())


def _delete_vip(client: Client, item: Object) -> Object:
    client.call("DeleteVip", pb.DeleteVipRequest(interface_id=_id(item)))
    return _done(item)


def _create_load_balancer(client: Client, item: Object) -> Object:
    spec = item["spec"]
    request = pb.CreateLoadBalancerRequest(
        loadbalancer_id=_id(item, "id"),
        vni=spec["vni"],
        loadbalanced_ip=ip_message(spec["loadbalanced_ip"]),
        loadbalanced_ports=[pb.LbPort(port=p["port"], protocol=p["protocol"]) for p in spec["loadbalanced_ports"]],
        preferred_underlay_route=_preferred(item),
    )
    return _done(item, underlay_route=client.call("CreateLoadBalancer", request).underlay_route.decode())


def _delete_load_balancer(client: Client, item: Object) -> Object:
    client.call("DeleteLoadBalancer", pb.DeleteLoadBalancerRequest(loadbalancer_id=_id(item, "id")))
    return _done(item)


def _create_lb_target(client: Client, item: Object) -> Object:
    owner, target = _id(item, "loadbalancer_id"), ip_message(item["spec"]["target_ip"])
    client.call("CreateLoadBalancerTarget", pb.CreateLoadBalancerTargetRequest(loadbalancer_id=owner, target_ip=target))
    return _done(item)


def _delete_lb_target(client: Client, item: Object) -> Object:
    owner, target = _id(item, "loadbalancer_id"), ip_message(item["spec"]["target_ip"])
    client.call("DeleteLoadBalancerTarget", pb.DeleteLoadBalancerTargetRequest(loadbalancer_id=owner, target_ip=target))
    return _done(item)


def _create_nat(client: Client, item: Object) -> Object:
    spec = item["spec"]
    request = pb.CreateNatRequest(
        interface_id=_id(item),
        nat_ip=ip_message(spec["nat_ip"]),
        min_port=spec["min_port"],
        max_port=spec["max_port"],
        preferred_underlay_route=_preferred(item),
    )
    return _done(item, underlay_route=client.call("CreateNat", request).underlay_route.decode())


def _delete_nat(client: Client, item: Object) -> Object:
    client.call("DeleteNat", pb.DeleteNatRequest(interface_id=_id(item)))
    return _done(item)


def _create_neighbor_nat(client: Client, item: Object) -> Object:
    spec = item["spec"]
    request = pb.CreateNeighborNatRequest(
        nat_ip=ip_message(item["metadata"]["nat_ip"]),
        vni=spec["vni"],
        min_port=spec["min_port"],
        max_port=spec["max_port"],
        underlay_route=str(spec["underlay_route"]).encode(),
    )
    client.call("CreateNeighborNat", request)
    return _done(item)


def _delete_neighbor_nat(client: Client, item: Object) -> Object:
    spec = item["spec"]
    request = pb.DeleteNeighborNatRequest(
        nat_ip=ip_message(item["metadata"]["nat_ip"]),
        vni=spec["vni"],
        min_port=spec["min_port"],
        max_port=spec["max_port"],
    )
    client.call("DeleteNeighborNat", request)
    return _done(item)


def _protocol_filter(spec: Object) -> pb.ProtocolFilter | None:
    chosen = spec.get("protocol_filter", {}).get("Filter", {})
    if "Tcp" in chosen:
        return pb.ProtocolFilter(tcp=pb.TcpFilter(**chosen["Tcp"]))
    if "Udp" in chosen:
        return pb.ProtocolFilter(udp=pb.UdpFilter(**chosen["Udp"]))
    if "Icmp" in chosen:
        return pb.ProtocolFilter(icmp=pb.IcmpFilter(**chosen["Icmp"]))
    return None


def _create_firewall_rule(client: Client, item: Object) -> Object:
    spec = item["spec"]
    directions = {text.lower(): number for number, text in objects.DIRECTIONS.items()}
    actions = {text.lower(): number for number, text in objects.ACTIONS.items()}
    rule = pb.FirewallRule(
        id=str(spec["id"]).encode(),
        direction=directions[str(spec["direction"]).lower()],
        action=actions[str(spec["action"]).lower()],
        priority=spec.get("priority", 1000),
        source_prefix=prefix_message(spec["source_prefix"]),
        destination_prefix=prefix_message(spec["destination_prefix"]),
        protocol_filter=_protocol_filter(spec),
    )
    client.call("CreateFirewallRule", pb.CreateFirewallRuleRequest(interface_id=_id(item), rule=rule))
    return _done(item)


def _delete_firewall_rule(client: Client, item: Object) -> Object:
    rule_id = str(item["spec"]["id"]).encode()
    client.call("DeleteFirewallRule", pb.DeleteFirewallRuleRequest(interface_id=_id(item), rule_id=rule_id))
    return _done(item)


KINDS = {
    "Interface": Kind(_create_interface, _delete_interface),
    "Prefix": Kind(_create_prefix, _delete_prefix),
    "LoadBalancerPrefix": Kind(_create_lb_prefix, _delete_lb_prefix),
    "Route": Kind(_create_route, _delete_route),
    "VirtualIP": Kind(_create_vip, _delete_vip),
    "LoadBalancer": Kind(_create_load_balancer, _delete_load_balancer),
    "LoadBalancerTarget": Kind(_create_lb_target, _delete_lb_target),
    "Nat": Kind(_create_nat, _delete_nat),
    "NeighborNat": Kind(_create_neighbor_nat, _delete_neighbor_nat),
    "FirewallRule": Kind(_create_firewall_rule, _delete_firewall_rule),
}
