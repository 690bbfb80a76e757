"""What may be handed out, and which free number comes next. Pure."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ironcore_net_server.rules import Address, Interface, overlaps, parse_cidr

# A free number of a pool that is not nearly full is found with this many draws almost surely.
PROBES: Final = 16

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Pool:
    """Numbers from first to last, both inclusive, under the name that errors give ("203.0.113.0/24")."""

    name: str
    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ValueError(f"pool {self.name} has no numbers: {self.first}..{self.last}")

    @property
    def size(self) -> int:
        """How many numbers the pool has."""
        return self.last - self.first + 1

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last


def pick_free(
    pools: Iterable[Pool], taken: Container[int], used: Callable[[Pool], int], rng: random.Random
) -> int | None:
    """A number of the first pool that has a free one, None if all are full.

    used: how many numbers of a pool are in `taken`. The number is drawn at random, so that servers which do not know of
    each other's choice yet rarely choose the same one, and so that a released number does not come back at once.
    """
    for pool in pools:
        if used(pool) >= pool.size:
            continue
        for _ in range(PROBES):
            number = rng.randint(pool.first, pool.last)
            if number not in taken:
                return number
        start = rng.randint(pool.first, pool.last)
        for number in range(start, pool.last + 1):
            if number not in taken:
                return number
        for number in range(pool.first, start):
            if number not in taken:
                return number
    return None


def address_pools(prefixes: Sequence[str]) -> dict[int, list[Pool]]:
    """Pools by IP version (4, 6) in the given order. All addresses of a prefix are handed out.

    Raises ValueError for text that is not a prefix, for host bits that are set, and for prefixes that overlap.
    """
    parsed = [_network(text) for text in prefixes]
    pools: dict[int, list[Pool]] = {4: [], 6: []}
    for network in parsed:
        pools[network.version].append(Pool(str(network), int(network.network_address), int(network.broadcast_address)))
    for of_version in pools.values():
        for index, other in overlaps((pool.first, pool.last, index) for index, pool in enumerate(of_version)):
            raise ValueError(f"public prefix {of_version[index].name} overlaps with {of_version[other].name}")
    return pools


def _network(text: str) -> Network:
    interface: Interface | None = parse_cidr(text)
    if interface is None:
        raise ValueError(f'public prefix "{text}" is not <address>/<prefix length>')
    if interface.ip != interface.network.network_address:
        raise ValueError(f"public prefix {text} has host bits set; the network is {interface.network}")
    return interface.network


def to_address(number: int, version: int) -> Address:
    """The address of a number."""
    return ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number)
