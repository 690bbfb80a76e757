"""Values of the host planner: what a hypervisor should have, what its packet engine has, and the steps between.

Everything here is immutable and compares by value. Mappings are plain dicts that nobody changes after construction.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import ClassVar, NamedTuple

IPAddress = IPv4Address | IPv6Address


class Prefix(NamedTuple):
    """An address and a length in bits, with or without bits behind the length.

    A tuple and not one of the standard library's classes: route tables are large, and hashing and comparing a tuple
    of numbers runs in C (measured on 100 000 routes: a pass of the planner takes a third of the time).
    """

    version: int
    address: int
    length: int

    @classmethod
    def parse(cls, text: str) -> Prefix:
        """From "10.0.0.0/24", or "fd00::1" for a host. Host bits are kept. Raises ValueError."""
        parsed = ip_interface(text)
        return cls(parsed.version, int(parsed.ip), parsed.network.prefixlen)

    @classmethod
    def host(cls, address: IPAddress) -> Prefix:
        """The /32 or /128 of an address."""
        return cls(address.version, int(address), address.max_prefixlen)

    @property
    def bits(self) -> int:
        """Length of an address of this family."""
        return 32 if self.version == 4 else 128

    @property
    def masked(self) -> Prefix:
        """The same prefix without host bits."""
        behind = self.bits - self.length
        return Prefix(self.version, self.address >> behind << behind, self.length)

    def contains(self, other: Prefix) -> bool:
        """True if every address of the other prefix lies in this one."""
        behind = self.bits - self.length
        return (
            self.version == other.version
            and self.length <= other.length
            and self.address >> behind == other.address >> behind
        )

    def __str__(self) -> str:
        address = IPv4Address(self.address) if self.version == 4 else IPv6Address(self.address)
        return f"{address}/{self.length}"


class PrefixKind(enum.IntEnum):
    """What a prefix record of an interface is for. The value is the underlay address sub-type of the record."""

    LOAD_BALANCER = 5
    ALIAS = 6


class PrefixKey(NamedTuple):
    """Identity of a prefix record in the engine, which compares prefixes unmasked."""

    kind: PrefixKind
    interface_id: str
    prefix: Prefix


class RouteKey(NamedTuple):
    """Identity of a route in the engine: one next hop per (masked) prefix and VNI."""

    vni: int
    prefix: Prefix


class NextHop(NamedTuple):
    """Where the engine sends packets of a route: an underlay address, and the VNI that the address belongs to."""

    vni: int
    address: IPv6Address


class RouteType(enum.IntEnum):
    """Kind of a distributed route; values as in the route distribution protocol."""

    STANDARD = 0
    NAT = 1
    LOAD_BALANCER_TARGET = 2


class Hop(NamedTuple):
    """Target of a distributed route. Port bounds are set for NAT only: first included, last excluded."""

    address: IPv6Address
    type: RouteType = RouteType.STANDARD
    port_from: int = 0
    port_to: int = 0


# Learned or announced routes: VNI -> prefix -> every known target.
Rib = Mapping[int, Mapping[Prefix, frozenset[Hop]]]


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface as the engine is asked to create it.

    id: 1..63 characters of [A-Za-z0-9_-]; vni: 1..16777215; device: the engine's device name; at least one address;
    rates in Mbit/s, 0 = unlimited.
    """

    id: str
    vni: int
    device: str
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    hostname: str = ""
    total_rate: int = 0
    public_rate: int = 0

    def addresses(self) -> tuple[IPAddress, ...]:
        """The interface's own addresses, IPv4 first."""
        return tuple(address for address in (self.ipv4, self.ipv6) if address is not None)


@dataclass(frozen=True, slots=True)
class ActualInterface:
    """One interface as the engine reports it.

    rates_known is False when the engine cannot tell the rates it was given (devices without a rate limiter report
    zero); they are not compared then.
    """

    spec: Interface
    underlay: IPv6Address
    rates_known: bool = False


@dataclass(frozen=True, slots=True)
class Desired:
    """What the engine of this host should have.

    interfaces, prefixes, routes: as wanted; prefix values are the underlay address to ask for (None: engine's choice).
    hold: ids of interfaces that must stay as they are because their definition is incomplete or invalid at the moment.
    removed: ids that somebody explicitly deleted; these go even before every input is complete.
    """

    interfaces: Mapping[str, Interface] = field(default_factory=dict)
    interface_underlay: Mapping[str, IPv6Address | None] = field(default_factory=dict)
    prefixes: Mapping[PrefixKey, IPv6Address | None] = field(default_factory=dict)
    routes: Mapping[RouteKey, NextHop] = field(default_factory=dict)
    hold: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Actual:
    """What the engine has, as far as it can be listed. Prefix values are underlay addresses."""

    interfaces: Mapping[str, ActualInterface] = field(default_factory=dict)
    prefixes: Mapping[PrefixKey, IPv6Address] = field(default_factory=dict)
    routes: Mapping[RouteKey, NextHop] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Synced:
    """Which inputs are complete. Nothing that exists is removed or changed on behalf of an incomplete input.

    objects: every watched kind has delivered its snapshot.
    hops: VNIs whose learned routes have been replayed, including all that they import from: next hops may be replaced.
    routes: those of them where every other host has had the time to announce itself again, too: routes may be removed.
    """

    objects: bool = False
    hops: frozenset[int] = frozenset()
    routes: frozenset[int] = frozenset()


class Stage(enum.IntEnum):
    """Order in which kinds of operations run; operations of one stage do not depend on each other across keys."""

    DELETE_PREFIX = 0
    DELETE_INTERFACE = 1
    YIELD_ROUTE = 2
    CREATE_INTERFACE = 3
    CREATE_PREFIX = 4
    ROUTE = 5


@dataclass(frozen=True, slots=True)
class CreateInterface:
    """Create an interface; underlay is the address to ask for, None leaves the choice to the engine."""

    stage: ClassVar[Stage] = Stage.CREATE_INTERFACE
    interface: Interface
    underlay: IPv6Address | None = None

    @property
    def key(self) -> str:
        return self.interface.id


@dataclass(frozen=True, slots=True)
class DeleteInterface:
    """Delete an interface. Its prefix records must be gone: the engine would keep them for the device's next user."""

    stage: ClassVar[Stage] = Stage.DELETE_INTERFACE
    id: str

    @property
    def key(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class CreatePrefix:
    """Create an alias prefix or load balancer prefix record."""

    stage: ClassVar[Stage] = Stage.CREATE_PREFIX
    key: PrefixKey
    underlay: IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class DeletePrefix:
    """Delete an alias prefix or load balancer prefix record."""

    stage: ClassVar[Stage] = Stage.DELETE_PREFIX
    key: PrefixKey


@dataclass(frozen=True, slots=True)
class CreateRoute:
    """Create a route to another host."""

    stage: ClassVar[Stage] = Stage.ROUTE
    key: RouteKey
    hop: NextHop


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    """Delete a route to another host."""

    stage: ClassVar[Stage] = Stage.ROUTE
    key: RouteKey


@dataclass(frozen=True, slots=True)
class YieldRoute:
    """Delete a route to another host because a local interface or prefix is about to take its place."""

    stage: ClassVar[Stage] = Stage.YIELD_ROUTE
    key: RouteKey


Operation = CreateInterface | DeleteInterface | CreatePrefix | DeletePrefix | CreateRoute | DeleteRoute | YieldRoute
