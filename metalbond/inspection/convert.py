"""Values to messages of the inspection service."""

from __future__ import annotations

from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop

from ironcore.metalbond.v1 import inspection_pb2 as pb

from metalbond.inspect import PeerView
from metalbond.types import TYPE_NAMES, NextHop, Route


def peer(view: PeerView) -> pb.Peer:
    return pb.Peer(
        name=view.name,
        identity=view.identity,
        state=view.state,
        age_seconds=view.age,
        interval_seconds=view.interval,
        revision=view.revision,
        hold_seconds=view.hold,
        subscriptions=view.subscriptions,
        routes=view.routes,
        stale_routes=view.stale,
        waiting=view.waiting,
        refused=dict(view.refused),
        mesh=view.mesh,
        rule=view.rule,
        proven=view.proven,
        reason=view.reason,
    )


def route(value: Route, sources: tuple[str, ...]) -> pb.Route:
    prefix, length = value.destination
    return pb.Route(
        vni=value.vni, destination=f"{text_of(prefix)}/{length}", next_hop=next_hop(value.hop), sources=sources
    )


@lru_cache(4096)
def next_hop(hop: NextHop) -> pb.NextHop:
    return pb.NextHop(
        address=text_of(hop.target),
        vni=hop.vni,
        type=TYPE_NAMES.get(hop.type, str(hop.type)),
        nat_from=hop.nat_from,
        nat_to=hop.nat_to,
    )


def text_of(address: bytes) -> str:
    """Several times as fast as the standard library's ipaddress."""
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)
