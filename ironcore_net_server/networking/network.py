"""Network of a tenant: rules of its peerings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_pb2

from apimachinery.errors import FieldViolation
from apimachinery.resource import ResourceHooks


class NetworkHooks(ResourceHooks[network_pb2.Network]):
    """A network peers with another one at most once, never with itself, and names each exposed range once."""

    def validate(self, obj: network_pb2.Network, old: network_pb2.Network | None) -> Iterable[FieldViolation]:
        yield from _check_targets(obj)
        yield from _check_prefixes(obj)
        yield from _check_incoming(obj)


def peering_target(meta: meta_pb2.ObjectMeta, peering: network_pb2.NetworkPeering) -> tuple[str, str]:
    """(namespace, name) of the network that a peering of the network with this metadata names."""
    return (peering.network_ref.namespace or meta.namespace, peering.network_ref.name)


def _check_targets(obj: network_pb2.Network) -> Iterator[FieldViolation]:
    own = (obj.metadata.namespace, obj.metadata.name)
    seen: set[tuple[str, str]] = set()
    for index, peering in enumerate(obj.spec.peerings):
        at = f"spec.peerings[{index}].network_ref"
        target = peering_target(obj.metadata, peering)
        if target == own:
            yield FieldViolation(at, "must not be the network itself")
        elif target in seen:
            yield FieldViolation(at, f"names {'/'.join(target)} a second time")
        seen.add(target)


def _check_prefixes(obj: network_pb2.Network) -> Iterator[FieldViolation]:
    names: set[str] = set()
    refs: set[str] = set()
    for index, peering in enumerate(obj.spec.peerings):
        for prefix_index, prefix in enumerate(peering.prefixes):
            at = f"spec.peerings[{index}].prefixes[{prefix_index}]"
            # Within one peering the list key has been checked already.
            if prefix.name in names and all(prefix.name != p.name for p in peering.prefixes[:prefix_index]):
                yield FieldViolation(f"{at}.name", "is used by another peering of the network")
            names.add(prefix.name)
            if not prefix.HasField("prefix_ref"):
                continue
            if prefix.prefix_ref.name in refs:
                yield FieldViolation(f"{at}.prefix_ref", "is used twice by the peerings of the network")
            refs.add(prefix.prefix_ref.name)


def _check_incoming(obj: network_pb2.Network) -> Iterator[FieldViolation]:
    own = (obj.metadata.namespace, obj.metadata.name)
    seen: set[tuple[str, str]] = set()
    for index, claim in enumerate(obj.spec.incoming_peerings):
        at = f"spec.incoming_peerings[{index}]"
        source = (claim.namespace or obj.metadata.namespace, claim.name)
        if source == own:
            yield FieldViolation(at, "must not be the network itself")
        elif source in seen:
            yield FieldViolation(at, f"names {'/'.join(source)} a second time")
        seen.add(source)
