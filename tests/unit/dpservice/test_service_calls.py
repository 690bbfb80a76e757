"""Public addresses, load balancers, firewall, capture: checks in order, what reaches the engine, what comes back."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from google.protobuf.message import Message
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import _engine
from dpservice.calls import SERVICE, Api, answer
from tests.support.recording_engine import ALLOWED, V4, V6, RecordingEngine, ask, refused, status_error

UNDERLAY_TEXT = b"fc00:1::d000:0:1"
NAMED = "fc00:1::8000:0:1"
Fields = dict[str, Any]


def v4(text: str = "10.0.0.1") -> pb.IpAddress:
    return pb.IpAddress(ipver=pb.IPV4, address=text.encode())


def v6(text: str = "2001:db8::1") -> pb.IpAddress:
    return pb.IpAddress(ipver=pb.IPV6, address=text.encode())


def family(number: int) -> pb.IpAddress:
    return pb.IpAddress(ipver=number, address=b"10.0.0.1")  # type: ignore[arg-type]


def request(method: str, **fields: Any) -> Message:
    built: Message = getattr(pb, SERVICE.methods_by_name[method].input_type.name)(**fields)
    return built


LONG = b"x" * 64
BAD_UNDERLAY = {"preferred_underlay_route": b"fc00:2::8000:0:1"}
TOO_MANY_PORTS = [pb.LbPort(port=number, protocol=pb.TCP) for number in range(16)]
VF = pb.CapturedInterface(interface_type=pb.SINGLE_VF, vf_name=b"vm")


def port(number: int, protocol: int = pb.TCP) -> pb.LbPort:
    return pb.LbPort(port=number, protocol=protocol)  # type: ignore[arg-type]


def capture(**fields: Any) -> Fields:
    sound: Fields = {"sink_node_ip": v6(), "udp_src_port": 1, "udp_dst_port": 2, "interfaces": [VF]}
    return {"capture_config": pb.CaptureConfig(**(sound | fields))}


def captured(kind: int, **fields: Any) -> Fields:
    return capture(interfaces=[pb.CapturedInterface(interface_type=kind, **fields)])  # type: ignore[arg-type]


_NAT_FAULTS: list[tuple[Fields, str]] = [
    ({"nat_ip": v4("10.0.0.256")}, "Invalid nat_ip"),
    ({"min_port": 65536}, "Invalid min_port"),
    ({"max_port": 65536}, "Invalid max_port"),
    ({"min_port": 9, "max_port": 9}, "Invalid port range"),
]
_RULE: Fields = {
    "id": b"rule",
    "source_prefix": pb.Prefix(ip=v4(), length=8),
    "destination_prefix": pb.Prefix(ip=v6(), length=128),
    "action": pb.ACCEPT,
}


def rule(**changes: Any) -> Fields:
    return {"rule": pb.FirewallRule(**(_RULE | changes))}


def filtered(**chosen: Any) -> Fields:
    return rule(protocol_filter=pb.ProtocolFilter(**chosen))


def tcp(**ports: int) -> Fields:
    return filtered(tcp=pb.TcpFilter(**ports))


# By RPC: a sound request, and faults in the order in which they must be found.
CHECKS: dict[str, tuple[Fields, list[tuple[Fields, str]]]] = {
    "CreateVip": (
        {"interface_id": b"vm", "vip_ip": v4()},
        [
            ({"interface_id": LONG}, "Invalid interface_id"),
            ({"vip_ip": v4("1.2.3")}, "Invalid vip_ip"),
            (BAD_UNDERLAY, "Invalid preferred_underlay_route"),
        ],
    ),
    "GetVip": ({"interface_id": b"vm"}, [({"interface_id": b""}, "Invalid interface_id")]),
    "DeleteVip": ({"interface_id": b"vm"}, [({"interface_id": LONG}, "Invalid interface_id")]),
    "CreateNat": (
        {"interface_id": b"vm", "nat_ip": v4(), "min_port": 0, "max_port": 65535},
        [
            ({"interface_id": b""}, "Invalid interface_id"),
            *_NAT_FAULTS,
            (BAD_UNDERLAY, "Invalid preferred_underlay_route"),
        ],
    ),
    "GetNat": ({"interface_id": b"vm"}, [({"interface_id": b""}, "Invalid interface_id")]),
    "DeleteNat": ({"interface_id": b"vm"}, [({"interface_id": b""}, "Invalid interface_id")]),
    "ListLocalNats": ({"nat_ip": v4("0.0.0.0")}, [({"nat_ip": pb.IpAddress()}, "Invalid nat_ip")]),
    "ListNeighborNats": ({"nat_ip": v4("0.0.0.0")}, [({"nat_ip": family(2)}, "Invalid nat_ip")]),
    "CreateNeighborNat": (
        {"nat_ip": v4(), "min_port": 1, "max_port": 2, "underlay_route": b"fc00:2::1"},
        [*_NAT_FAULTS, ({"underlay_route": b"10.0.0.1"}, "Invalid underlay_route")],
    ),
    "DeleteNeighborNat": ({"nat_ip": v4(), "min_port": 1, "max_port": 2}, _NAT_FAULTS),
    "CreateLoadBalancer": (
        {"loadbalancer_id": b"lb", "loadbalanced_ip": v6(), "loadbalanced_ports": [port(80), port(80, pb.UDP)]},
        [
            ({"loadbalancer_id": b""}, "Invalid loadbalancer_id"),
            ({"vni": 1 << 24}, "VNI exceeds 24-bit range"),
            ({"loadbalanced_ip": v6("::g")}, "Invalid loadbalanced_ip"),
            ({"loadbalanced_ports": TOO_MANY_PORTS}, "Too many loadbalanced_ports"),
            (BAD_UNDERLAY, "Invalid preferred_underlay_route"),
            ({"loadbalanced_ports": [port(65536, pb.ICMP)]}, "Invalid loadbalanced_ports.port"),
            ({"loadbalanced_ports": [port(80), port(80, pb.SCTP)]}, "Invalid loadbalanced_ports.protocol"),
            ({"loadbalanced_ports": [port(80), port(81), port(80)]}, "Duplicate loadbalanced_ports entry"),
        ],
    ),
    "GetLoadBalancer": ({"loadbalancer_id": b"lb"}, [({"loadbalancer_id": LONG}, "Invalid loadbalancer_id")]),
    "DeleteLoadBalancer": ({"loadbalancer_id": b"lb"}, [({"loadbalancer_id": b""}, "Invalid loadbalancer_id")]),
    "ListLoadBalancerTargets": ({"loadbalancer_id": b""}, [({"loadbalancer_id": LONG}, "Invalid loadbalancer_id")]),
    "CreateLoadBalancerTarget": (
        {"loadbalancer_id": b"lb", "target_ip": v6()},
        [
            ({"loadbalancer_id": b""}, "Invalid loadbalancer_id"),
            ({"target_ip": pb.IpAddress(ipver=pb.IPV6, address=b"10.0.0.1")}, "Invalid target_ip"),
        ],
    ),
    "DeleteLoadBalancerTarget": (
        {"loadbalancer_id": b"lb", "target_ip": v6()},
        [({"loadbalancer_id": b""}, "Invalid loadbalancer_id"), ({"target_ip": v4("::")}, "Invalid target_ip")],
    ),
    "GetFirewallRule": (
        {"interface_id": b"vm", "rule_id": b"r"},
        [({"interface_id": b""}, "Invalid interface_id"), ({"rule_id": LONG}, "Invalid rule_id")],
    ),
    "DeleteFirewallRule": (
        {"interface_id": b"vm", "rule_id": b"r"},
        [({"interface_id": b""}, "Invalid interface_id"), ({"rule_id": b""}, "Invalid rule_id")],
    ),
    "ListFirewallRules": ({"interface_id": b"vm"}, [({"interface_id": b""}, "Invalid interface_id")]),
}


def _cases() -> list[tuple[str, int]]:
    return [(method, first) for method, (_, faults) in CHECKS.items() for first in range(len(faults))]


@pytest.mark.parametrize(("method", "first"), _cases())
def test_the_first_fault_is_told(method: str, first: int) -> None:
    sound, faults = CHECKS[method]
    fields = dict(sound)
    for fault, _ in reversed(faults[first:]):
        fields |= fault
    # A later fault may sit in the same field.
    fields |= faults[first][0]
    assert refused(method, request(method, **fields)) == faults[first][1]


@pytest.mark.parametrize("method", sorted(CHECKS))
def test_a_sound_request_passes(method: str) -> None:
    engine = RecordingEngine()
    engine.rule = _engine.FirewallRule(b"r", _engine.TrafficDirection.INGRESS, _engine.FirewallAction.DROP, 1,
                                       (V4, 0), (V6, 128), None)  # fmt: skip
    assert ask(method, request(method, **CHECKS[method][0]), engine).status == pb.Status(message="Success")
    assert len(engine.calls) == 1


@pytest.mark.parametrize(
    ("method", "field", "zero"),
    [
        ("CreateVip", "vip_ip", v4("0.0.0.0")),
        ("CreateVip", "vip_ip", v6("::")),
        ("CreateNat", "nat_ip", v4("0.0.0.0")),
        ("CreateNeighborNat", "nat_ip", v4("0.0.0.0")),
    ],
)
def test_nothing_can_have_the_zero_address(method: str, field: str, zero: pb.IpAddress) -> None:
    assert refused(method, request(method, **(CHECKS[method][0] | {field: zero}))) == f"Invalid {field}"


@pytest.mark.parametrize(
    ("method", "field"), [("CreateVip", "vip_ip"), ("CreateNat", "nat_ip"), ("CreateNeighborNat", "nat_ip")]
)
def test_where_public_addresses_are_ipv4_only_the_engine_judges_all_others(method: str, field: str) -> None:
    engine = RecordingEngine()
    engine.refusal = status_error(204, "BAD_IPVER")
    fields = CHECKS[method][0] | {field: v6("::")}
    assert ask(method, request(method, **fields), engine, ipv6_public=False).status.code == 204
    assert refused(method, request(method, **fields)) == f"Invalid {field}"


# Faults of a rule, each with those behind it: the fields of a message cannot be merged like arguments.
@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"interface_id": b"", "rule": pb.FirewallRule()}, "Invalid interface_id"),
        (rule(id=b"", source_prefix=pb.Prefix(ip=family(3))), "Invalid rule id"),
        (rule(id=LONG), "Invalid rule id"),
        (rule(source_prefix=pb.Prefix(ip=family(2), length=99)), "Invalid source_prefix.ip.ipver"),
        (rule(source_prefix=pb.Prefix(ip=v4("x"), length=99)), "Invalid source_prefix.ip"),
        (rule(source_prefix=pb.Prefix()), "Invalid source_prefix.ip"),
        (rule(source_prefix=pb.Prefix(ip=v4(), length=33)), "Invalid source_prefix.length"),
        (rule(source_prefix=pb.Prefix(ip=v6(), length=129)), "Invalid ip6 source_prefix.length"),
        (rule(destination_prefix=pb.Prefix(ip=family(2)), direction=2), "Invalid destination_prefix.ip.ipver"),
        (rule(destination_prefix=pb.Prefix(ip=v6("x"))), "Invalid destination_prefix.ip"),
        (rule(destination_prefix=pb.Prefix(ip=v4(), length=33)), "Invalid destination_prefix.length"),
        (rule(destination_prefix=pb.Prefix(ip=v6(), length=129)), "Invalid ip6 destination_prefix.length"),
        (rule(direction=2, action=2), "Invalid direction"),
        (rule(action=2, priority=65536), "Invalid action"),
        (
            rule(priority=65536, protocol_filter=pb.ProtocolFilter(tcp=pb.TcpFilter(src_port_lower=-2))),
            "Invalid priority",
        ),
        (tcp(src_port_lower=-2, dst_port_lower=-2), "Invalid tcp.src_port_lower"),
        (tcp(dst_port_lower=65536, src_port_upper=65536), "Invalid tcp.dst_port_lower"),
        (tcp(src_port_upper=65536, dst_port_upper=65536), "Invalid tcp.src_port_upper"),
        (tcp(dst_port_upper=-2, src_port_lower=5, src_port_upper=4), "Invalid tcp.dst_port_upper"),
        (tcp(src_port_lower=5, src_port_upper=4, dst_port_lower=5), "Invalid tcp.src_port range"),
        (tcp(dst_port_lower=5, dst_port_upper=4), "Invalid tcp.dst_port range"),
        (filtered(udp=pb.UdpFilter(src_port_lower=70000)), "Invalid udp.src_port_lower"),
        (filtered(udp=pb.UdpFilter(dst_port_lower=1)), "Invalid udp.dst_port range"),
        (filtered(icmp=pb.IcmpFilter(icmp_type=256, icmp_code=256)), "Invalid icmp.icmp_type"),
        (filtered(icmp=pb.IcmpFilter(icmp_type=-1, icmp_code=-2)), "Invalid icmp.icmp_code"),
    ],
)
def test_firewall_rule_checks(fields: Fields, text: str) -> None:
    assert refused("CreateFirewallRule", request("CreateFirewallRule", **({"interface_id": b"vm"} | fields))) == text


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"tcp": pb.TcpFilter()},
        {"tcp": pb.TcpFilter(src_port_lower=-1, src_port_upper=-1, dst_port_lower=80, dst_port_upper=-1)},
        {"udp": pb.UdpFilter(src_port_lower=1, src_port_upper=65535, dst_port_lower=-1, dst_port_upper=7)},
        {"icmp": pb.IcmpFilter(icmp_type=-1, icmp_code=-1)},
        {"icmp": pb.IcmpFilter(icmp_type=8, icmp_code=0)},
    ],
)
@pytest.mark.parametrize("action", [pb.DROP, pb.ACCEPT])
def test_a_firewall_rule_reads_back_as_it_was_given(chosen: Fields, action: int) -> None:
    engine = RecordingEngine()
    given = pb.FirewallRule(**(_RULE | {"id": b"\xff", "action": action, "priority": 65535, "direction": pb.EGRESS}))
    given.protocol_filter.CopyFrom(pb.ProtocolFilter(**chosen))
    reply = ask("CreateFirewallRule", pb.CreateFirewallRuleRequest(interface_id=b"vm", rule=given), engine)
    assert (reply.status.code, reply.rule_id) == (0, b"\xff")
    [(name, (owner, engine.rule))] = engine.calls
    assert (name, owner) == ("create_firewall_rule", b"vm")
    found = ask("GetFirewallRule", pb.GetFirewallRuleRequest(interface_id=b"vm", rule_id=b"r"), engine).rule
    assert found == given
    assert found.HasField("protocol_filter")
    assert list(ask("ListFirewallRules", pb.ListFirewallRulesRequest(interface_id=b"vm"), engine).rules) == [given]


@pytest.mark.parametrize(
    ("found", "answered"),
    [
        (status_error(205, "NO_VM"), (205, "NO_VM")),
        (status_error(201, "NOT_FOUND"), (441, "NO_DROP_SUPPORT")),
        (None, (202, "ALREADY_EXISTS")),
    ],
)
def test_where_rules_only_accept_dropping_is_refused_last(
    found: _engine.StatusError | None, answered: tuple[int, str]
) -> None:
    engine = RecordingEngine()
    engine.refusal = found
    wanted = request("CreateFirewallRule", interface_id=b"vm", **rule(action=pb.DROP))
    status = ask("CreateFirewallRule", wanted, engine, drop_rules=False).status
    assert (status.code, status.message) == answered
    assert [name for name, _ in engine.calls] == ["get_firewall_rule"]
    accepted = request("CreateFirewallRule", interface_id=b"vm", **rule())
    assert ask("CreateFirewallRule", accepted, drop_rules=False).status.code == 0


def test_full_rule_set_is_named() -> None:
    engine = RecordingEngine()
    engine.refusal = status_error(208, "OUT_OF_MEMORY")
    wanted = request("CreateFirewallRule", interface_id=b"vm", **rule())
    answered = answer(Api(engine), "CreateFirewallRule", wanted)  # type: ignore[arg-type]
    assert (answered.response.status.code, answered.full_table) == (208, "firewall_rules")


def test_vip_and_nat() -> None:
    engine = RecordingEngine()
    named = {"interface_id": b"vm", "preferred_underlay_route": NAMED.encode()}
    assert ask("CreateVip", request("CreateVip", vip_ip=v6(), **named), engine).underlay_route == UNDERLAY_TEXT
    nat = request("CreateNat", nat_ip=v4(), min_port=0, max_port=65535, **named)
    assert ask("CreateNat", nat, engine).underlay_route == UNDERLAY_TEXT
    assert engine.calls == [("create_vip", (b"vm", V6, ALLOWED)), ("create_nat", (b"vm", V4, 0, 65535, ALLOWED))]
    assert ask("GetVip", request("GetVip", interface_id=b"vm")) == pb.GetVipResponse(
        status=pb.Status(message="Success"), vip_ip=v4(), underlay_route=UNDERLAY_TEXT
    )
    assert ask("GetNat", request("GetNat", interface_id=b"vm")) == pb.GetNatResponse(
        status=pb.Status(message="Success"), nat_ip=v4(), min_port=1, max_port=9, underlay_route=UNDERLAY_TEXT
    )


def test_nat_lists_tell_local_from_neighbour_by_the_underlay_address() -> None:
    [local] = ask("ListLocalNats", request("ListLocalNats", nat_ip=v4("0.0.0.0"))).nat_entries
    assert local == pb.NatEntry(nat_ip=v6(), actual_nat_ip=v4(), min_port=1, max_port=9, vni=7)
    [other] = ask("ListNeighborNats", request("ListNeighborNats", nat_ip=v4("0.0.0.0"))).nat_entries
    assert other == pb.NatEntry(actual_nat_ip=v4(), min_port=1, max_port=9, vni=7, underlay_route=UNDERLAY_TEXT)
    assert not other.HasField("nat_ip")


def test_neighbour_nats_reach_the_engine() -> None:
    engine = RecordingEngine()
    fields: Fields = {"nat_ip": v4(), "vni": 7, "min_port": 1, "max_port": 9}
    ask("CreateNeighborNat", request("CreateNeighborNat", underlay_route=b"fc00:2::1", **fields), engine)
    ask("DeleteNeighborNat", request("DeleteNeighborNat", **fields), engine)
    [(_, (made,)), deleted] = engine.calls
    hop = socket.inet_pton(socket.AF_INET6, "fc00:2::1")
    assert (made.nat_ip, made.vni, made.min_port, made.max_port, made.underlay) == (V4, 7, 1, 9, hop)
    assert deleted == ("delete_neighbor_nat", (V4, 7, 1, 9))


def test_load_balancers() -> None:
    engine = RecordingEngine()
    ports = [port(0), port(80, pb.UDP), port(65535)]
    create = request("CreateLoadBalancer", loadbalancer_id=b"\xff", loadbalanced_ip=v4(), vni=(1 << 24) - 1,
                     loadbalanced_ports=ports)  # fmt: skip
    assert ask("CreateLoadBalancer", create, engine).underlay_route == UNDERLAY_TEXT
    [(_, (name, vni, ip, made, preferred))] = engine.calls
    assert (name, vni, ip, preferred) == (b"\xff", (1 << 24) - 1, V4, None)
    assert [(one.protocol, one.port) for one in made] == [(6, 0), (17, 80), (6, 65535)]
    fields: Fields = {"vni": 7, "underlay_route": UNDERLAY_TEXT}
    found = ask("GetLoadBalancer", request("GetLoadBalancer", loadbalancer_id=b"lb"))
    assert found == pb.GetLoadBalancerResponse(
        status=pb.Status(message="Success"), loadbalanced_ip=v6(), loadbalanced_ports=[port(80)], **fields
    )
    [listed] = ask("ListLoadBalancers", pb.ListLoadBalancersRequest()).loadbalancers
    assert listed == pb.Loadbalancer(id=b"lb\xff", ip=v6(), ports=[port(80)], **fields)
    targets = ask("ListLoadBalancerTargets", pb.ListLoadBalancerTargetsRequest()).target_ips
    assert list(targets) == [v6(UNDERLAY_TEXT.decode())]
    engine.calls.clear()
    for verb in ("Create", "Delete"):
        method = f"{verb}LoadBalancerTarget"
        ask(method, request(method, loadbalancer_id=b"lb", target_ip=v4()), engine)
    assert engine.calls == [
        ("create_load_balancer_target", (b"lb", V4)),
        ("delete_load_balancer_target", (b"lb", V4)),
    ]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (capture(udp_src_port=65536, udp_dst_port=65536), "Invalid udp_src_port"),
        (capture(udp_dst_port=65536, sink_node_ip=v4()), "Invalid udp_dst_port"),
        (capture(sink_node_ip=v4(), interfaces=[VF] * 17), "Invalid sink_node_ip"),
        ({}, "Invalid sink_node_ip"),
        (capture(interfaces=[pb.CapturedInterface(interface_type=pb.SINGLE_VF)] * 17),
         "Too many interfaces to be captured"),
        (captured(2), "Invalid interfaces.interface_type"),
        (captured(pb.SINGLE_VF), "Invalid interface_id"),
        (captured(pb.SINGLE_VF, vf_name=LONG), "Invalid interface_id"),
        (captured(pb.SINGLE_VF, pf_index=1), "Invalid interface_id"),
        (captured(pb.SINGLE_PF, pf_index=256), "Invalid pf_index"),
    ],
)  # fmt: skip
def test_capture_checks(fields: Fields, text: str) -> None:
    assert refused("CaptureStart", request("CaptureStart", **fields)) == text


def test_as_many_as_a_request_may_have() -> None:
    assert ask("CaptureStart", request("CaptureStart", **capture(interfaces=[VF] * 16))).status.code == 0
    balancer = CHECKS["CreateLoadBalancer"][0]
    ports = [pb.LbPort(port=number, protocol=pb.TCP) for number in range(15)]
    made = request("CreateLoadBalancer", **(balancer | {"loadbalanced_ports": ports}))
    assert ask("CreateLoadBalancer", made).status.code == 0


def test_capture() -> None:
    engine = RecordingEngine()
    # The family that the sink names does not matter.
    sink = pb.IpAddress(ipver=pb.IPV4, address=b"2001:db8::1")
    both = [VF, pb.CapturedInterface(interface_type=pb.SINGLE_PF, pf_index=1)]
    started = ask("CaptureStart", request("CaptureStart", **capture(sink_node_ip=sink, interfaces=both)), engine)
    assert started.status.code == 0
    [(name, (config,))] = engine.calls
    assert (name, config.sink) == ("capture_start", V6)
    assert [(one.is_uplink, one.pf_index, one.interface_id) for one in config.interfaces] == [
        (False, 0, "vm"),
        (True, 1, ""),
    ]
    engine.capture = config
    status = ask("CaptureStatus", pb.CaptureStatusRequest(), engine)
    assert status.is_active
    assert status.capture_config.sink_node_ip == pb.IpAddress(ipver=pb.IPV6, address=b"2001:db8::1")
    assert list(status.capture_config.interfaces) == both
    assert ask("CaptureStop", pb.CaptureStopRequest(), engine).stopped_interface_cnt == 2


def test_capture_that_is_not_active() -> None:
    engine = RecordingEngine()
    engine.refusal = status_error(211, "NOT_ACTIVE")
    stopped = ask("CaptureStop", pb.CaptureStopRequest(), engine)
    assert stopped == pb.CaptureStopResponse(status=pb.Status(code=211, message="NOT_ACTIVE"))
    engine.refusal = None
    status = ask("CaptureStatus", pb.CaptureStatusRequest(), engine)
    assert status == pb.CaptureStatusResponse(status=pb.Status(message="Success"))
    assert not status.HasField("capture_config")
