"""The program `dpservice-dump`.

Exit status: 0 after -c packets, an interrupt, or when somebody else stopped the trace; 1 for every error.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import grpc
from ironcore.dpservice.v1 import trace_pb2 as pb
from ironcore.dpservice.v1 import trace_pb2_grpc

from dpservice.dump import pcap
from dpservice.dump.dissect import line

PROGRAM = "dpservice-dump"
_CONNECT_SECONDS = 4.0
_FILE = click.Path(path_type=Path, dir_okay=False)


def _credentials(ca: Path | None, certificate: Path | None, key: Path | None) -> grpc.ChannelCredentials | None:
    if (certificate is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    if ca is None:
        if certificate is not None:
            raise click.UsageError("--tls-cert needs --tls-ca")
        return None
    try:
        parts = [path.read_bytes() if path else None for path in (ca, key, certificate)]
    except OSError as error:
        raise click.ClickException(str(error)) from None
    return grpc.ssl_channel_credentials(*parts)


@contextlib.contextmanager
def _connect(address: str, credentials: grpc.ChannelCredentials | None) -> Iterator[trace_pb2_grpc.TraceServiceStub]:
    channel = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    with channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_CONNECT_SECONDS)
        except grpc.FutureTimeoutError:
            raise click.ClickException(f"cannot connect to {address}") from None
        try:
            yield trace_pb2_grpc.TraceServiceStub(channel)
        except grpc.RpcError as error:
            raise click.ClickException(error.details() or error.code().name) from None


def _records(stream: Any, count: int | None) -> Iterator[pb.TraceRecord]:
    lost = 0

    def all_of_them() -> Iterator[pb.TraceRecord]:
        nonlocal lost
        for response in stream:
            yield from response.records
            if response.lost > lost:
                click.echo(f"{PROGRAM}: {response.lost - lost} records lost", err=True)
                lost = response.lost

    yield from itertools.islice(all_of_them(), count)


def _show(records: Iterator[pb.TraceRecord], *, reasons: bool) -> None:
    for record in records:
        reason = f" ({record.drop_reason})" if reasons and record.drop_reason else ""
        click.echo(line(record) + reason)


def _save(records: Iterator[pb.TraceRecord], path: Path) -> None:
    try:
        with path.open("wb") as file:
            writer = pcap.PcapWriter(file)
            for record in records:
                writer.write(record.timestamp_ns, record.data, record.length)
    except OSError as error:
        raise click.ClickException(str(error)) from None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--drops", is_flag=True, help="Also show packets that are dropped.")
@click.option("--nodes", metavar="REGEX", help="Also show the steps between ports; only those whose node matches.")
@click.option("--filter", "expression", metavar="FILTER", default="", help="Only frames that this pcap filter matches.")
@click.option("--pcap", "pcap_file", metavar="FILE", type=_FILE, help="Write a pcap file instead of text.")
@click.option("-c", "--count", type=click.IntRange(min=1), metavar="N", help="End after N records.")
@click.option("--reasons", is_flag=True, help="Name the reason behind dropped packets.")
@click.option("--stop", is_flag=True, help="Only end the trace that is running, of whichever client.")
@click.option(
    "--address",
    default=lambda: f"localhost:{os.environ.get('DP_GRPC_PORT') or '1337'}",
    help="Address of the service.",
)
@click.option("--tls-ca", type=_FILE, help="Connect with TLS; CA of the service (PEM).")
@click.option("--tls-cert", type=_FILE, help="Own certificate (PEM).")
@click.option("--tls-key", type=_FILE, help="Key of --tls-cert (PEM).")
@click.version_option(None, "-v", "--version", package_name="ironcore-network", prog_name=PROGRAM)
def dump(
    drops: bool,
    nodes: str | None,
    expression: str,
    pcap_file: Path | None,
    count: int | None,
    reasons: bool,
    stop: bool,
    address: str,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Show packets on their way through an engine."""
    with _connect(address, _credentials(tls_ca, tls_cert, tls_key)) as stub:
        if stop:
            ended = stub.StopTrace(pb.StopTraceRequest())
            click.echo(f"trace ended, {ended.recorded} records, {ended.lost} lost")
            return
        stream = stub.TracePackets(
            pb.TracePacketsRequest(
                drops=drops or reasons,
                nodes=nodes is not None,
                node_pattern=nodes or "",
                filter=expression,
                snap_length=pcap.SNAP_LENGTH if pcap_file else 0,
            )
        )
        next(stream)  # tracing is on from here
        click.echo(f"{PROGRAM}: tracing", err=True)
        records = _records(stream, count)
        try:
            if pcap_file:
                _save(records, pcap_file)
            else:
                _show(records, reasons=reasons)
        except KeyboardInterrupt:
            pass
        finally:
            stream.cancel()


def main() -> None:
    """Entry point of the executable."""
    # Ends as by Ctrl-C, so that the engine stops copying at once.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    dump.main(prog_name=PROGRAM)
