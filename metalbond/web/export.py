"""Whole tables as text, in parts: the documents `/routes.json` and `/routes.yaml` of the original program, and ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from functools import lru_cache
from textwrap import indent
from typing import Any

from metalbond.inspect import SELF, Inspectable, PeerView
from metalbond.inspection.convert import text_of
from metalbond.inspection.lookup import rows, slowly
from metalbond.types import Destination, NextHop

PIECE = 65536
"""Characters."""

_HOP_KEYS = ("TargetAddress", "TargetVNI", "Type", "NATPortRangeFrom", "NATPortRangeTo")


def destination_key(destination: Destination) -> str:
    """Itself JSON, as the original program has it."""
    return f'{{"IPVersion":{destination.version},"Prefix":"{text_of(destination.prefix)}/{destination.length}"}}'


def hop_values(hop: NextHop) -> dict[str, Any]:
    """In the order of the original program."""
    return dict(zip(_HOP_KEYS, (text_of(hop.target), hop.vni, int(hop.type), hop.nat_from, hop.nat_to), strict=True))


@lru_cache(4096)
def hop_json(hop: NextHop) -> str:
    """Indented for its place in the document."""
    return "\n" + indent(json.dumps(hop_values(hop), indent=2), 8 * " ")


def received(instance: Inspectable, vni: int, destination: Destination) -> list[NextHop]:
    """Next hops that others announce, sorted by their text."""
    hops = instance.hops(vni, destination)
    found = [hop for hop, sources in hops.items() if sources != (SELF,)]
    return sorted(found, key=str) if len(found) > 1 else found


def is_first(hop: NextHop, hops: list[NextHop]) -> bool:
    """A scan comes to a destination once per next hop, the documents name it once."""
    return bool(hops) and hop == hops[0]


async def routes_json(instance: Inspectable, version: str, now: datetime) -> AsyncIterator[str]:
    yield f'{{\n  "date": {json.dumps(_date(now))},\n  "vnet": {{'
    separator = "\n"
    for vni in sorted(instance.vnis(), key=str):
        inner = f'{separator}    "{vni}": {{\n'
        async for (_, destination, hop), _ in rows(instance, vni):
            if is_first(hop, hops := received(instance, vni, destination)):
                key = json.dumps(destination_key(destination))
                yield f"{inner}      {key}: [{','.join(map(hop_json, hops))}\n      ]"
                inner = ",\n"
        if inner == ",\n":
            yield "\n    }"
            separator = ",\n"
    yield f'\n  }},\n  "metalbondVersion": {json.dumps(version)}\n}}\n'


async def routes_yaml(instance: Inspectable, version: str, now: datetime) -> AsyncIterator[str]:
    yield f"date: {json.dumps(_date(now))}\nvnet:"
    empty = True
    for vni in sorted(instance.vnis()):
        head = f"\n  {vni}:"
        async for (_, destination, hop), _ in rows(instance, vni):
            if is_first(hop, hops := received(instance, vni, destination)):
                yield f"{head}\n    '{destination_key(destination)}':"
                head, empty = "", False
                for each in hops:
                    pairs = [f"{key.lower()}: {json.dumps(value)}" for key, value in hop_values(each).items()]
                    yield "\n      - " + "\n        ".join(pairs)
    yield f"{' {}' if empty else ''}\nmetalbondversion: {json.dumps(version)}\n"


async def peers_json(instance: Inspectable) -> AsyncIterator[str]:
    """{"role": ..., "peers": [...]}"""
    yield f'{{"role": "{instance.role}", "peers": ['
    separator = "\n"
    async for view in slowly(by_need(instance.peers()), 64):
        yield separator + json.dumps(peer_values(view) | {"subscriptions": view.subscriptions})
        separator = ",\n"
    yield "\n]}\n"


async def subscriptions_json(instance: Inspectable) -> AsyncIterator[str]:
    """{"subscriptions": {VNI: [names of peers]}}"""
    subscribers: dict[int, list[str]] = {}
    async for view in slowly(sorted(instance.peers(), key=lambda view: view.name), 64):
        for vni in view.subscriptions:
            subscribers.setdefault(vni, []).append(view.name)
    yield '{"subscriptions": {'
    separator = "\n"
    async for vni in slowly(sorted(subscribers)):
        yield f'{separator}"{vni}": {json.dumps(subscribers[vni])}'
        separator = ",\n"
    yield "\n}}\n"


def peer_values(view: PeerView) -> dict[str, Any]:
    """Of one peer, without its subscriptions."""
    return {
        "name": view.name,
        "identity": view.identity,
        "state": view.state,
        "age": round(view.age, 1),
        "interval": view.interval,
        "revision": view.revision,
        "hold": view.hold,
        "routes": view.routes,
        "stale": view.stale,
        "waiting": view.waiting,
        "refused": dict(view.refused),
        "mesh": view.mesh,
        "rule": view.rule,
        "proven": view.proven,
        "reason": view.reason,
    }


def by_need(peers: Iterable[PeerView]) -> list[PeerView]:
    """Those first that an operator should look at."""
    return sorted(peers, key=lambda view: (view.state == "ESTABLISHED", not view.refused, view.name))


async def pieces(parts: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """Parts joined to about PIECE."""
    waiting: list[str] = []
    size = 0
    async for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= PIECE:
            yield "".join(waiting).encode()
            waiting, size = [], 0
    yield "".join(waiting).encode()


def _date(now: datetime) -> str:
    return now.strftime("%Y-%m-%d %H:%M:%S")
