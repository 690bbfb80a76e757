"""The packet engine's control calls: identity, reading back, one operation at a time. Thin: decisions are elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import IntEnum
from ipaddress import IPv6Address
from typing import Protocol, TypeVar

import grpc
import structlog
from google.protobuf.message import Message
from ironcore.dpdk.v1 import dpdk_pb2, dpdk_pb2_grpc

from apimachinery.transport import client_options
from metalnet_daemon.plan.types import (
    Actual,
    CreateInterface,
    CreatePrefix,
    CreateRoute,
    DeleteInterface,
    DeletePrefix,
    DeleteRoute,
    NextHop,
    Operation,
    PrefixKey,
    PrefixKind,
    RouteKey,
    YieldRoute,
)

from . import convert

_log = structlog.get_logger(__name__)

_CHANNEL_OPTIONS: list[tuple[str, int]] = [
    # An engine restarts in well under a second. Other implementations may refuse pings on idle connections.
    *client_options(reconnect_ms=200, idle_pings=False),
    ("grpc.max_receive_message_length", 256 << 20),
]
_LOST = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        # "not initialized": the engine was restarted.
        grpc.StatusCode.ABORTED,
    }
)


class Code(IntEnum):
    """Status codes of the engine that the host reacts to."""

    SUCCESS = 0
    NOT_FOUND = 201
    NO_VM = 205
    NO_VNI = 206
    ROUTE_EXISTS = 301
    ROUTE_NOT_FOUND = 302
    ROUTE_BAD_PORT = 304
    VNF_INSERT = 401


# Answers that mean: what the operation wants to be gone is gone.
_GONE: dict[type, frozenset[int]] = {
    DeleteInterface: frozenset({Code.NOT_FOUND}),
    # A missing route does not matter: the record is removed all the same.
    DeletePrefix: frozenset({Code.NOT_FOUND, Code.NO_VM, Code.NO_VNI, Code.ROUTE_NOT_FOUND}),
    DeleteRoute: frozenset({Code.NO_VNI, Code.ROUTE_NOT_FOUND, Code.ROUTE_BAD_PORT}),
    YieldRoute: frozenset({Code.NO_VNI, Code.ROUTE_NOT_FOUND, Code.ROUTE_BAD_PORT}),
}


class EngineLostError(Exception):
    """The engine cannot be reached, did not answer in time, or was restarted: nothing that was read still counts.

    uninitialized: it answered that it was started and not initialized since.
    """

    def __init__(self, message: str, *, uninitialized: bool = False) -> None:
        super().__init__(message)
        self.uninitialized = uninitialized


class EngineRefusedError(Exception):
    """The engine answered with a status code other than 0 (code) or refused the arguments (code 0)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Response(Protocol):
    @property
    def status(self) -> dpdk_pb2.Status: ...


class _Created(_Response, Protocol):
    @property
    def underlay_route(self) -> bytes: ...


R = TypeVar("R", bound=_Response)
C = TypeVar("C", bound=_Created)

_UnderlayRequest = (
    dpdk_pb2.CreateInterfaceRequest | dpdk_pb2.CreatePrefixRequest | dpdk_pb2.CreateLoadBalancerPrefixRequest
)


