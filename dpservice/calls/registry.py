"""Which function answers which RPC, and how its refusals look on the wire.

A function raises InvalidArgument for a malformed argument, Refusal or the engine's StatusError for what cannot be done.
Functions block: they run in a thread of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message
from google.protobuf.text_format import MessageToString
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import _engine, convert
from dpservice.calls.full import full_table

_LOGGER = "grpc"
_READING = ("Get", "List", "Check")
_log = structlog.get_logger(_LOGGER)

SUCCESS = pb.Status(code=0, message="Success")
SERVICE = pb.DESCRIPTOR.services_by_name["DPDKironcore"]


@dataclass(frozen=True, slots=True)
class Api:
    """The engine and what the options say about how the RPCs treat it."""

    engine: _engine.Engine
    multipath: bool = True
    """DeleteRoute with a next hop removes that one only; else the next hop is ignored."""
    drop_rules: bool = True
    """Firewall rules may drop; else creating one is refused."""
    ipv6_public: bool = True
    """VIP and NAT addresses may be IPv6; else the engine refuses all of that family alike."""


# Request and response types differ per call; the pairs are checked by the method descriptors when calls are registered.
Call = Callable[[Api, Any], Message]


class RpcError(Exception):
    """The call ends with a gRPC status instead of a response."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Refusal(Exception):  # noqa: N818 - as the engine's StatusError, a status of the response
    """The call is refused with a status that the engine does not know of."""

    def __init__(self, code: int, name: str) -> None:
        super().__init__(name)
        self.code = code
        self.name = name


CALLS: dict[str, Call] = {}
"""RPC name to function."""


def rpc(call: Call) -> Call:
    """Registers a function under the RPC's name: `create_vip` answers CreateVip."""
    name = "".join(part.title() for part in call.__name__.split("_"))
    CALLS[SERVICE.methods_by_name[name].name] = call
    return call


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and the table that had no room for the request, if that is why it was refused."""

    response: Message
    full_table: str = ""


def answer(api: Api, method: str, request: Message) -> Answer:
    """What to answer to one request. Raises RpcError."""
    if method != "Initialize" and api.engine.check_initialized() is None:
        raise RpcError(grpc.StatusCode.ABORTED, "not initialized")
    # Orchestrators read back all the time; what changes something is worth a line.
    level = logging.DEBUG if method.startswith(_READING) else logging.INFO
    if logging.getLogger(_LOGGER).isEnabledFor(level):
        _log.log(level, "request", method=method, arguments=MessageToString(request, as_one_line=True))
    try:
        return Answer(CALLS[method](api, request))
    except convert.InvalidArgument as error:
        _log.warning("request refused", method=method, error=str(error))
        raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
    except (_engine.StatusError, Refusal) as error:
        full = full_table(api.engine, method, request, error.name)
        named = {"full_table": full} if full else {}
        _log.warning("request failed", method=method, grpc_error=error.code, grpc_message=error.name, **named)
        response_class = getattr(pb, SERVICE.methods_by_name[method].output_type.name)
        response: Message = response_class(status=pb.Status(code=error.code, message=error.name))
        return Answer(response, full)
