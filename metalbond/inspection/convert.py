"""Values to messages of the inspection service."""

from __future__ import annotations

from ironcore.metalbond.v1 import inspection_pb2 as pb

from metalbond.inspect import PeerView
from metalbond.types import TYPE_NAMES, Route


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
    hop = value.hop
    return pb.Route(
        vni=value.vni,
        destination=str(value.destination),
        next_hop=pb.NextHop(
            address=str(hop.address),
            vni=hop.vni,
            type=TYPE_NAMES.get(hop.type, str(hop.type)),
            nat_from=hop.nat_from,
            nat_to=hop.nat_to,
        ),
        sources=sources,
    )
