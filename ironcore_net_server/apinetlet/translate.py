"""Translation between tenant and fabric objects. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from typing import Final

from ironcore.apinet.v1 import ip_pb2
from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.apinet.v1 import types_pb2 as apinet_types
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.networking.v1 import network_interface_pb2 as tenant_nic
from ironcore.networking.v1 import network_pb2 as tenant_network
from ironcore.networking.v1 import virtual_ip_pb2

from apimachinery.conditions import find_condition
from apimachinery.finalizers import is_deleting
from apimachinery.liveness import READY
from apimachinery.origin import OriginLabels
from ironcore_net_server.apinetlet.config import ORIGIN_PREFIX
from ironcore_net_server.apinetlet.provider_id import ProviderId, parse_provider_id
from ironcore_net_server.apinetlet.verdict import Verdict

NETWORK_ORIGIN: Final = OriginLabels(ORIGIN_PREFIX, "network")
INTERFACE_ORIGIN: Final = OriginLabels(ORIGIN_PREFIX, "networkinterface")
VIRTUAL_IP_ORIGIN: Final = OriginLabels(ORIGIN_PREFIX, "virtualip")

NETWORK_FINALIZER: Final = "apinet.ironcore.dev/network"
INTERFACE_FINALIZER: Final = "apinet.ironcore.dev/networkinterface"
VIRTUAL_IP_FINALIZER: Final = "apinet.ironcore.dev/virtualip"

PrefixLookup = Callable[[str], str | None]
"""Range of an ipam Prefix of the object's namespace, by name; None until it is allocated."""

_INTERFACE_STATES: Final = {
    types_pb2.REALIZATION_STATE_READY: tenant_nic.NETWORK_INTERFACE_STATE_AVAILABLE,
    types_pb2.REALIZATION_STATE_ERROR: tenant_nic.NETWORK_INTERFACE_STATE_ERROR,
}


@dataclass(frozen=True, slots=True)
class Peerings:
    """entries: what the fabric is told. by_id: name of the tenant's peering by the peer's network id.

    waiting: names of the tenant's peerings that both sides want, but that lack the peer's id or a range.
    """

    entries: list[apinet_network.NetworkPeering] = field(default_factory=list)
    by_id: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)


def peerings_of(source: tenant_network.Network, peer_ids: Mapping[str, str], find_prefix: PrefixLookup) -> Peerings:
    """Peerings that both sides want and that can be realized now; one that cannot holds no other one up.

    peer_ids: network id of the fabric's networks by uid of the tenant network.
    """
    wanted = {
        (p.network_ref.namespace or source.metadata.namespace, p.network_ref.name): p for p in source.spec.peerings
    }
    result = Peerings()
    for ref in source.spec.incoming_peerings:
        peering = wanted.get((ref.namespace or source.metadata.namespace, ref.name))
        peer_id = peer_ids.get(ref.uid, "")
        if peering is None or peer_id in result.by_id:
            continue
        entry = apinet_network.NetworkPeering(name=peering.name, id=peer_id)
        for prefix in peering.prefixes:
            found = prefix.prefix or find_prefix(prefix.prefix_ref.name)
            if found:
                entry.prefixes.add(name=prefix.name, prefix=found)
        # Ranges that do not exist yet must not turn "these ranges only" into "everything".
        if not peer_id or (peering.prefixes and not entry.prefixes):
            result.waiting.append(peering.name)
            continue
        result.entries.append(entry)
        result.by_id[peer_id] = peering.name
    return result


def apinet_network_of(source: tenant_network.Network, peerings: Peerings, namespace: str) -> apinet_network.Network:
    """The fabric's network of a tenant's. Its id is the fabric's to choose."""
    result = apinet_network.Network(metadata=meta_pb2.ObjectMeta(name=source.metadata.uid, namespace=namespace))
    result.spec.peerings.extend(peerings.entries)
    NETWORK_ORIGIN.mark(result.metadata, source.metadata)
    return result


def same_peerings(current: apinet_network.Network, wanted: apinet_network.Network) -> bool:
    """True if two networks of the fabric have the same peerings; the order of peerings and ranges says nothing."""
    return _peering_set(current) == _peering_set(wanted)


def _peering_set(network: apinet_network.Network) -> set[tuple[str, str, frozenset[tuple[str, str]]]]:
    return {
        (entry.name, entry.id, frozenset((prefix.name, prefix.prefix) for prefix in entry.prefixes))
        for entry in network.spec.peerings
    }


def network_provider_id(network: apinet_network.Network) -> str:
    """Provider id of a network; empty until it has an id."""
    meta = network.metadata
    return str(ProviderId(meta.namespace, meta.name, network.spec.id, meta.uid)) if network.spec.id else ""


def peering_statuses(network: apinet_network.Network, peerings: Peerings) -> list[tenant_network.NetworkPeeringStatus]:
    """One status for each peering that both sides want: the worst state that any partition tells."""
    states: dict[str, set[int]] = {name: set() for name in [*peerings.by_id.values(), *peerings.waiting]}
    for partition in network.status.peerings.values():
        for item in partition.items:
            name = peerings.by_id.get(str(item.id))
            if name is not None:
                states[name].add(item.state)
    prefixes = {entry.name: entry.prefixes for entry in peerings.entries}
    result = []
    for name, found in sorted(states.items()):
        state = _worst(found)
        status = tenant_network.NetworkPeeringStatus(name=name, state=state)
        if state == types_pb2.PEERING_STATE_READY:
            for prefix in prefixes[name]:
                status.prefixes.add(name=prefix.name, prefix=prefix.prefix)
        result.append(status)
    return result


