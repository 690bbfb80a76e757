"""The drop-in `dpservice-bin`, started like the reference on TAP devices, as the reference's public test suites see it.

One process for all tests; each begins with an engine without objects and leaves it so.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from tests.lab.namespace import Namespace
from tests.lab.process import Process
from tests.support.dpservice import DROP_IN, Caller, drop_in_arguments, ip, prefix, route
from tests.support.namespace_relay import relay

PORT = 1337
DEVICES = [f"net_tap{number}" for number in range(2, 6)]
VNI, OTHER_VNI = 100, 200
NAT_IP, VIP = "172.20.0.1", "172.20.0.2"
VM, VM2, VM3 = b"test-vm1", b"test-vm2", b"test-vm3"
PREFERRED = [f"fc00:1::8000:0:{number}".encode() for number in range(1, 7)]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Namespace, Process]]:
    namespace, directory = Namespace(f"dpa{os.getpid()}"), tmp_path_factory.mktemp("drop-in")
    namespace.create()
    words = [*namespace.prefix(), *drop_in_arguments()]
    environment = {"DP_CONF": "", "RUNTIME_DIRECTORY": str(directory)}
    process = Process("dpservice-bin", words, directory, env=environment)
    try:
        process.start()
        process.wait_ready()
        with relay(directory / "grpc.sock", namespace, ("::1", PORT)) as target:
            yield target, namespace, process
    finally:
        process.stop()
        namespace.delete()


@pytest.fixture(scope="module")
def fresh(started: tuple[str, Namespace, Process]) -> Iterator[tuple[Caller, list[str]]]:
    """A channel, and what calls before Initialize answered."""
    with grpc.insecure_channel(started[0]) as channel:
        caller = Caller(channel)
        answers = []
        for method in ("ListInterfaces", "GetInterface", "CheckInitialized", "GetVersion", "CreateNat"):
            with pytest.raises(grpc.RpcError) as caught:
                caller.call(method)
            answers.append(f"{caught.value.code().name} {caught.value.details()}")
        yield caller, answers


@pytest.fixture
def api(fresh: tuple[Caller, list[str]]) -> Iterator[Caller]:
    caller = fresh[0]
    assert caller.code("Initialize") == 0
    yield caller
    clean(caller)


def clean(caller: Caller) -> None:
    for one in caller.call("ListLoadBalancers").loadbalancers:
        assert caller.code("DeleteLoadBalancer", loadbalancer_id=one.id) == 0
    for one in caller.call("ListInterfaces").interfaces:
        for kind in ("Prefix", "LoadBalancerPrefix"):
            for found in caller.call(f"List{kind}es", interface_id=one.id).prefixes:
                caller.call(f"Delete{kind}", interface_id=one.id, prefix=found)
        assert caller.code("DeleteInterface", interface_id=one.id) == 0
    for one in caller.call("ListNeighborNats", nat_ip=ip("0.0.0.0")).nat_entries:
        fields = {"nat_ip": one.actual_nat_ip, "vni": one.vni, "min_port": one.min_port, "max_port": one.max_port}
        assert caller.code("DeleteNeighborNat", **fields) == 0


def interface(name: bytes = VM, device: str = DEVICES[0], v4: str = "10.100.1.1", v6: str = "2001:db8:5::1",
              vni: int = VNI, **more: Any) -> dict[str, Any]:  # fmt: skip
    return {
        "interface_id": name,
        "vni": vni,
        "ipv4_config": pb.IpConfig(primary_address=v4.encode()),
        "ipv6_config": pb.IpConfig(primary_address=v6.encode()),
        "device_name": device,
        **more,
    }


def second(vni: int = VNI) -> dict[str, Any]:
    return interface(VM2, DEVICES[1], "10.100.1.2", "2001:db8:5::2", vni)


@pytest.fixture
def vm(api: Caller) -> Caller:
    assert api.code("CreateInterface", **interface()) == 0
    return api


def test_before_initialize_everything_is_aborted(fresh: tuple[Caller, list[str]]) -> None:
    assert set(fresh[1]) == {"ABORTED not initialized"}


def test_initialize_twice(api: Caller) -> None:
    uuid = api.call("Initialize").uuid
    assert re.fullmatch(r"[0-9A-F-]{36}", uuid)
    assert api.call("Initialize").uuid == api.call("CheckInitialized").uuid == uuid


def test_version(api: Caller) -> None:
    reply = api.call("GetVersion", client_protocol="p", client_name="n", client_version="v")
    assert reply.service_protocol == reply.service_version != ""


def test_it_says_once_that_everybody_is_served(started: tuple[str, Namespace, Process]) -> None:
    log = started[2].log_since()
    assert log.count("everybody who reaches this machine controls the engine") == 1


def test_version_of_the_executable() -> None:
    done = subprocess.run([DROP_IN, "--", "--version"], capture_output=True, text=True, timeout=60, check=True,
                          env=os.environ | {"DP_CONF": ""})  # fmt: skip
    assert re.fullmatch(r"DP Service version v\S+\n", done.stdout)


def test_the_reference_command_line_client(api: Caller, started: tuple[str, Namespace, Process]) -> None:
    def cli(*words: str) -> tuple[int, Any]:
        # Its default address: localhost and the default port.
        command = [*started[1].prefix(), str(DROP_IN.with_name("dpservice-cli")), "-o", "json", *words]
        environment = {name: value for name, value in os.environ.items() if name != "DP_GRPC_PORT"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
        return done.returncode, json.loads(done.stdout)

    def outcome(*words: str) -> tuple[int, str, int, str]:
        status, shown = cli(*words)
        return status, shown["spec"]["source"], shown["status"]["code"], shown["status"]["message"]

    assert outcome("init")[:3] == (1, "client", 1000)
    assert outcome("add", "vip", "--vip=1.2.3.4", "--interface-id=none") == (2, "server", 205, "NO_VM")
    text = "Invalid ipv4_config.primary_address and ipv6_config.primary_address combination"
    zero = ["create", "interface", "--id=x", "--vni=1", "--ipv4=0.0.0.0", "--device=net_tap2"]
    assert outcome(*zero) == (1, "grpc", 3, text)
    assert outcome("create", "virtualip", "--vip=bad", "--interface-id=x")[:3] == (1, "client", 1000)
    assert cli("create", "interface", "--id=x", "--vni=1", "--ipv4=10.0.0.1", "--device=net_tap2")[0] == 0
    rule = ["create", "firewallrule", "--interface-id=x", "--rule-id=r", "--direction=ingress", "--src=0.0.0.0/0",
            "--dst=0.0.0.0/0"]  # fmt: skip
    assert outcome(*rule, "--action=drop") == (2, "server", 441, "NO_DROP_SUPPORT")
    status, made = cli(*rule, "--action=accept")
    assert (status, made["kind"], made["spec"]["action"]) == (0, "FirewallRule", "Accept")


def test_life_of_an_interface(api: Caller) -> None:
    assert api.code("GetInterface", interface_id=VM) == 201
    assert not api.call("CheckVniInUse", vni=VNI, type=pb.VNI_IPV4).in_use
    metering = pb.MeteringParams(total_rate=200, public_rate=100)
    created = api.call("CreateInterface", **interface(hostname="vm1", metering_parameters=metering))
    assert (created.status.code, created.vf.name) == (0, "dtapvf_0")
    assert re.fullmatch(rb"fc00:1::d000:[0-9a-f]{1,2}:0:[0-9a-f]+", created.underlay_route)
    assert api.call("CheckVniInUse", vni=VNI, type=pb.VNI_IPV6).in_use
    found = api.call("GetInterface", interface_id=VM).interface
    assert found == pb.Interface(
        id=VM, vni=VNI, primary_ipv4=b"10.100.1.1", primary_ipv6=b"2001:db8:5::1", pci_name=DEVICES[0],
        underlay_route=created.underlay_route, hostname="vm1", meteringParams=pb.MeteringParams(),
    )  # fmt: skip
    assert found.HasField("meteringParams")
    assert list(api.call("ListInterfaces").interfaces) == [found]
    assert api.code("CreateInterface", **interface()) == 202
    assert api.code("ResetVni", vni=VNI, type=pb.VNI_BOTH) == 0
    assert api.code("DeleteInterface", interface_id=VM) == 0
    assert (api.code("GetInterface", interface_id=VM), api.code("DeleteInterface", interface_id=VM)) == (201, 201)
    assert api.code("CreateInterface", **interface()) == 0


def test_interfaces_that_are_refused_leave_nothing(vm: Caller) -> None:
    def refused(device: str = DEVICES[1], v4: str = "10.100.1.9", v6: str = "2001:db8:5::9", name: bytes = VM2) -> int:
        return vm.code("CreateInterface", **interface(name, device, v4, v6))

    assert refused("net_tap99") == 201
    assert refused("net_tap0") == 202
    assert refused(name=VM) == 402
    assert refused(v4="10.100.1.1") == 301
    assert refused(v6="2001:db8:5::1") == 301
    assert vm.code("CreateInterface", **interface(VM2, DEVICES[1], vni=OTHER_VNI)) == 0
    assert vm.code("DeleteInterface", interface_id=VM2) == 0
    assert refused() == 0


def test_routes(api: Caller) -> None:
    assert api.code("CreateRoute", vni=VNI, route=route("192.168.129.0/24")) == 206
    assert api.code("ListRoutes", vni=VNI) == 206
    assert api.code("DeleteRoute", vni=VNI, route=route("192.168.129.0/24")) == 206
    assert api.code("CreateInterface", **interface()) == 0
    assert api.code("CreateRoute", vni=VNI, route=route("192.168.129.0/24")) == 0
    assert api.code("CreateRoute", vni=VNI, route=route("192.168.129.0/24")) == 301
    # One next hop per prefix.
    assert api.code("CreateRoute", vni=VNI, route=route("192.168.129.0/24", "fc00:3::1")) == 301
    assert api.code("CreateRoute", vni=VNI, route=route("192.168.129.77/24")) == 301
    assert api.code("CreateRoute", vni=VNI, route=route("192.168.129.0/25")) == 0
    assert api.code("CreateRoute", vni=VNI, route=route("192.168.130.0/24", "10.0.0.1")) == 204
    # The next hop of a deletion means nothing.
    assert api.code("DeleteRoute", vni=VNI, route=route("192.168.129.0/24", "fc00:9::9")) == 0
    assert api.code("DeleteRoute", vni=VNI, route=route("192.168.129.0/24")) == 302
    assert api.code("DeleteRoute", vni=VNI, route=route("10.100.1.1/32")) == 304
    assert api.code("CreateRoute", vni=VNI, route=route("2001:db8:77::/48")) == 0


def test_many_routes_and_the_union_of_all_vnis(vm: Caller) -> None:
    assert vm.code("CreateInterface", **second(OTHER_VNI)) == 0
    wanted = {VNI: [f"1.1.{number}.0/24" for number in range(66)], OTHER_VNI: ["2.2.2.0/24"]}
    for vni, prefixes in wanted.items():
        assert {vm.code("CreateRoute", vni=vni, route=route(one)) for one in prefixes} == {0}

    def listed(vni: int) -> list[str]:
        found = vm.call("ListRoutes", vni=vni).routes
        return sorted(f"{one.prefix.ip.address.decode()}/{one.prefix.length}" for one in found)

    assert listed(VNI) == sorted(wanted[VNI])
    assert listed(0) == sorted(wanted[VNI] + wanted[OTHER_VNI])


def test_reset_drops_the_routes_of_one_vni(vm: Caller) -> None:
    assert vm.code("CreateInterface", **second(OTHER_VNI)) == 0
    for vni in (VNI, OTHER_VNI):
        assert vm.code("CreateRoute", vni=vni, route=route("1.0.0.0/8")) == 0
    assert vm.code("ResetVni", vni=VNI, type=pb.VNI_BOTH) == 0
    assert [len(vm.call("ListRoutes", vni=vni).routes) for vni in (VNI, OTHER_VNI)] == [0, 1]
    assert vm.code("DeleteRoute", vni=VNI, route=route("10.100.1.1/32")) == 304
    assert vm.code("ResetVni", vni=4711, type=pb.VNI_BOTH) == 0
    for method in ("ResetVni", "CheckVniInUse"):
        assert vm.refused(method, vni=VNI, type=3) == "Invalid type"


@pytest.mark.parametrize("text", ["10.10.2.0/24", "2002::/64"])
def test_prefixes(vm: Caller, text: str) -> None:
    wanted = {"interface_id": VM, "prefix": prefix(text)}
    made = vm.call("CreatePrefix", **wanted)
    assert made.status.code == 0
    assert vm.code("CreatePrefix", **wanted) == 301
    [found] = vm.call("ListPrefixes", interface_id=VM).prefixes
    assert found == pb.Prefix(ip=ip(text.split("/")[0]), length=prefix(text).length, underlay_route=made.underlay_route)
    assert (vm.code("DeletePrefix", **wanted), vm.code("DeletePrefix", **wanted)) == (0, 302)
    for method in ("CreatePrefix", "DeletePrefix"):
        assert vm.code(method, interface_id=b"none", prefix=prefix(text)) == 205
    assert vm.code("ListPrefixes", interface_id=b"none") == 205


def test_load_balancer_prefixes(vm: Caller) -> None:
    wanted = {"interface_id": VM, "prefix": prefix("10.10.2.0/24")}
    assert (vm.code("CreateLoadBalancerPrefix", **wanted), vm.code("CreateLoadBalancerPrefix", **wanted)) == (0, 202)
    assert len(vm.call("ListLoadBalancerPrefixes", interface_id=VM).prefixes) == 1
    assert (vm.code("DeleteLoadBalancerPrefix", **wanted), vm.code("DeleteLoadBalancerPrefix", **wanted)) == (0, 201)
    for method in ("CreateLoadBalancerPrefix", "DeleteLoadBalancerPrefix"):
        assert vm.code(method, interface_id=b"none", prefix=prefix("10.10.2.0/24")) == 205
    assert vm.code("ListLoadBalancerPrefixes", interface_id=b"none") == 205


def test_vip(vm: Caller) -> None:
    made = vm.call("CreateVip", interface_id=VM, vip_ip=ip(VIP))
    assert made.status.code == 0
    assert vm.code("CreateVip", interface_id=VM, vip_ip=ip(VIP)) == 343
    found = vm.call("GetVip", interface_id=VM)
    assert (found.vip_ip, found.underlay_route) == (ip(VIP), made.underlay_route)
    assert vm.code("DeleteVip", interface_id=VM) == 0
    assert (vm.code("GetVip", interface_id=VM), vm.code("DeleteVip", interface_id=VM)) == (341, 341)
    assert vm.code("CreateVip", interface_id=VM, vip_ip=ip("2001:db8::1")) == 204
    # The zero address of that family is no exception.
    assert vm.code("CreateVip", interface_id=VM, vip_ip=ip("::")) == 204
    assert vm.code("CreateVip", interface_id=b"none", vip_ip=ip("::")) == 205
    for method, fields in (("CreateVip", {"vip_ip": ip(VIP)}), ("GetVip", {}), ("DeleteVip", {})):
        assert vm.code(method, interface_id=b"none", **fields) == 205


def nat(minimum: int, maximum: int, address: str = NAT_IP) -> dict[str, Any]:
    return {"nat_ip": ip(address), "min_port": minimum, "max_port": maximum}


def test_nat(vm: Caller) -> None:
    made = vm.call("CreateNat", interface_id=VM, **nat(30000, 30100))
    assert made.status.code == 0
    assert vm.code("CreateNat", interface_id=VM, **nat(30200, 30300)) == 343
    found = vm.call("GetNat", interface_id=VM)
    assert (found.nat_ip, found.min_port, found.max_port) == (ip(NAT_IP), 30000, 30100)
    assert found.underlay_route == made.underlay_route
    assert vm.code("DeleteNat", interface_id=VM) == 0
    assert (vm.code("GetNat", interface_id=VM), vm.code("DeleteNat", interface_id=VM)) == (341, 341)
    assert vm.code("CreateNat", interface_id=VM, **nat(1, 2, "2001:db8::1")) == 204
    for method, fields in (("CreateNat", nat(1, 2)), ("GetNat", {}), ("DeleteNat", {})):
        assert vm.code(method, interface_id=b"none", **fields) == 205
    assert vm.code("CreateNat", interface_id=VM, **nat(1, 2, "::")) == 204
    assert vm.code("ListLocalNats", nat_ip=ip("::")) == 204


def test_two_interfaces_share_a_nat_address(vm: Caller) -> None:
    assert vm.code("CreateInterface", **second()) == 0
    assert vm.code("CreateNat", interface_id=VM, **nat(100, 200)) == 0
    assert vm.code("CreateNat", interface_id=VM2, **nat(200, 300)) == 0
    entries = vm.call("ListLocalNats", nat_ip=ip(NAT_IP)).nat_entries
    # In the order of the reference's hash table: the second VM comes first.
    assert [(one.nat_ip.address, one.min_port, one.max_port, one.vni) for one in entries] == [
        (b"10.100.1.2", 200, 300, VNI),
        (b"10.100.1.1", 100, 200, VNI),
    ]
    assert [(one.actual_nat_ip, one.underlay_route) for one in entries] == [(ip(NAT_IP), b"")] * 2
    assert list(vm.call("ListLocalNats", nat_ip=ip("0.0.0.0")).nat_entries) == list(entries)
    unknown = vm.call("ListLocalNats", nat_ip=ip("1.2.3.4"))
    assert (unknown.status.code, len(unknown.nat_entries)) == (0, 0)


def test_nat_and_vip_leave_nothing_behind(vm: Caller) -> None:
    for first, then in ((("Nat", nat(1, 9)), ("Vip", {"vip_ip": ip(NAT_IP)})),
                        (("Vip", {"vip_ip": ip(NAT_IP)}), ("Nat", nat(1, 9)))):  # fmt: skip
        for kind, fields in (first, then):
            assert vm.code(f"Create{kind}", interface_id=VM, **fields) == 0
            assert vm.code(f"Delete{kind}", interface_id=VM) == 0
            assert vm.code(f"Get{kind}", interface_id=VM) == 341


def neighbor(minimum: int, maximum: int, vni: int = VNI, address: str = NAT_IP) -> dict[str, Any]:
    return nat(minimum, maximum, address) | {"vni": vni}


def test_neighbour_nats(api: Caller) -> None:
    def create(*words: Any) -> int:
        return api.code("CreateNeighborNat", underlay_route=b"fc00:2::1", **neighbor(*words))

    assert create(100, 200) == 0
    assert [create(100, 200), create(100, 200, OTHER_VNI), create(150, 250)] == [202, 202, 202]
    assert [create(200, 300), create(50, 100)] == [0, 0]
    assert [create(1, 2, VNI, "2001:db8::1"), create(1, 2, VNI, "::")] == [204, 204]
    entries = api.call("ListNeighborNats", nat_ip=ip(NAT_IP)).nat_entries
    assert [(one.min_port, one.max_port) for one in entries] == [(100, 200), (200, 300), (50, 100)]
    assert {(one.actual_nat_ip.address, one.vni, one.underlay_route) for one in entries} == {
        (NAT_IP.encode(), VNI, b"fc00:2::1")
    }
    assert not any(one.HasField("nat_ip") for one in entries)
    assert api.code("ListNeighborNats", nat_ip=ip("::")) == 204
    assert api.code("DeleteNeighborNat", **neighbor(100, 199)) == 201
    assert [api.code("DeleteNeighborNat", **neighbor(100, 200)) for _ in range(2)] == [0, 201]
    assert api.code("DeleteNeighborNat", **neighbor(1, 2, VNI, "2001:db8::1")) == 204


def balancer(name: bytes = b"lb", address: str = "10.20.30.40", vni: int = VNI, **more: Any) -> dict[str, Any]:
    ports = [pb.LbPort(port=80, protocol=pb.TCP), pb.LbPort(port=80, protocol=pb.UDP)]
    return {"loadbalancer_id": name, "loadbalanced_ip": ip(address), "vni": vni, "loadbalanced_ports": ports} | more


def test_the_end_of_a_vni(vm: Caller) -> None:
    assert vm.code("CreateNeighborNat", underlay_route=b"fc00:2::1", **neighbor(100, 200)) == 0
    assert vm.code("CreateVip", interface_id=VM, vip_ip=ip(NAT_IP)) == 323
    # A load balancer keeps the network alive.
    assert vm.code("CreateLoadBalancer", **balancer()) == 0
    assert vm.code("DeleteInterface", interface_id=VM) == 0
    assert vm.call("CheckVniInUse", vni=VNI, type=pb.VNI_IPV4).in_use
    assert len(vm.call("ListNeighborNats", nat_ip=ip(NAT_IP)).nat_entries) == 1
    assert vm.code("DeleteLoadBalancer", loadbalancer_id=b"lb") == 0
    assert not vm.call("CheckVniInUse", vni=VNI, type=pb.VNI_IPV4).in_use
    assert vm.code("DeleteNeighborNat", **neighbor(100, 200)) == 201
    assert vm.code("CreateInterface", **interface()) == 0
    assert vm.code("CreateVip", interface_id=VM, vip_ip=ip(NAT_IP)) == 0


def test_load_balancers(api: Caller) -> None:
    made = api.call("CreateLoadBalancer", **balancer())
    assert made.status.code == 0
    assert api.code("CreateLoadBalancer", **balancer()) == 202
    assert api.code("CreateLoadBalancer", **balancer(b"other")) == 202
    found = api.call("GetLoadBalancer", loadbalancer_id=b"lb")
    assert (found.loadbalanced_ip, found.vni, found.underlay_route) == (ip("10.20.30.40"), VNI, made.underlay_route)
    assert list(found.loadbalanced_ports) == balancer()["loadbalanced_ports"]
    assert api.code("CreateLoadBalancer", **balancer(b"six", "2001:db8::80")) == 0
    assert {one.id for one in api.call("ListLoadBalancers").loadbalancers} == {b"lb", b"six"}
    assert api.code("DeleteLoadBalancer", loadbalancer_id=b"lb") == 0
    assert api.code("GetLoadBalancer", loadbalancer_id=b"lb") == 201
    assert api.code("DeleteLoadBalancer", loadbalancer_id=b"lb") == 201

    def refused(*ports: pb.LbPort) -> str:
        return api.refused("CreateLoadBalancer", **balancer(b"bad", "10.0.0.9", loadbalanced_ports=ports))

    tcp = pb.LbPort(port=443, protocol=pb.TCP)
    assert refused(tcp, tcp) == "Duplicate loadbalanced_ports entry"
    assert refused(pb.LbPort(port=1, protocol=pb.ICMP)) == "Invalid loadbalanced_ports.protocol"
    assert refused(pb.LbPort(port=65536, protocol=pb.TCP)) == "Invalid loadbalanced_ports.port"


def test_load_balancer_targets(api: Caller) -> None:
    target = {"loadbalancer_id": b"lb", "target_ip": ip("fc00:2::1")}
    for method in ("CreateLoadBalancerTarget", "DeleteLoadBalancerTarget"):
        assert api.code(method, **target) == 422
        assert api.code(method, loadbalancer_id=b"lb", target_ip=ip("10.0.0.1")) == 204
    assert api.code("ListLoadBalancerTargets", loadbalancer_id=b"lb") == 422
    for name, address in ((b"lb", "10.20.30.40"), (b"two", "10.20.30.41")):
        assert api.code("CreateLoadBalancer", **balancer(name, address)) == 0
    assert (api.code("CreateLoadBalancerTarget", **target), api.code("CreateLoadBalancerTarget", **target)) == (0, 202)
    assert api.code("CreateLoadBalancerTarget", loadbalancer_id=b"two", target_ip=ip("fc00:3::1")) == 0
    assert list(api.call("ListLoadBalancerTargets", loadbalancer_id=b"lb").target_ips) == [ip("fc00:2::1")]
    everything = api.call("ListLoadBalancerTargets").target_ips
    assert {one.address for one in everything} == {b"fc00:2::1", b"fc00:3::1"}
    assert (api.code("DeleteLoadBalancerTarget", **target), api.code("DeleteLoadBalancerTarget", **target)) == (0, 201)


def test_firewall_rules(vm: Caller) -> None:
    ports = pb.TcpFilter(src_port_lower=-1, src_port_upper=-1, dst_port_lower=500, dst_port_upper=600)
    rule = pb.FirewallRule(
        id=b"fw0-vm1", direction=pb.INGRESS, action=pb.ACCEPT, priority=1000, source_prefix=prefix("1.2.3.4/16"),
        destination_prefix=prefix("0.0.0.0/0"), protocol_filter=pb.ProtocolFilter(tcp=ports),
    )  # fmt: skip
    made = vm.call("CreateFirewallRule", interface_id=VM, rule=rule)
    assert (made.status.code, made.rule_id) == (0, b"fw0-vm1")
    assert vm.call("GetFirewallRule", interface_id=VM, rule_id=b"fw0-vm1").rule == rule
    assert vm.code("CreateFirewallRule", interface_id=VM, rule=rule) == 202
    six = pb.FirewallRule(
        id=b"six", direction=pb.EGRESS, action=pb.ACCEPT, source_prefix=prefix("2001:db8::/64"),
        destination_prefix=prefix("::/0"), protocol_filter=pb.ProtocolFilter(),
    )  # fmt: skip
    assert vm.code("CreateFirewallRule", interface_id=VM, rule=six) == 0
    assert list(vm.call("ListFirewallRules", interface_id=VM).rules) == [rule, six]
    drop = pb.FirewallRule()
    drop.CopyFrom(rule)
    drop.id, drop.action = b"drop", pb.DROP
    assert vm.code("CreateFirewallRule", interface_id=VM, rule=drop) == 441
    assert vm.code("CreateFirewallRule", interface_id=b"none", rule=drop) == 205
    for method in ("GetFirewallRule", "DeleteFirewallRule"):
        assert vm.code(method, interface_id=VM, rule_id=b"none") == 201
        assert vm.code(method, interface_id=b"none", rule_id=b"fw0-vm1") == 205
    assert vm.code("DeleteFirewallRule", interface_id=VM, rule_id=b"fw0-vm1") == 0
    assert vm.code("DeleteFirewallRule", interface_id=VM, rule_id=b"fw0-vm1") == 201
    assert vm.code("ListFirewallRules", interface_id=b"none") == 205


def test_preferred_underlay_addresses(api: Caller) -> None:
    creations: list[tuple[str, dict[str, Any]]] = [
        ("CreateInterface", interface()),
        ("CreatePrefix", {"interface_id": VM, "prefix": prefix("10.10.2.0/24")}),
        ("CreateLoadBalancerPrefix", {"interface_id": VM, "prefix": prefix("10.10.3.0/24")}),
        ("CreateVip", {"interface_id": VM, "vip_ip": ip(VIP)}),
        ("CreateNat", {"interface_id": VM, **nat(100, 200)}),
        ("CreateLoadBalancer", balancer()),
    ]
    for (method, fields), address in zip(creations, PREFERRED, strict=True):
        reply = api.call(method, preferred_underlay_route=address, **fields)
        assert (reply.status.code, reply.underlay_route) == (0, address)
    assert api.code("CreateInterface", preferred_underlay_route=PREFERRED[3], **second()) == 401
    assert api.code("CreateLoadBalancer", preferred_underlay_route=PREFERRED[0], **balancer(b"l", "10.0.0.7")) == 401


def test_capture(vm: Caller) -> None:
    status = vm.call("CaptureStatus")
    assert (status.status.code, status.is_active, status.HasField("capture_config")) == (0, False, False)
    assert vm.code("CaptureStop") == 211

    def config(sink: str = "fc00:2::1", source: int = 1, destination: int = 2) -> dict[str, Any]:
        wanted = [pb.CapturedInterface(interface_type=pb.SINGLE_VF, vf_name=VM)]
        return {"capture_config": pb.CaptureConfig(sink_node_ip=ip(sink), udp_src_port=source, udp_dst_port=destination,
                                                   interfaces=wanted)}  # fmt: skip

    assert vm.refused("CaptureStart", **config(source=65536)) == "Invalid udp_src_port"
    assert vm.refused("CaptureStart", **config(destination=65536)) == "Invalid udp_dst_port"
    assert vm.refused("CaptureStart", **config(sink="10.0.0.1")) == "Invalid sink_node_ip"
    assert vm.code("CaptureStart", **config()) == 211
