"""The host planner: the operations that turn what the engine has into what this host should have.

Mark and sweep: what is missing is created at once, what nobody wants is removed only when the inputs that could want it
are complete, and nothing is ever flushed. The result runs in the order given; see Stage for what may run side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Address

from .types import (
    Actual,
    ActualInterface,
    CreateInterface,
    CreatePrefix,
    CreateRoute,
    DeleteInterface,
    DeletePrefix,
    DeleteRoute,
    Desired,
    Interface,
    NextHop,
    Operation,
    Prefix,
    PrefixKey,
    PrefixKind,
    RouteKey,
    Synced,
    YieldRoute,
)


def plan(desired: Desired, actual: Actual, synced: Synced) -> list[Operation]:
    """Return the operations that bring `actual` to `desired`, in an order in which each can succeed.

    Applying the result and planning again gives no operation (for a state the engine accepts, with all inputs synced).
    """
    gone = _interfaces_to_delete(desired, actual, synced)
    kept = {uid: found for uid, found in actual.interfaces.items() if uid not in gone}
    created = {uid: wanted for uid, wanted in desired.interfaces.items() if uid not in kept and uid not in desired.hold}
    stale = _prefixes_to_delete(desired, actual, gone, synced)
    missing = [
        key
        for key in desired.prefixes
        if key not in actual.prefixes or key in stale
        if key.interface_id in created or (key.interface_id in kept and key.interface_id not in desired.hold)
    ]
    vnis = {found.spec.vni for found in kept.values()} | {wanted.vni for wanted in created.values()}
    routes = _surviving_routes(actual, kept)
    local = _local_routes(desired, actual, kept, created, stale)

    operations: list[Operation] = []
    operations += [DeletePrefix(key) for key in sorted(stale)]
    operations += [DeleteInterface(uid) for uid in sorted(gone)]
    operations += [YieldRoute(key) for key in sorted(routes.keys() & local)]
    operations += [CreateInterface(created[uid], desired.interface_underlay.get(uid)) for uid in sorted(created)]
    operations += [CreatePrefix(key, desired.prefixes[key]) for key in sorted(missing)]
    operations += _route_operations(desired, kept, routes, local, vnis, synced)
    return operations


def evolve(actual: Actual, done: Iterable[tuple[Operation, IPv6Address | None]]) -> Actual:
    """Return what the engine has after the successful operations `done`, given with the underlay address they got.

    Follows the engine's own side effects: with the last interface of a VNI its routes are gone.
    """
    interfaces, prefixes, routes = dict(actual.interfaces), dict(actual.prefixes), dict(actual.routes)
    for operation, underlay in done:
        match operation:
            case CreateInterface(interface):
                if underlay is not None:
                    interfaces[interface.id] = ActualInterface(interface, underlay, rates_known=True)
            case DeleteInterface(uid):
                found = interfaces.pop(uid, None)
                if found is not None and all(other.spec.vni != found.spec.vni for other in interfaces.values()):
                    routes = {key: hop for key, hop in routes.items() if key.vni != found.spec.vni}
            case CreatePrefix(key):
                if underlay is not None:
                    prefixes[key] = underlay
            case DeletePrefix(key):
                prefixes.pop(key, None)
            case CreateRoute(key, hop):
                routes[key] = hop
            case DeleteRoute(key) | YieldRoute(key):
                routes.pop(key, None)
    return replace(actual, interfaces=interfaces, prefixes=prefixes, routes=routes)


def bounded(operations: Sequence[Operation], limit: int) -> Sequence[Operation]:
    """The beginning of a plan with about `limit` operations; no replacement of a route is torn apart.

    What is cut off is planned again next time. A large table then does not keep a new interface waiting.
    """
    if len(operations) <= limit:
        return operations
    last, following = operations[limit - 1], operations[limit]
    replacing = isinstance(last, DeleteRoute) and isinstance(following, CreateRoute) and last.key == following.key
    return operations[: limit + replacing]


def differs(wanted: Interface, found: ActualInterface) -> bool:
    """True if the engine's interface has to be created anew to become the wanted one."""
    if found.rates_known:
        return wanted != found.spec
    return wanted != replace(found.spec, total_rate=wanted.total_rate, public_rate=wanted.public_rate)


