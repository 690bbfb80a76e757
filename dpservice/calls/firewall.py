"""Firewall rules of interfaces."""

from __future__ import annotations

from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import _engine, convert
from dpservice.calls.registry import SUCCESS, Api, Refusal, rpc

_ANY = -1
_MAX_PRIORITY = 0xFFFF
_MAX_ICMP = 0xFF
_NOT_FOUND = 201
_PortFilter = pb.TcpFilter | pb.UdpFilter


def _prefix(value: pb.Prefix, field: str) -> _engine.Prefix:
    if value.ip.ipver not in (pb.IPV4, pb.IPV6):
        raise convert.invalid(f"{field}.ip.ipver")
    packed = convert.address(value.ip, f"{field}.ip")
    if value.length > 8 * len(packed):
        raise convert.invalid(f"ip6 {field}.length" if value.ip.ipver == pb.IPV6 else f"{field}.length")
    return packed, value.length


def _number(value: int, maximum: int, field: str) -> int:
    if not _ANY <= value <= maximum:
        raise convert.invalid(field)
    return value


def _port_ranges(chosen: _PortFilter, protocol: str) -> tuple[_engine.PortRange, _engine.PortRange]:
    for field in ("src_port_lower", "dst_port_lower", "src_port_upper", "dst_port_upper"):
        _number(getattr(chosen, field), convert.MAX_PORT, f"{protocol}.{field}")
    source = chosen.src_port_lower, chosen.src_port_upper
    destination = chosen.dst_port_lower, chosen.dst_port_upper
    for side, (lower, upper) in (("src", source), ("dst", destination)):
        if lower != _ANY and upper != _ANY and upper < lower:
            raise convert.invalid(f"{protocol}.{side}_port range")
    return source, destination


def _filter(value: pb.ProtocolFilter) -> _engine.ProtocolFilter:
    match value.WhichOneof("filter"):
        case "tcp":
            return _engine.TcpFilter(*_port_ranges(value.tcp, "tcp"))
        case "udp":
            return _engine.UdpFilter(*_port_ranges(value.udp, "udp"))
        case "icmp":
            kind = _number(value.icmp.icmp_type, _MAX_ICMP, "icmp.icmp_type")
            return _engine.IcmpFilter(kind, _number(value.icmp.icmp_code, _MAX_ICMP, "icmp.icmp_code"))
    return None


def _rule(value: pb.FirewallRule) -> _engine.FirewallRule:
    name = convert.text(value.id, "rule id")
    source = _prefix(value.source_prefix, "source_prefix")
    destination = _prefix(value.destination_prefix, "destination_prefix")
    if value.direction not in (pb.INGRESS, pb.EGRESS):
        raise convert.invalid("direction")
    if value.action not in (pb.DROP, pb.ACCEPT):
        raise convert.invalid("action")
    if value.priority > _MAX_PRIORITY:
        raise convert.invalid("priority")
    return _engine.FirewallRule(
        name,
        _engine.TrafficDirection(value.direction),
        _engine.FirewallAction(value.action),
        value.priority,
        source,
        destination,
        _filter(value.protocol_filter),
    )


def _refuse_drop(api: Api, owner: bytes, name: bytes) -> None:
    """Raises what creating a dropping rule answers where rules may only accept: other obstacles come first."""
    try:
        api.engine.get_firewall_rule(owner, name)
    except _engine.StatusError as error:
        if error.code != _NOT_FOUND:
            raise
        raise Refusal(441, "NO_DROP_SUPPORT") from None
    raise Refusal(202, "ALREADY_EXISTS")


@rpc
def create_firewall_rule(api: Api, request: pb.CreateFirewallRuleRequest) -> pb.CreateFirewallRuleResponse:
    owner, rule = convert.interface_id(request.interface_id), _rule(request.rule)
    if request.rule.action == pb.DROP and not api.drop_rules:
        _refuse_drop(api, owner, rule.id)
    api.engine.create_firewall_rule(owner, rule)
    return pb.CreateFirewallRuleResponse(status=SUCCESS, rule_id=rule.id)


def _filter_message(chosen: _engine.ProtocolFilter) -> pb.ProtocolFilter:
    match chosen:
        case _engine.IcmpFilter():
            return pb.ProtocolFilter(icmp=pb.IcmpFilter(icmp_type=chosen.type, icmp_code=chosen.code))
        case None:
            return pb.ProtocolFilter()
    ports = {
        "src_port_lower": chosen.source[0],
        "src_port_upper": chosen.source[1],
        "dst_port_lower": chosen.destination[0],
        "dst_port_upper": chosen.destination[1],
    }
    if isinstance(chosen, _engine.TcpFilter):
        return pb.ProtocolFilter(tcp=pb.TcpFilter(**ports))
    return pb.ProtocolFilter(udp=pb.UdpFilter(**ports))


def _prefix_message(prefix: _engine.Prefix) -> pb.Prefix:
    packed, length = prefix
    return pb.Prefix(ip=convert.address_message(packed), length=length)


def _rule_message(info: _engine.FirewallRuleInfo) -> pb.FirewallRule:
    rule = info.rule
    return pb.FirewallRule(
        id=rule.id,
        direction=pb.TrafficDirection.ValueType(rule.direction),
        action=pb.FirewallAction.ValueType(rule.action),
        priority=rule.priority,
        source_prefix=_prefix_message(rule.source),
        destination_prefix=_prefix_message(rule.destination),
        # Present even if empty: clients do not look whether it is there.
        protocol_filter=_filter_message(rule.filter),
    )


@rpc
def get_firewall_rule(api: Api, request: pb.GetFirewallRuleRequest) -> pb.GetFirewallRuleResponse:
    owner, name = convert.interface_id(request.interface_id), convert.text(request.rule_id, "rule_id")
    return pb.GetFirewallRuleResponse(status=SUCCESS, rule=_rule_message(api.engine.get_firewall_rule(owner, name)))


@rpc
def delete_firewall_rule(api: Api, request: pb.DeleteFirewallRuleRequest) -> pb.DeleteFirewallRuleResponse:
    owner, name = convert.interface_id(request.interface_id), convert.text(request.rule_id, "rule_id")
    api.engine.delete_firewall_rule(owner, name)
    return pb.DeleteFirewallRuleResponse(status=SUCCESS)


@rpc
def list_firewall_rules(api: Api, request: pb.ListFirewallRulesRequest) -> pb.ListFirewallRulesResponse:
    found = api.engine.list_firewall_rules(convert.interface_id(request.interface_id))
    return pb.ListFirewallRulesResponse(status=SUCCESS, rules=map(_rule_message, found))
