"""What `dpservice` does by its own defaults, beyond the reference: rules that drop, several next hops, public IPv6."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from tests.support.dpservice import Caller, Dpservice, ip, prefix, route

UNDERLAY = re.compile(rb"fc00:1::d000:[0-9a-f]{1,2}:0:[0-9a-f]+")
INTERFACE: dict[str, Any] = {
    "interface_id": b"vm",
    "vni": 100,
    "ipv4_config": pb.IpConfig(primary_address=b"10.0.0.1"),
    "ipv6_config": pb.IpConfig(primary_address=b"2001:db8::1"),
    "device_name": "net_null2",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with Dpservice(tmp_path_factory.mktemp("dpservice")) as service:
        yield Caller(service.channel())


@pytest.fixture
def vm(running: Caller) -> Iterator[Caller]:
    assert running.code("Initialize") == 0
    assert running.code("CreateInterface", **INTERFACE) == 0
    yield running
    assert running.code("DeleteInterface", interface_id=b"vm") == 0


def rule(name: bytes, action: int = pb.DROP, source: str = "10.0.0.0/8", **more: Any) -> pb.FirewallRule:
    fields: dict[str, Any] = {"direction": pb.INGRESS, "destination_prefix": prefix("10.0.0.1/32")}
    return pb.FirewallRule(id=name, action=action, source_prefix=prefix(source), **(fields | more))  # type: ignore[arg-type]


def test_rules_may_drop(vm: Caller) -> None:
    made = rule(b"\xff rule", priority=7, protocol_filter=pb.ProtocolFilter(icmp=pb.IcmpFilter(icmp_type=8)))
    assert vm.call("CreateFirewallRule", interface_id=b"vm", rule=made).rule_id == b"\xff rule"
    assert vm.call("GetFirewallRule", interface_id=b"vm", rule_id=b"\xff rule").rule == made
    assert vm.code("CreateFirewallRule", interface_id=b"vm", rule=made) == 202


def test_long_lists_of_rules_are_complete(vm: Caller) -> None:
    names = [f"rule{number}".encode() for number in range(400)]
    for name in names:
        assert vm.code("CreateFirewallRule", interface_id=b"vm", rule=rule(name)) == 0
    listed = vm.call("ListFirewallRules", interface_id=b"vm").rules
    assert [one.id for one in listed] == names


def test_long_lists_of_neighbour_nats_are_complete(vm: Caller) -> None:
    ranges = [(low, low + 10) for low in range(0, 5000, 10)]
    fields: dict[str, Any] = {"nat_ip": ip("172.20.0.1"), "vni": 100}
    for low, high in ranges:
        wanted = fields | {"min_port": low, "max_port": high, "underlay_route": b"fc00:2::1"}
        assert vm.code("CreateNeighborNat", **wanted) == 0
    entries = vm.call("ListNeighborNats", nat_ip=ip("0.0.0.0")).nat_entries
    assert [(one.min_port, one.max_port) for one in entries] == ranges


def test_a_prefix_has_several_next_hops(vm: Caller) -> None:
    def hops() -> list[bytes]:
        return sorted(one.nexthop_address.address for one in vm.call("ListRoutes", vni=100).routes)

    for hop in ("fc00:2::1", "fc00:3::1", "fc00:4::1"):
        assert vm.code("CreateRoute", vni=100, route=route("1.2.3.0/24", hop)) == 0
    assert vm.code("CreateRoute", vni=100, route=route("1.2.3.0/24", "fc00:3::1")) == 301
    assert hops() == [b"fc00:2::1", b"fc00:3::1", b"fc00:4::1"]
    assert vm.code("DeleteRoute", vni=100, route=route("1.2.3.0/24", "fc00:3::1")) == 0
    assert vm.code("DeleteRoute", vni=100, route=route("1.2.3.0/24", "fc00:3::1")) == 302
    assert hops() == [b"fc00:2::1", b"fc00:4::1"]
    # Without a next hop: all of them.
    assert vm.code("DeleteRoute", vni=100, route=pb.Route(prefix=prefix("1.2.3.0/24"))) == 0
    assert hops() == []


def test_public_addresses_of_both_families(vm: Caller) -> None:
    for address in ("172.20.0.1", "2001:db8:99::1"):
        made = vm.call("CreateVip", interface_id=b"vm", vip_ip=ip(address))
        assert made.status.code == 0
        assert UNDERLAY.fullmatch(made.underlay_route)
        assert vm.code("CreateVip", interface_id=b"vm", vip_ip=ip(address)) == 343
        made = vm.call("CreateNat", interface_id=b"vm", nat_ip=ip(address), min_port=1, max_port=9)
        # The VIP's address may serve as NAT address, too.
        assert made.status.code == 0
    assert vm.call("GetVip", interface_id=b"vm").vip_ip == ip("172.20.0.1")
    inside = {(one.nat_ip.address, one.actual_nat_ip.address) for one in
              vm.call("ListLocalNats", nat_ip=ip("0.0.0.0")).nat_entries}  # fmt: skip
    assert inside == {(b"10.0.0.1", b"172.20.0.1"), (b"2001:db8::1", b"2001:db8:99::1")}
    for kind in ("Vip", "Nat"):
        assert [vm.code(f"Delete{kind}", interface_id=b"vm") for _ in range(3)] == [0, 0, 341]


def test_an_interface_takes_its_public_addresses_along(vm: Caller) -> None:
    assert vm.code("CreateVip", interface_id=b"vm", vip_ip=ip("172.20.0.1")) == 0
    assert vm.code("DeleteInterface", interface_id=b"vm") == 0
    assert vm.code("CreateInterface", **INTERFACE) == 0
    assert vm.code("GetVip", interface_id=b"vm") == 341
    assert vm.code("CreateVip", interface_id=b"vm", vip_ip=ip("172.20.0.1")) == 0


def test_the_zero_address_is_nobody(vm: Caller) -> None:
    assert vm.refused("CreateVip", interface_id=b"vm", vip_ip=ip("0.0.0.0")) == "Invalid vip_ip"
    assert vm.code("GetVip", interface_id=b"vm") == 341


def test_a_refused_creation_leaves_nothing(vm: Caller) -> None:
    taken = {"preferred_underlay_route": vm.call("GetInterface", interface_id=b"vm").interface.underlay_route}
    chosen = {"preferred_underlay_route": b"fc00:1::8000:0:1"}
    assert vm.code("CreateVip", interface_id=b"vm", vip_ip=ip("172.20.0.1"), **chosen) == 0
    # The address is generated, so it may not be chosen; the one chosen before is taken.
    assert vm.refused("CreateNat", interface_id=b"vm", nat_ip=ip("172.20.0.2"), min_port=1, max_port=2, **taken)
    assert vm.code("CreateNat", interface_id=b"vm", nat_ip=ip("172.20.0.2"), min_port=1, max_port=2, **chosen) == 401
    assert vm.code("GetNat", interface_id=b"vm") == 341
    balancer: dict[str, Any] = {"loadbalancer_id": b"lb", "loadbalanced_ip": ip("10.0.0.9"), "vni": 300}
    assert vm.code("CreateLoadBalancer", **balancer, **chosen) == 401
    assert not vm.call("CheckVniInUse", vni=300, type=pb.VNI_IPV4).in_use
    assert vm.code("CreateLoadBalancer", **balancer) == 0
    assert vm.code("DeleteLoadBalancer", loadbalancer_id=b"lb") == 0


def test_load_balancer_names_are_any_bytes(vm: Caller) -> None:
    name = b"\xff/\x01 lb"
    assert vm.code("CreateLoadBalancer", loadbalancer_id=name, loadbalanced_ip=ip("10.0.0.9"), vni=5) == 0
    assert [one.id for one in vm.call("ListLoadBalancers").loadbalancers] == [name]
    for number in range(100):
        assert vm.code("CreateLoadBalancerTarget", loadbalancer_id=name, target_ip=ip(f"fc00:2::{number:x}")) == 0
    assert len(vm.call("ListLoadBalancerTargets", loadbalancer_id=name).target_ips) == 100
    assert vm.code("DeleteLoadBalancer", loadbalancer_id=name) == 0
    assert vm.code("GetLoadBalancer", loadbalancer_id=name) == 201


def test_capture(vm: Caller) -> None:
    def config(*interfaces: pb.CapturedInterface) -> pb.CaptureConfig:
        return pb.CaptureConfig(sink_node_ip=ip("fc00:2::1"), udp_src_port=1, udp_dst_port=2, interfaces=interfaces)

    own = pb.CapturedInterface(interface_type=pb.SINGLE_VF, vf_name=b"vm")
    uplink = pb.CapturedInterface(interface_type=pb.SINGLE_PF, pf_index=1)
    unknown = [
        pb.CapturedInterface(interface_type=pb.SINGLE_VF, vf_name=b"none"),
        pb.CapturedInterface(interface_type=pb.SINGLE_PF, pf_index=2),
    ]
    assert [vm.code("CaptureStart", capture_config=config(own, one)) for one in unknown] == [201, 201]
    assert vm.code("CaptureStart", capture_config=config(own, own)) == 210
    assert vm.code("CaptureStop") == 211
    assert vm.code("CaptureStart", capture_config=config(own, uplink)) == 0
    assert vm.code("CaptureStart", capture_config=config()) == 210
    status = vm.call("CaptureStatus")
    assert (status.is_active, status.capture_config) == (True, config(own, uplink))
    assert vm.call("CaptureStop").stopped_interface_cnt == 2
    assert not vm.call("CaptureStatus").is_active
