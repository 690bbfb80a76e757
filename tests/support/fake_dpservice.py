"""The fake engine behind the real control contract: a gRPC server on a unix socket that records every call."""

# ruff: noqa: N802 - method names are the contract's

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from ironcore.dpdk.v1 import dpdk_pb2, dpdk_pb2_grpc

from metalnet_daemon.plan.types import NextHop, Prefix, PrefixKind
from tests.support.fake_engine import HOST, NAMES, BadArgumentError, EngineError, FakeEngine, FakeInterface

READING = ("CheckInitialized", "GetVersion", "ListInterfaces", "ListPrefixes", "ListLoadBalancerPrefixes", "ListRoutes")


class FakeDpservice:
    """Server at `target`. `calls` has (method, request) of all engine processes, in order.

    host: prefix of its underlay addresses. list_ipv6: whether ListRoutes tells IPv6 routes. refuse: method name ->
    status code to answer instead of acting.
    """

    def __init__(
        self, socket: Path, devices: frozenset[str], *, list_ipv6: bool = True, host: IPv6Network = HOST
    ) -> None:
        self.target = f"unix:{socket}"
        self.devices = devices
        self.list_ipv6 = list_ipv6
        self.host = host
        self.engine = FakeEngine(devices, host)
        self.calls: list[tuple[str, Message]] = []
        self.refuse: dict[str, int] = {}
        self.changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> FakeDpservice:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = grpc.aio.server()
        dpdk_pb2_grpc.add_DPDKironcoreServicer_to_server(_Servicer(self), self._server)
        self._server.add_insecure_port(self.target)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def crash_and_restart(self) -> None:
        """The process dies with all its state; a new one starts, not initialized."""
        await self.stop()
        self.engine = FakeEngine(self.devices, self.host)
        await self.start()

    def called(self, *methods: str) -> list[Message]:
        """Requests of these methods so far."""
        return [request for method, request in self.calls if method in methods]

    def changes(self) -> list[str]:
        """Methods of all calls that change something."""
        return [method for method, _ in self.calls if method not in READING]

    async def wait_until(self, condition: Callable[[FakeEngine], bool], seconds: float = 10.0) -> None:
        """Return once the condition holds; it is looked at after every call. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(lambda: condition(self.engine))


class _Servicer(dpdk_pb2_grpc.DPDKironcoreServicer):
    def __init__(self, fake: FakeDpservice) -> None:
        self._fake = fake

    def __getattribute__(self, name: str) -> Any:
        # Methods of the contract are the only attributes that begin with a capital letter.
        found = object.__getattribute__(self, name)
        return self._recorded(name, found) if name[0].isupper() and name in _IMPLEMENTED else found

    def _recorded(
        self, name: str, handler: Callable[[Any], Message]
    ) -> Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Message]]:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
            fake = self._fake
            fake.calls.append((name, request))
            if not fake.engine.initialized and name != "Initialize":
                await _abort(context, grpc.StatusCode.ABORTED, "not initialized")
            try:
                if name in fake.refuse:
                    raise EngineError(fake.refuse[name])
                answer = handler(request)
                answer.status.message = "Success"  # type: ignore[attr-defined]
            except BadArgumentError as error:
                await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except EngineError as error:
                answer = getattr(dpdk_pb2, f"{name}Response")()
                answer.status.code, answer.status.message = error.code, NAMES[error.code]
            async with fake.changed:
                fake.changed.notify_all()
            return answer

        return call

    def CheckInitialized(self, request: dpdk_pb2.CheckInitializedRequest) -> Message:  # type: ignore[override]
        return dpdk_pb2.CheckInitializedResponse(uuid=self._fake.engine.uuid)

    def Initialize(self, request: dpdk_pb2.InitializeRequest) -> Message:  # type: ignore[override]
        return dpdk_pb2.InitializeResponse(uuid=self._fake.engine.initialize())

    def GetVersion(self, request: dpdk_pb2.GetVersionRequest) -> Message:  # type: ignore[override]
        return dpdk_pb2.GetVersionResponse(service_protocol="fake", service_version="fake")

    def ListInterfaces(self, request: dpdk_pb2.ListInterfacesRequest) -> Message:  # type: ignore[override]
        found = [
            dpdk_pb2.Interface(
                id=interface.id.encode(),
                vni=interface.vni,
                primary_ipv4=str(interface.ipv4).encode(),
                primary_ipv6=str(interface.ipv6).encode(),
                underlay_route=str(interface.underlay).encode(),
                pci_name=interface.device,
                hostname=interface.hostname,
            )
            for interface in self._fake.engine.interfaces.values()
        ]
        return dpdk_pb2.ListInterfacesResponse(interfaces=found)

    def CreateInterface(self, request: dpdk_pb2.CreateInterfaceRequest) -> Message:  # type: ignore[override]
        wanted = FakeInterface(
            request.interface_id.decode(),
            request.vni,
            request.device_name,
            IPv4Address(request.ipv4_config.primary_address.decode()),
            IPv6Address(request.ipv6_config.primary_address.decode()),
            request.hostname,
            IPv6Address(0),
        )
        underlay = self._fake.engine.create_interface(wanted, _preferred(request.preferred_underlay_route))
        return dpdk_pb2.CreateInterfaceResponse(underlay_route=str(underlay).encode())

    def DeleteInterface(self, request: dpdk_pb2.DeleteInterfaceRequest) -> Message:  # type: ignore[override]
        self._fake.engine.delete_interface(request.interface_id.decode())
        return dpdk_pb2.DeleteInterfaceResponse()

    def ListPrefixes(self, request: dpdk_pb2.ListPrefixesRequest) -> Message:  # type: ignore[override]
        return dpdk_pb2.ListPrefixesResponse(prefixes=self._prefixes(PrefixKind.ALIAS, request.interface_id))

    def ListLoadBalancerPrefixes(  # type: ignore[override]
        self, request: dpdk_pb2.ListLoadBalancerPrefixesRequest
    ) -> Message:
        found = self._prefixes(PrefixKind.LOAD_BALANCER, request.interface_id)
        return dpdk_pb2.ListLoadBalancerPrefixesResponse(prefixes=found)

    def CreatePrefix(self, request: dpdk_pb2.CreatePrefixRequest) -> Message:  # type: ignore[override]
        return dpdk_pb2.CreatePrefixResponse(underlay_route=self._create_prefix(PrefixKind.ALIAS, request))

    def CreateLoadBalancerPrefix(  # type: ignore[override]
        self, request: dpdk_pb2.CreateLoadBalancerPrefixRequest
    ) -> Message:
        underlay = self._create_prefix(PrefixKind.LOAD_BALANCER, request)
        return dpdk_pb2.CreateLoadBalancerPrefixResponse(underlay_route=underlay)

    def DeletePrefix(self, request: dpdk_pb2.DeletePrefixRequest) -> Message:  # type: ignore[override]
        self._fake.engine.delete_prefix(PrefixKind.ALIAS, request.interface_id.decode(), _raw(request.prefix))
        return dpdk_pb2.DeletePrefixResponse()

    def DeleteLoadBalancerPrefix(  # type: ignore[override]
        self, request: dpdk_pb2.DeleteLoadBalancerPrefixRequest
    ) -> Message:
        uid = request.interface_id.decode()
        self._fake.engine.delete_prefix(PrefixKind.LOAD_BALANCER, uid, _raw(request.prefix))
        return dpdk_pb2.DeleteLoadBalancerPrefixResponse()

    def ListRoutes(self, request: dpdk_pb2.ListRoutesRequest) -> Message:  # type: ignore[override]
        routes = [
            dpdk_pb2.Route(
                prefix=_prefix(prefix),
                nexthop_vni=hop.vni,
                nexthop_address=dpdk_pb2.IpAddress(ipver=dpdk_pb2.IPV6, address=str(hop.address).encode()),
            )
            for prefix, hop in self._fake.engine.list_routes(request.vni)
            if prefix.version == 4 or self._fake.list_ipv6
        ]
        return dpdk_pb2.ListRoutesResponse(routes=routes)

    def CreateRoute(self, request: dpdk_pb2.CreateRouteRequest) -> Message:  # type: ignore[override]
        route = request.route
        hop = NextHop(route.nexthop_vni, IPv6Address(route.nexthop_address.address.decode()))
        self._fake.engine.create_route(request.vni, _raw(route.prefix).masked, hop)
        return dpdk_pb2.CreateRouteResponse()

    def DeleteRoute(self, request: dpdk_pb2.DeleteRouteRequest) -> Message:  # type: ignore[override]
        self._fake.engine.delete_route(request.vni, _raw(request.route.prefix).masked)
        return dpdk_pb2.DeleteRouteResponse()

    def _prefixes(self, kind: PrefixKind, uid: bytes) -> list[dpdk_pb2.Prefix]:
        found = []
        for prefix, underlay in self._fake.engine.list_prefixes(kind, uid.decode()):
            message = _prefix(prefix)
            message.underlay_route = str(underlay).encode()
            found.append(message)
        return found

    def _create_prefix(
        self, kind: PrefixKind, request: dpdk_pb2.CreatePrefixRequest | dpdk_pb2.CreateLoadBalancerPrefixRequest
    ) -> bytes:
        preferred = _preferred(request.preferred_underlay_route)
        underlay = self._fake.engine.create_prefix(kind, request.interface_id.decode(), _raw(request.prefix), preferred)
        return str(underlay).encode()


_IMPLEMENTED = frozenset(name for name in vars(_Servicer) if name[0].isupper())


async def _abort(context: grpc.aio.ServicerContext[Any, Any], code: grpc.StatusCode, text: str) -> NoReturn:
    await context.abort(code, text)
    raise AssertionError("abort raises")


def _preferred(text: bytes) -> IPv6Address | None:
    return IPv6Address(text.decode()) if text else None


def _raw(message: dpdk_pb2.Prefix) -> Prefix:
    return Prefix.parse(f"{message.ip.address.decode()}/{message.length}")


def _prefix(prefix: Prefix) -> dpdk_pb2.Prefix:
    address, _, length = str(prefix).partition("/")
    version = dpdk_pb2.IPV4 if prefix.version == 4 else dpdk_pb2.IPV6
    return dpdk_pb2.Prefix(ip=dpdk_pb2.IpAddress(ipver=version, address=address.encode()), length=int(length))
