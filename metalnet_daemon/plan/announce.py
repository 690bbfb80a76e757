"""What this host tells the route distribution: where each address of its interfaces lives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv6Address

from .types import Actual, Desired, Hop, Prefix, PrefixKind, Rib, RouteType

# One announced route: VNI, prefix, target.
Announcement = tuple[int, Prefix, Hop]


def announcements(desired: Desired, actual: Actual, public_vni: int) -> Rib:
    """Return the routes to announce: of every interface that is wanted (or held) and that the engine really has.

    Underlay addresses, VNIs and addresses are the engine's, so an announcement never promises what is not programmed.
    IPv6 addresses are announced in the public VNI too: they are reachable from outside without translation.
    """
    table: defaultdict[int, defaultdict[Prefix, set[Hop]]] = defaultdict(lambda: defaultdict(set))
    for vni, prefix, hop in _announcements(desired, actual, public_vni):
        table[vni][prefix].add(hop)
    return {vni: {prefix: frozenset(hops) for prefix, hops in prefixes.items()} for vni, prefixes in table.items()}


def underlay_addresses(actual: Actual) -> frozenset[IPv6Address]:
    """Underlay addresses of everything the engine has."""
    return frozenset(found.underlay for found in actual.interfaces.values()) | frozenset(actual.prefixes.values())


def _announcements(desired: Desired, actual: Actual, public_vni: int) -> Iterator[Announcement]:
    wanted = (desired.interfaces.keys() | desired.hold) - desired.removed
    for uid, found in actual.interfaces.items():
        if uid not in wanted:
            continue
        for address in found.spec.addresses():
            prefix = Prefix.host(address)
            yield found.spec.vni, prefix, Hop(found.underlay)
            if prefix.version == 6:
                yield public_vni, prefix, Hop(found.underlay)
    for key, underlay in actual.prefixes.items():
        if key.interface_id not in wanted or key.interface_id not in actual.interfaces:
            continue
        if key not in desired.prefixes and key.interface_id not in desired.hold:
            continue
        vni = actual.interfaces[key.interface_id].spec.vni
        kind = RouteType.STANDARD if key.kind is PrefixKind.ALIAS else RouteType.LOAD_BALANCER_TARGET
        yield vni, key.prefix.masked, Hop(underlay, kind)
