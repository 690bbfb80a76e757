"""The command line client against a server with canned answers: what is sent, what is printed, how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf.message import Message
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice.calls import SERVICE
from dpservice.cli import objects
from dpservice.cli.frame import Duration
from dpservice.cli.main import main, run
from dpservice.cli.output import COLUMNS, render


class CannedService:
    """Answers by method name; methods without an answer are unknown to it. Remembers requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Message] = {}
        self.requests: list[tuple[str, Any]] = []

    def handler(self, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        request_class = getattr(pb, SERVICE.methods_by_name[method].input_type.name)

        def handle(request: Message, context: grpc.ServicerContext) -> Message:
            self.requests.append((method, request))
            if method not in self.answers:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no {method} here")
            return self.answers[method]

        return grpc.unary_unary_rpc_method_handler(
            handle, request_deserializer=request_class.FromString, response_serializer=lambda m: m.SerializeToString()
        )


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[CannedService]:
    canned = CannedService()
    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {method.name: canned.handler(method.name) for method in SERVICE.methods}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
    server.add_insecure_port(f"unix:{tmp_path}/dp.sock")
    server.start()
    yield canned
    server.stop(0).wait()


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str]:
        status = run(["--address", f"unix:{tmp_path}/dp.sock", *words])
        captured = capsys.readouterr()
        assert captured.err == ""
        return status, captured.out

    return call


OK = pb.Status(message="Success")
CREATE_INTERFACE = ["create", "interface", "--id", "a", "--vni", "100", "--ipv4", "10.0.0.1", "--device", "net_tap2"]


def test_create_interface(service: CannedService, cli: Run) -> None:
    service.answers["CreateInterface"] = pb.CreateInterfaceResponse(
        status=OK, underlay_route=b"fc00:1::d000:0:1", vf=pb.VirtualFunction(name="vf0")
    )
    flags = ["--pxe-server", "192.0.2.1", "--pxe-file-name", "boot", "--hostname", "h", "--total-meter-rate", "9"]
    assert cli(*CREATE_INTERFACE, *flags) == (0, "interface/a created, underlay route: fc00:1::d000:0:1\n")
    [(_, request)] = service.requests
    assert request == pb.CreateInterfaceRequest(
        interface_id=b"a",
        vni=100,
        ipv4_config=pb.IpConfig(primary_address=b"10.0.0.1"),
        ipv6_config=pb.IpConfig(primary_address=b"::"),
        pxe_config=pb.PxeConfig(next_server="192.0.2.1", boot_filename="boot"),
        device_name="net_tap2",
        metering_parameters=pb.MeteringParams(total_rate=9),
        preferred_underlay_route=b"::",
        hostname="h",
    )


def test_status_of_the_server(service: CannedService, cli: Run) -> None:
    service.answers["CreateInterface"] = pb.CreateInterfaceResponse(
        status=pb.Status(code=202, message="ALREADY_EXISTS")
    )
    assert cli(*CREATE_INTERFACE) == (2, "server error: [error code 202] ALREADY_EXISTS\n")
    status, text = cli(*CREATE_INTERFACE, "-o", "json")
    assert (status, json.loads(text)["spec"], json.loads(text)["status"]) == (
        2,
        {"source": "server"},
        {"code": 202, "message": "ALREADY_EXISTS"},
    )


def test_unknown_call(service: CannedService, cli: Run) -> None:
    words = ["create", "nat", "--interface-id", "a", "--nat-ip", "192.0.2.1", "--minport", "1", "--maxport", "2"]
    expected = "rpc error: code = Unimplemented desc = no CreateNat here (client and service speak different versions"
    status, text = cli(*words)
    assert (status, text.startswith(f"grpc error: {expected}")) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        "create virtualip --vip bad --interface-id a",
        "create prefix --prefix 10.0.0.0 --interface-id a",
        "create interface --id a",
        "create route --prefix 10.0.0.0/33 --next-hop-vni 1 --next-hop-ip ::1 --vni 1",
        "get interface --bogus",
        "create loadbalancer --id a --vni 1 --vip 10.0.0.1 --lbports http/80",
        "create firewallrule --interface-id a --rule-id r --direction up --action accept --src ::/0 --dst ::/0",
        "get firewallrule --rule-id r",
        "create",
        "--connect-timeout soon get init",
        "create -f http://localhost/x.yaml",
        "create -f file:///nonexistent.yaml",
        "capture start --sink-node-ip ::1 --udp-src-port 1 --udp-dst-port 2 --pf 0 --pf 1,2",
    ],
)
@pytest.mark.parametrize("mode", ["json", "yaml", "name"])
def test_client_errors_send_nothing(service: CannedService, cli: Run, words: str, mode: str) -> None:
    status, text = cli(*words.split(), f"--output={mode}")
    assert status == 1
    assert service.requests == []
    if mode == "name":
        assert text.startswith("client error: ")
    else:
        error = yaml.safe_load(text)
        assert (error["kind"], error["spec"]["source"], error["status"]["code"]) == ("Error", "client", 1000)


