"""What each RPC does: arguments are checked in the order and with the texts clients know, then the engine is asked.

A function raises InvalidArgument for a malformed argument and lets the engine's StatusError through; `answer` turns
both into what the wire contract says. Functions block: they run in a thread of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message
from google.protobuf.text_format import MessageToString
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import _engine, convert

_LOGGER = "grpc"
_READING = ("Get", "List", "Check")
_log = structlog.get_logger(_LOGGER)

SUCCESS = pb.Status(code=0, message="Success")
SERVICE = pb.DESCRIPTOR.services_by_name["DPDKironcore"]

# Request and response types differ per call; the pairs are checked by the method descriptors when calls are registered.
Call = Callable[[_engine.Engine, Any], Message]


class RpcError(Exception):
    """The call ends with a gRPC status instead of a response."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


CALLS: dict[str, Call] = {}
"""RPC name to function. RPCs of the service that are not in here answer UNIMPLEMENTED."""


def _rpc(call: Call) -> Call:
    name = "".join(part.title() for part in call.__name__.split("_"))
    CALLS[SERVICE.methods_by_name[name].name] = call
    return call


def answer(engine: _engine.Engine, method: str, request: Message) -> Message:
    """Response to one request. Raises RpcError."""
    if method != "Initialize" and engine.check_initialized() is None:
        raise RpcError(grpc.StatusCode.ABORTED, "not initialized")
    call = CALLS.get(method)
    if call is None:
        raise RpcError(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not implemented by this version of the service")
    # Orchestrators read back all the time; what changes something is worth a line.
    level = logging.DEBUG if method.startswith(_READING) else logging.INFO
    if logging.getLogger(_LOGGER).isEnabledFor(level):
        _log.log(level, "request", method=method, arguments=MessageToString(request, as_one_line=True))
    try:
        return call(engine, request)
    except convert.InvalidArgument as error:
        _log.warning("request refused", method=method, error=str(error))
        raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
    except _engine.StatusError as error:
        _log.warning("request failed", method=method, grpc_error=error.code, grpc_message=error.name)
        response_class = getattr(pb, SERVICE.methods_by_name[method].output_type.name)
        response: Message = response_class(status=pb.Status(code=error.code, message=error.name))
        return response


@_rpc
def check_initialized(engine: _engine.Engine, request: pb.CheckInitializedRequest) -> pb.CheckInitializedResponse:
    return pb.CheckInitializedResponse(status=SUCCESS, uuid=engine.check_initialized() or "")


@_rpc
def initialize(engine: _engine.Engine, request: pb.InitializeRequest) -> pb.InitializeResponse:
    return pb.InitializeResponse(status=SUCCESS, uuid=engine.initialize())


@_rpc
def get_version(engine: _engine.Engine, request: pb.GetVersionRequest) -> pb.GetVersionResponse:
    for field in ("client_protocol", "client_name", "client_version"):
        convert.text(getattr(request, field).encode(), field)
    version = engine.version()
    return pb.GetVersionResponse(status=SUCCESS, service_protocol=version, service_version=version)


@_rpc
def create_interface(engine: _engine.Engine, request: pb.CreateInterfaceRequest) -> pb.CreateInterfaceResponse:
    convert.new_interface_id(request.interface_id)
    wanted = _engine.CreateInterfaceRequest()
    wanted.ipv4 = convert.ipv4(request.ipv4_config.primary_address, "ipv4_config.primary_address")
    wanted.ipv6 = convert.ipv6(request.ipv6_config.primary_address, "ipv6_config.primary_address")
    if wanted.ipv4 == convert.ANY_IPV4 and wanted.ipv6 == convert.ANY_IPV6:
        raise convert.invalid("ipv4_config.primary_address and ipv6_config.primary_address combination")
    wanted.pxe = convert.pxe(request.pxe_config, wanted.ipv4, wanted.ipv6)
    convert.text(request.device_name.encode(), "device_name")
    wanted.device_name = request.device_name
    wanted.id = convert.interface_id(request.interface_id)
    convert.text(request.hostname.encode(), "hostname", minimum=0)
    wanted.hostname = request.hostname
    wanted.preferred_underlay = convert.preferred_underlay(request.preferred_underlay_route, engine)
    wanted.vni = request.vni
    wanted.total_meter_rate = request.metering_parameters.total_rate
    wanted.public_meter_rate = request.metering_parameters.public_rate
    created = engine.create_interface(wanted)
    return pb.CreateInterfaceResponse(
        status=SUCCESS,
        underlay_route=convert.address_text(created.underlay),
        vf=pb.VirtualFunction(name=created.netdev_name),
    )


@_rpc
def get_interface(engine: _engine.Engine, request: pb.GetInterfaceRequest) -> pb.GetInterfaceResponse:
    info = engine.get_interface(convert.interface_id(request.interface_id))
    return pb.GetInterfaceResponse(status=SUCCESS, interface=convert.interface_message(info))


@_rpc
def list_interfaces(engine: _engine.Engine, request: pb.ListInterfacesRequest) -> pb.ListInterfacesResponse:
    interfaces = map(convert.interface_message, engine.list_interfaces())
    return pb.ListInterfacesResponse(status=SUCCESS, interfaces=interfaces)


@_rpc
def delete_interface(engine: _engine.Engine, request: pb.DeleteInterfaceRequest) -> pb.DeleteInterfaceResponse:
    engine.delete_interface(convert.interface_id(request.interface_id))
    return pb.DeleteInterfaceResponse(status=SUCCESS)


@_rpc
def create_prefix(engine: _engine.Engine, request: pb.CreatePrefixRequest) -> pb.CreatePrefixResponse:
    owner, prefix = convert.interface_id(request.interface_id), convert.prefix(request.prefix)
    preferred = convert.preferred_underlay(request.preferred_underlay_route, engine)
    underlay = engine.create_prefix(owner, prefix, preferred)
    return pb.CreatePrefixResponse(status=SUCCESS, underlay_route=convert.address_text(underlay))


@_rpc
def delete_prefix(engine: _engine.Engine, request: pb.DeletePrefixRequest) -> pb.DeletePrefixResponse:
    engine.delete_prefix(convert.interface_id(request.interface_id), convert.prefix(request.prefix))
    return pb.DeletePrefixResponse(status=SUCCESS)


@_rpc
def list_prefixes(engine: _engine.Engine, request: pb.ListPrefixesRequest) -> pb.ListPrefixesResponse:
    found = engine.list_prefixes(convert.interface_id(request.interface_id))
    return pb.ListPrefixesResponse(status=SUCCESS, prefixes=map(convert.prefix_message, found))


@_rpc
def create_load_balancer_prefix(
    engine: _engine.Engine, request: pb.CreateLoadBalancerPrefixRequest
) -> pb.CreateLoadBalancerPrefixResponse:
    owner, prefix = convert.interface_id(request.interface_id), convert.prefix(request.prefix)
    preferred = convert.preferred_underlay(request.preferred_underlay_route, engine)
    underlay = engine.create_lb_prefix(owner, prefix, preferred)
    return pb.CreateLoadBalancerPrefixResponse(status=SUCCESS, underlay_route=convert.address_text(underlay))


@_rpc
def delete_load_balancer_prefix(
    engine: _engine.Engine, request: pb.DeleteLoadBalancerPrefixRequest
) -> pb.DeleteLoadBalancerPrefixResponse:
    engine.delete_lb_prefix(convert.interface_id(request.interface_id), convert.prefix(request.prefix))
    return pb.DeleteLoadBalancerPrefixResponse(status=SUCCESS)


@_rpc
def list_load_balancer_prefixes(
    engine: _engine.Engine, request: pb.ListLoadBalancerPrefixesRequest
) -> pb.ListLoadBalancerPrefixesResponse:
    found = engine.list_lb_prefixes(convert.interface_id(request.interface_id))
    return pb.ListLoadBalancerPrefixesResponse(status=SUCCESS, prefixes=map(convert.prefix_message, found))


@_rpc
def create_route(engine: _engine.Engine, request: pb.CreateRouteRequest) -> pb.CreateRouteResponse:
    prefix = convert.route_prefix(request.route)
    nexthop = convert.address(request.route.nexthop_address, "route.nexthop_address")
    engine.create_route(request.vni, prefix, request.route.nexthop_vni, nexthop)
    return pb.CreateRouteResponse(status=SUCCESS)


@_rpc
def delete_route(engine: _engine.Engine, request: pb.DeleteRouteRequest) -> pb.DeleteRouteResponse:
    engine.delete_route(request.vni, convert.route_prefix(request.route))
    return pb.DeleteRouteResponse(status=SUCCESS)


@_rpc
def list_routes(engine: _engine.Engine, request: pb.ListRoutesRequest) -> pb.ListRoutesResponse:
    return pb.ListRoutesResponse(status=SUCCESS, routes=map(convert.route_message, engine.list_routes(request.vni)))


def _vni_type(value: int) -> _engine.VniType:
    try:
        return _engine.VniType(value)
    except ValueError:
        raise convert.invalid("type") from None


@_rpc
def check_vni_in_use(engine: _engine.Engine, request: pb.CheckVniInUseRequest) -> pb.CheckVniInUseResponse:
    return pb.CheckVniInUseResponse(
        status=SUCCESS, in_use=engine.check_vni_in_use(request.vni, _vni_type(request.type))
    )


@_rpc
def reset_vni(engine: _engine.Engine, request: pb.ResetVniRequest) -> pb.ResetVniResponse:
    engine.reset_vni(request.vni, _vni_type(request.type))
    return pb.ResetVniResponse(status=SUCCESS)
