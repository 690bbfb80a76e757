"""Command line options that all daemons share, and their config file.

Each group of options is a decorator for a click command and a class that holds its checked values:

    @click.command()
    @flags.config_file
    @flags.listen_options("127.0.0.1:8443")
    @flags.log_options
    def main(listen: flags.Listen, logs: flags.Logs) -> None: ...

A flag may also stand in the config file, by its name without "--": flat (`log-level: debug`) or nested at any dash
(`log: {level: debug}`). The command line wins over the environment, which wins over the file.
"""

import contextlib
import difflib
import enum
import functools
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from apimachinery.documents import load_documents
from apimachinery.endpoints import Endpoint, parse_endpoint, parse_targets
from apimachinery.errors import InvalidArgument
from apimachinery.logs import LEVELS, LogFormat, configure_logging
from apimachinery.tls import ClientTls, ServerTls, TlsError

T = TypeVar("T")
Decorator = Callable[[Callable[..., T]], Callable[..., T]]


class ExitCode(enum.IntEnum):
    """How the executables of this project end. (A signal that nobody handled gives 128 + its number, as always.)"""

    OK = 0
    FAILURE = 1
    """Something failed at run time; the last log lines say what."""
    USAGE = 2
    """Flags or config file are wrong; nothing was started."""


class EndpointType(click.ParamType[Endpoint]):
    """Option value `host:port`, `[v6]:port` or `unix:/path`."""

    name = "address"

    def __init__(self, *, connect: bool = False) -> None:
        self._connect = connect

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        """Parses the text; click shows the error with the flag's name."""
        if isinstance(value, Endpoint):
            return value
        try:
            return parse_endpoint(str(value), connect=self._connect)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server listens and how it secures it. `tls` None: plain text."""

    addresses: tuple[Endpoint, ...]
    tls: ServerTls | None


def check_listen(addresses: Sequence[Endpoint], tls: ServerTls | None, *, insecure: bool) -> None:
    """Refuses an address that other machines reach without mutual TLS. Raises ValueError."""
    if insecure or (tls is not None and tls.mutual):
        return
    for address in addresses:
        if not address.is_local:
            lacks = "TLS" if tls is None else "a client CA (--tls-client-ca)"
            raise ValueError(
                f"{address} can be reached from other machines, but there is no {lacks}; "
                "give the TLS flags, or --insecure if the network is trusted"
            )


def listen_options(*defaults: str) -> Decorator[T]:
    """--listen (repeatable), --tls-cert, --tls-key, --tls-client-ca, --insecure → argument `listen: Listen`."""

    def build(
        listen: tuple[Endpoint, ...],
        tls_cert: Path | None,
        tls_key: Path | None,
        tls_client_ca: Path | None,
        insecure: bool,
    ) -> Listen:
        if (tls_cert is None) != (tls_key is None):
            raise click.UsageError("--tls-cert and --tls-key must be given together")
        if tls_client_ca is not None and tls_cert is None:
            raise click.UsageError("--tls-client-ca needs --tls-cert and --tls-key")
        tls = None
        if tls_cert is not None and tls_key is not None:
            tls = ServerTls(tls_cert, tls_key, tls_client_ca)
            with _usage_errors(TlsError):
                tls.credentials()
        with _usage_errors(ValueError):
            check_listen(listen, tls, insecure=insecure)
        return Listen(listen, tls)

    return option_group(
        "listen",
        build,
        click.option(
            "--listen",
            type=EndpointType(),
            multiple=True,
            default=defaults,
            show_default=True,
            help="Address to serve on: host:port, [IPv6]:port or unix:/path. Repeatable.",
        ),
        click.option("--tls-cert", type=_FILE, help="Certificate chain of the server (PEM); followed when renewed."),
        click.option("--tls-key", type=_FILE, help="Key of --tls-cert (PEM)."),
        click.option("--tls-client-ca", type=_FILE, help="Let in only clients with a certificate of this CA (PEM)."),
        click.option("--insecure", is_flag=True, help="Serve beyond this machine without mutual TLS."),
    )


@dataclass(frozen=True, slots=True)
class Connect:
    """Which API server to use. `tls` None: plain text."""

    targets: tuple[Endpoint, ...]
    tls: ClientTls | None


def connect_options(
    flag: str, default: str | None = None, *, envvar: str | None = None, what: str = "API"
) -> Decorator[T]:
    """--<flag>, --<flag>-tls, -ca, -cert, -key, -tls-name → argument `<flag>: Connect`.

    `flag` is "server", for example; dashes become underscores in the argument. Without `default` the flag is required.
    """
    argument = flag.replace("-", "_")

    def build(**values: Any) -> Connect:
        address, use_tls, ca, certificate, key, tls_name = (
            values[argument + suffix] for suffix in ("", "_tls", "_ca", "_cert", "_key", "_tls_name")
        )
        with _usage_errors(ValueError, f"--{flag}: "):
            targets = tuple(parse_targets(address))
        tls = None
        if use_tls or ca or certificate or key or tls_name:
            tls = ClientTls(ca, certificate, key, tls_name or "")
            with _usage_errors(TlsError):
                tls.credentials()
        return Connect(targets, tls)

    return option_group(
        argument,
        build,
        click.option(
            f"--{flag}",
            default=default,
            required=default is None,
            show_default=True,
            envvar=envvar,
            show_envvar=envvar is not None,
            help=f"{what} server: host:port or unix:/path; several, with commas, that serve the same store.",
        ),
        click.option(f"--{flag}-tls", is_flag=True, help="Use TLS and the CAs of this machine."),
        click.option(f"--{flag}-ca", type=_FILE, help=f"CA of the {what} server (PEM); turns TLS on."),
        click.option(f"--{flag}-cert", type=_FILE, help="Own certificate chain (PEM)."),
        click.option(f"--{flag}-key", type=_FILE, help="Key of the certificate (PEM)."),
        click.option(f"--{flag}-tls-name", help="Name to expect in the server's certificate, if not the host."),
    )


@dataclass(frozen=True, slots=True)
class Logs:
    """How to log."""

    level: str
    format: LogFormat

    def configure(self) -> None:
        """Sets the process up."""
        configure_logging(self.level, self.format)


def log_options(function: Callable[..., T]) -> Callable[..., T]:
    """--log-level, --log-format → argument `logs: Logs`."""

    def build(log_level: str, log_format: LogFormat) -> Logs:
        return Logs(log_level, log_format)

    decorate: Decorator[T] = option_group(
        "logs",
        build,
        click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="Least level."),
        click.option(
            "--log-format",
            type=click.Choice(("text", "json")),
            default="text",
            show_default=True,
            help="Log lines.",
        ),
    )
    return decorate(function)


@dataclass(frozen=True, slots=True)
class Observe:
    """What to show to whom: arguments of `telemetry.setup_telemetry`."""

    page: Endpoint | None
    traces_to: Endpoint | None
    trace_ratio: float


def metrics_options(default: str | None = None) -> Decorator[T]:
    """--metrics, --metrics-insecure, --traces-to, --trace-ratio → argument `observe: Observe`."""

    def build(
        metrics: Endpoint | None, metrics_insecure: bool, traces_to: Endpoint | None, trace_ratio: float
    ) -> Observe:
        if metrics is not None:
            if metrics.path:
                raise click.UsageError("--metrics: the page needs host:port")
            if not (metrics.is_local or metrics_insecure):
                raise click.UsageError(
                    f"--metrics: other machines can reach {metrics}, and the page is plain text for everybody; "
                    "give --metrics-insecure if that is wanted"
                )
        return Observe(metrics, traces_to, trace_ratio)

    return option_group(
        "observe",
        build,
        click.option(
            "--metrics",
            type=EndpointType(),
            default=default,
            show_default=True,
            help="Address (host:port) of the Prometheus page.",
        ),
        click.option("--metrics-insecure", is_flag=True, help="Show the metrics page beyond this machine."),
        click.option("--traces-to", type=EndpointType(connect=True), help="OTLP collector (gRPC) that gets spans."),
        click.option(
            "--trace-ratio",
            type=click.FloatRange(0.0, 1.0),
            default=0.01,
            show_default=True,
            help="Share of traces that is recorded.",
        ),
    )


def config_file(function: Callable[..., T]) -> Callable[..., T]:
    """--config FILE (YAML, JSON, or TOML by its suffix): gives the flags of this command other defaults."""

    def load(context: click.Context, _: click.Parameter, path: Path | None) -> None:
        if path is not None and not context.resilient_parsing:
            context.default_map = {**(context.default_map or {}), **load_config(path, context)}

    option = click.option(
        "--config",
        type=_FILE,
        callback=load,
        is_eager=True,
        expose_value=False,
        help="File with flags: YAML, JSON or TOML. Flags on the command line win.",
    )
    return option(function)


def load_config(path: Path, context: click.Context) -> dict[str, Any]:
    """Parameters of the context's command as the file sets them. Raises click.UsageError with file and key."""
    options = {
        option.lstrip("-"): parameter
        for parameter in context.command.params
        if isinstance(parameter, click.Option) and parameter.name != "config"
        for option in parameter.opts
        if option.startswith("--")
    }
    values: dict[str, Any] = {}
    for keys, value in _leaves(_parse_config(path)):
        shown, flag = ".".join(keys), "-".join(keys).replace("_", "-")
        parameter = options.get(flag)
        if parameter is None or parameter.name is None:
            near = difflib.get_close_matches(flag, options, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"{path}: {shown}: no such setting{hint}")
        if parameter.name in values:
            raise click.UsageError(f"{path}: {shown}: --{flag} is set twice")
        try:
            _check_type(parameter, value)
            parameter.type_cast_value(context, value)
        except (click.BadParameter, TypeError) as error:
            message = error.message if isinstance(error, click.BadParameter) else str(error)
            raise click.UsageError(f"{path}: {shown}: {message}") from None
        values[parameter.name] = value
    return values


