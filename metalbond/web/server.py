"""HTTP: the page, its live events, documents, metrics, health. Everything is read-only and bounded."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from importlib import resources
from importlib.metadata import version
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from metalbond.inspect import Inspectable
from metalbond.inspection.feed import Feed, LaggingError, TooManyWatchersError
from metalbond.inspection.service import healthy
from metalbond.types import MAX_VNI
from metalbond.web import export, view

MAX_EVENT_STREAMS = 32
MAX_EXPORTS = 4
PERIOD = 1.0
"""Seconds between events."""
WRITE_TIMEOUT = 10.0
"""Seconds for which a client may take nothing."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_STATIC = {
    "index.html": "text/html",
    "app.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer:
    """`page`: everything; without it only metrics and health."""

    def __init__(self, instance: Inspectable, feed: Feed, registry: CollectorRegistry, *, page: bool) -> None:
        self._instance = instance
        self._feed = feed
        self._registry = registry
        self._version = version("ironcore-network")
        self._rates = view.Rates(instance)
        self._streams = 0
        self._exports = asyncio.Semaphore(MAX_EXPORTS)
        self._summary: tuple[float, bytes] = (-PERIOD, b"")
        self._shown: dict[tuple[int | None, str], tuple[float, bytes]] = {}
        self._names: frozenset[str] | None = None
        self._app = web.Application(middlewares=[self._guard])
        self._app.add_routes([web.get("/metrics", self._metrics), web.get("/healthz", self._healthz)])
        if page:
            self._add_page()
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=0.5)
        self._closing = asyncio.Event()

    def _add_page(self) -> None:
        documents: dict[str, tuple[str, Callable[[], AsyncIterator[str]]]] = {
            "/routes.json": ("application/json", lambda: export.routes_json(*self._document())),
            "/routes.yaml": ("text/yaml", lambda: export.routes_yaml(*self._document())),
            "/peers.json": ("application/json", lambda: export.peers_json(self._instance)),
            "/subscriptions.json": ("application/json", lambda: export.subscriptions_json(self._instance)),
        }
        for path, (kind, parts) in documents.items():
            self._app.router.add_get(path, self._exporting(kind, parts))
        self._app.router.add_get("/events", self._events)
        files = resources.files("metalbond.web") / "static"
        for name, kind in _STATIC.items():
            handler = _static((files / name).read_bytes(), kind)
            # The original program answers every other path with the page.
            self._app.router.add_get("/{_:.*}" if name == "index.html" else f"/{name}", handler)

    async def start(self, host: str, port: int, *, any_name: bool = False) -> int:
        """Listen; the port. `any_name`: answer to any Host, and not only to addresses and localhost. Raises OSError."""
        self._names = None if any_name else frozenset({"localhost", host})
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, reuse_address=True)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        self._closing.set()
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        # A page of the internet whose name suddenly means 127.0.0.1 must not read this one.
        name = request.url.host or ""
        if self._names is not None and name not in self._names and not _is_address(name):
            return web.Response(status=421, text="ask by address\n", headers=_HEADERS)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=f"{error.reason}\n", headers=_HEADERS)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, request: web.Request) -> web.Response:
        well = healthy(self._instance)
        return web.Response(status=200 if well else 503, text="ok\n" if well else "no server has a session\n")

    def _document(self) -> tuple[Inspectable, str, datetime]:
        return self._instance, self._version, datetime.now()

    def _exporting(self, kind: str, parts: Callable[[], AsyncIterator[str]]) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            async with self._exports:
                response = _stream(kind)
                await response.prepare(request)
                async for piece in export.pieces(parts()):
                    if not await self._write(request, response, piece):
                        break
                return response

        return handler

    async def _events(self, request: web.Request) -> web.StreamResponse:
        vni = _vni(request.query.get("vni", ""))
        query = request.query.get("q", "")[:100]
        if self._streams >= MAX_EVENT_STREAMS:
            raise web.HTTPServiceUnavailable(reason=f"{MAX_EVENT_STREAMS} pages are open")
        self._streams += 1
        try:
            with self._feed.watch(frozenset() if vni is None else frozenset({vni})) as watch:
                response = _stream("text/event-stream")
                await response.prepare(request)
                changed = True
                while not self._closing.is_set():
                    event = b"event: summary\ndata: " + self._current_summary() + b"\n\n"
                    if changed:
                        event += b"event: routes\ndata: " + await self._routes(vni, query) + b"\n\n"
                    if not await self._write(request, response, event):
                        break
                    await self._pause()
                    try:
                        changed = bool(watch.take())
                    except LaggingError:
                        break  # the browser connects again
                return response
        except TooManyWatchersError:
            raise web.HTTPServiceUnavailable(reason="too many watchers") from None
        finally:
            self._streams -= 1

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(PERIOD):
                await self._closing.wait()
        except TimeoutError:
            pass

    def _current_summary(self) -> bytes:
        """Made once per period, for all pages."""
        now = asyncio.get_running_loop().time()
        if now - self._summary[0] >= PERIOD / 2:
            self._summary = now, _json(view.summary(self._instance, self._rates.next(), self._version))
        return self._summary[1]

    async def _routes(self, vni: int | None, query: str) -> bytes:
        """Made once per period, for all pages that ask the same."""
        now = asyncio.get_running_loop().time()
        self._shown = {key: shown for key, shown in self._shown.items() if now - shown[0] < PERIOD / 2}
        if known := self._shown.get((vni, query)):
            return known[1]
        try:
            data = _json(await view.routes(self._instance, vni, query))
        except ValueError as error:
            data = _json({"vni": vni, "query": query, "rows": [], "complete": True, "error": str(error)})
        self._shown[vni, query] = now, data
        return data

    async def _write(self, request: web.Request, response: web.StreamResponse, data: bytes) -> bool:
        """False: the client is gone, or was cut off because it takes nothing."""
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                await response.write(data)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            return False
        except ConnectionError:
            return False
        return True


def _stream(kind: str) -> web.StreamResponse:
    return web.StreamResponse(headers={**_HEADERS, "Content-Type": f"{kind}; charset=utf-8"})


def _static(body: bytes, kind: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return handler


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _vni(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > MAX_VNI:
        raise web.HTTPBadRequest(reason=f"vni: must be 0 to {MAX_VNI}")
    return int(text)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
