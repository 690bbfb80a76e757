"""What all commands share: flags that may stand anywhere, nouns with aliases in any case, and the way out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import grpc

from dpservice.cli.api import Client, client_error
from dpservice.cli.objects import Object
from dpservice.cli.output import MODES, render

NOUNS: dict[str, tuple[str, ...]] = {
    "interface": ("interfaces", "iface", "ifaces"),
    "prefix": ("prefixes", "prfx", "prfxs"),
    "route": ("routes", "rt", "rts"),
    "virtualip": ("virtualips", "vip", "vips"),
    "loadbalancer": ("loadbalancers", "lb", "lbs"),
    "lbprefix": ("loadbalancer-prefix", "loadbalancer-prefixes", "lbprefixes", "lbprfx", "lbprfxs"),
    "lbtarget": ("loadbalancer-target", "loadbalancer-targets", "lbtargets", "lbtrgt", "lbtrgts"),
    "nat": ("nats", "translation"),
    "neighbornat": ("nnat", "ngbnat", "neighnat"),
    "firewallrule": ("firewallrules", "fwrule", "fwrules", "fw-rule", "fw-rules"),
    "create": ("add",),
    "delete": ("del",),
}
_DURATION_PART = r"([0-9]+(?:\.[0-9]+)?)(ms|us|ns|s|m|h)"
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_ALIASES = {alias: name for name, aliases in NOUNS.items() for alias in aliases}


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    source = context.get_parameter_source(parameter.name or "")
    key = f"dpservice.{parameter.name}"
    # The innermost command line wins; its defaults do not undo what stood further left.
    if source is click.core.ParameterSource.COMMANDLINE or key not in context.meta:
        context.meta[key] = value


def _default_address() -> str:
    return f"localhost:{os.environ.get('DP_GRPC_PORT') or '1337'}"


def _global_options() -> list[click.Parameter]:
    shared: dict[str, Any] = {"callback": _remember, "expose_value": False, "is_eager": True}
    file = click.Path(path_type=Path, dir_okay=False)
    return [
        click.Option(["--address"], default=_default_address, help="Address of the service.", **shared),
        click.Option(
            ["--connect-timeout"], type=Duration(), default="4s", help="Time to connect (4s, 500ms).", **shared
        ),
        click.Option(["-o", "--output"], type=click.Choice(MODES), help="Form of the output.", **shared),
        click.Option(["--pretty"], is_flag=True, help="Indent JSON.", **shared),
        click.Option(["-w", "--wide"], is_flag=True, help="More columns.", **shared),
        click.Option(["--tls-ca"], type=file, help="Connect with TLS; CA of the service (PEM).", **shared),
        click.Option(["--tls-cert"], type=file, help="Own certificate (PEM).", **shared),
        click.Option(["--tls-key"], type=file, help="Key of --tls-cert (PEM).", **shared),
    ]


class Duration(click.ParamType[float]):
    """Seconds from texts such as `4s`, `500ms` or `1m30s`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if not re.fullmatch(f"(?:{_DURATION_PART})+", str(value)):
            self.fail(f"'{value}' is not a duration such as 4s, 500ms or 1m30s", param, ctx)
        return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_DURATION_PART, str(value)))


class Command(click.Command):
    """A command that also takes the global flags."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_global_options())


class Group(click.Group):
    """Commands found by name or alias, in any case; the global flags may stand before them."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_global_options())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, whatever its case and alias."""
        name = cmd_name.lower()
        return super().get_command(ctx, name) or super().get_command(ctx, _ALIASES.get(name, name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command and the words behind it."""
        _, command, rest = super().resolve_command(ctx, args)
        return (command.name if command else None), command, rest


class Session:
    """One run of the client: the global flags, the connection they lead to, and the output they ask for."""

    def __init__(self, context: click.Context) -> None:
        self._meta = context.meta

    def _flag(self, name: str) -> Any:
        return self._meta.get(f"dpservice.{name}")

    @property
    def wide(self) -> bool:
        """--wide."""
        return bool(self._flag("wide"))

    @property
    def output(self) -> str | None:
        """--output, if given."""
        value: str | None = self._flag("output")
        return value

    def connect(self) -> Client:
        """Raises CliError."""
        return Client(self._flag("address"), self._flag("connect_timeout"), self._credentials())

    def _credentials(self) -> grpc.ChannelCredentials | None:
        files = [self._flag(name) for name in ("tls_ca", "tls_key", "tls_cert")]
        if not any(files):
            return None
        try:
            return grpc.ssl_channel_credentials(*(path.read_bytes() if path else None for path in files))
        except OSError as error:
            raise client_error(str(error)) from None

    def show(self, item: Object, default_mode: str, operation: str = "") -> None:
        """Prints an object or list in the form asked for."""
        mode = self._flag("output") or default_mode
        text = render(item, mode, operation=operation, pretty=bool(self._flag("pretty")), wide=self.wide)
        if text:
            click.echo(text)


Body = Callable[..., None]


def with_session(body: Callable[..., None]) -> Body:
    """Gives a command its Session as first argument."""

    @click.pass_context
    def wrapped(context: click.Context, /, **flags: Any) -> None:
        body(Session(context), **flags)

    wrapped.__name__ = body.__name__
    wrapped.__doc__ = body.__doc__
    return wrapped
