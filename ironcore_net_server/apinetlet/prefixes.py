"""Ranges of ipam Prefix objects, as translations look them up."""

from __future__ import annotations

from ironcore.ipam.v1 import prefix_pb2

from apimachinery.informer import Informer
from ironcore_net_server.apinetlet.translate import PrefixLookup


def prefix_lookup(prefixes: Informer[prefix_pb2.Prefix], namespace: str, *, owner_uid: str = "") -> PrefixLookup:
    """Looks ranges up in one namespace; only allocated ones count, and with `owner_uid` only those of that owner."""

    def find(name: str) -> str | None:
        found = prefixes.get(namespace, name)
        if found is None or found.status.phase != prefix_pb2.PREFIX_PHASE_ALLOCATED:
            return None
        if owner_uid and all(owner.uid != owner_uid for owner in found.metadata.owner_references):
            return None
        return found.spec.prefix

    return find