def test_unreachable_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--address", f"unix:{tmp_path}/none", "--connect-timeout", "100ms", "get", "init"]) == 1
    assert "cannot connect" in capsys.readouterr().out


def test_aborted(service: CannedService, cli: Run) -> None:
    service.answers["Initialize"] = pb.InitializeResponse(status=OK, uuid="U")
    service.answers["CheckInitialized"] = pb.CheckInitializedResponse(status=OK, uuid="U")
    assert cli("init") == (1, "client error: dp-service already initialized, uuid: U\n")
    assert cli("get", "init") == (0, "UUID\nU\n")


INTERFACES = pb.ListInterfacesResponse(
    status=OK,
    interfaces=[
        pb.Interface(id=b"b", vni=7, primary_ipv4=b"10.0.0.9", primary_ipv6=b"::", pci_name="d1"),
        pb.Interface(id=b"a", vni=8, primary_ipv4=b"10.0.0.10", primary_ipv6=b"::", pci_name="d0"),
    ],
)


def test_sorting_is_by_value(service: CannedService, cli: Run) -> None:
    service.answers["ListInterfaces"] = INTERFACES

    def ids(*words: str) -> list[str]:
        _, text = cli("list", "ifaces", *words, "-o", "json")
        return [item["metadata"]["id"] for item in json.loads(text)["items"]]

    assert ids() == ["a", "b"]
    assert ids("--sort-by", "ipv4") == ["b", "a"]
    assert ids("--sort-by", "VNI") == ["b", "a"]
    assert ids("--sort-by", "device") == ["a", "b"]
    # Any other word: the default.
    assert ids("--sort-by", "id") == ["a", "b"]
    targets = [pb.IpAddress(ipver=pb.IPV6, address=text) for text in (b"fc00::10", b"fc00::9")]
    service.answers["ListLoadBalancerTargets"] = pb.ListLoadBalancerTargetsResponse(status=OK, target_ips=targets)
    for words in ([], ["--sort-by=ip"]):
        assert cli("list", "lbtargets", "-o", "name", *words)[1].split() == [
            "loadbalancertarget/fc00::9",
            "loadbalancertarget/fc00::10",
        ]


def test_names_are_found_in_any_case_and_flags_anywhere(service: CannedService, cli: Run) -> None:
    service.answers["ListInterfaces"] = INTERFACES
    expected = (0, "interface/a\ninterface/b\n")
    assert cli("-o", "name", "GET", "Interfaces") == expected
    assert cli("get", "-o", "name", "iface") == expected
    assert cli("-o", "json", "get", "interface", "-o", "name") == expected


def test_wide_shows_what_the_service_knows(service: CannedService, cli: Run) -> None:
    service.answers["ListInterfaces"] = INTERFACES
    vip = pb.IpAddress(address=b"192.0.2.1")
    service.answers["GetVip"] = pb.GetVipResponse(status=OK, vip_ip=vip)
    header, *rows = cli("get", "interface", "-w")[1].splitlines()
    assert header.split()[-1] == "VirtualIP"
    assert [row.split()[-1] for row in rows] == ["192.0.2.1"] * 2


def test_prefixes_of_all_interfaces(service: CannedService, cli: Run) -> None:
    service.answers["ListInterfaces"] = INTERFACES
    prefix = pb.Prefix(ip=pb.IpAddress(address=b"10.1.0.0"), length=24, underlay_route=b"fc00::1")
    service.answers["ListPrefixes"] = pb.ListPrefixesResponse(status=OK, prefixes=[prefix])
    assert cli("list", "prefixes")[1].splitlines() == [
        "VNI  Prefix       UnderlayRoute  InterfaceID",
        "7    10.1.0.0/24  fc00::1        b",
        "8    10.1.0.0/24  fc00::1        a",
    ]


def test_routes(service: CannedService, cli: Run) -> None:
    service.answers["CreateRoute"] = pb.CreateRouteResponse(status=OK)
    words = [
        "create",
        "route",
        "--prefix",
        "10.3.0.1/24",
        "--next-hop-vni",
        "7",
        "--next-hop-ip",
        "FC00:2::1",
        "--vni",
        "100",
    ]
    assert cli(*words) == (0, "route/10.3.0.1/24 created, next hop: fc00:2::1\n")
    [(_, request)] = service.requests
    assert (request.vni, request.route.weight, request.route.prefix.ip.address) == (100, 100, b"10.3.0.1")


