"""Packet capture: copies of what chosen devices receive, sent to a sink over UDP."""

from __future__ import annotations

from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import _engine, convert
from dpservice.calls.registry import SUCCESS, Api, rpc

_MAX_INTERFACES = 16
_MAX_PF_INDEX = 0xFF


def _interface(wanted: pb.CapturedInterface) -> _engine.CaptureInterface:
    match wanted.interface_type:
        case pb.SINGLE_PF:
            if wanted.pf_index > _MAX_PF_INDEX:
                raise convert.invalid("pf_index")
            return _engine.CaptureInterface(is_uplink=True, pf_index=wanted.pf_index)
        case pb.SINGLE_VF:
            return _engine.CaptureInterface(interface_id=convert.interface_id(wanted.vf_name))
        case _:
            raise convert.invalid("interfaces.interface_type")


def _message(captured: _engine.CaptureInterface) -> pb.CapturedInterface:
    if captured.is_uplink:
        return pb.CapturedInterface(interface_type=pb.SINGLE_PF, pf_index=captured.pf_index)
    return pb.CapturedInterface(interface_type=pb.SINGLE_VF, vf_name=captured.interface_id.encode())


@rpc
def capture_start(api: Api, request: pb.CaptureStartRequest) -> pb.CaptureStartResponse:
    config = request.capture_config
    source_port = convert.port(config.udp_src_port, "udp_src_port")
    sink_port = convert.port(config.udp_dst_port, "udp_dst_port")
    # The family that the message names does not matter.
    sink = convert.ipv6(config.sink_node_ip.address, "sink_node_ip")
    if len(config.interfaces) > _MAX_INTERFACES:
        raise convert.InvalidArgument("Too many interfaces to be captured")
    interfaces = [_interface(wanted) for wanted in config.interfaces]
    api.engine.capture_start(_engine.CaptureConfig(sink, source_port, sink_port, interfaces))
    return pb.CaptureStartResponse(status=SUCCESS)


@rpc
def capture_stop(api: Api, request: pb.CaptureStopRequest) -> pb.CaptureStopResponse:
    return pb.CaptureStopResponse(status=SUCCESS, stopped_interface_cnt=api.engine.capture_stop())


@rpc
def capture_status(api: Api, request: pb.CaptureStatusRequest) -> pb.CaptureStatusResponse:
    capture = api.engine.capture_status()
    if not capture.active:
        return pb.CaptureStatusResponse(status=SUCCESS, is_active=False)
    config = pb.CaptureConfig(
        sink_node_ip=convert.address_message(capture.config.sink),
        udp_src_port=capture.config.udp_src_port,
        udp_dst_port=capture.config.udp_dst_port,
        interfaces=map(_message, capture.config.interfaces),
    )
    return pb.CaptureStatusResponse(status=SUCCESS, is_active=True, capture_config=config)
