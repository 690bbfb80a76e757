"""A packet engine without packets: evaluates control calls with the status codes of the real one.

The model keeps what makes the real engine awkward: prefix records survive their interface and are keyed by device, the
last interface of a VNI takes the VNI's routes with it, a route and a local prefix exclude each other.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from metalnet_daemon.plan.types import NextHop, Prefix, PrefixKind

OK = 0
NOT_FOUND = 201
ALREADY_EXISTS = 202
NO_VM = 205
NO_VNI = 206
ROUTE_EXISTS = 301
ROUTE_NOT_FOUND = 302
ROUTE_BAD_PORT = 304
VNF_INSERT = 401
VM_HANDLE = 402

HOST = IPv6Network("fc00:1::/64")

NAMES = {
    OK: "Success",
    NOT_FOUND: "NOT_FOUND",
    ALREADY_EXISTS: "ALREADY_EXISTS",
    NO_VM: "NO_VM",
    NO_VNI: "NO_VNI",
    ROUTE_EXISTS: "ROUTE_EXISTS",
    ROUTE_NOT_FOUND: "ROUTE_NOT_FOUND",
    ROUTE_BAD_PORT: "ROUTE_BAD_PORT",
    VNF_INSERT: "VNF_INSERT",
    VM_HANDLE: "VM_HANDLE",
}


class EngineError(Exception):
    """The engine's answer is a status code other than 0."""

    def __init__(self, code: int) -> None:
        super().__init__(NAMES[code])
        self.code = code


class BadArgumentError(Exception):
    """The engine refuses the arguments with INVALID_ARGUMENT and this text."""


@dataclass
class FakeInterface:
    id: str
    vni: int
    device: str
    ipv4: IPv4Address
    ipv6: IPv6Address
    hostname: str
    underlay: IPv6Address


@dataclass(frozen=True)
class PrefixRecord:
    kind: PrefixKind
    device: str
    vni: int
    prefix: Prefix


@dataclass
class FakeEngine:
    """State of one engine process."""

    devices: frozenset[str]
    host: IPv6Network = HOST
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()).upper())
    initialized: bool = False
    interfaces: dict[str, FakeInterface] = field(default_factory=dict)
    prefixes: dict[PrefixRecord, IPv6Address] = field(default_factory=dict)
    # None: the prefix belongs to a local interface.
    routes: dict[tuple[int, Prefix], NextHop | None] = field(default_factory=dict)
    underlays: set[IPv6Address] = field(default_factory=set)
    counter: int = 0

    def initialize(self) -> str:
        self.initialized = True
        self.routes = {key: hop for key, hop in self.routes.items() if hop is None and key[1].length in (32, 128)}
        return self.uuid

    def create_interface(self, wanted: FakeInterface, preferred: IPv6Address | None) -> IPv6Address:
        if wanted.device not in self.devices:
            raise EngineError(NOT_FOUND)
        if any(found.device == wanted.device for found in self.interfaces.values()):
            raise EngineError(ALREADY_EXISTS)
        underlay = self._free_underlay(preferred)
        if wanted.id in self.interfaces:
            raise EngineError(VM_HANDLE)
        own = [(wanted.vni, prefix) for prefix in _own_prefixes(wanted)]
        if any(key in self.routes for key in own):
            raise EngineError(ROUTE_EXISTS)
        self.underlays.add(underlay)
        self.routes.update(dict.fromkeys(own))
        wanted.underlay = underlay
        self.interfaces[wanted.id] = wanted
        return underlay

    def delete_interface(self, uid: str) -> None:
        found = self.interfaces.pop(uid, None)
        if found is None:
            raise EngineError(NOT_FOUND)
        self.underlays.discard(found.underlay)
        for prefix in _own_prefixes(found):
            self.routes.pop((found.vni, prefix), None)
        if not self.vni_in_use(found.vni):
            self.routes = {key: hop for key, hop in self.routes.items() if key[0] != found.vni}

    def vni_in_use(self, vni: int) -> bool:
        return any(found.vni == vni for found in self.interfaces.values())

    def list_prefixes(self, kind: PrefixKind, uid: str) -> list[tuple[Prefix, IPv6Address]]:
        device = self._interface(uid).device
        return [
            (record.prefix, underlay)
            for record, underlay in self.prefixes.items()
            if record.kind is kind and record.device == device
        ]

    def create_prefix(self, kind: PrefixKind, uid: str, prefix: Prefix, preferred: IPv6Address | None) -> IPv6Address:
        found = self._interface(uid)
        record = PrefixRecord(kind, found.device, found.vni, prefix)
        route = (found.vni, prefix.masked)
        if kind is PrefixKind.ALIAS and route in self.routes:
            raise EngineError(ROUTE_EXISTS)
        if kind is PrefixKind.LOAD_BALANCER and record in self.prefixes:
            raise EngineError(ALREADY_EXISTS)
        underlay = self._free_underlay(preferred)
        self.underlays.add(underlay)
        self.prefixes[record] = underlay
        if kind is PrefixKind.ALIAS:
            self.routes[route] = None
        return underlay

    def delete_prefix(self, kind: PrefixKind, uid: str, prefix: Prefix) -> None:
        found = self._interface(uid)
        error = OK
        if kind is PrefixKind.ALIAS:
            route = (found.vni, prefix.masked)
            if not self.vni_in_use(found.vni):
                error = NO_VNI
            elif route not in self.routes:
                error = ROUTE_NOT_FOUND
            elif self.routes[route] is not None:
                error = ROUTE_BAD_PORT
            else:
                del self.routes[route]
        underlay = self.prefixes.pop(PrefixRecord(kind, found.device, found.vni, prefix), None)
        if underlay is not None:
            self.underlays.discard(underlay)
        if error or underlay is None:
            raise EngineError(error or NOT_FOUND)

    def list_routes(self, vni: int) -> list[tuple[Prefix, NextHop]]:
        if vni and not self.vni_in_use(vni):
            raise EngineError(NO_VNI)
        return [
            (prefix, hop)
            for (route_vni, prefix), hop in self.routes.items()
            if hop is not None and vni in (0, route_vni)
        ]

    def create_route(self, vni: int, prefix: Prefix, hop: NextHop) -> None:
        if not self.vni_in_use(vni):
            raise EngineError(NO_VNI)
        if (vni, prefix) in self.routes:
            raise EngineError(ROUTE_EXISTS)
        self.routes[vni, prefix] = hop

    def delete_route(self, vni: int, prefix: Prefix) -> None:
        if not self.vni_in_use(vni):
            raise EngineError(NO_VNI)
        if (vni, prefix) not in self.routes:
            raise EngineError(ROUTE_NOT_FOUND)
        if self.routes[vni, prefix] is None:
            raise EngineError(ROUTE_BAD_PORT)
        del self.routes[vni, prefix]

    def _interface(self, uid: str) -> FakeInterface:
        if uid not in self.interfaces:
            raise EngineError(NO_VM)
        return self.interfaces[uid]

    def _free_underlay(self, preferred: IPv6Address | None) -> IPv6Address:
        if preferred is None:
            self.counter += 1
            return IPv6Address(
                self.host.network_address.packed[:8] + b"\xd0\x00\x00\x7a" + self.counter.to_bytes(4, "big")
            )
        if preferred not in self.host or not preferred.packed[10] & 0x80:
            raise BadArgumentError("Invalid preferred_underlay_route")
        if preferred in self.underlays:
            raise EngineError(VNF_INSERT)
        return preferred


def _own_prefixes(interface: FakeInterface) -> list[Prefix]:
    return [Prefix.host(address) for address in (interface.ipv4, interface.ipv6) if int(address)]
