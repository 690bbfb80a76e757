"""Commands that look into the engine: explain, flows, events, tables, counters, state, limits."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import click
import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from ironcore.dpservice.v1 import dpservice_pb2 as pb
from ironcore.dpservice.v1 import dpservice_pb2_grpc

from dpservice.cli import objects
from dpservice.cli.api import Client, client_error, grpc_error
from dpservice.cli.commands import IP, UINT32
from dpservice.cli.frame import Command, Session, with_session
from dpservice.cli.objects import Object

_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
_PROTOCOL_NAMES = {number: name for name, number in _PROTOCOLS.items()}
_PORT = click.IntRange(0, 65535)
_BYTE = click.IntRange(0, 255)
_SECONDS = click.IntRange(1, 2**24)
_PAGE = 1000
_ICMP = (1, 58)


class Protocol(click.ParamType[int]):
    """A protocol by name or number."""

    name = "protocol"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """IANA number."""
        text = str(value).lower()
        if text in _PROTOCOLS:
            return _PROTOCOLS[text]
        if not (text.isdecimal() and int(text) <= 255):
            self.fail(f"'{value}' is neither {', '.join(_PROTOCOLS)} nor 0..255", param, ctx)
        return int(text)


class Hex(click.ParamType[bytes]):
    """Bytes in hexadecimal digits; colons and blanks do not matter."""

    name = "hex"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Bytes."""
        try:
            return bytes.fromhex(str(value).replace(":", " "))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Inspection:
    """The inspection service behind a client's connection."""

    def __init__(self, client: Client) -> None:
        self._stub = dpservice_pb2_grpc.InspectionServiceStub(client.channel)

    def call(self, method: str, request: Message) -> Any:
        """Response of the method's own type. Raises CliError."""
        try:
            return getattr(self._stub, method)(request)
        except grpc.RpcError as error:
            raise grpc_error(error) from None

    def events(self, request: pb.WatchEventsRequest) -> Iterator[pb.WatchEventsResponse]:
        """Responses until the service ends. Raises CliError."""
        try:
            yield from self._stub.WatchEvents(request)
        except grpc.RpcError as error:
            raise grpc_error(error) from None

    def flows(self, request: pb.ListFlowsRequest) -> Iterator[pb.Flow]:
        """Flows of all pages. Raises CliError."""
        while True:
            page = self.call("ListFlows", request)
            yield from page.flows
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def _plain(message: Message) -> Object:
    return MessageToDict(message, preserving_proto_field_name=True)


@click.command("explain", cls=Command)
@click.option("--interface-id", help="The VM behind this interface sends the packet.")
@click.option("--uplink", type=click.IntRange(0, 1), help="The packet comes in on this uplink.")
@click.option("--to-interface", help="With --uplink: to the underlay address of this interface.")
@click.option("--underlay", type=IP, help="With --uplink: outer destination.")
@click.option("--from-underlay", type=IP, help="With --uplink: outer source.")
@click.option("--src", type=IP, help="Default: the interface's own address.")
@click.option("--dst", type=IP)
@click.option("--protocol", type=Protocol(), default="tcp", show_default=True, help="Name or number.")
@click.option("--src-port", type=_PORT, default=40000, show_default=True)
@click.option("--dst-port", type=_PORT, default=0)
@click.option("--tcp-flags", default="S", show_default=True, help="Letters of FSRPAUEC.")
@click.option("--icmp-type", type=_BYTE, help="Default: an echo request.")
@click.option("--icmp-code", type=_BYTE, default=0)
@click.option("--icmp-id", type=_PORT, default=1)
@click.option("--payload", type=click.IntRange(0, 8192), default=0, help="Bytes behind the transport header.")
@click.option("--frame", "raw", type=Hex(), help="A whole frame in hexadecimal instead of a description.")
@with_session
def explain(session: Session, interface_id: str | None, uplink: int | None, raw: bytes | None, **fields: Any) -> None:
    """Tell where a packet would go now, and why. Nothing is sent, nothing changes."""
    if (interface_id is None) == (uplink is None):
        raise client_error("give one of --interface-id and --uplink")
    if (raw is None) == (fields["dst"] is None):
        raise client_error("give one of --dst and --frame")
    request = pb.ExplainPacketRequest()
    if interface_id is not None:
        request.interface_id = interface_id
    else:
        request.uplink = uplink or 0
    with session.connect() as client:
        inspection = _Inspection(client)
        if raw is not None:
            request.frame = raw
        else:
            request.description.CopyFrom(_description(inspection, interface_id, fields))
        reply = inspection.call("ExplainPacket", request)
    session.show(_explanation(reply, as_steps=session.output in (None, "table")), "table")