def _worst(states: set[int]) -> types_pb2.PeeringState.ValueType:
    if types_pb2.PEERING_STATE_ERROR in states:
        return types_pb2.PEERING_STATE_ERROR
    if states == {types_pb2.PEERING_STATE_READY}:
        return types_pb2.PEERING_STATE_READY
    return types_pb2.PEERING_STATE_PENDING


def apinet_ip_of(source: virtual_ip_pb2.VirtualIP, namespace: str) -> ip_pb2.IP:
    """The fabric's handle of a public address. The address is the fabric's to choose."""
    result = ip_pb2.IP(
        metadata=meta_pb2.ObjectMeta(name=source.metadata.uid, namespace=namespace),
        spec=ip_pb2.IPSpec(type=source.spec.type, ip_family=source.spec.ip_family),
    )
    VIRTUAL_IP_ORIGIN.mark(result.metadata, source.metadata)
    return result


def prefixes_of(source: tenant_nic.NetworkInterface, find_prefix: PrefixLookup) -> list[str]:
    """Ranges routed to an interface: literals, and the ephemeral ones that have been allocated."""
    result: list[str] = []
    for index, prefix in enumerate(source.spec.prefixes):
        found = prefix.value or find_prefix(f"{source.metadata.name}-pf-{index}")
        if found and found not in result:
            result.append(found)
    return result


def virtual_ip_name(source: tenant_nic.NetworkInterface) -> str:
    """Name of the VirtualIP that an interface uses; empty if it wants none."""
    if not source.spec.HasField("virtual_ip"):
        return ""
    virtual_ip = source.spec.virtual_ip
    return virtual_ip.virtual_ip_ref.name if virtual_ip.HasField("virtual_ip_ref") else source.metadata.name


def public_ips_of(virtual_ips: Iterable[virtual_ip_pb2.VirtualIP]) -> list[apinet_types.NamedIP]:
    """Public addresses of an interface, from the VirtualIPs bound to it; at most one for each family."""
    result: dict[int, apinet_types.NamedIP] = {}
    for virtual_ip in sorted(virtual_ips, key=lambda found: found.metadata.name):
        if virtual_ip.status.ip:
            family = virtual_ip.spec.ip_family
            address = virtual_ip.status.ip
            result.setdefault(family, apinet_types.NamedIP(name=address, ip_family=family, ip=address))
    return [result[family] for family in sorted(result)]


def binding_verdict(source: tenant_nic.NetworkInterface, found: virtual_ip_pb2.VirtualIP | None) -> Verdict:
    """Whether an interface has, or can now be given, the VirtualIP that it wants; `found` is None if there is none."""
    name = virtual_ip_name(source)
    if found is None:
        return Verdict(False, "VirtualIPNotFound", f'virtual IP "{name}" does not exist')
    # One that goes is taken off the interface first: the fabric keeps addresses that are used.
    if is_deleting(found):
        return Verdict(False, "VirtualIPDeleted", f'virtual IP "{name}" is being deleted')
    # A binding to an earlier interface of this name is taken over.
    bound = found.spec.target_ref.name
    if bound and bound != source.metadata.name:
        return Verdict(False, "VirtualIPInUse", f'virtual IP "{name}" is bound to network interface "{bound}"')
    return Verdict(True, "Bound", f'virtual IP "{name}" is bound to this interface')


def interface_status(
    source: tenant_nic.NetworkInterface, realized: apinet_nic.NetworkInterface | None, now: datetime
) -> tenant_nic.NetworkInterfaceStatus:
    """What a tenant's interface tells of the fabric's one, which is None if it has none; without conditions."""
    status = tenant_nic.NetworkInterfaceStatus(state=tenant_nic.NETWORK_INTERFACE_STATE_PENDING)
    if realized is not None:
        status.state = _INTERFACE_STATES.get(realized.status.state, tenant_nic.NETWORK_INTERFACE_STATE_PENDING)
        status.ips.extend(realized.spec.ips)
        status.prefixes.extend(realized.spec.prefixes)
        # There is room for one address; the older family wins, as clients of the reference expect.
        public = sorted(realized.status.public_ips, key=lambda text: ip_address(text).version)
        status.virtual_ip = public[0] if public else ""
    if status.state != source.status.state:
        status.last_state_transition_time.FromDatetime(now)
    elif source.status.HasField("last_state_transition_time"):
        status.last_state_transition_time.CopyFrom(source.status.last_state_transition_time)
    return status


def attached_verdict(realized: apinet_nic.NetworkInterface) -> Verdict:
    """Whether an interface works, as the fabric says."""
    ready = realized.status.state == types_pb2.REALIZATION_STATE_READY
    found = find_condition(realized.status.conditions, READY)
    if found is not None and found.reason:
        return Verdict(ready, found.reason, found.message)
    if ready:
        return Verdict(True, "InterfaceReady", "the fabric's interface is ready")
    return Verdict(False, "Waiting", "the fabric has not reported yet")


def detached_verdict(source: tenant_nic.NetworkInterface, namespace: str) -> Verdict:
    """Why an interface has none in this namespace of the fabric."""
    text = source.spec.provider_id
    if not text:
        return Verdict(False, "NotAttached", "no machine provider has published an interface of the fabric")
    provider_id = parse_provider_id(text)
    if provider_id is None or provider_id.namespace != namespace:
        message = f'provider id "{text}" names no interface in namespace {namespace} of the fabric'
        return Verdict(False, "InvalidProviderID", message)
    message = f"interface {provider_id.key} with uid {provider_id.uid} is gone from the fabric, or going"
    return Verdict(False, "InterfaceNotFound", message)
