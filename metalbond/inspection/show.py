"""`metalbond show`: peers, virtual networks and routes of a running process, over its inspection service."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from ironcore.metalbond.v1 import inspection_pb2 as pb
from ironcore.metalbond.v1 import inspection_pb2_grpc as rpc
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metalbond import cli
from metalbond.security import TlsOptions, tls_options

DEFAULT_INSPECT = "[::1]:4713"
TIMEOUT = 30.0

Rows = Iterator[tuple[str, ...]]


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--inspect, --output, and TLS."""
    options = (
        click.option(
            "--inspect",
            type=cli.Parsed("host:port", cli.endpoint),
            default=DEFAULT_INSPECT,
            show_default=True,
            help="Where the process serves its inspection service.",
        ),
        click.option(
            "-o",
            "--output",
            type=click.Choice(["table", "json"]),
            default="table",
            show_default=True,
            help="json: one object per line.",
        ),
        tls_options,
    )
    for option in reversed(options):
        command = option(command)
    return command


_VNIS = click.option(
    "--vni",
    "vnis",
    type=cli.Parsed("vni[,...]", cli.split_list(cli.vni)),
    multiple=True,
    help="Only this VNI; may be repeated.",
)


@click.group()
def show() -> None:
    """Look at a running server or client."""


@show.command()
@common_options
def info(inspect: str, output: str, tls: TlsOptions) -> None:
    """What the process is, and how much it holds."""
    with _connected(inspect, tls) as stub:
        answer = stub.GetInfo(pb.GetInfoRequest(), timeout=TIMEOUT)
    refused = ", ".join(f"{count} {reason}" for reason, count in sorted(answer.updates_refused.items()))
    values = (answer.role, answer.version, answer.routes, answer.updates_received, answer.updates_sent, refused or "0")
    _print(output, ("ROLE", "VERSION", "ROUTES", "RECEIVED", "SENT", "REFUSED"), [answer], lambda _: [map(str, values)])


@show.command()
@common_options
def peers(inspect: str, output: str, tls: TlsOptions) -> None:
    """Peers of a server, servers of a client."""

    def row(peer: pb.Peer) -> Rows:
        refused = sum(peer.refused.values())
        protocol = f"revision {peer.revision}" if peer.revision else "original"
        remarks = [peer.reason, "mesh" if peer.mesh else "", f"{refused} refused" if refused else ""]
        yield (
            peer.name,
            peer.identity,
            peer.state,
            f"{peer.age_seconds:.0f}s" if peer.age_seconds else "",
            str(peer.routes),
            str(peer.stale_routes),
            str(peer.waiting),
            ",".join(map(str, peer.subscriptions[:8])) + (",..." if len(peer.subscriptions) > 8 else ""),
            protocol,
            ", ".join(filter(None, remarks)),
        )

    head = ("PEER", "IDENTITY", "STATE", "AGE", "ROUTES", "STALE", "WAITING", "SUBSCRIBED", "PROTOCOL", "REMARKS")
    with _connected(inspect, tls) as stub:
        pages = _pages(stub.ListPeers, lambda token: pb.ListPeersRequest(page_size=1000, page_token=token))
        _print(output, head, (peer for page in pages for peer in page.peers), row)


@show.command()
@common_options
def vnis(inspect: str, output: str, tls: TlsOptions) -> None:
    """Virtual networks with routes or subscribers."""
    with _connected(inspect, tls) as stub:
        answer = stub.ListVnis(pb.ListVnisRequest(), timeout=TIMEOUT)
    head = ("VNI", "DESTINATIONS", "SUBSCRIBERS")
    _print(output, head, answer.vnis, lambda v: [(str(v.vni), str(v.destinations), str(v.subscribers))])


@show.command()
@click.argument("address", required=False, default="")
@_VNIS
@click.option("--next-hop", default="", help="Only routes to this underlay address.")
@click.option("--watch", is_flag=True, help="Go on with what changes, until interrupted.")
@common_options
def routes(
    address: str, vnis: tuple[list[int], ...], next_hop: str, watch: bool, inspect: str, output: str, tls: TlsOptions
) -> None:
    """All routes, or those that ADDRESS takes: the longest match in each VNI."""
    numbers = cli.flatten(vnis)
    if watch and (address or next_hop):
        raise click.UsageError("--watch cannot be combined with ADDRESS or --next-hop")
    with _connected(inspect, tls) as stub:
        if watch:
            _follow(stub.WatchRoutes(pb.WatchRoutesRequest(vnis=numbers)), output)
            return
        wanted = pb.RouteFilter(vnis=numbers, address=address, next_hop=next_hop)
        pages = _pages(
            stub.ListRoutes, lambda token: pb.ListRoutesRequest(filter=wanted, page_size=10_000, page_token=token)
        )
        head = ("VNI", "DESTINATION", "NEXT HOP", "TYPE", "PORTS", "FROM")
        _print(output, head, (route for page in pages for route in page.routes), lambda route: [_route(route)])


def _route(route: pb.Route) -> tuple[str, ...]:
    hop = route.next_hop
    target = f"{hop.address} vni {hop.vni}" if hop.vni else hop.address
    ports = f"{hop.nat_from}-{hop.nat_to}" if hop.nat_from or hop.nat_to else ""
    return str(route.vni), route.destination, target, hop.type, ports, ", ".join(route.sources)


def _follow(stream: Any, output: str) -> None:
    """One line per change: + is there now, - is gone, = that was all so far."""
    try:
        for message in stream:
            for change in message.changes:
                line = ("- " if change.removed else "+ ") + " ".join(filter(None, _route(change.route)))
                click.echo(_json(change) if output == "json" else printable(line))
            if message.synced:
                click.echo('{"synced": true}' if output == "json" else "=")
    except KeyboardInterrupt:
        stream.cancel()


def _pages(call: Any, request: Callable[[str], Message]) -> Iterator[Any]:
    token = ""
    while True:
        page = call(request(token), timeout=TIMEOUT)
        yield page
        token = page.next_page_token
        if not token:
            return


def _print(output: str, head: Sequence[str], items: Any, rows: Callable[[Any], Any]) -> None:
    if output == "json":
        for item in items:
            click.echo(_json(item))
        return
    table = Table(box=None, pad_edge=False, header_style="", show_edge=False)
    for name in head:
        table.add_column(name, no_wrap=True, overflow="ignore")
    for item in items:
        for row in rows(item):
            table.add_row(*(Text(printable(text)) for text in row))
    # As wide as it is when it does not go to a terminal.
    Console(width=None if sys.stdout.isatty() else 10_000, highlight=False).print(table)


def printable(text: str) -> str:
    """Without what could steer a terminal: peers choose their identities."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _json(message: Message) -> str:
    values = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return json.dumps(values)


class _connected:  # noqa: N801 # used like a function
    """A stub; errors of calls become errors of the command."""

    def __init__(self, address: str, tls: TlsOptions) -> None:
        self._address = address
        if tls.files is None:
            self._channel = grpc.insecure_channel(address)
            return
        files = tls.files
        secure = grpc.ssl_channel_credentials(
            files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
        )
        options = [("grpc.ssl_target_name_override", tls.name)] if tls.name else []
        self._channel = grpc.secure_channel(address, secure, options)

    def __enter__(self) -> rpc.InspectionServiceStub:
        return rpc.InspectionServiceStub(self._channel)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._channel.close()
        if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
            raise click.ClickException(f"{self._address}: {error.code().name}: {error.details()}") from None
