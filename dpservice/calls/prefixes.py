"""Alias prefixes and load balancer prefixes of interfaces."""

from __future__ import annotations

from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import convert
from dpservice.calls.registry import SUCCESS, Api, rpc


@rpc
def create_prefix(api: Api, request: pb.CreatePrefixRequest) -> pb.CreatePrefixResponse:
    owner, prefix = convert.interface_id(request.interface_id), convert.prefix(request.prefix)
    preferred = convert.preferred_underlay(request.preferred_underlay_route, api.engine)
    underlay = api.engine.create_prefix(owner, prefix, preferred)
    return pb.CreatePrefixResponse(status=SUCCESS, underlay_route=convert.address_text(underlay))


@rpc
def delete_prefix(api: Api, request: pb.DeletePrefixRequest) -> pb.DeletePrefixResponse:
    api.engine.delete_prefix(convert.interface_id(request.interface_id), convert.prefix(request.prefix))
    return pb.DeletePrefixResponse(status=SUCCESS)


@rpc
def list_prefixes(api: Api, request: pb.ListPrefixesRequest) -> pb.ListPrefixesResponse:
    found = api.engine.list_prefixes(convert.interface_id(request.interface_id))
    return pb.ListPrefixesResponse(status=SUCCESS, prefixes=map(convert.prefix_message, found))


@rpc
def create_load_balancer_prefix(
    api: Api, request: pb.CreateLoadBalancerPrefixRequest
) -> pb.CreateLoadBalancerPrefixResponse:
    owner, prefix = convert.interface_id(request.interface_id), convert.prefix(request.prefix)
    preferred = convert.preferred_underlay(request.preferred_underlay_route, api.engine)
    underlay = api.engine.create_lb_prefix(owner, prefix, preferred)
    return pb.CreateLoadBalancerPrefixResponse(status=SUCCESS, underlay_route=convert.address_text(underlay))


@rpc
def delete_load_balancer_prefix(
    api: Api, request: pb.DeleteLoadBalancerPrefixRequest
) -> pb.DeleteLoadBalancerPrefixResponse:
    api.engine.delete_lb_prefix(convert.interface_id(request.interface_id), convert.prefix(request.prefix))
    return pb.DeleteLoadBalancerPrefixResponse(status=SUCCESS)


@rpc
def list_load_balancer_prefixes(
    api: Api, request: pb.ListLoadBalancerPrefixesRequest
) -> pb.ListLoadBalancerPrefixesResponse:
    found = api.engine.list_lb_prefixes(convert.interface_id(request.interface_id))
    return pb.ListLoadBalancerPrefixesResponse(status=SUCCESS, prefixes=map(convert.prefix_message, found))
