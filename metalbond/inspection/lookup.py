"""Questions to a table. Work is cut into slices, so that sessions go on while a large table is searched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeVar

from metalbond.inspect import Inspectable
from metalbond.types import Address, Destination

T = TypeVar("T")

SORTED = 20_000
"""Destinations of one VNI that are sorted at once: some 20 ms."""
SLICE = 512


def ordered(destinations: list[Destination]) -> list[Destination]:
    """Ascending, IPv4 first; as they are if there are more than SORTED."""
    if len(destinations) > SORTED:
        return destinations
    return sorted(destinations, key=lambda destination: (len(destination.prefix), *destination))


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
