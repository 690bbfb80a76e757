"""Process state and version."""

from __future__ import annotations

from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import convert
from dpservice.calls.registry import SUCCESS, Api, rpc


@rpc
def check_initialized(api: Api, request: pb.CheckInitializedRequest) -> pb.CheckInitializedResponse:
    return pb.CheckInitializedResponse(status=SUCCESS, uuid=api.engine.check_initialized() or "")


@rpc
def initialize(api: Api, request: pb.InitializeRequest) -> pb.InitializeResponse:
    return pb.InitializeResponse(status=SUCCESS, uuid=api.engine.initialize())


@rpc
def get_version(api: Api, request: pb.GetVersionRequest) -> pb.GetVersionResponse:
    for field in ("client_protocol", "client_name", "client_version"):
        convert.text(getattr(request, field).encode(), field)
    version = api.engine.version()
    return pb.GetVersionResponse(status=SUCCESS, service_protocol=version, service_version=version)