def _description(inspection: _Inspection, interface_id: str | None, fields: dict[str, Any]) -> pb.PacketDescription:
    source = fields["src"]
    is_v6 = ":" in fields["dst"]
    if source is None and interface_id is not None:
        state = inspection.call("ListInterfaceState", pb.ListInterfaceStateRequest(interface_id=interface_id))
        source = state.interfaces[0].ipv6 if is_v6 else state.interfaces[0].ipv4
    if not source:
        raise client_error("give --src")
    protocol = 58 if fields["protocol"] == 1 and is_v6 else fields["protocol"]
    icmp_type = fields["icmp_type"]
    description = pb.PacketDescription(
        source=source,
        destination=fields["dst"],
        protocol=protocol,
        payload_length=fields["payload"],
        outer_source=fields["from_underlay"] or "",
        outer_destination=fields["underlay"] or "",
        to_interface_id=fields["to_interface"] or "",
    )
    if protocol in _ICMP:
        description.icmp_type = icmp_type if icmp_type is not None else (128 if protocol == 58 else 8)
        description.icmp_code, description.icmp_id = fields["icmp_code"], fields["icmp_id"]
    else:
        description.source_port, description.destination_port = fields["src_port"], fields["dst_port"]
        description.tcp_flags = fields["tcp_flags"]
    return description


def _explanation(reply: pb.ExplainPacketResponse, *, as_steps: bool) -> Object:
    if not as_steps:
        return objects.make("Explanation", {}, _plain(reply))
    steps = []
    for number, part in enumerate(reply.parts, start=1):
        rows = [(step.stage, step.outcome) for step in part.steps]
        rows.append(("verdict", _verdict(part)))
        steps += [
            objects.make("ExplainedStep", {"part": number}, {"stage": stage, "outcome": outcome})
            for stage, outcome in rows
        ]
    return objects.make_list("ExplainedStep", steps)


def _verdict(part: pb.ExplainedPart) -> str:
    word = pb.PacketVerdict.Name(part.verdict).removeprefix("PACKET_VERDICT_")
    if part.verdict == pb.PACKET_VERDICT_DROPPED:
        told = ", the sender is told" if part.reply else ""
        return f"{word} {part.drop_reason} ({part.drop_description}){told}"
    if part.verdict == pb.PACKET_VERDICT_DELIVERED:
        return f"{word} to interface {part.interface_id} on {part.device}, {len(part.output)} bytes"
    if part.verdict == pb.PACKET_VERDICT_SENT:
        return f"{word} by {part.device} to {part.outer_destination}, {len(part.output)} bytes"
    if part.verdict == pb.PACKET_VERDICT_LOOPED:
        return f"{word} to {part.outer_destination} on this host"
    return word


@click.command("flows", cls=Command)
@click.option("--interface-id")
@click.option("--vni", type=UINT32)
@click.option("--ip", "address", type=IP, help="Either end, before or after translation.")
@click.option("--port", type=_PORT, help="Either end, before or after translation, or ICMP identifier.")
@click.option("--protocol", type=Protocol(), help="Name or number.")
@click.option("--state", "tcp_state", help="TCP state: syn, established ...")
@click.option("--translated", "translated_only", is_flag=True, help="Only those behind a virtual IP or NAT.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many.")
@with_session
def flows(session: Session, limit: int, **filters: Any) -> None:
    """List flows, both directions of each."""
    wanted = {name: value for name, value in filters.items() if value is not None}
    request = pb.ListFlowsRequest(page_size=min(limit, _PAGE), **wanted)
    with session.connect() as client:
        found = list(itertools.islice(_Inspection(client).flows(request), limit))
    session.show(objects.make_list("Flow", map(_flow, found)), "table")


def _ends(fields: pb.PacketFields) -> str:
    if fields.later_fragment:
        return f"{fields.source} > {fields.destination} (fragment)"
    if fields.protocol in _ICMP:
        return f"{fields.source} > {fields.destination} type {fields.icmp_type} id {fields.icmp_id}"
    return f"{_end(fields.source, fields.source_port)} > {_end(fields.destination, fields.destination_port)}"


def _end(address: str, port: int) -> str:
    shown = f"[{address}]" if ":" in address and port else address
    return f"{shown}:{port}" if port else shown


def _program(program: pb.FlowProgram) -> str:
    words = ""
    if program.translation:
        kind = pb.Translation.Name(program.translation).removeprefix("TRANSLATION_").lower().replace("_", " ")
        words = f"{kind} {_end(program.new_address, program.new_port)}, "
    if program.action == pb.PACKET_ACTION_DELIVER:
        return f"{words}to {program.interface_id or program.device}"
    return f"{words}to {program.outer_destination}"


def _flow(flow: pb.Flow) -> Object:
    spec = _plain(flow)
    protocol = flow.original.match.protocol
    spec["summary"] = {
        "protocol": _PROTOCOL_NAMES.get(protocol, str(protocol)),
        "original": _ends(flow.original.match),
        "does": _program(flow.original.program),
        "reply": _ends(flow.reply.match) if flow.HasField("reply") else "",
        "packets": f"{flow.original.packets}/{flow.reply.packets}",
        "age": f"{flow.age.seconds}s",
        "expires": f"{flow.expires_in.seconds}s",
    }
    return objects.make("Flow", {}, spec)


