"""What a peer may do here: rules from a file, chosen by what is proven about the peer and never by what it says.

    rules:
      - name: hypervisors
        identities: ["node-*"]            # names in certificates, with * and ?
        addresses: ["fd00:1::/32"]        # where connections come from
        announce: {vnis: [100, 200-299], prefixes: [10.0.0.0/8], next-hops: ["fd00:1::/32"], max-routes: 5000}
        subscribe: {vnis: [100, 200-299]}
      - name: route-servers
        identities: ["metalbond-*"]
        mesh: true

The first rule whose conditions all hold is the peer's; a peer without one is refused. A section that is left out
forbids, a key that is left out of a section does not restrict.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar

import yaml

from metalbond import _core
from metalbond.types import MAX_VNI, Address, Route

T = TypeVar("T")


class PolicyError(ValueError):
    """The text is no policy; the message names the place."""


class Network(NamedTuple):
    """A prefix that contains others."""

    address: bytes
    """4 or 16 bytes."""
    length: int
    """Bits."""

    @classmethod
    def of(cls, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Network:
        return cls(network.network_address.packed, network.prefixlen)

    def contains(self, address: bytes, length: int) -> bool:
        """Whether all of the prefix of `length` bits lies inside."""
        return _core.inside([self], address, length)


class Span(NamedTuple):
    """VNIs from `low` to `high`, both included."""

    low: int
    high: int


ALL_VNIS = (Span(0, MAX_VNI),)


@dataclass(frozen=True, slots=True)
class Announce:
    """None does not restrict."""

    vnis: tuple[Span, ...] = ALL_VNIS
    prefixes: tuple[Network, ...] | None = None
    next_hops: tuple[Network, ...] | None = None
    max_routes: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    identities: tuple[str, ...] | None = None
    addresses: tuple[Network, ...] | None = None
    announce: Announce | None = None
    subscribe: tuple[Span, ...] = ()
    mesh: bool = False
    """Whether it is a server that may have everything that is announced here."""

    def matches(self, identity: str, address: bytes) -> bool:
        """`identity` is the proven one, empty if there is none."""
        if self.identities is not None and not (
            identity and any(fnmatchcase(identity, pattern) for pattern in self.identities)
        ):
            return False
        return self.addresses is None or _core.inside(self.addresses, address, 8 * len(address))

    def filter(self) -> _core.Filter:
        """Of what may be announced."""
        if self.announce is None:
            return _core.Filter()
        return _core.Filter(
            self.announce.vnis, self.announce.prefixes, self.announce.next_hops, self.announce.max_routes
        )

    def refusal(self, route: Route) -> str:
        """Stable name of why the route may not be announced, or an empty string."""
        return self.filter().refusal(route)

    def may_subscribe(self, vni: int) -> bool:
        return any(low <= vni <= high for low, high in self.subscribe)


OPEN = Rule("", announce=Announce(), subscribe=ALL_VNIS, mesh=True)
"""What everybody has where no policy is set."""


@dataclass(frozen=True, slots=True)
class Policy:
    rules: tuple[Rule, ...]

    def rule_for(self, identity: str, address: Address) -> Rule | None:
        """`identity` is the proven one, empty if there is none."""
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        packed = (mapped or address).packed
        return next((rule for rule in self.rules if rule.matches(identity, packed)), None)


def parse(text: str) -> Policy:
    """Raises PolicyError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PolicyError(f"not YAML: {error}") from None
    table = _table("policy", document, {"rules"})
    rules = _each("rules", table.get("rules"), _rule)
    if len({rule.name for rule in rules}) != len(rules):
        raise PolicyError("rules: two have the same name")
    return Policy(rules)


def _rule(at: str, value: Any) -> Rule:
    table = _table(at, value, {"name", "identities", "addresses", "announce", "subscribe", "mesh"})
    name = _text(f"{at}.name", table.get("name"))
    subscribe: tuple[Span, ...] = ()
    if "subscribe" in table:
        section = _table(f"{at}.subscribe", table["subscribe"], {"vnis"})
        subscribe = _optional(f"{at}.subscribe.vnis", section, _span) or ALL_VNIS
    if not isinstance(table.get("mesh", False), bool):
        raise PolicyError(f"{at}.mesh: must be true or false")
    return Rule(
        name,
        _optional(f"{at}.identities", table, _text),
        _optional(f"{at}.addresses", table, _network),
        _announce(f"{at}.announce", table["announce"]) if "announce" in table else None,
        subscribe,
        table.get("mesh", False),
    )


def _announce(at: str, value: Any) -> Announce:
    table = _table(at, value, {"vnis", "prefixes", "next-hops", "max-routes"})
    limit = table.get("max-routes")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
        raise PolicyError(f"{at}.max-routes: {limit!r}, must be a number from 0")
    return Announce(
        _optional(f"{at}.vnis", table, _span) or ALL_VNIS,
        _optional(f"{at}.prefixes", table, _network),
        _optional(f"{at}.next-hops", table, _network),
        limit,
    )


def _table(at: str, value: Any, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PolicyError(f"{at}: must be a table with the keys {', '.join(sorted(keys))}")
    for key in value:
        if key not in keys:
            raise PolicyError(f"{at}: unknown key {key!r}, must be one of {', '.join(sorted(keys))}")
    return value


def _each(at: str, value: Any, parse_one: Callable[[str, Any], T]) -> tuple[T, ...]:
    if not isinstance(value, list) or not value:
        raise PolicyError(f"{at}: must be a list with at least one entry")
    return tuple(parse_one(f"{at}[{number}]", entry) for number, entry in enumerate(value))


def _optional(at: str, table: dict[str, Any], parse_one: Callable[[str, Any], T]) -> tuple[T, ...] | None:
    key = at.rpartition(".")[2]
    return _each(at, table[key], parse_one) if key in table else None


def _text(at: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise PolicyError(f"{at}: must be a text")
    return value


def _network(at: str, value: Any) -> Network:
    try:
        return Network.of(ipaddress.ip_network(_text(at, value)))
    except ValueError as error:
        raise PolicyError(f"{at}: {error}") from None


def _span(at: str, value: Any) -> Span:
    low, dash, high = str(value).partition("-")
    numbers = (low, high if dash else low)
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise PolicyError(f"{at}: {value!r}, must be a VNI or a range like 100-199")
    span = Span(int(numbers[0]), int(numbers[1]))
    if not span.low <= span.high <= MAX_VNI:
        raise PolicyError(f"{at}: {value!r}, must rise and end at {MAX_VNI} at most")
    return span
