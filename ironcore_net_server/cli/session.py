"""What every command shares: flags to connect, the client, errors and exit codes."""

import asyncio
import enum
import functools
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import click
import grpc
from google.protobuf.message import Message

from apimachinery import flags
from apimachinery.client import Client, KindClient
from apimachinery.errors import ApiError
from apimachinery.logs import configure_logging
from apimachinery.manifest import manifest_path
from apimachinery.scheme import DEFAULT_NAMESPACE, KindInfo, kind_info, metadata_of
from ironcore_net_server.cli.arguments import Duration

DEFAULT_SERVER: Final = "127.0.0.1:8443"


class ExitCode(enum.IntEnum):
    """How ironctl ends. The first failure of a command that does several things counts."""

    OK = 0
    FAILED = 1
    """The server refused, or something else went wrong."""
    USAGE = 2
    """Flags or arguments are wrong; nothing was sent."""
    NOT_FOUND = 3
    UNAVAILABLE = 4
    """No server answered."""
    TIMED_OUT = 5
    """`wait` or `delete` gave up waiting."""
    INVALID = 6
    """A manifest is wrong; the paths of the fields were shown."""
    CONFLICT = 7
    """Somebody else changed the object, or owns a field."""


_EXIT_CODES: Final[Mapping[grpc.StatusCode, ExitCode]] = {
    grpc.StatusCode.NOT_FOUND: ExitCode.NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE: ExitCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: ExitCode.UNAVAILABLE,
    grpc.StatusCode.INVALID_ARGUMENT: ExitCode.INVALID,
    grpc.StatusCode.ABORTED: ExitCode.CONFLICT,
    grpc.StatusCode.ALREADY_EXISTS: ExitCode.CONFLICT,
}


class TimedOutError(Exception):
    """What was waited for did not come in time; the message says what."""


@dataclass
class Session:
    """One run of a command. `namespace` is None if the user named none."""

    client: Client
    server: str
    namespace: str | None
    exit_code: ExitCode = ExitCode.OK

    def kind(self, info: KindInfo) -> KindClient[Any]:
        """Verbs of a kind. (Which message class it is, only the user knows.)"""
        return self.client.kind(info.message_class)

    def namespace_of(self, info: KindInfo) -> str:
        """The namespace that the command means for objects of this kind."""
        return (self.namespace or DEFAULT_NAMESPACE) if info.namespaced else ""

    def place(self, obj: Message) -> Message:
        """Puts an object of a manifest into the command's namespace. Raises click.UsageError if it names another."""
        meta, info = metadata_of(obj), kind_info(obj)
        if info.namespaced:
            if self.namespace and meta.namespace and meta.namespace != self.namespace:
                raise click.UsageError(
                    f"{info.kind} {meta.name} is of namespace {meta.namespace}, but --namespace is {self.namespace}"
                )
            meta.namespace = meta.namespace or self.namespace_of(info)
        return obj

    def failed(self, error: ApiError, info: KindInfo | None = None) -> None:
        """Shows an error; the command goes on and ends with its exit code."""
        show_error(error, info)
        if self.exit_code is ExitCode.OK:
            self.exit_code = exit_code_of(error)


def exit_code_of(error: ApiError) -> ExitCode:
    """Exit code of an API error."""
    return _EXIT_CODES.get(error.code, ExitCode.FAILED)


def error_lines(error: ApiError, info: KindInfo | None = None) -> list[str]:
    """The error for people: sentence, wrong fields by their manifest paths, what is full."""
    lines = [error.message]
    for violation in error.violations:
        field = manifest_path(info, violation.field) if info is not None and violation.field else violation.field
        lines.append(f"  {field}: {violation.message}" if field else f"  {violation.message}")
    if error.exhausted:
        lines.append(f"  full: {error.exhausted}")
    return lines


def show_error(error: ApiError, info: KindInfo | None = None) -> None:
    """Prints the error to standard error."""
    first, *rest = error_lines(error, info)
    click.echo(click.style("Error: ", fg="red") + first, err=True)
    for line in rest:
        click.echo(line, err=True)


def command(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Makes a coroutine `function(session, **options)` a click callback with the flags to connect."""

    def run(server: flags.Connect, namespace: str | None, request_timeout: float, **options: Any) -> None:
        configure_logging("warning")
        shown = ",".join(str(target) for target in server.targets)
        code = asyncio.run(_run(function, server, shown, namespace, request_timeout, options))
        sys.exit(code)

    functools.update_wrapper(run, function)
    run = click.option(
        "--request-timeout", type=Duration(), default="15s", show_default=True, help="Longest time for one request."
    )(run)
    run = click.option("--namespace", "-n", help=f"Namespace (default: {DEFAULT_NAMESPACE}).")(run)
    connect: flags.Decorator[None] = flags.connect_options("server", DEFAULT_SERVER, envvar="IRONCTL_SERVER")
    return connect(run)


async def _run(
    function: Callable[..., Awaitable[None]],
    server: flags.Connect,
    shown: str,
    namespace: str | None,
    timeout: float,  # noqa: ASYNC109 - of the client's requests, not of this call
    options: Mapping[str, Any],
) -> ExitCode:
    async with Client([str(target) for target in server.targets], server.tls, timeout=timeout) as client:
        session = Session(client, shown, namespace)
        try:
            await function(session, **options)
        except ApiError as error:
            if error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                click.echo(f"{click.style('Error: ', fg='red')}no answer from {shown}: {error.message}", err=True)
            else:
                show_error(error)
            return exit_code_of(error)
        except TimedOutError as error:
            click.echo(f"{click.style('Error: ', fg='red')}{error}", err=True)
            return ExitCode.TIMED_OUT
        return session.exit_code
