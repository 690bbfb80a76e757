"""Routes to other hosts, and VNIs."""

from __future__ import annotations

from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import _engine, convert
from dpservice.calls.registry import SUCCESS, Api, rpc


@rpc
def create_route(api: Api, request: pb.CreateRouteRequest) -> pb.CreateRouteResponse:
    prefix = convert.route_prefix(request.route)
    nexthop = convert.address(request.route.nexthop_address, "route.nexthop_address")
    api.engine.create_route(request.vni, prefix, request.route.nexthop_vni, nexthop)
    return pb.CreateRouteResponse(status=SUCCESS)


@rpc
def delete_route(api: Api, request: pb.DeleteRouteRequest) -> pb.DeleteRouteResponse:
    prefix = convert.route_prefix(request.route)
    nexthop = None
    # Without multipath there is nothing to choose from, and clients send what they like.
    if api.multipath and request.route.nexthop_address.address:
        nexthop = convert.ipv6(request.route.nexthop_address.address, "route.nexthop_address")
    api.engine.delete_route(request.vni, prefix, nexthop)
    return pb.DeleteRouteResponse(status=SUCCESS)


@rpc
def list_routes(api: Api, request: pb.ListRoutesRequest) -> pb.ListRoutesResponse:
    return pb.ListRoutesResponse(status=SUCCESS, routes=map(convert.route_message, api.engine.list_routes(request.vni)))


def _vni_type(value: int) -> _engine.VniType:
    try:
        return _engine.VniType(value)
    except ValueError:
        raise convert.invalid("type") from None


@rpc
def check_vni_in_use(api: Api, request: pb.CheckVniInUseRequest) -> pb.CheckVniInUseResponse:
    return pb.CheckVniInUseResponse(
        status=SUCCESS, in_use=api.engine.check_vni_in_use(request.vni, _vni_type(request.type))
    )


@rpc
def reset_vni(api: Api, request: pb.ResetVniRequest) -> pb.ResetVniResponse:
    api.engine.reset_vni(request.vni, _vni_type(request.type))
    return pb.ResetVniResponse(status=SUCCESS)