def recalled(actual: Actual, requested: Mapping[str, Interface]) -> Actual:
    """Complete what the engine listed by what this process asked it for: rates and host names.

    Engines without a rate limiter report no rates, and one that alters a host name must not have its interface created
    anew for ever.
    """
    interfaces = dict(actual.interfaces)
    for uid in requested.keys() & interfaces.keys():
        asked, found = requested[uid], interfaces[uid]
        spec = replace(found.spec, hostname=asked.hostname, total_rate=asked.total_rate, public_rate=asked.public_rate)
        interfaces[uid] = replace(found, spec=spec, rates_known=True)
    return replace(actual, interfaces=interfaces)


def _interfaces_to_delete(desired: Desired, actual: Actual, synced: Synced) -> set[str]:
    gone = set()
    for uid, found in actual.interfaces.items():
        if uid in desired.hold:
            continue
        wanted = desired.interfaces.get(uid)
        if wanted is None:
            if synced.objects or uid in desired.removed:
                gone.add(uid)
        elif synced.objects and differs(wanted, found):
            gone.add(uid)
    return gone


def _prefixes_to_delete(desired: Desired, actual: Actual, gone: set[str], synced: Synced) -> set[PrefixKey]:
    return {
        key
        for key in actual.prefixes
        if key.interface_id in gone
        or (synced.objects and key.interface_id not in desired.hold and key not in desired.prefixes)
    }


def _surviving_routes(actual: Actual, kept: Mapping[str, ActualInterface]) -> Mapping[RouteKey, NextHop]:
    """Routes that outlive the deletions: the engine frees a VNI's tables with its last interface."""
    before = {found.spec.vni for found in actual.interfaces.values()}
    ended = before - {found.spec.vni for found in kept.values()}
    return {key: hop for key, hop in actual.routes.items() if key.vni not in ended} if ended else actual.routes


def _local_routes(
    desired: Desired,
    actual: Actual,
    kept: Mapping[str, ActualInterface],
    created: Mapping[str, Interface],
    stale: set[PrefixKey],
) -> set[RouteKey]:
    """Prefixes that interfaces of this host own in their VNI; a route of the same prefix must make way."""
    specs = {uid: found.spec for uid, found in kept.items()} | dict(created)
    local = {RouteKey(spec.vni, Prefix.host(address)) for spec in specs.values() for address in spec.addresses()}
    for key in (*desired.prefixes, *(key for key in actual.prefixes if key not in stale)):
        if key.kind is PrefixKind.ALIAS and key.interface_id in specs:
            local.add(RouteKey(specs[key.interface_id].vni, key.prefix.masked))
    return local


def _route_operations(
    desired: Desired,
    kept: Mapping[str, ActualInterface],
    routes: Mapping[RouteKey, NextHop],
    local: set[RouteKey],
    vnis: set[int],
    synced: Synced,
) -> Iterator[Operation]:
    sweepable = synced.routes if synced.objects else frozenset[int]()
    replaceable = synced.hops if synced.objects else frozenset[int]()
    wanted_vnis = {wanted.vni for wanted in desired.interfaces.values()}
    held_vnis = {kept[uid].spec.vni for uid in desired.hold if uid in kept} - wanted_vnis
    # Route tables are large and mostly equal: sort the differences only.
    changed = [
        key for key, hop in desired.routes.items() if key.vni in vnis and routes.get(key) != hop and key not in local
    ]
    unwanted = [
        key
        for key in routes
        if key not in desired.routes
        and key not in local
        and key.vni not in held_vnis
        and (key.vni in sweepable or (synced.objects and key.vni not in vnis))
    ]
    for key in sorted(unwanted):
        yield DeleteRoute(key)
    for key in sorted(changed):
        if key not in routes:
            yield CreateRoute(key, desired.routes[key])
        elif key.vni in replaceable:
            yield DeleteRoute(key)
            yield CreateRoute(key, desired.routes[key])
