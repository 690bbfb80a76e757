"""Packet capture. The engine captures nothing: well-formed calls answer as where the reference runs without offload."""

from __future__ import annotations

from typing import NoReturn

from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import convert
from dpservice.calls.registry import SUCCESS, Api, Refusal, rpc

_MAX_INTERFACES = 16
_MAX_PF_INDEX = 0xFF


def _not_active() -> NoReturn:
    raise Refusal(211, "NOT_ACTIVE")


def _check_interface(wanted: pb.CapturedInterface) -> None:
    match wanted.interface_type:
        case pb.SINGLE_PF:
            if wanted.pf_index > _MAX_PF_INDEX:
                raise convert.invalid("pf_index")
        case pb.SINGLE_VF:
            convert.interface_id(wanted.vf_name)
        case _:
            raise convert.invalid("interfaces.interface_type")


@rpc
def capture_start(api: Api, request: pb.CaptureStartRequest) -> pb.CaptureStartResponse:
    config = request.capture_config
    convert.port(config.udp_src_port, "udp_src_port")
    convert.port(config.udp_dst_port, "udp_dst_port")
    # The family that the message names does not matter.
    convert.ipv6(config.sink_node_ip.address, "sink_node_ip")
    if len(config.interfaces) > _MAX_INTERFACES:
        raise convert.InvalidArgument("Too many interfaces to be captured")
    for wanted in config.interfaces:
        _check_interface(wanted)
    _not_active()


@rpc
def capture_stop(api: Api, request: pb.CaptureStopRequest) -> pb.CaptureStopResponse:
    _not_active()


@rpc
def capture_status(api: Api, request: pb.CaptureStatusRequest) -> pb.CaptureStatusResponse:
    return pb.CaptureStatusResponse(status=SUCCESS, is_active=False)
