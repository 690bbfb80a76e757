"""Which routes the engine gets: chosen from everything that the route distribution has delivered.

The engine holds one next hop per prefix and VNI, the distribution any number. The choice depends on nothing but the
present set of hops, so it is the same after every restart, and withdrawing a hop falls back to a remaining one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from .types import Hop, NextHop, Prefix, Rib, RouteKey, RouteType, Synced

DEFAULT_ROUTES = (Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0"))


@dataclass(frozen=True, slots=True)
class Exposure:
    """What one network says about peering.

    peers: VNIs it wants to be connected with. filters: per peer the only prefixes that peer may learn; a peer without
    an entry learns everything.
    """

    peers: frozenset[int] = frozenset()
    filters: Mapping[int, tuple[Prefix, ...]] = field(default_factory=dict)

    def shows(self, prefix: Prefix, peer: int) -> bool:
        """True if `peer` may learn `prefix`: the whole of it lies in an allowed prefix."""
        if peer not in self.filters:
            return True
        return any(allowed.contains(prefix) for allowed in self.filters[peer])


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """Host-wide facts that the choice of routes depends on.

    public_vni: where default routers announce themselves; the engine has no table for it.
    router: underlay address of the default router while none is learned.
    exposures: peering wishes by VNI; networks that want no peer need no entry.
    """

    public_vni: int
    router: IPv6Address | None = None
    exposures: Mapping[int, Exposure] = field(default_factory=dict)

    def imports(self, vni: int) -> frozenset[int]:
        """VNIs whose routes `vni` gets: both sides have to want the peering."""
        wanted = self.exposures.get(vni)
        if wanted is None:
            return frozenset()
        return frozenset(
            peer
            for peer in wanted.peers
            if peer != vni and peer in self.exposures and vni in self.exposures[peer].peers
        )


def subscriptions(vnis: Collection[int], policy: RoutingPolicy) -> frozenset[int]:
    """VNIs whose routes this host needs, given the VNIs that its interfaces are in."""
    needed = {policy.public_vni, *vnis}
    for vni in vnis:
        needed |= policy.imports(vni)
    return frozenset(needed)


def complete_vnis(vnis: Collection[int], policy: RoutingPolicy, learned: Set[int]) -> frozenset[int]:
    """VNIs whose routes are complete, given the VNIs whose replay is complete."""
    if policy.public_vni not in learned:
        return frozenset()
    return frozenset(vni for vni in vnis if vni in learned and policy.imports(vni) <= learned)


def synced(
    objects: bool, vnis: Collection[int], policy: RoutingPolicy, replayed: Set[int], settled: Set[int]
) -> Synced:
    """Combine the completeness of objects and of learned routes into the planner's input."""
    return Synced(objects, complete_vnis(vnis, policy, replayed), complete_vnis(vnis, policy, replayed & settled))


def completed(live: Rib, saved: Rib, replayed: Set[int], settled: Set[int]) -> Rib:
    """Learned routes, completed by remembered ones for every VNI that is not settled yet.

    Before the replay of a VNI is over both count alike; after it a remembered hop only counts where none is learned.
    """
    result: dict[int, Mapping[Prefix, frozenset[Hop]]] = dict(live)
    for vni, remembered in saved.items():
        if vni in settled:
            continue
        known = live.get(vni, {})
        if vni in replayed:
            result[vni] = {**remembered, **known}
        else:
            none = frozenset[Hop]()
            result[vni] = {
                prefix: known.get(prefix, none) | remembered.get(prefix, none) for prefix in {**known, **remembered}
            }
    return result


def routes_for(
    vnis: Collection[int], rib: Rib, own: Rib, policy: RoutingPolicy, own_addresses: Set[IPv6Address]
) -> dict[RouteKey, NextHop]:
    """Choose the engine's routes for the given VNIs.

    rib: what other hosts announce; own: what this host announces (peers import it too); own_addresses: this host's
    underlay addresses, never a next hop within the VNI that owns them.
    """
    routers = default_routers(rib, policy)
    chosen: dict[RouteKey, NextHop] = {}
    for vni in vnis:
        if vni == policy.public_vni:
            continue
        for prefix, router in routers.items():
            chosen[RouteKey(vni, prefix)] = NextHop(vni, router)
        for prefix, hops in rib.get(vni, {}).items():
            hop = choose(hops, own_addresses)
            if hop is not None:
                chosen.setdefault(RouteKey(vni, prefix), NextHop(vni, hop))
        for peer in sorted(policy.imports(vni)):
            _import(chosen, vni, peer, rib, own, policy, own_addresses)
    return chosen


def default_routers(rib: Rib, policy: RoutingPolicy) -> dict[Prefix, IPv6Address]:
    """Choose the router of each family's default route.

    A learned router wins over the configured one. A router that is known for one family only serves both, because
    routers commonly announce just one.
    """
    public = rib.get(policy.public_vni, {})
    learned = {prefix: choose(public.get(prefix, frozenset()), frozenset()) for prefix in DEFAULT_ROUTES}
    any_learned = next((address for address in learned.values() if address is not None), None)
    routers = {}
    for prefix in DEFAULT_ROUTES:
        router = learned[prefix] or any_learned or policy.router
        if router is not None:
            routers[prefix] = router
    return routers


def choose(hops: Collection[Hop], excluded: Set[IPv6Address]) -> IPv6Address | None:
    """Choose one target among the plain hops: the lowest address that is not excluded; None if there is none."""
    plain = [hop.address for hop in hops if hop.type is RouteType.STANDARD]
    if excluded:
        plain = [address for address in plain if address not in excluded]
    if len(plain) == 1:
        return plain[0]  # by far the most frequent case, and comparing addresses is slow
    return min(plain, default=None)


def _import(
    chosen: dict[RouteKey, NextHop],
    vni: int,
    peer: int,
    rib: Rib,
    own: Rib,
    policy: RoutingPolicy,
    own_addresses: Set[IPv6Address],
) -> None:
    exposure = policy.exposures[peer]
    for table, excluded in ((own.get(peer, {}), frozenset[IPv6Address]()), (rib.get(peer, {}), own_addresses)):
        for prefix, hops in table.items():
            if prefix in DEFAULT_ROUTES or not exposure.shows(prefix, vni):
                continue
            hop = choose(hops, excluded)
            if hop is not None:
                chosen.setdefault(RouteKey(vni, prefix), NextHop(peer, hop))
