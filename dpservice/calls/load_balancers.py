"""Load balancers and their targets."""

from __future__ import annotations

from collections.abc import Iterable

from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import _engine, convert
from dpservice.calls.registry import SUCCESS, Api, rpc

_MAX_VNI = 0xFFFFFF
_MAX_PORTS = 15
_ID = "loadbalancer_id"


def _ports(ports: Iterable[pb.LbPort]) -> list[_engine.LoadBalancerPort]:
    seen: set[tuple[int, int]] = set()
    for one in ports:
        convert.port(one.port, "loadbalanced_ports.port")
        if one.protocol not in (pb.TCP, pb.UDP):
            raise convert.invalid("loadbalanced_ports.protocol")
        if (one.protocol, one.port) in seen:
            raise convert.InvalidArgument("Duplicate loadbalanced_ports entry")
        seen.add((one.protocol, one.port))
    return [_engine.LoadBalancerPort(one.protocol, one.port) for one in ports]


def _port_messages(info: _engine.LoadBalancerInfo) -> list[pb.LbPort]:
    return [pb.LbPort(port=one.port, protocol=pb.Protocol.ValueType(one.protocol)) for one in info.ports]


@rpc
def create_load_balancer(api: Api, request: pb.CreateLoadBalancerRequest) -> pb.CreateLoadBalancerResponse:
    name = convert.text(request.loadbalancer_id, _ID)
    if request.vni > _MAX_VNI:
        raise convert.InvalidArgument("VNI exceeds 24-bit range")
    address = convert.address(request.loadbalanced_ip, "loadbalanced_ip")
    if len(request.loadbalanced_ports) > _MAX_PORTS:
        raise convert.InvalidArgument("Too many loadbalanced_ports")
    preferred = convert.preferred_underlay(request.preferred_underlay_route, api.engine)
    ports = _ports(request.loadbalanced_ports)
    underlay = api.engine.create_load_balancer(name, request.vni, address, ports, preferred)
    return pb.CreateLoadBalancerResponse(status=SUCCESS, underlay_route=convert.address_text(underlay))


@rpc
def get_load_balancer(api: Api, request: pb.GetLoadBalancerRequest) -> pb.GetLoadBalancerResponse:
    found = api.engine.get_load_balancer(convert.text(request.loadbalancer_id, _ID))
    return pb.GetLoadBalancerResponse(
        status=SUCCESS,
        loadbalanced_ip=convert.address_message(found.ip),
        vni=found.vni,
        loadbalanced_ports=_port_messages(found),
        underlay_route=convert.address_text(found.underlay),
    )


def _listed(info: _engine.LoadBalancerInfo) -> pb.Loadbalancer:
    return pb.Loadbalancer(
        id=info.id,
        vni=info.vni,
        ip=convert.address_message(info.ip),
        ports=_port_messages(info),
        underlay_route=convert.address_text(info.underlay),
    )


@rpc
def list_load_balancers(api: Api, request: pb.ListLoadBalancersRequest) -> pb.ListLoadBalancersResponse:
    return pb.ListLoadBalancersResponse(status=SUCCESS, loadbalancers=map(_listed, api.engine.list_load_balancers()))


@rpc
def delete_load_balancer(api: Api, request: pb.DeleteLoadBalancerRequest) -> pb.DeleteLoadBalancerResponse:
    api.engine.delete_load_balancer(convert.text(request.loadbalancer_id, _ID))
    return pb.DeleteLoadBalancerResponse(status=SUCCESS)


@rpc
def create_load_balancer_target(
    api: Api, request: pb.CreateLoadBalancerTargetRequest
) -> pb.CreateLoadBalancerTargetResponse:
    name, target = convert.text(request.loadbalancer_id, _ID), convert.address(request.target_ip, "target_ip")
    api.engine.create_load_balancer_target(name, target)
    return pb.CreateLoadBalancerTargetResponse(status=SUCCESS)


@rpc
def delete_load_balancer_target(
    api: Api, request: pb.DeleteLoadBalancerTargetRequest
) -> pb.DeleteLoadBalancerTargetResponse:
    name, target = convert.text(request.loadbalancer_id, _ID), convert.address(request.target_ip, "target_ip")
    api.engine.delete_load_balancer_target(name, target)
    return pb.DeleteLoadBalancerTargetResponse(status=SUCCESS)


@rpc
def list_load_balancer_targets(
    api: Api, request: pb.ListLoadBalancerTargetsRequest
) -> pb.ListLoadBalancerTargetsResponse:
    # No name: the targets of all load balancers.
    found = api.engine.list_load_balancer_targets(convert.text(request.loadbalancer_id, _ID, minimum=0))
    return pb.ListLoadBalancerTargetsResponse(status=SUCCESS, target_ips=map(convert.address_message, found))
