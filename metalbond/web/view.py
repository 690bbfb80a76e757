"""What the page shows: values for JSON, bounded whatever the table holds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_interface
from typing import Any

from metalbond.inspect import Inspectable, Row
from metalbond.inspection.lookup import covering, rows, slowly
from metalbond.inspection.service import healthy, subscribers
from metalbond.types import TYPE_NAMES, Address, Route
from metalbond.web.export import by_need, peer_values

MAX_PEERS = 200
MAX_VNIS = 500
MAX_ROWS = 300
MAX_SOURCES = 8
MAX_SCAN = 100_000
"""Routes looked at for one search."""
SHOWN_SUBSCRIPTIONS = 12


class Rates:
    """Updates per second since the call before."""

    def __init__(self, instance: Inspectable) -> None:
        self._instance = instance
        self._last = self._sample()
        self._rates = (0.0, 0.0)

    def _sample(self) -> tuple[float, int, int]:
        stats = self._instance.stats
        return time.monotonic(), stats.updates_received, stats.updates_sent

    def next(self) -> tuple[float, float]:
        """(received, sent)"""
        now = self._sample()
        if (passed := now[0] - self._last[0]) > 0.1:
            self._rates = ((now[1] - self._last[1]) / passed, (now[2] - self._last[2]) / passed)
            self._last = now
        return self._rates


def summary(instance: Inspectable, rates: tuple[float, float], version: str) -> dict[str, Any]:
    """The page without its routes."""
    peers = instance.peers()
    sizes, subscribed = instance.vnis(), subscribers(instance)
    vnis = sorted(sizes.keys() | subscribed.keys())
    return {
        "role": instance.role,
        "version": version,
        "healthy": healthy(instance),
        "routes": instance.route_count(),
        "rates": {"received": round(rates[0], 1), "sent": round(rates[1], 1)},
        "refused": dict(instance.stats.updates_refused),
        "established": sum(view.state == "ESTABLISHED" for view in peers),
        "peer_count": len(peers),
        "peers": [
            peer_values(view)
            | {
                "subscription_count": len(view.subscriptions),
                "subscriptions": view.subscriptions[:SHOWN_SUBSCRIPTIONS],
            }
            for view in by_need(peers)[:MAX_PEERS]
        ],
        "vni_count": len(vnis),
        "vnis": [
            {"vni": vni, "destinations": sizes.get(vni, 0), "subscribers": subscribed[vni]} for vni in vnis[:MAX_VNIS]
        ],
    }


async def routes(instance: Inspectable, vni: int | None, query: str) -> dict[str, Any]:
    """Rows of one VNI or of all. `query`: an address (what contains it, and what goes through it), or a prefix.

    Raises ValueError for another query.
    """
    found = _search(instance, vni, query.strip()) if query.strip() else _all(instance, vni)
    shown: list[dict[str, Any]] = []
    complete = True
    scanned = 0
    async for row in found:
        scanned += 1
        if len(shown) >= MAX_ROWS or scanned >= MAX_SCAN:
            complete = False
            break
        if row is not None:
            shown.append(_values(*row))
    return {"vni": vni, "query": query, "rows": shown, "complete": complete}


async def _all(instance: Inspectable, vni: int | None) -> AsyncIterator[Row | None]:
    for number in sorted(instance.vnis()) if vni is None else [vni]:
        async for row in rows(instance, number):
            yield row


async def _search(instance: Inspectable, vni: int | None, query: str) -> AsyncIterator[Row | None]:
    """None: looked at, does not match."""
    address, limit = _parse(query)
    vnis = sorted(instance.vnis()) if vni is None else [vni]
    async for number in slowly(vnis, 16):
        yield None
        for destination in covering(instance, number, address):
            if destination.length <= limit:
                hops = instance.hops(number, destination)
                for hop in sorted(hops):
                    yield Route(number, destination, hop), hops[hop]
    if limit < address.max_prefixlen:
        return
    for number in vnis:
        async for row in rows(instance, number):
            yield row if row[0].hop.target == address.packed else None


def _parse(query: str) -> tuple[Address, int]:
    """The address, and the longest prefix of interest."""
    try:
        if "/" not in query:
            address = ip_address(query)
            return address, address.max_prefixlen
        interface = ip_interface(query)
    except ValueError:
        raise ValueError("not an address and not a prefix") from None
    return interface.network.network_address, interface.network.prefixlen


def _values(route: Route, sources: tuple[str, ...]) -> dict[str, Any]:
    vni, destination, hop = route
    return {
        "vni": vni,
        "destination": str(destination),
        "address": str(hop.address),
        "target_vni": hop.vni,
        "type": TYPE_NAMES.get(hop.type, str(hop.type)),
        "ports": [hop.nat_from, hop.nat_to] if hop.nat_from or hop.nat_to else None,
        "sources": sources[:MAX_SOURCES],
        "source_count": len(sources),
    }
