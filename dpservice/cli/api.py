"""Calls to the service, and the three sources of errors: the client itself, gRPC, the server's status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from ironcore.dpdk.v1 import dpdk_pb2 as pb
from ironcore.dpdk.v1 import dpdk_pb2_grpc

CLIENT_CODE = 1000
EXIT_FAILURE = 1
EXIT_SERVER = 2


@dataclass
class CliError(Exception):
    """What ends the program: `full` is the text for people, `message` the short one for scripts."""

    source: str
    code: int
    message: str
    full: str
    exit_status: int = EXIT_FAILURE

    def __str__(self) -> str:
        return f"{self.source} error: {self.full}"


def client_error(text: str) -> CliError:
    """An error found before anything was sent."""
    return CliError("client", CLIENT_CODE, text, text)


def server_error(status: pb.Status) -> CliError:
    """A status other than 0 in a response."""
    full = f"[error code {status.code}] {status.message}" if status.message else f"error code {status.code}"
    return CliError("server", status.code, status.message, full, EXIT_SERVER)


def grpc_error(error: grpc.RpcError) -> CliError:
    """A call that ended with a gRPC status."""
    code, details = error.code(), error.details() or ""
    name = "".join(part.title() for part in code.name.split("_"))
    unknown = code == grpc.StatusCode.UNIMPLEMENTED
    full = f"rpc error: code = {name} desc = {details}"
    if unknown:
        full += " (client and service speak different versions of the protocol)"
    return CliError("grpc", code.value[0], details, full, EXIT_SERVER if unknown else EXIT_FAILURE)


class Client:
    """A connection to one service."""

    def __init__(
        self, address: str, connect_seconds: float, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        channel = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
        self._channel = channel
        try:
            grpc.channel_ready_future(channel).result(timeout=connect_seconds)
        except grpc.FutureTimeoutError:
            channel.close()
            raise client_error(f"cannot connect to {address} within {connect_seconds:g} s") from None
        self._stub = dpdk_pb2_grpc.DPDKironcoreStub(channel)

    @property
    def channel(self) -> grpc.Channel:
        """The connection, for stubs of other services."""
        return self._channel

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def call(self, method: str, request: Message, *, ignore: frozenset[int] = frozenset()) -> Any:
        """Response of the method's own type. Raises CliError for statuses other than 0 and those in `ignore`."""
        try:
            response = getattr(self._stub, method)(request)
        except grpc.RpcError as error:
            raise grpc_error(error) from None
        if response.status.code not in ignore | {0}:
            raise server_error(response.status)
        return response
