"""Translation between apinet and metalnet objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network

from ironcore.apinet.v1 import network_interface_pb2 as apinet_nic
from ironcore.apinet.v1 import network_pb2 as apinet_network
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.metalnet.v1 import network_interface_pb2 as metalnet_nic
from ironcore.metalnet.v1 import network_pb2 as metalnet_network

from apimachinery.origin import OriginLabels

PARTITION_LABEL = "topology.core.apinet.ironcore.dev/partition"
NODE_FINALIZER = "apinet.ironcore.dev/node"
NETWORK_ORIGIN = OriginLabels("metalnetlet.ironcore.dev/", "network")
INTERFACE_ORIGIN = OriginLabels("metalnetlet.ironcore.dev/", "networkinterface")
MAX_NETWORK_ID = (1 << 24) - 1


def partition_finalizer(partition: str) -> str:
    """What keeps an apinet object until this partition has cleaned up."""
    return f"partition.metalnetlet.apinet.ironcore.dev/{partition}"


def apinet_node_name(partition: str, node: str) -> str:
    """Name of a metalnet node in apinet."""
    return f"{partition}.{node}"


def metalnet_node_name(partition: str, node: str) -> str | None:
    """Name of an apinet node in the partition's metalnet API; None if it is another partition's."""
    prefix = f"{partition}."
    return node.removeprefix(prefix) if node.startswith(prefix) and node != prefix else None


def network_id(text: str) -> int | None:
    """The network id that an apinet object spells as text; None if it is none."""
    if not text.isascii() or not text.isdecimal() or len(text) > 8 or not 0 < int(text) <= MAX_NETWORK_ID:
        return None
    return int(text)


def metalnet_network_of(
    source: apinet_network.Network, namespace: str, *, peering: bool
) -> metalnet_network.Network | None:
    """The metalnet network of an apinet one; None as long as that has no valid id.

    A peering with an unreadable id is left out, and so is one with the network itself.
    """
    vni = network_id(source.spec.id)
    if vni is None:
        return None
    result = metalnet_network.Network(
        metadata=meta_pb2.ObjectMeta(name=source.metadata.uid, namespace=namespace),
        spec=metalnet_network.NetworkSpec(id=vni),
    )
    NETWORK_ORIGIN.mark(result.metadata, source.metadata)
    for entry in source.spec.peerings if peering else ():
        peer = network_id(entry.id)
        if peer is None or peer == vni or peer in result.spec.peered_ids:
            continue
        result.spec.peered_ids.append(peer)
        prefixes = [prefix.prefix for prefix in entry.prefixes if prefix.prefix]
        if prefixes:
            result.spec.peered_prefixes.add(id=peer, prefixes=prefixes)
    return result


def peering_states(
    network: metalnet_network.Network, by_id: Mapping[int, metalnet_network.Network]
) -> list[apinet_network.NetworkPeeringStatus]:
    """State of each peering: Ready once the other network is here and wants the peering, too."""
    states = []
    for peer in sorted(network.spec.peered_ids):
        other = by_id.get(peer)
        mutual = other is not None and network.spec.id in other.spec.peered_ids
        state = types_pb2.PEERING_STATE_READY if mutual else types_pb2.PEERING_STATE_PENDING
        states.append(apinet_network.NetworkPeeringStatus(id=peer, state=state))
    return states


def metalnet_interface_of(
    source: apinet_nic.NetworkInterface, network_uid: str, node: str, namespace: str
) -> metalnet_nic.NetworkInterface:
    """The metalnet interface of an apinet one. network_uid: of the apinet network, which names the metalnet one."""
    spec = metalnet_nic.NetworkInterfaceSpec(
        network_ref=meta_pb2.LocalObjectReference(name=network_uid),
        ip_families=[_family(ip) for ip in source.spec.ips],
        ips=source.spec.ips,
        node_name=node,
        hostname=source.spec.hostname,
        prefixes=source.spec.prefixes,
        virtual_ip=_first_ipv4(entry.ip for entry in source.spec.public_ips),
    )
    result = metalnet_nic.NetworkInterface(
        metadata=meta_pb2.ObjectMeta(name=source.metadata.uid, namespace=namespace), spec=spec
    )
    INTERFACE_ORIGIN.mark(result.metadata, source.metadata)
    return result


def apinet_interface_status(
    source: apinet_nic.NetworkInterface, realized: metalnet_nic.NetworkInterface
) -> apinet_nic.NetworkInterfaceStatus:
    """What the apinet interface tells of its metalnet one."""
    found = realized.status
    status = apinet_nic.NetworkInterfaceStatus(
        state=found.state or types_pb2.REALIZATION_STATE_PENDING,
        prefixes=found.prefixes,
        public_ips=[found.virtual_ip] if found.virtual_ip else [],
        nat_ips=[found.nat_ip.ip] if found.HasField("nat_ip") else [],
        conditions=found.conditions,
    )
    if found.HasField("pci_address"):
        status.pci_address.CopyFrom(found.pci_address)
    if found.HasField("tap_device"):
        status.tap_device.CopyFrom(found.tap_device)
    # Up to date only if the node has seen the newest spec; otherwise what was true before still is.
    current = found.observed_generation == realized.metadata.generation
    generation = source.metadata.generation if current else source.status.observed_generation
    status.observed_generation = generation
    for condition in status.conditions:
        condition.observed_generation = generation
    return status


def _family(address: str) -> types_pb2.IPFamily.ValueType:
    return types_pb2.IP_FAMILY_IPV4 if ip_address(address).version == 4 else types_pb2.IP_FAMILY_IPV6


def _first_ipv4(addresses: Iterable[str]) -> str:
    return next((text for text in addresses if text and ip_network(text).version == 4), "")
