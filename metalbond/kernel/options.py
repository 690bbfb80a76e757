"""Flags of `metalbond client` for the kernel's routes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from metalbond import cli
from metalbond.kernel.plan import MAIN_TABLE

MAX_TABLE = 0xFFFFFF


@dataclass(frozen=True, slots=True)
class KernelConfig:
    tables: dict[int, int]
    """Kernel's table by VNI."""
    device: str
    ipv4_only: bool = False
    clean_up: bool = False


def mapping(text: str) -> tuple[int, int]:
    """(VNI, table) from "VNI#TABLE". As for the kernel, table 0 is the main table. Raises ValueError."""
    vni, separator, table = text.partition("#")
    if not separator:
        raise ValueError(f"{text!r}: must be VNI#TABLE")
    number = cli.number(table, "table")
    if number > MAX_TABLE:
        raise ValueError(f"table {number}: must be 0 to {MAX_TABLE}")
    return cli.vni(vni), number or MAIN_TABLE


def kernel_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--install-routes, --tun, --ipv4-only, --cleanup → argument `kernel: KernelConfig | None`."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        install_routes: tuple[list[tuple[int, int]], ...],
        tun: str,
        ipv4_only: bool,
        cleanup: bool,
        **values: Any,
    ) -> Any:
        pairs = cli.flatten(install_routes)
        for which, what in ((0, "VNI"), (1, "table")):
            numbers = [pair[which] for pair in pairs]
            if doubles := sorted({number for number in numbers if numbers.count(number) > 1}):
                raise click.UsageError(f"--install-routes: {what} {doubles[0]} is given twice")
        if bool(pairs) != bool(tun):
            raise click.UsageError("--install-routes and --tun must be given together")
        if not pairs and (ipv4_only or cleanup):
            raise click.UsageError(f"--{'ipv4-only' if ipv4_only else 'cleanup'} needs --install-routes")
        kernel = KernelConfig(dict(pairs), tun, ipv4_only, cleanup) if pairs else None
        return command(*args, kernel=kernel, **values)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


_OPTIONS = (
    click.option(
        "--install-routes",
        type=cli.Parsed("vni#table[,...]", cli.split_list(mapping)),
        multiple=True,
        help="Install received routes of the VNI into this table of the kernel (0: main); may be repeated.",
    ),
    click.option("--tun", default="", help="Tunnel that installed routes use: a device in external mode."),
    click.option("--ipv4-only", is_flag=True, help="Install IPv4 destinations only."),
    click.option("--cleanup", is_flag=True, help="Remove installed routes at the end; without it they stay."),
)
