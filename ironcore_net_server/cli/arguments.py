"""What the user named on the command line: kinds, objects, namespaces, durations. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import click

from apimachinery.errors import InvalidArgument
from apimachinery.scheme import KindInfo, Scheme

# In this order a bare name such as "networks" is looked up: what a tenant means comes first.
GROUPS = ("networking", "ipam", "apinet", "metalnet")


@cache
def scheme() -> Scheme:
    """All kinds of all groups."""
    return Scheme.from_packages(*(f"ironcore.{group}.v1" for group in GROUPS))


@dataclass(frozen=True, slots=True)
class Target:
    """Objects of one kind: the one with this name, or (empty name) all that the selectors choose."""

    info: KindInfo
    name: str = ""

    def __str__(self) -> str:
        return f"{self.info.resource_type}/{self.name}" if self.name else self.info.resource_type


def parse_targets(arguments: Sequence[str], known: Scheme) -> list[Target]:
    """TYPE[,TYPE...] | TYPE NAME... | TYPE/NAME... → targets.

    TYPE is a plural, a kind or a short name, with `.group` if several groups have it. Raises click.UsageError.
    """
    if not arguments:
        raise click.UsageError("name a resource type, as in: ironctl get networks; `ironctl api-resources` lists them")
    if any("/" in argument for argument in arguments):
        return [_slashed(argument, known) for argument in arguments]
    kinds, names = arguments[0].split(","), arguments[1:]
    if len(kinds) > 1 and names:
        raise click.UsageError("names can only follow a single resource type")
    infos = [resolve_kind(kind, known) for kind in kinds]
    if not names:
        return [Target(info) for info in infos]
    return [Target(infos[0], name) for name in names]


def _slashed(argument: str, known: Scheme) -> Target:
    kind, slash, name = argument.partition("/")
    if not slash or not name or "/" in name:
        raise click.UsageError(f"{argument!r}: expected TYPE/NAME in every argument once one has it")
    return Target(resolve_kind(kind, known), name)


def resolve_kind(text: str, known: Scheme) -> KindInfo:
    """The kind that the user means. Raises click.UsageError."""
    try:
        return known.resolve(text.strip())
    except InvalidArgument as error:
        raise click.UsageError(f"{error.message} (`ironctl api-resources` shows more)") from None


_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Duration(click.ParamType[float]):
    """Option value "30s", "1m30s", "500ms" or plain seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        text = str(value)
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        parts = _DURATION_PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            self.fail(f"{text!r}: expected a time such as 30s, 5m or 1h30m", param, ctx)
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
