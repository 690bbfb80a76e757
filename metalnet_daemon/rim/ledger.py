"""IPv6 routes of an engine that lists only IPv4 ones.

The reference engine does not list IPv6 routes, so after a restart of the daemon they could neither be compared nor
removed. The ledger remembers them on disk. It never claims a route that is not there: a route is struck out before it
is deleted and entered after it was created. It counts only for the engine process that it was written for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path

import structlog

from metalnet_daemon.files import write_atomically
from metalnet_daemon.plan.types import (
    Actual,
    DeleteInterface,
    DeleteRoute,
    NextHop,
    Operation,
    Prefix,
    RouteKey,
    YieldRoute,
)

_log = structlog.get_logger(__name__)

Routes = dict[RouteKey, NextHop]


class RouteLedger:
    """The ledger of one engine. Raises OSError where the disk fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = ""
        self._routes: Routes = {}
        self._engine_lists = False
        self._load()

    def complete(self, engine: str, actual: Actual) -> Actual:
        """Add what the engine did not list. engine: UUID of the engine process that `actual` was read from."""
        if any(key.prefix.version == 6 for key in actual.routes):
            self._engine_lists = True
        if engine != self._engine:
            self._write(engine, {})
        if self._engine_lists:
            return actual
        vnis = {found.spec.vni for found in actual.interfaces.values()}
        remembered = {key: hop for key, hop in self._routes.items() if key.vni in vnis}
        return replace(actual, routes={**remembered, **actual.routes})

    def strike(self, operations: Iterable[Operation]) -> None:
        """Forget the routes that are about to be deleted; on the disk when this returns."""
        operations = list(operations)
        deleted = {operation.key for operation in operations if isinstance(operation, DeleteRoute | YieldRoute)}
        if any(isinstance(operation, DeleteInterface) for operation in operations):
            # Routes may go with their VNI; `enter` puts those back that stayed.
            deleted |= self._routes.keys()
        self._replace({key: hop for key, hop in self._routes.items() if key not in deleted})

    def enter(self, routes: Mapping[RouteKey, NextHop]) -> None:
        """Remember the routes that the engine has now."""
        self._replace({key: hop for key, hop in routes.items() if key.prefix.version == 6})

    def _replace(self, routes: Routes) -> None:
        if not self._engine_lists and routes != self._routes:
            self._write(self._engine, routes)

    def _write(self, engine: str, routes: Routes) -> None:
        entries = [[key.vni, str(key.prefix), hop.vni, str(hop.address)] for key, hop in routes.items()]
        write_atomically(self._path, json.dumps({"engine": engine, "routes": entries}))
        self._engine, self._routes = engine, routes

    def _load(self) -> None:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            self._routes = {
                RouteKey(vni, Prefix.parse(prefix)): NextHop(hop_vni, IPv6Address(address))
                for vni, prefix, hop_vni, address in document["routes"]
            }
            self._engine = document["engine"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("route ledger ignored", path=str(self._path), error=str(error))
            self._routes = {}