def _parse_config(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text()
        documents = [tomllib.loads(text)] if path.suffix == ".toml" else load_documents(text)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, InvalidArgument) as error:
        raise click.UsageError(f"{path}: {error}") from None
    if len(documents) > 1:
        raise click.UsageError(f"{path}: one document is allowed, found {len(documents)}")
    parsed = documents[0] if documents else None
    if parsed is None:
        return {}
    if not isinstance(parsed, Mapping):
        raise click.UsageError(f"{path}: expected settings by name, got a {type(parsed).__name__}")
    return parsed


def _leaves(tree: Mapping[Any, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        path = (*above, str(key))
        if isinstance(value, Mapping):
            yield from _leaves(value, path)
        else:
            yield path, value


def _check_type(parameter: click.Option, value: Any) -> None:
    """The file's own types must fit: a version written as 1.10 must not become the text "1.1"."""
    if parameter.multiple:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, got {value!r}")
        elements = value
    else:
        elements = [value]
    expected: tuple[type, ...]
    if parameter.is_flag:
        expected, name = (bool,), "true or false"
    elif isinstance(parameter.type, click.types.IntParamType):
        expected, name = (int,), "an integer"
    elif isinstance(parameter.type, click.types.FloatParamType):
        expected, name = (int, float), "a number"
    else:
        expected, name = (str,), "a text (in quotes)"
    for element in elements:
        if not isinstance(element, expected) or (isinstance(element, bool) and bool not in expected):
            raise TypeError(f"expected {name}, got {element!r}")


@contextlib.contextmanager
def _usage_errors(kind: type[Exception], prefix: str = "") -> Iterator[None]:
    try:
        yield
    except kind as error:
        raise click.UsageError(f"{prefix}{error}") from None


def option_group(argument: str, build: Callable[..., object], *options: Callable[[Any], Any]) -> Decorator[T]:
    """Adds the options and hands their values to the command as one argument."""

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        names: list[str] = []

        @functools.wraps(function)
        def command(*args: Any, **kwargs: Any) -> T:
            values = {name: kwargs.pop(name) for name in names}
            return function(*args, **kwargs, **{argument: build(**values)})

        # click collects parameters in reverse on the function.
        before = len(getattr(command, "__click_params__", ()))
        for option in reversed(options):
            option(command)
        parameters: list[click.Parameter] = command.__click_params__  # type: ignore[attr-defined]
        names += [parameter.name for parameter in parameters[before:] if parameter.name is not None]
        return command

    return decorate