class EngineClient:
    """Client of one engine. target: "host:port" or "unix:/path"; timeout: seconds per call."""

    def __init__(self, target: str, *, timeout: float = 5.0) -> None:
        self.target = target
        self._timeout = timeout
        self._channel = grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        self._stub = dpdk_pb2_grpc.DPDKironcoreStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    async def identify(self) -> str:
        """UUID of the engine process; initializes an engine that has just been started. Raises EngineLostError."""
        try:
            return (await self._call(self._stub.CheckInitialized, dpdk_pb2.CheckInitializedRequest())).uuid
        except EngineLostError as error:
            if not error.uninitialized:
                raise
        # Initialize wipes all routes, so it is only for an engine that has none.
        uuid = (await self._call(self._stub.Initialize, dpdk_pb2.InitializeRequest())).uuid
        _log.info("engine initialized", engine=self.target, uuid=uuid)
        return uuid

    async def version(self, client_version: str) -> str:
        """Version text of the engine. Raises EngineLostError, EngineRefusedError."""
        request = dpdk_pb2.GetVersionRequest(
            client_protocol="dpdkironcore.v1", client_name="metalnet-daemon", client_version=client_version
        )
        return (await self._call(self._stub.GetVersion, request)).service_version

    async def read(self) -> Actual:
        """Everything the engine lists. Raises EngineLostError, EngineRefusedError, ValueError (senseless answer)."""
        listed = await self._call(self._stub.ListInterfaces, dpdk_pb2.ListInterfacesRequest())
        interfaces = {found.spec.id: found for found in map(convert.actual_interface, listed.interfaces)}
        prefixes: dict[PrefixKey, IPv6Address] = {}
        for uid in interfaces:
            alias = await self._call(self._stub.ListPrefixes, dpdk_pb2.ListPrefixesRequest(interface_id=uid.encode()))
            prefixes.update(convert.actual_prefix(PrefixKind.ALIAS, uid, prefix) for prefix in alias.prefixes)
            request = dpdk_pb2.ListLoadBalancerPrefixesRequest(interface_id=uid.encode())
            balanced = await self._call(self._stub.ListLoadBalancerPrefixes, request)
            prefixes.update(
                convert.actual_prefix(PrefixKind.LOAD_BALANCER, uid, prefix) for prefix in balanced.prefixes
            )
        routes: dict[RouteKey, NextHop] = {}
        for vni in {found.spec.vni for found in interfaces.values()}:
            table = await self._call(self._stub.ListRoutes, dpdk_pb2.ListRoutesRequest(vni=vni))
            routes.update(convert.actual_route(vni, route) for route in table.routes)
        return Actual(interfaces, prefixes, routes)

    async def apply(self, operation: Operation) -> IPv6Address | None:
        """Run one operation; return the underlay address of what was created, None if there is none.

        Something to be deleted that is gone already is a success. Raises EngineLostError, EngineRefusedError.
        """
        try:
            return await self._apply(operation)
        except EngineRefusedError as error:
            if error.code in _GONE.get(type(operation), ()):
                return None
            raise

    async def _apply(self, operation: Operation) -> IPv6Address | None:
        match operation:
            case CreateInterface():
                return await self._create(self._stub.CreateInterface, convert.create_interface_request(operation))
            case CreatePrefix():
                return await self._create_prefix(operation)
            case DeleteInterface(uid):
                await self._call(self._stub.DeleteInterface, dpdk_pb2.DeleteInterfaceRequest(interface_id=uid.encode()))
            case DeletePrefix():
                await self._delete_prefix(operation)
            case CreateRoute():
                await self._create_route(operation)
            case DeleteRoute(key) | YieldRoute(key):
                await self._delete_route(key)
        return None

    async def _create_prefix(self, operation: CreatePrefix) -> IPv6Address:
        key = operation.key
        interface_id, prefix = key.interface_id.encode(), convert.prefix_message(key.prefix)
        underlay = convert.underlay_bytes(operation.underlay)
        if key.kind is PrefixKind.ALIAS:
            alias = dpdk_pb2.CreatePrefixRequest(
                interface_id=interface_id, prefix=prefix, preferred_underlay_route=underlay
            )
            return await self._create(self._stub.CreatePrefix, alias)
        balanced = dpdk_pb2.CreateLoadBalancerPrefixRequest(
            interface_id=interface_id, prefix=prefix, preferred_underlay_route=underlay
        )
        return await self._create(self._stub.CreateLoadBalancerPrefix, balanced)

    async def _create(self, method: Callable[..., Awaitable[C]], request: _UnderlayRequest) -> IPv6Address:
        """Run a create call; if the wished address is taken or outside the engine's prefix, let the engine choose."""
        try:
            return convert.underlay_address((await self._call(method, request)).underlay_route)
        except EngineRefusedError as error:
            refused = error.code == Code.VNF_INSERT or "preferred_underlay_route" in str(error)
            if not request.preferred_underlay_route or not refused:
                raise
            _log.warning(
                "engine refused the preferred underlay address, it chooses one itself",
                underlay=request.preferred_underlay_route.decode(),
                error=str(error),
            )
        request.preferred_underlay_route = b""
        return convert.underlay_address((await self._call(method, request)).underlay_route)

    async def _delete_prefix(self, operation: DeletePrefix) -> None:
        key = operation.key
        prefix = convert.prefix_message(key.prefix)
        if key.kind is PrefixKind.ALIAS:
            alias = dpdk_pb2.DeletePrefixRequest(interface_id=key.interface_id.encode(), prefix=prefix)
            await self._call(self._stub.DeletePrefix, alias)
        else:
            balanced = dpdk_pb2.DeleteLoadBalancerPrefixRequest(interface_id=key.interface_id.encode(), prefix=prefix)
            await self._call(self._stub.DeleteLoadBalancerPrefix, balanced)

    async def _create_route(self, operation: CreateRoute) -> None:
        request = dpdk_pb2.CreateRouteRequest(
            vni=operation.key.vni, route=convert.route_message(operation.key, operation.hop)
        )
        try:
            await self._call(self._stub.CreateRoute, request)
        except EngineRefusedError as error:
            if error.code != Code.ROUTE_EXISTS:
                raise
            # A route that was not listed, so its next hop is unknown. It is replaced; if an interface of this host
            # owns the prefix, the deletion is refused and the interface keeps it.
            await self._delete_route(operation.key)
            await self._call(self._stub.CreateRoute, request)

    async def _delete_route(self, key: RouteKey) -> None:
        request = dpdk_pb2.DeleteRouteRequest(vni=key.vni, route=convert.route_message(key, None))
        await self._call(self._stub.DeleteRoute, request)

    async def _call(self, method: Callable[..., Awaitable[R]], request: Message) -> R:
        try:
            answer = await method(request, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() in _LOST:
                uninitialized = error.code() is grpc.StatusCode.ABORTED
                raise EngineLostError(f"{error.code().name}: {error.details()}", uninitialized=uninitialized) from error
            raise EngineRefusedError(0, f"{error.code().name}: {error.details()}") from error
        if answer.status.code != Code.SUCCESS:
            raise EngineRefusedError(answer.status.code, f"{answer.status.message} ({answer.status.code})")
        return answer
