"""Between the messages of `ironcore.dpservice.v1` and the engine's values."""

from __future__ import annotations

import ipaddress

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from ironcore.dpservice.v1 import dpservice_pb2 as pb

from dpservice import _engine, packets

_MAX_PORT = 65535
_MAX_PROTOCOL = 255
_MAX_PAYLOAD = 8192
_OUTER_HEADERS = 54
_OUTER_SOURCE, _OUTER_DESTINATION = slice(22, 38), slice(38, 54)
_ANY_HOST = "2001:db8::1"
_NANOSECONDS = 1_000_000_000


class InvalidArgument(Exception):  # noqa: N818 - named after the gRPC status it becomes
    """A malformed field; the text names it."""


def address(text: str, name: str) -> bytes:
    """4 or 16 bytes. Raises InvalidArgument."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        raise InvalidArgument(f"{name}: '{text}' is not an IP address") from None


def address_text(packed: bytes) -> str:
    """Canonical text of 4 or 16 bytes."""
    return str(ipaddress.ip_address(packed))


def mac_text(packed: bytes) -> str:
    """Colon-separated text of 6 bytes."""
    return packed.hex(":")


def in_range(value: int, name: str, maximum: int) -> int:
    """The value. Raises InvalidArgument beyond 0..maximum."""
    if value > maximum:
        raise InvalidArgument(f"{name}: {value} is not 0..{maximum}")
    return value


def _underlay(text: str, name: str) -> bytes:
    packed = address(text, name)
    if len(packed) != len(bytes(16)):
        raise InvalidArgument(f"{name}: '{text}' is not an IPv6 address")
    return packed


def _ip_packet(description: pb.PacketDescription) -> bytes:
    try:
        flags = packets.tcp_flags(description.tcp_flags)
    except ValueError as error:
        raise InvalidArgument(f"tcp_flags: {error}") from None
    try:
        return packets.ip_packet(
            packets.Packet(
                source=address(description.source, "source"),
                destination=address(description.destination, "destination"),
                protocol=in_range(description.protocol, "protocol", _MAX_PROTOCOL),
                source_port=in_range(description.source_port, "source_port", _MAX_PORT),
                destination_port=in_range(description.destination_port, "destination_port", _MAX_PORT),
                tcp_flags=flags,
                icmp_type=in_range(description.icmp_type, "icmp_type", _MAX_PROTOCOL),
                icmp_code=in_range(description.icmp_code, "icmp_code", _MAX_PROTOCOL),
                icmp_id=in_range(description.icmp_id, "icmp_id", _MAX_PORT),
                payload=bytes(in_range(description.payload_length, "payload_length", _MAX_PAYLOAD)),
            )
        )
    except ValueError as error:
        raise InvalidArgument(str(error)) from None


def frame(engine: _engine.Engine, request: pb.ExplainPacketRequest) -> bytes:
    """The frame that is asked about. Raises InvalidArgument, or StatusError for an unknown interface."""
    kind = request.WhichOneof("packet")
    if kind is None:
        raise InvalidArgument("packet: give a description or a frame")
    if kind == "frame":
        return request.frame
    description = request.description
    packet = _ip_packet(description)
    if request.WhichOneof("from") == "interface_id":
        if description.outer_source or description.outer_destination or description.to_interface_id:
            raise InvalidArgument("outer addresses are of packets that come in on an uplink")
        info = engine.get_interface(request.interface_id)
        return packets.from_vm(info.vm_mac, info.mac, packet)
    if bool(description.outer_destination) == bool(description.to_interface_id):
        raise InvalidArgument("a packet of an uplink needs one of outer_destination and to_interface_id")
    if description.to_interface_id:
        to = engine.get_interface(description.to_interface_id).underlay
    else:
        to = _underlay(description.outer_destination, "outer_destination")
    return packets.from_underlay(_underlay(description.outer_source or _ANY_HOST, "outer_source"), to, packet)


def flow_filter(request: pb.ListFlowsRequest) -> _engine.FlowFilter:
    """Raises InvalidArgument."""
    wanted = _engine.FlowFilter()
    if request.HasField("interface_id"):
        wanted.interface_id = request.interface_id
    if request.HasField("vni"):
        wanted.vni = request.vni
    if request.HasField("address"):
        wanted.address = address(request.address, "address")
    if request.HasField("port"):
        wanted.port = in_range(request.port, "port", _MAX_PORT)
    if request.HasField("protocol"):
        wanted.protocol = in_range(request.protocol, "protocol", _MAX_PROTOCOL)
    if request.HasField("tcp_state"):
        wanted.tcp_state = request.tcp_state
    wanted.translated_only = request.translated_only
    return wanted


def fields_message(fields: _engine.PacketFields) -> pb.PacketFields:
    """What identifies a packet."""
    return pb.PacketFields(
        source=address_text(fields.source),
        destination=address_text(fields.destination),
        protocol=fields.protocol,
        source_port=fields.source_port,
        destination_port=fields.destination_port,
        icmp_type=fields.icmp_type,
        icmp_code=fields.icmp_code,
        icmp_id=fields.icmp_id,
        later_fragment=fields.later_fragment,
    )


def _program_message(program: _engine.FlowProgramInfo) -> pb.FlowProgram:
    message = pb.FlowProgram(
        action=pb.PacketAction.Value(f"PACKET_ACTION_{program.action.name}"),
        device=program.device,
        interface_id=program.interface_id,
        new_port=program.new_port,
        counts_for_total_rate=program.total_rate,
        counts_for_public_rate=program.public_rate,
    )
    if program.action is not _engine.PacketAction.DELIVER:
        message.outer_source = address_text(program.outer_source)
        message.outer_destination = address_text(program.outer_destination)
    if program.translation is not _engine.Translation.NONE:
        message.translation = pb.Translation.Value(f"TRANSLATION_{program.translation.name}")
        message.new_address = address_text(program.new_address)
    return message


def _direction_message(direction: _engine.FlowDirectionInfo) -> pb.FlowDirection:
    return pb.FlowDirection(
        match=fields_message(direction.match),
        from_vm=direction.from_vm,
        underlay="" if direction.from_vm else address_text(direction.underlay),
        program=_program_message(direction.program),
        packets=direction.packets,
        bytes=direction.byte_count,
        idle=Duration(seconds=direction.idle_seconds),
    )


def flow_message(flow: _engine.FlowInfo) -> pb.Flow:
    """A connection."""
    message = pb.Flow(
        vni=flow.vni,
        interface_id=flow.interface_id,
        original=_direction_message(flow.original),
        tcp_state=flow.tcp_state,
        current=flow.current,
        age=Duration(seconds=flow.age_seconds),
        expires_in=Duration(seconds=flow.expires_in_seconds),
    )
    if flow.reply is not None:
        message.reply.CopyFrom(_direction_message(flow.reply))
    if flow.nat is not None:
        nat = flow.nat
        message.nat.CopyFrom(
            pb.NatMapping(
                inside=address_text(nat.inside),
                inside_port=nat.inside_port,
                nat_address=address_text(nat.nat_address),
                nat_port=nat.nat_port,
                destination=address_text(nat.destination),
                destination_port=nat.destination_port,
            )
        )
    return message


def part_message(part: _engine.ExplainedPart) -> pb.ExplainedPart:
    """One part of an explanation."""
    verdict = _engine.PacketVerdict
    message = pb.ExplainedPart(
        steps=[pb.ExplainedStep(stage=step.stage, outcome=step.outcome) for step in part.steps],
        verdict=pb.PacketVerdict.Value(f"PACKET_VERDICT_{part.verdict.name}"),
        device=part.device,
        interface_id=part.interface_id,
        used_flow=part.used_flow,
        output=part.output,
        reply=part.reply,
    )
    if part.verdict is verdict.DROPPED:
        message.drop_reason, message.drop_description = part.drop_reason, part.drop_description
    if part.flow is not None:
        message.flow.CopyFrom(flow_message(part.flow))
    if part.before.protocol:
        message.before.CopyFrom(fields_message(part.before))
    if part.after.protocol:
        message.after.CopyFrom(fields_message(part.after))
    if part.verdict in (verdict.SENT, verdict.LOOPED) and len(part.output) >= _OUTER_HEADERS:
        message.outer_source = address_text(part.output[_OUTER_SOURCE])
        message.outer_destination = address_text(part.output[_OUTER_DESTINATION])
    return message


def event_message(event: _engine.Event) -> pb.Event:
    """An event. Identifiers may be any bytes: what is no text is shown escaped."""
    seconds, nanoseconds = divmod(event.time_ns, _NANOSECONDS)
    return pb.Event(
        sequence=event.sequence,
        time=Timestamp(seconds=seconds, nanos=nanoseconds),
        type=pb.EventType.Value(f"EVENT_TYPE_{event.type.name}"),
        subject=event.subject.decode(errors="backslashreplace"),
        vni=event.vni,
        detail=event.detail.decode(errors="backslashreplace"),
    )


def limits_message(limits: _engine.FlowLimitsInfo) -> pb.FlowLimits:
    """Limits of an interface's flows."""
    timeouts = limits.timeouts
    return pb.FlowLimits(
        timeouts=pb.FlowTimeouts(
            tcp_established=timeouts.tcp_established,
            tcp_transitory=timeouts.tcp_transitory,
            udp=timeouts.udp,
            icmp=timeouts.icmp,
            other=timeouts.other,
        ),
        quota=limits.quota,
    )


