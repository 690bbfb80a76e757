"""Routes in pages. A listing is a scan that somebody is in the middle of."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import ip_address

from metalbond.inspect import Inspectable, Row
from metalbond.inspection.lookup import longest_match, rows, slowly
from metalbond.types import Address, Route

MAX_LISTINGS = 16
LIFETIME = 300.0
MAX_SCAN = 50_000
"""Routes looked at for one page."""
MAX_BYTES = 2 << 20
"""Rough size of a page."""


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
    rows: AsyncIterator[Row]
    used: float = 0.0
    pages: int = 0
    """That were given."""


class Listings:
    """Listings that somebody is in the middle of."""

    def __init__(self, instance: Inspectable, clock: Callable[[], float] = time.monotonic) -> None:
        self._instance = instance
        self._clock = clock
        self._open: OrderedDict[str, _Listing] = OrderedDict()

    async def page(self, wanted: Filter, size: int, token: str) -> tuple[list[Row], str]:
        """At most `size` rows, and the token of the next page, which works once; empty after the last.

        Raises ValueError for a token that is not of this filter, ExpiredError.
        """
        name, listing = self._resume(wanted, token)
        found: list[Row] = []
        scanned = room = 0
        async for row in listing.rows:
            scanned += 1
            if not wanted.next_hop or row[0].hop.target == wanted.next_hop:
                found.append(row)
                room += 100 + 30 * len(row[1])
            if len(found) >= size or scanned >= MAX_SCAN or room >= MAX_BYTES:
                return found, self._keep(name, listing)
        return found, ""

    def _resume(self, wanted: Filter, token: str) -> tuple[str, _Listing]:
        now = self._clock()
        for name in [name for name, listing in self._open.items() if listing.used < now - LIFETIME]:
            del self._open[name]
        if not token:
            return secrets.token_urlsafe(9), _Listing(wanted, self._rows(wanted))
        name, _, page = token.partition(".")
        listing = self._open.get(name)
        if listing is None or page != str(listing.pages):
            raise ExpiredError
        if listing.filter != wanted:
            raise ValueError("page_token: belongs to another filter")
        return name, self._open.pop(name)

    def _keep(self, name: str, listing: _Listing) -> str:
        listing.used = self._clock()
        listing.pages += 1
        self._open[name] = listing
        while len(self._open) > MAX_LISTINGS:
            self._open.popitem(last=False)
        return f"{name}.{listing.pages}"

    async def _rows(self, wanted: Filter) -> AsyncIterator[Row]:
        async for vni in slowly(wanted.vnis or sorted(self._instance.vnis()), 16):
            if wanted.address is None:
                async for row in rows(self._instance, vni):
                    yield row
            elif (best := longest_match(self._instance, vni, wanted.address)) is not None:
                hops = self._instance.hops(vni, best)
                for hop in sorted(hops):
                    yield Route(vni, best, hop), hops[hop]
