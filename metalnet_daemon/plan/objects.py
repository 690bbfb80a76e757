"""From API objects to what this host should have: interfaces with their prefixes, and what is wrong with the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from ironcore.metalnet.v1 import network_interface_pb2, network_pb2

from .routes import Exposure
from .types import Desired, Interface, Prefix, PrefixKey, PrefixKind

# The node's daemon has work to do before the interface may disappear.
INTERFACE_FINALIZER = "networking.metalnet.ironcore.dev/networkInterface"

NetworkInterface = network_interface_pb2.NetworkInterface
Network = network_pb2.Network


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an interface cannot be programmed. pending: something it needs does not exist yet; otherwise it is wrong."""

    pending: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class HostObjects:
    """The objects that concern this host.

    networks: by (namespace, name). interfaces: those whose node is this one. complete: both kinds were seen whole.
    """

    networks: Mapping[tuple[str, str], Network] = field(default_factory=dict)
    interfaces: tuple[NetworkInterface, ...] = ()
    complete: bool = False


@dataclass(frozen=True, slots=True)
class HostSpec:
    """What the objects ask of this host. wanted: ids that need a device; exposures: peering by VNI."""

    interfaces: Mapping[str, Interface]
    prefixes: frozenset[PrefixKey]
    hold: frozenset[str]
    removed: frozenset[str]
    problems: Mapping[str, Problem]
    exposures: Mapping[int, Exposure]

    @property
    def wanted(self) -> frozenset[str]:
        """Ids that need a device."""
        return frozenset(self.interfaces)

    def with_devices(self, devices: Mapping[str, str], problems: Mapping[str, str]) -> HostSpec:
        """Put every interface on its device (the engine's name); those without one are held with a problem."""
        placed = {
            uid: replace(interface, device=devices[uid]) for uid, interface in self.interfaces.items() if uid in devices
        }
        failed = {uid: Problem(False, "NoDevice", problems[uid]) for uid in self.interfaces if uid not in placed}
        return replace(
            self,
            interfaces=placed,
            prefixes=frozenset(key for key in self.prefixes if key.interface_id in placed),
            hold=self.hold | failed.keys(),
            problems={**self.problems, **failed},
        )

    def desired(self) -> Desired:
        """The planner's input, without routes and underlay addresses."""
        return Desired(
            interfaces=self.interfaces, prefixes=dict.fromkeys(self.prefixes), hold=self.hold, removed=self.removed
        )


def host_spec(objects: HostObjects, public_vni: int) -> HostSpec:
    """Read the objects. Devices are empty until `with_devices`.

    An interface that cannot be read or lacks its network is held: what is programmed for it stays as it is.
    """
    interfaces: dict[str, Interface] = {}
    prefixes: set[PrefixKey] = set()
    hold: set[str] = set()
    removed: set[str] = set()
    problems: dict[str, Problem] = {}
    for nic in objects.interfaces:
        uid = nic.metadata.uid
        if nic.metadata.HasField("deletion_timestamp"):
            removed.add(uid)
            continue
        hold.add(uid)
        if INTERFACE_FINALIZER not in nic.metadata.finalizers:
            continue  # not before its deletion would wait for this host
        network = objects.networks.get((nic.metadata.namespace, nic.spec.network_ref.name))
        if network is None:
            problems[uid] = Problem(True, "NetworkNotFound", f'network "{nic.spec.network_ref.name}" does not exist')
            continue
        try:
            interface, keys = _read_interface(nic, network, public_vni)
        except ValueError as error:
            problems[uid] = Problem(False, "InvalidSpec", str(error))
            continue
        interfaces[uid] = interface
        prefixes |= keys
        hold.discard(uid)
    return HostSpec(
        interfaces=interfaces,
        prefixes=frozenset(prefixes),
        hold=frozenset(hold),
        removed=frozenset(removed),
        problems=problems,
        exposures=exposures(objects.networks.values()),
    )


def exposures(networks: Iterable[Network]) -> dict[int, Exposure]:
    """Peering wishes by VNI. A prefix that cannot be read exposes nothing."""
    result: dict[int, Exposure] = {}
    for network in networks:
        if not network.spec.peered_ids:
            continue
        filters = {
            entry.id: tuple(prefix for text in entry.prefixes if (prefix := _parse(text)) is not None)
            for entry in network.spec.peered_prefixes
        }
        result[network.spec.id] = Exposure(frozenset(network.spec.peered_ids), filters)
    return result


def _read_interface(nic: NetworkInterface, network: Network, public_vni: int) -> tuple[Interface, set[PrefixKey]]:
    spec, uid = nic.spec, nic.metadata.uid
    if network.spec.id == public_vni:
        raise ValueError(f'network "{network.metadata.name}" has the id {public_vni} of the public network')
    ipv4, ipv6 = _addresses(spec.ips)
    rates = spec.metering_rate
    if rates.total_rate and rates.public_rate > rates.total_rate:
        raise ValueError(f"spec.metering_rate.public_rate: {rates.public_rate} is above total_rate {rates.total_rate}")
    interface = Interface(
        id=uid,
        vni=network.spec.id,
        device="",
        ipv4=ipv4,
        ipv6=ipv6,
        hostname=spec.hostname,
        total_rate=rates.total_rate,
        public_rate=rates.public_rate,
    )
    own = {Prefix.host(address) for address in interface.addresses()}
    alias = {_prefix("spec.prefixes", index, text) for index, text in enumerate(spec.prefixes)} - own
    balanced = {
        _prefix("spec.load_balancer_targets", index, text) for index, text in enumerate(spec.load_balancer_targets)
    }
    return interface, {
        *(PrefixKey(PrefixKind.ALIAS, uid, prefix) for prefix in alias),
        *(PrefixKey(PrefixKind.LOAD_BALANCER, uid, prefix) for prefix in balanced),
    }


def _addresses(texts: Iterable[str]) -> tuple[IPv4Address | None, IPv6Address | None]:
    """At most one address per family; the unspecified address of a family stands for none."""
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    for index, text in enumerate(texts):
        try:
            address = ip_address(text)
        except ValueError:
            raise ValueError(f"spec.ips[{index}]: {text!r} is not an IP address") from None
        if address.is_unspecified:
            continue
        if isinstance(address, IPv4Address):
            if ipv4 is not None:
                raise ValueError(f"spec.ips[{index}]: a second IPv4 address")
            ipv4 = address
        else:
            if ipv6 is not None:
                raise ValueError(f"spec.ips[{index}]: a second IPv6 address")
            ipv6 = address
    if ipv4 is None and ipv6 is None:
        raise ValueError("spec.ips: no address")
    return ipv4, ipv6


def _prefix(path: str, index: int, text: str) -> Prefix:
    """A prefix without host bits."""
    prefix = _parse(text)
    if prefix is None:
        raise ValueError(f"{path}[{index}]: {text!r} is not a prefix")
    if prefix.length == 0:
        raise ValueError(f"{path}[{index}]: {text} is the default route")
    return prefix


def _parse(text: str) -> Prefix | None:
    try:
        return Prefix.parse(text).masked
    except ValueError:
        return None