def _prefix_message(prefix: _engine.PrefixInfo) -> pb.InterfacePrefix:
    packed, length = prefix.prefix
    return pb.InterfacePrefix(prefix=f"{address_text(packed)}/{length}", underlay=address_text(prefix.underlay))


def _own_address(packed: bytes) -> str:
    return address_text(packed) if any(packed) else ""


def state_message(state: _engine.InterfaceState) -> pb.InterfaceState:
    """All about an interface."""
    info = state.info
    return pb.InterfaceState(
        id=info.id,
        device=info.netdev_name,
        device_name=info.device_name,
        vni=info.vni,
        ipv4=_own_address(info.ipv4),
        ipv6=_own_address(info.ipv6),
        underlay=address_text(info.underlay),
        gateway_mac=mac_text(info.mac),
        vm_mac=mac_text(info.vm_mac),
        vm_mac_learned=info.vm_mac_learned,
        public_addresses=[
            pb.PublicAddress(
                address=address_text(public.address),
                min_port=public.min_port,
                max_port=public.max_port,
                underlay=address_text(public.underlay),
            )
            for public in state.public_addresses
        ],
        prefixes=map(_prefix_message, state.prefixes),
        load_balancer_prefixes=map(_prefix_message, state.lb_prefixes),
        firewall_rules=state.firewall_rules,
        total_rate=info.total_meter_rate,
        public_rate=info.public_meter_rate,
        limits=limits_message(state.limits),
        flows=state.flows,
        nat_flows=state.nat_ports,
    )