def test_firewall_rules(service: CannedService, cli: Run) -> None:
    service.answers["CreateFirewallRule"] = pb.CreateFirewallRuleResponse(status=OK, rule_id=b"r")
    base = [
        "create",
        "fw-rule",
        "--interface-id",
        "a",
        "--rule-id",
        "r",
        "--direction",
        "1",
        "--action",
        "ALLOW",
        "--src",
        "10.0.0.0/8",
        "--dst",
        "::/0",
    ]
    ports = [
        "--protocol",
        "tcp",
        "--src-port-min",
        "1",
        "--src-port-max",
        "2",
        "--dst-port-min",
        "-1",
        "--dst-port-max",
        "-1",
    ]
    assert cli(*base, *ports) == (0, "firewallrule/r created\n")
    rule = service.requests[0][1].rule
    assert (rule.direction, rule.action, rule.priority) == (pb.EGRESS, pb.ACCEPT, 1000)
    assert rule.protocol_filter.tcp == pb.TcpFilter(
        src_port_lower=1, src_port_upper=2, dst_port_lower=-1, dst_port_upper=-1
    )
    assert cli(*base, "--protocol", "udp", "--src-port-min", "80")[0] == 1


def test_a_rule_may_drop(service: CannedService, cli: Run) -> None:
    service.answers["CreateFirewallRule"] = pb.CreateFirewallRuleResponse(status=OK)
    words = "create firewallrule --interface-id a --rule-id r --direction ingress --action drop --src 0.0.0.0/0"
    assert cli(*words.split(), "--dst", "10.0.0.1/32", "--protocol", "") == (0, "firewallrule/r created\n")
    [(_, request)] = service.requests
    assert (request.rule.action, request.rule.direction) == (pb.DROP, pb.INGRESS)
    assert not request.rule.HasField("protocol_filter")


@pytest.mark.parametrize(("text", "seconds"), [("4s", 4.0), ("1m30s", 90.0), ("1h", 3600.0), ("1.5s250ms", 1.75)])
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == pytest.approx(seconds)


def test_nat_tables(service: CannedService, cli: Run) -> None:
    public = pb.IpAddress(address=b"192.0.2.1")
    service.answers["GetNat"] = pb.GetNatResponse(
        status=OK, nat_ip=public, min_port=1, max_port=9, underlay_route=b"fc00::1"
    )
    assert cli("get", "nat", "--interface-id", "a")[1].splitlines() == [
        "InterfaceID  NatIP      MinPort  MaxPort  UnderlayRoute",
        "a            192.0.2.1  1        9        fc00::1",
    ]
    local = pb.NatEntry(nat_ip=pb.IpAddress(address=b"10.0.0.1"), actual_nat_ip=public, min_port=1, max_port=9, vni=7)
    other = pb.NatEntry(actual_nat_ip=public, min_port=9, max_port=20, vni=7, underlay_route=b"fc00:2::1")
    service.answers["ListLocalNats"] = pb.ListLocalNatsResponse(status=OK, nat_entries=[local])
    service.answers["ListNeighborNats"] = pb.ListNeighborNatsResponse(status=OK, nat_entries=[other])
    assert cli("list", "nats")[1].splitlines() == [
        "VNI  IP        MinPort  MaxPort  UnderlayRoute  NatIP      NatType",
        "7    10.0.0.1  1        9                       192.0.2.1  Local",
        "7              9        20       fc00:2::1      192.0.2.1  Neighbor",
    ]

    def types(word: str) -> list[str]:
        return [line.split()[-1] for line in cli("list", "nats", "--nat-type", word)[1].splitlines()[1:]]

    assert types("") == types("0") == types("ANY") == ["Local", "Neighbor"]
    assert types("1") == types("local") == ["Local"]
    assert types("2") == types("neigh") == types("Neighbor") == ["Neighbor"]


def test_interface_table_has_its_columns_even_if_empty(service: CannedService, cli: Run) -> None:
    service.answers["ListInterfaces"] = INTERFACES
    header = cli("list", "interfaces")[1].splitlines()[0]
    assert header.split() == ["ID", "VNI", "Device", "IPv4", "IPv6", "UnderlayRoute", "TotalTx", "PublicTx", "Hostname"]


