"""Which routes the kernel must have, and what to change so that it has them. Pure values.

A route of the kernel is a destination in a table with the underlay addresses that it is tunnelled to. All kinds of next
hops are the same here: the kernel has no notion of port slices or of load balancers' targets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from metalbond.types import Destination, NextHop

PROTOCOL = 254
"""Who made a route, `metalbond` in /etc/iproute2/rt_protos. Routes of other protocols are nobody's business here."""
MAIN_TABLE = 254
METRICS = {4: 0, 6: 1024}
"""By IP version: what the kernel makes of a route without a metric."""
MAX_HOPS = 255
"""Next hops of one route: more do not fit the kernel's message."""

Hops = tuple[bytes, ...]
"""Underlay addresses, 16 bytes each, ascending and without duplicates: the same on every machine."""


class Key(NamedTuple):
    """What the kernel tells routes apart by."""

    table: int
    destination: Destination
    """Without host bits."""
    metric: int


@dataclass(frozen=True, slots=True)
class Installed:
    """A route that the kernel has under our protocol number."""

    hops: Hops
    """Those of its next hops that could be ours."""
    proper: bool = True
    """False: it has something else beside them, another device for example, and must be replaced."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Make or change a route as a whole."""

    key: Key
    hops: Hops


@dataclass(frozen=True, slots=True)
class Remove:
    key: Key


Operation = Replace | Remove


def key_of(table: int, destination: Destination) -> Key:
    """Where a destination belongs in a table; bits behind its length do not count."""
    bits = 8 * len(destination.prefix)
    mask = ((1 << destination.length) - 1) << (bits - destination.length)
    prefix = (int.from_bytes(destination.prefix) & mask).to_bytes(len(destination.prefix))
    return Key(table, Destination(prefix, destination.length), METRICS[destination.version])


def fault(destination: Destination, hop: NextHop, *, ipv4_only: bool = False) -> str:
    """Why a received route cannot be a route of the kernel, or an empty string."""
    if len(hop.target) != 16:
        return "target_not_ipv6"
    if ipv4_only and destination.version != 4:
        return "not_ipv4"
    return ""


def choose(targets: Collection[bytes]) -> Hops:
    """The hops of a route from all targets of its destination."""
    return tuple(sorted(set(targets))[:MAX_HOPS])


def plan(desired: Mapping[Key, Hops], actual: Mapping[Key, Installed], complete: Collection[int]) -> list[Operation]:
    """Operations that turn `actual` into `desired`; none if they are equal.

    `complete`: tables whose desired routes are all known. Elsewhere, and that is after a start, nothing is taken away:
    routes stay, and keep next hops that may still be announced.
    """
    operations: list[Operation] = []
    for key, hops in desired.items():
        found = actual.get(key)
        wanted = hops if found is None or key.table in complete else choose({*hops, *found.hops})
        if found is None or not found.proper or found.hops != wanted:
            operations.append(Replace(key, wanted))
    operations += [Remove(key) for key in actual if key.table in complete and key not in desired]
    return operations
