"""References from taken things to their takers, and whether a taker still has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from ironcore.apinet.v1 import ip_pb2, load_balancer_pb2, nat_gateway_pb2, network_interface_pb2, types_pb2

from apimachinery.scheme import kind_info, metadata_of
from apimachinery.store import Store
from ironcore_net_server.apinet.names import API_GROUP
from ironcore_net_server.objects import read_object

M = TypeVar("M", bound=Message)


def claim_ref(claimer: Message, *, namespaced: bool) -> types_pb2.ClaimReference:
    """Reference to the claimer; with its namespace where the claimed object lives outside of it."""
    meta = metadata_of(claimer)
    return types_pb2.ClaimReference(
        group=API_GROUP,
        resource=kind_info(claimer).plural,
        namespace=meta.namespace if namespaced else "",
        name=meta.name,
        uid=meta.uid,
    )


def claim_owner(claimer: Message) -> str:
    """Value of a claim's key, for people: `<plural>/<namespace>/<name>/<uid>`."""
    meta = metadata_of(claimer)
    return f"{kind_info(claimer).plural}/{meta.namespace}/{meta.name}/{meta.uid}"


def describe(ref: types_pb2.ClaimReference) -> str:
    """How errors name a claimer."""
    return f"{ref.resource} {ref.name}"


async def find_claimer(store: Store, message_class: type[M], ref: types_pb2.ClaimReference, namespace: str) -> M | None:
    """The claimer if the very object that made the claim exists; `namespace` counts if the reference has none."""
    claimer = await read_object(store, message_class, ref.namespace or namespace, ref.name)
    return claimer if claimer is not None and metadata_of(claimer).uid == ref.uid else None


Addresses = Callable[[Any], Iterable[str]]

# Kinds that use addresses through IP objects, and the addresses that one of them uses.
_USERS: Final[dict[str, tuple[type[Message], Addresses]]] = {
    "networkinterfaces": (network_interface_pb2.NetworkInterface, lambda obj: (e.ip for e in obj.spec.public_ips)),
    "loadbalancers": (load_balancer_pb2.LoadBalancer, lambda obj: (e.ip for e in obj.spec.ips)),
    "natgateways": (nat_gateway_pb2.NATGateway, lambda obj: (e.ip for e in obj.spec.ips)),
}


def is_foreign(ref: types_pb2.ClaimReference) -> bool:
    """True if this server does not know the claimer's kind: only the claimer can tell whether it is there."""
    return ref.group not in ("", API_GROUP) or ref.resource not in _USERS


async def is_used(store: Store, ip: ip_pb2.IP) -> bool:
    """Whether the claimer of an IP exists and has its address. A claim of a vanished claimer is void."""
    if not ip.spec.HasField("claim_ref"):
        return False
    if is_foreign(ip.spec.claim_ref):
        return True
    message_class, addresses = _USERS[ip.spec.claim_ref.resource]
    claimer = await find_claimer(store, message_class, ip.spec.claim_ref, ip.metadata.namespace)
    return claimer is not None and ip.spec.ip in addresses(claimer)