def test_capture(service: CannedService, cli: Run) -> None:
    service.answers["CaptureStart"] = pb.CaptureStartResponse(status=OK)
    service.answers["CaptureStop"] = pb.CaptureStopResponse(status=OK, stopped_interface_cnt=3)
    service.answers["CaptureStatus"] = pb.CaptureStatusResponse(status=OK)
    words = ["--sink-node-ip=fc00::9", "--udp-src-port=1", "--udp-dst-port=2", "--pf=0,1", "--vf=a,b", "--vf=c"]
    assert cli("capture", "start", *words)[1].splitlines()[1].split() == ["fc00::9", "1", "2", "0,1", "a,b,c"]
    config = service.requests[0][1].capture_config
    assert [one.vf_name or one.pf_index for one in config.interfaces] == [0, 1, b"a", b"b", b"c"]
    assert cli("capture", "stop") == (0, "Stopped Interface\n3\n")
    assert cli("capture", "status")[1].splitlines()[1].split() == ["NOT_ACTIVE"]

    def shown(*words: str) -> tuple[Any, Any]:
        item = json.loads(cli("capture", *words, "-o", "json")[1])
        return item["metadata"], item["spec"]

    assert shown("status") == ({}, {"operation_status": "NOT_ACTIVE"})
    service.answers["CaptureStatus"] = pb.CaptureStatusResponse(status=OK, is_active=True, capture_config=config)
    assert cli("capture", "status")[1].splitlines()[1].split() == ["ACTIVE", "fc00::9", "1", "2", "0,1", "a,b,c"]
    configured = {"sink_node_ip": "fc00::9", "udp_src_port": 1, "udp_dst_port": 2}
    captured = {"pf": ["0", "1"], "vf": ["a", "b", "c"]}
    assert shown("start", *words) == ({"capture_config": configured}, {"interfaces": captured})
    status = {"operation_status": "ACTIVE", "capture_config": configured, "interfaces": captured}
    assert shown("status") == ({}, status)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_scripts(cli: Run, shell: str) -> None:
    status, text = cli("completion", shell)
    assert status == 0
    assert "dpservice-cli" in text
    assert "_DPSERVICE_CLI_COMPLETE" in text


def test_completion_for_powershell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment = {
        "_DPSERVICE_CLI_COMPLETE": "powershell_complete",
        "COMP_LINE": "dpservice-cli list lb",
        "COMP_WORD": "lb",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["lbprefix", "lbtarget"]


def test_files(service: CannedService, cli: Run, tmp_path: Path) -> None:
    service.answers["CreatePrefix"] = pb.CreatePrefixResponse(status=OK, underlay_route=b"fc00::1")
    service.answers["DeletePrefix"] = pb.DeletePrefixResponse(status=OK)
    folder = tmp_path / "objects"
    folder.mkdir()
    item = objects.make("Prefix", {"interface_id": "a"}, {"prefix": "10.1.0.0/24"})
    (folder / "a.json").write_text(json.dumps(item))
    (folder / "b.yaml").write_text(yaml.safe_dump_all([item, item]))
    (folder / "ignored.txt").write_text("{")
    assert cli("create", "-f", (folder / "a.json").as_uri())[0] == 0
    line = "prefix/10.1.0.0/24"
    assert cli("create", "-f", str(folder)) == (0, f"{line} created, underlay route: fc00::1\n" * 3)
    assert cli("delete", "-f", str(folder / "a.json")) == (0, f"{line} deleted\n")
    (folder / "c.yml").write_text("kind: Prefix\nspec: {}\nmetadata: {interface_id: a}\n")
    status, text = cli("create", "-f", str(folder / "c.yml"))
    assert (status, text) == (1, "client error: Prefix: field 'prefix' is missing\n")
    # JSON values may follow each other.
    (folder / "a.json").write_text(json.dumps(item, indent=2) + "\n" + json.dumps(item) + json.dumps({"items": [item]}))
    assert cli("delete", "-f", str(folder / "a.json")) == (0, f"{line} deleted\n" * 3)
    (folder / "a.json").write_text(json.dumps(item) + "{")
    assert cli("delete", "-f", str(folder / "a.json"))[0] == 1
    (folder / "d.yml").write_text("[1]")
    assert cli("create", "-f", str(folder / "d.yml"))[0] == 1


@pytest.mark.parametrize("kind", sorted(COLUMNS))
def test_every_kind_can_be_shown_empty(kind: str) -> None:
    empty = objects.make_list(kind.removesuffix("List"), [])
    shown = COLUMNS.get(empty["kind"], COLUMNS[kind])
    assert render(empty, "table").split()[0] == shown[0][0].split()[0]
