"""Interfaces."""

from __future__ import annotations

from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import _engine, convert
from dpservice.calls.registry import SUCCESS, Api, rpc


@rpc
def create_interface(api: Api, request: pb.CreateInterfaceRequest) -> pb.CreateInterfaceResponse:
    convert.new_interface_id(request.interface_id)
    wanted = _engine.CreateInterfaceRequest()
    wanted.ipv4 = convert.ipv4(request.ipv4_config.primary_address, "ipv4_config.primary_address")
    wanted.ipv6 = convert.ipv6(request.ipv6_config.primary_address, "ipv6_config.primary_address")
    if wanted.ipv4 == convert.ANY_IPV4 and wanted.ipv6 == convert.ANY_IPV6:
        raise convert.invalid("ipv4_config.primary_address and ipv6_config.primary_address combination")
    wanted.pxe = convert.pxe(request.pxe_config, wanted.ipv4, wanted.ipv6)
    wanted.device_name = convert.text(request.device_name.encode(), "device_name").decode()
    wanted.id = convert.interface_id(request.interface_id)
    wanted.hostname = convert.text(request.hostname.encode(), "hostname", minimum=0).decode()
    wanted.preferred_underlay = convert.preferred_underlay(request.preferred_underlay_route, api.engine)
    wanted.vni = request.vni
    wanted.total_meter_rate = request.metering_parameters.total_rate
    wanted.public_meter_rate = request.metering_parameters.public_rate
    created = api.engine.create_interface(wanted)
    return pb.CreateInterfaceResponse(
        status=SUCCESS,
        underlay_route=convert.address_text(created.underlay),
        vf=pb.VirtualFunction(name=created.netdev_name),
    )


@rpc
def get_interface(api: Api, request: pb.GetInterfaceRequest) -> pb.GetInterfaceResponse:
    info = api.engine.get_interface(convert.interface_id(request.interface_id))
    return pb.GetInterfaceResponse(status=SUCCESS, interface=convert.interface_message(info))


@rpc
def list_interfaces(api: Api, request: pb.ListInterfacesRequest) -> pb.ListInterfacesResponse:
    interfaces = map(convert.interface_message, api.engine.list_interfaces())
    return pb.ListInterfacesResponse(status=SUCCESS, interfaces=interfaces)


@rpc
def delete_interface(api: Api, request: pb.DeleteInterfaceRequest) -> pb.DeleteInterfaceResponse:
    api.engine.delete_interface(convert.interface_id(request.interface_id))
    return pb.DeleteInterfaceResponse(status=SUCCESS)
