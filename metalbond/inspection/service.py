"""The gRPC service of proto/ironcore/metalbond/v1/inspection.proto, with health and reflection."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from importlib.metadata import version
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from ironcore.metalbond.v1 import inspection_pb2 as pb
from ironcore.metalbond.v1 import inspection_pb2_grpc as rpc

from metalbond.inspect import Inspectable, Row
from metalbond.inspection import convert
from metalbond.inspection.feed import MAX_WATCHERS, Feed, LaggingError, TooManyWatchersError
from metalbond.inspection.listing import ExpiredError, Filter, Listings
from metalbond.inspection.lookup import slowly
from metalbond.types import Route

SERVICE: str = pb.DESCRIPTOR.services_by_name["InspectionService"].full_name
BATCH = 256
"""Changes in one message of a watch."""
PEERS_PAGE, MAX_PEERS_PAGE = 100, 1000
ROUTES_PAGE, MAX_ROUTES_PAGE = 1000, 10_000
MAX_CALLS = 256
HEALTH_PERIOD = 0.5

Context = grpc.aio.ServicerContext[Any, Any]


def healthy(instance: Inspectable) -> bool:
    """A server that runs, a client with a session."""
    return instance.role == "server" or any(peer.state == "ESTABLISHED" for peer in instance.peers())


def subscribers(instance: Inspectable) -> Counter[int]:
    """Number of peers by VNI that they subscribe to."""
    return Counter(vni for peer in instance.peers() for vni in peer.subscriptions)


class InspectionService(rpc.InspectionServiceServicer):
    def __init__(self, instance: Inspectable, feed: Feed) -> None:
        self._instance = instance
        self._feed = feed
        self._listings = Listings(instance)

    async def GetInfo(self, request: pb.GetInfoRequest, context: Context) -> pb.GetInfoResponse:  # noqa: N802
        stats = self._instance.stats
        return pb.GetInfoResponse(
            role=self._instance.role,
            version=version("ironcore-network"),
            routes=self._instance.route_count(),
            updates_received=stats.updates_received,
            updates_sent=stats.updates_sent,
            updates_refused=dict(stats.updates_refused),
        )

    async def ListPeers(self, request: pb.ListPeersRequest, context: Context) -> pb.ListPeersResponse:  # noqa: N802
        size = await self._size(request.page_size, PEERS_PAGE, MAX_PEERS_PAGE, context)
        # The token is the name of the last peer: names ascend, and peers come and go between pages.
        views = sorted((v for v in self._instance.peers() if v.name > request.page_token), key=lambda v: v.name)
        token = views[size - 1].name if len(views) > size else ""
        return pb.ListPeersResponse(peers=map(convert.peer, views[:size]), next_page_token=token)

    async def ListVnis(self, request: pb.ListVnisRequest, context: Context) -> pb.ListVnisResponse:  # noqa: N802
        sizes, subscribed = self._instance.vnis(), subscribers(self._instance)
        return pb.ListVnisResponse(
            vnis=[
                pb.Vni(vni=vni, destinations=sizes.get(vni, 0), subscribers=subscribed[vni])
                for vni in sorted(sizes.keys() | subscribed.keys())
            ]
        )

    async def ListRoutes(self, request: pb.ListRoutesRequest, context: Context) -> pb.ListRoutesResponse:  # noqa: N802
        size = await self._size(request.page_size, ROUTES_PAGE, MAX_ROUTES_PAGE, context)
        wanted = request.filter
        try:
            filter_ = Filter.parse(tuple(wanted.vnis), wanted.address, wanted.next_hop)
            found, token = await self._listings.page(filter_, size, request.page_token)
        except ValueError as error:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except ExpiredError:
            await _abort(context, grpc.StatusCode.ABORTED, "page_token: forgotten, begin again")
        return pb.ListRoutesResponse(routes=[convert.route(*row) async for row in slowly(found)], next_page_token=token)

    async def WatchRoutes(  # noqa: N802
        self, request: pb.WatchRoutesRequest, context: Context
    ) -> AsyncIterator[pb.WatchRoutesResponse]:
        vnis = frozenset(request.vnis)
        try:
            with self._feed.watch(vnis) as watch:
                async for rows in self._snapshot(vnis):
                    yield _present(rows)
                for message in self._changes(watch.take()):
                    yield message
                yield pb.WatchRoutesResponse(synced=True)
                while True:
                    for message in self._changes(await watch.next()):
                        yield message
        except TooManyWatchersError:
            await _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_WATCHERS} watchers are too many")
        except LaggingError:
            await _abort(context, grpc.StatusCode.ABORTED, "too slow for the changes, begin again")

    async def _snapshot(self, vnis: frozenset[int]) -> AsyncIterator[list[Row]]:
        for vni in sorted(vnis or self._instance.vnis()):
            for part in self._instance.scan(vni):
                if part:
                    yield part
                await asyncio.sleep(0)

    def _changes(self, routes: set[Route]) -> Iterable[pb.WatchRoutesResponse]:
        """How the routes are at the time of each message."""
        waiting = list(routes)
        for start in range(0, len(waiting), BATCH):
            changes = []
            for route in waiting[start : start + BATCH]:
                sources = self._instance.hops(route.vni, route.destination).get(route.hop, ())
                changes.append(pb.RouteChange(route=convert.route(route, sources), removed=not sources))
            yield pb.WatchRoutesResponse(changes=changes)

    async def _size(self, asked: int, default: int, largest: int, context: Context) -> int:
        if asked > largest:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"page_size: {asked}, must be 0 to {largest}")
        return asked or default


class InspectionServer:
    """Listens from `start` to `stop`."""

    def __init__(self, instance: Inspectable, feed: Feed) -> None:
        self._instance = instance
        self._server = grpc.aio.server(maximum_concurrent_rpcs=MAX_CALLS)
        self._health = health.aio.HealthServicer()
        rpc.add_InspectionServiceServicer_to_server(InspectionService(instance, feed), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self._task: asyncio.Task[None] | None = None

    async def start(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen at "host:port", in plain text without credentials; the port. Raises RuntimeError if it cannot."""
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        await self._server.start()
        self._task = asyncio.create_task(self._report_health())
        return port

    async def stop(self) -> None:
        """Calls under way end at once."""
        if self._task is not None:
            self._task.cancel()
        await self._server.stop(None)

    async def _report_health(self) -> None:
        status = health_pb2.HealthCheckResponse
        await self._health.set(SERVICE, status.SERVING)
        while True:
            await self._health.set("", status.SERVING if healthy(self._instance) else status.NOT_SERVING)
            await asyncio.sleep(HEALTH_PERIOD)


def _present(rows: list[Row]) -> pb.WatchRoutesResponse:
    return pb.WatchRoutesResponse(changes=[pb.RouteChange(route=convert.route(*row)) for row in rows])


async def _abort(context: Context, code: grpc.StatusCode, text: str) -> NoReturn:
    await context.abort(code, text)
    raise AssertionError
