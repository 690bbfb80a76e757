"""Routes in pages. A listing remembers the destinations of the VNI that it is in; pages show how these are now."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

from metalbond.inspect import Inspectable
from metalbond.inspection.lookup import SLICE, longest_match, ordered
from metalbond.types import Address, Destination, Route

MAX_LISTINGS = 16
LIFETIME = 300.0
MAX_SCAN = 50_000
"""Destinations looked at for one page."""
MAX_BYTES = 2 << 20
"""Rough size of a page."""

Row = tuple[Route, tuple[str, ...]]


class ExpiredError(Exception):
    """The listing of a page token is gone."""


@dataclass(frozen=True, slots=True)
class Filter:
    vnis: tuple[int, ...] = ()
    """Empty: all."""
    address: Address | None = None
    """Only the longest match in each VNI."""
    next_hop: bytes = b""
    """Only routes to this underlay address; empty: all."""

    @classmethod
    def parse(cls, vnis: tuple[int, ...], address: str, next_hop: str) -> Filter:
        """Raises ValueError, naming the field."""
        try:
            wanted = ip_address(address) if address else None
        except ValueError as error:
            raise ValueError(f"filter.address: {error}") from None
        try:
            hop = ip_address(next_hop).packed if next_hop else b""
        except ValueError as error:
            raise ValueError(f"filter.next_hop: {error}") from None
        return cls(tuple(sorted(set(vnis))), wanted, hop)


@dataclass(slots=True)
class _Listing:
    filter: Filter
    vnis: list[int]
    used: float
    at: int = -1
    """Position in `vnis` of the VNI whose destinations are here."""
    destinations: list[Destination] = field(default_factory=list)


class Listings:
    """Listings that somebody is in the middle of."""

    def __init__(self, instance: Inspectable, clock: Callable[[], float] = time.monotonic) -> None:
        self._instance = instance
        self._clock = clock
        self._open: OrderedDict[str, _Listing] = OrderedDict()

    async def page(self, wanted: Filter, size: int, token: str) -> tuple[list[Row], str]:
        """At least one destination's routes more than before, about `size` rows, and the token of the next page, empty
        after the last. Raises ValueError for a token that is not of this filter, ExpiredError.
        """
        name, listing, vni, index = self._resume(wanted, token)
        rows: list[Row] = []
        scanned = room = 0
        while vni < len(listing.vnis):
            self._load(listing, vni)
            while index < len(listing.destinations):
                if len(rows) >= size or scanned >= MAX_SCAN or room >= MAX_BYTES:
                    return rows, self._keep(name, listing, vni, index)
                found = self._rows(wanted, listing.vnis[vni], listing.destinations[index])
                rows += found
                room += sum(100 + 30 * len(sources) for _, sources in found)
                index, scanned = index + 1, scanned + 1
                if not scanned % SLICE:
                    await asyncio.sleep(0)
            vni, index, scanned = vni + 1, 0, scanned + 1
            await asyncio.sleep(0)
        self._open.pop(name, None)
        return rows, ""

    def _resume(self, wanted: Filter, token: str) -> tuple[str, _Listing, int, int]:
        now = self._clock()
        for name in [name for name, listing in self._open.items() if listing.used < now - LIFETIME]:
            del self._open[name]
        if not token:
            vnis = list(wanted.vnis) or sorted(self._instance.vnis())
            return secrets.token_urlsafe(9), _Listing(wanted, vnis, now), 0, 0
        try:
            name, vni, index = token.split(".")
            place = int(vni), int(index)
            if min(place) < 0:
                raise ValueError
        except ValueError:
            raise ValueError("page_token: not one of this service") from None
        listing = self._open.get(name)
        if listing is None or listing.at != place[0]:
            raise ExpiredError
        if listing.filter != wanted:
            raise ValueError("page_token: belongs to another filter")
        return name, listing, *place

    def _keep(self, name: str, listing: _Listing, vni: int, index: int) -> str:
        listing.used = self._clock()
        self._open[name] = listing
        self._open.move_to_end(name)
        while len(self._open) > MAX_LISTINGS:
            self._open.popitem(last=False)
        return f"{name}.{vni}.{index}"

    def _load(self, listing: _Listing, at: int) -> None:
        if listing.at == at:
            return
        vni, address = listing.vnis[at], listing.filter.address
        if address is None:
            listing.destinations = ordered(self._instance.destinations(vni))
        else:
            best = longest_match(self._instance, vni, address)
            listing.destinations = [] if best is None else [best]
        listing.at = at

    def _rows(self, wanted: Filter, vni: int, destination: Destination) -> list[Row]:
        return [
            (Route(vni, destination, hop), sources)
            for hop, sources in self._instance.hops(vni, destination).items()
            if not wanted.next_hop or hop.target == wanted.next_hop
        ]
