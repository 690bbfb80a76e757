"""Windows into a running process: web page, metrics, inspection service; their flags and their life."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import click
import grpc
import structlog
from prometheus_client import CollectorRegistry

from metalbond import cli
from metalbond.inspect import Inspectable
from metalbond.inspection.feed import Feed
from metalbond.inspection.service import InspectionServer
from metalbond.tls import Tls, TlsFiles
from metalbond.web.server import WebServer
from metalbond.wire import endpoint_text, parse_endpoint

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Windows:
    """Addresses, "host:port"; None: closed."""

    http: str | None = None
    metrics: str | None = None
    inspect: str | None = None
    insecure: bool = False
    """Addresses that are not of this machine alone may be plain text."""

    def check(self, tls: TlsFiles | None) -> None:
        """Raises click.UsageError for an address that others reach without being asked for a certificate."""
        for flag in ("http", "metrics", "inspect"):
            address = getattr(self, flag)
            if address is None or self.insecure or is_loopback(address) or (flag == "inspect" and tls is not None):
                continue
            lacks = (
                "needs --tls-certificate, --tls-key and --tls-ca, or"
                if flag == "inspect"
                else "is plain text and needs"
            )
            raise click.UsageError(f"--{flag} {address}: others reach this address; it {lacks} --observe-insecure")


def is_loopback(address: str) -> bool:
    host, _ = parse_endpoint(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def window_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--http, --metrics, --inspect, --observe-insecure → argument `windows: Windows`."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        http: str | None,
        metrics: str | None,
        inspect: str | None,
        observe_insecure: bool,
        **values: Any,
    ) -> Any:
        return command(*args, windows=Windows(http, metrics, inspect, observe_insecure), **values)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


_ENDPOINT = cli.Parsed("host:port", cli.endpoint)
_OPTIONS = (
    click.option("--http", type=_ENDPOINT, help="Serve the web page at this address, and routes and peers as JSON."),
    click.option("--metrics", type=_ENDPOINT, help="Serve Prometheus metrics at this address."),
    click.option("--inspect", type=_ENDPOINT, help="Serve the gRPC inspection service at this address."),
    click.option("--observe-insecure", is_flag=True, help="Let these three be plain text beyond this machine."),
)


@contextlib.asynccontextmanager
async def opened(
    windows: Windows, instance: Inspectable, registry: CollectorRegistry, tls: TlsFiles | None
) -> AsyncIterator[None]:
    """The windows are open inside. Raises click.ClickException if an address cannot be served."""
    feed = Feed(instance)
    async with contextlib.AsyncExitStack() as stack:
        for flag, address in (("http", windows.http), ("metrics", windows.metrics)):
            if address is None:
                continue
            web = WebServer(instance, feed, registry, page=flag == "http")
            stack.push_async_callback(web.stop)
            host, port = parse_endpoint(address)
            with _failing(flag, address):
                port = await web.start(host, port, any_name=windows.insecure)
            log.info("serving metrics" if flag == "metrics" else "serving page", address=endpoint_text((host, port)))
        if windows.inspect is not None:
            server = InspectionServer(instance, feed)
            stack.push_async_callback(server.stop)
            host, _ = parse_endpoint(windows.inspect)
            with _failing("inspect", windows.inspect):
                secure = credentials(tls) if tls is not None and not is_loopback(windows.inspect) else None
                port = await server.start(windows.inspect, secure)
            log.info("serving inspection", address=endpoint_text((host, port)), tls=secure is not None)
        yield


@contextlib.contextmanager
def _failing(flag: str, address: str) -> Any:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise click.ClickException(f"--{flag} {address}: {error}") from None


def credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Mutual TLS of the files as they are at each handshake; unusable new ones change nothing. Raises TlsError."""
    checked = Tls(files, server_side=True)
    held = checked.context()

    def load() -> grpc.ServerCertificateConfiguration:
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=files.ca.read_bytes())

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal held
        if (now := checked.context()) is held:
            return None
        held = now
        return load()

    return grpc.dynamic_ssl_server_credentials(
        load(),
        changed,  # type: ignore[arg-type]  # None means "no change", which the stub lacks
        require_client_authentication=True,
    )
