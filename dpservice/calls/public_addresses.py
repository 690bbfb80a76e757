"""Virtual IPs, NAT ranges of interfaces, and those of neighbours."""

from __future__ import annotations

from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import _engine, convert
from dpservice.calls.registry import SUCCESS, Api, rpc

_Range = pb.CreateNatRequest | pb.CreateNeighborNatRequest | pb.DeleteNeighborNatRequest


def _own_address(api: Api, value: pb.IpAddress, field: str) -> bytes:
    """An address that something can have: the zero address means none, or all of them, everywhere else."""
    packed = convert.address(value, field)
    if packed == convert.ANY_IPV4 or (packed == convert.ANY_IPV6 and api.ipv6_public):
        raise convert.invalid(field)
    return packed


def _port_range(request: _Range) -> tuple[int, int]:
    """First port and the one after the last."""
    convert.port(request.min_port, "min_port")
    convert.port(request.max_port, "max_port")
    if request.min_port >= request.max_port:
        raise convert.invalid("port range")
    return request.min_port, request.max_port


@rpc
def create_vip(api: Api, request: pb.CreateVipRequest) -> pb.CreateVipResponse:
    owner, vip = convert.interface_id(request.interface_id), _own_address(api, request.vip_ip, "vip_ip")
    preferred = convert.preferred_underlay(request.preferred_underlay_route, api.engine)
    underlay = api.engine.create_vip(owner, vip, preferred)
    return pb.CreateVipResponse(status=SUCCESS, underlay_route=convert.address_text(underlay))


@rpc
def get_vip(api: Api, request: pb.GetVipRequest) -> pb.GetVipResponse:
    found = api.engine.get_vip(convert.interface_id(request.interface_id))
    return pb.GetVipResponse(
        status=SUCCESS,
        vip_ip=convert.address_message(found.vip),
        underlay_route=convert.address_text(found.underlay),
    )


@rpc
def delete_vip(api: Api, request: pb.DeleteVipRequest) -> pb.DeleteVipResponse:
    api.engine.delete_vip(convert.interface_id(request.interface_id))
    return pb.DeleteVipResponse(status=SUCCESS)


@rpc
def create_nat(api: Api, request: pb.CreateNatRequest) -> pb.CreateNatResponse:
    owner, nat_ip = convert.interface_id(request.interface_id), _own_address(api, request.nat_ip, "nat_ip")
    first, end = _port_range(request)
    preferred = convert.preferred_underlay(request.preferred_underlay_route, api.engine)
    underlay = api.engine.create_nat(owner, nat_ip, first, end, preferred)
    return pb.CreateNatResponse(status=SUCCESS, underlay_route=convert.address_text(underlay))


@rpc
def get_nat(api: Api, request: pb.GetNatRequest) -> pb.GetNatResponse:
    found = api.engine.get_nat(convert.interface_id(request.interface_id))
    return pb.GetNatResponse(
        status=SUCCESS,
        nat_ip=convert.address_message(found.nat_ip),
        min_port=found.min_port,
        max_port=found.max_port,
        underlay_route=convert.address_text(found.underlay),
    )


@rpc
def delete_nat(api: Api, request: pb.DeleteNatRequest) -> pb.DeleteNatResponse:
    api.engine.delete_nat(convert.interface_id(request.interface_id))
    return pb.DeleteNatResponse(status=SUCCESS)


def _local_entry(info: _engine.LocalNatInfo) -> pb.NatEntry:
    # Clients tell local entries from those of neighbours by the missing underlay address.
    return pb.NatEntry(
        nat_ip=convert.address_message(info.inside),
        actual_nat_ip=convert.address_message(info.nat.nat_ip),
        min_port=info.nat.min_port,
        max_port=info.nat.max_port,
        vni=info.vni,
    )


def _neighbor_entry(info: _engine.NeighborNat) -> pb.NatEntry:
    return pb.NatEntry(
        actual_nat_ip=convert.address_message(info.nat_ip),
        min_port=info.min_port,
        max_port=info.max_port,
        vni=info.vni,
        underlay_route=convert.address_text(info.underlay),
    )


@rpc
def list_local_nats(api: Api, request: pb.ListLocalNatsRequest) -> pb.ListLocalNatsResponse:
    found = api.engine.list_local_nats(convert.address(request.nat_ip, "nat_ip"))
    return pb.ListLocalNatsResponse(status=SUCCESS, nat_entries=map(_local_entry, found))


@rpc
def create_neighbor_nat(api: Api, request: pb.CreateNeighborNatRequest) -> pb.CreateNeighborNatResponse:
    nat_ip = _own_address(api, request.nat_ip, "nat_ip")
    first, end = _port_range(request)
    underlay = convert.ipv6(request.underlay_route, "underlay_route")
    api.engine.create_neighbor_nat(_engine.NeighborNat(nat_ip, request.vni, first, end, underlay))
    return pb.CreateNeighborNatResponse(status=SUCCESS)


@rpc
def delete_neighbor_nat(api: Api, request: pb.DeleteNeighborNatRequest) -> pb.DeleteNeighborNatResponse:
    nat_ip = convert.address(request.nat_ip, "nat_ip")
    first, end = _port_range(request)
    api.engine.delete_neighbor_nat(nat_ip, request.vni, first, end)
    return pb.DeleteNeighborNatResponse(status=SUCCESS)


@rpc
def list_neighbor_nats(api: Api, request: pb.ListNeighborNatsRequest) -> pb.ListNeighborNatsResponse:
    found = api.engine.list_neighbor_nats(convert.address(request.nat_ip, "nat_ip"))
    return pb.ListNeighborNatsResponse(status=SUCCESS, nat_entries=map(_neighbor_entry, found))