@click.command("events", cls=Command)
@click.option("--new", is_flag=True, help="Only what happens from now on.")
@click.option("--count", type=click.IntRange(1), help="End after so many.")
@with_session
def events(session: Session, new: bool, count: int | None) -> None:
    """Show what has happened in the engine and go on with what happens. JSON: one object a line."""
    request = pb.WatchEventsRequest() if new else pb.WatchEventsRequest(from_sequence=0)
    with session.connect() as client:
        for line in itertools.islice(_event_lines(_Inspection(client).events(request), session.output), count):
            click.echo(line)


def _event_lines(responses: Iterable[pb.WatchEventsResponse], mode: str | None) -> Iterator[str]:
    for response in responses:
        if response.lost:
            yield json.dumps({"lost": response.lost}) if mode == "json" else f"... {response.lost} events lost"
        for event in response.events:
            if mode == "json":
                yield json.dumps(_plain(event))
                continue
            name = pb.EventType.Name(event.type).removeprefix("EVENT_TYPE_").lower()
            where = f" vni {event.vni}" if event.vni else ""
            words = f"{event.time.ToJsonString()}  {event.sequence:>6}  {name:<22}  {event.subject}{where}"
            yield f"{words}  {event.detail}".rstrip()


@click.command("tables", cls=Command)
@with_session
def tables(session: Session) -> None:
    """Show how full the engine's tables are."""
    with session.connect() as client:
        reply = _Inspection(client).call("ListTables", pb.ListTablesRequest())
    rows = [
        objects.make(
            "EngineTable",
            {"name": table.name},
            {
                "used": table.used,
                "limit": table.limit or None,
                "level": f"{100 * table.used / table.limit:.1f}%" if table.limit else "",
            },
        )
        for table in reply.tables
    ]
    session.show(objects.make_list("EngineTable", rows), "table")


@click.command("counters", cls=Command)
@with_session
def counters(session: Session) -> None:
    """Show packets and drops of all ports."""
    with session.connect() as client:
        reply = _Inspection(client).call("GetCounters", pb.GetCountersRequest())
    rows = []
    for port in reply.ports:
        spec = _plain(port)
        spec["dropped"] = " ".join(f"{drop.reason}={drop.packets}" for drop in port.drops)
        rows.append(objects.make("PortCounters", {"device": port.device}, spec))
    session.show(objects.make_list("PortCounters", rows), "table")


@click.command("state", cls=Command)
@click.option("--interface-id", default="")
@with_session
def state(session: Session, interface_id: str) -> None:
    """Show all about one or all interfaces: MACs, public addresses of both families, flows, limits."""
    with session.connect() as client:
        request = pb.ListInterfaceStateRequest(interface_id=interface_id)
        reply = _Inspection(client).call("ListInterfaceState", request)
    rows = []
    for one in reply.interfaces:
        spec = _plain(one)
        spec["public"] = ",".join(
            f"{public.address}:{public.min_port}-{public.max_port - 1}" if public.max_port else public.address
            for public in one.public_addresses
        )
        spec["mac"] = one.vm_mac if one.vm_mac_learned else f"{one.vm_mac}?"
        rows.append(objects.make("InterfaceState", {"id": one.id}, spec))
    session.show(objects.make_list("InterfaceState", rows), "table")


@click.command("limits", cls=Command)
@click.option("--interface-id", required=True)
@click.option("--quota", type=UINT32, help="Flows it may have; 0: no limit but the table.")
@click.option("--tcp-established", type=_SECONDS)
@click.option("--tcp-transitory", type=_SECONDS, help="Opening, closing, closed.")
@click.option("--udp", type=_SECONDS)
@click.option("--icmp", type=_SECONDS)
@click.option("--other", type=_SECONDS)
@with_session
def limits(session: Session, interface_id: str, quota: int | None, **timeouts: int | None) -> None:
    """Show the flow limits of an interface; with options: change them first."""
    changes = {name: seconds for name, seconds in timeouts.items() if seconds is not None}
    with session.connect() as client:
        inspection = _Inspection(client)
        if changes or quota is not None:
            request = pb.SetFlowLimitsRequest(interface_id=interface_id, quota=quota)
            request.timeouts.CopyFrom(pb.FlowTimeouts(**changes))
            inspection.call("SetFlowLimits", request)
        reply = inspection.call("GetFlowLimits", pb.GetFlowLimitsRequest(interface_id=interface_id))
    spec = {name.name: getattr(reply.limits.timeouts, name.name) for name in pb.FlowTimeouts.DESCRIPTOR.fields}
    spec |= {"quota": reply.limits.quota, "flows": reply.flows}
    session.show(objects.make("FlowLimits", {"interface_id": interface_id}, spec), "table")


COMMANDS = (explain, flows, events, tables, counters, state, limits)
