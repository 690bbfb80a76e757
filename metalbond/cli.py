"""Texts of the command line to values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from metalbond.types import Destination, HopType, NextHop, Route
from metalbond.wire import parse_endpoint

T = TypeVar("T")

MAX_CLI_VNI = 0xFFFFFF
# A type is recognised by the first of these that it contains.
_TYPES = {
    "std": HopType.STANDARD,
    "standard": HopType.STANDARD,
    "lb": HopType.LOADBALANCER_TARGET,
    "loadbalancer": HopType.LOADBALANCER_TARGET,
    "nat": HopType.NAT,
}


class Parsed(click.ParamType[Any]):
    """A parameter whose text a function checks; a ValueError becomes a usage error that names the parameter."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def split_list(parse: Callable[[str], T]) -> Callable[[str], list[T]]:
    """For options that may be repeated and may hold commas."""
    return lambda text: [parse(part.strip()) for part in text.split(",")]


def flatten(lists: Iterable[Iterable[T]]) -> list[T]:
    """Without duplicates, in order."""
    return list(dict.fromkeys(item for items in lists for item in items))


def endpoint(text: str) -> str:
    """ "host:port", checked."""
    parse_endpoint(text)
    return text


def vni(text: str) -> int:
    """24 bits."""
    value = number(text, "VNI")
    if value > MAX_CLI_VNI:
        raise ValueError(f"VNI {value}: must be 0 to {MAX_CLI_VNI}")
    return value


def announcement(text: str) -> Route:
    """From "VNI#PREFIX#NEXTHOP", with "#TYPE", or with "#TYPE#FROM#TO". Types: std, lb, nat, in any case."""
    parts = text.split("#")
    if len(parts) not in (3, 4, 6):
        raise ValueError(f"{text!r}: must be VNI#PREFIX#NEXTHOP, optionally #TYPE or #TYPE#FROM#TO")
    hop_type = _hop_type(parts[3]) if len(parts) > 3 else HopType.STANDARD
    low, high = (number(part, "port") for part in parts[4:]) if len(parts) == 6 else (0, 0)
    if (hop_type == HopType.NAT) != (len(parts) == 6):
        raise ValueError(f"{text!r}: type nat, and no other, needs #FROM#TO")
    return Route(vni(parts[0]), Destination.parse(parts[1]), NextHop.to(parts[2], hop_type, nat_from=low, nat_to=high))


def _hop_type(text: str) -> HopType:
    for name, hop_type in _TYPES.items():
        if name in text.lower():
            return hop_type
    raise ValueError(f"type {text!r}: must be std, lb or nat")


def number(text: str, what: str) -> int:
    """Digits only. Raises ValueError, naming `what`."""
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{what} {text!r}: must be a number")
    return int(text)
