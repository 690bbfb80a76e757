"""Questions to a table. Work is cut into slices, so that sessions go on while a large table is searched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, TypeVar

from metalbond.inspect import Inspectable, Row
from metalbond.types import Address, Destination

T = TypeVar("T")

SORTED = 10_000
"""Routes of one VNI that are sorted at once: some 10 ms."""
SLICE = 64


async def rows(instance: Inspectable, vni: int) -> AsyncIterator[Row]:
    """All routes of the VNI; ascending, IPv4 first, if there are at most SORTED. One that stays comes exactly once."""
    waiting: list[Row] = []
    slices = instance.scan(vni)
    for part in slices:
        waiting += part
        await asyncio.sleep(0)
        if len(waiting) > SORTED:
            break
    else:
        waiting.sort(key=_order)
    async for row in slowly(waiting):
        yield row
    for part in slices:
        async for row in slowly(part):
            yield row
        await asyncio.sleep(0)


def _order(row: Row) -> Any:
    _, destination, hop = row[0]
    return len(destination.prefix), destination, hop


def covering(instance: Inspectable, vni: int, address: Address) -> Iterator[Destination]:
    """Destinations of the VNI that contain the address, longest prefix first; those with host bits are not found."""
    packed = address.packed
    bits = 8 * len(packed)
    value = int.from_bytes(packed)
    for length in range(bits, -1, -1):
        shift = bits - length
        destination = Destination((value >> shift << shift).to_bytes(len(packed)), length)
        if instance.hops(vni, destination):
            yield destination


def longest_match(instance: Inspectable, vni: int, address: Address) -> Destination | None:
    return next(covering(instance, vni, address), None)


async def slowly(items: Iterable[T], size: int = SLICE) -> AsyncIterator[T]:
    """The items, with turns for others between slices of them."""
    for number, item in enumerate(items, 1):
        yield item
        if not number % size:
            await asyncio.sleep(0)
