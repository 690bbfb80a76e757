"""DPDK telemetry of a real process, as telemetry clients speak it; and clients that misbehave."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice.telemetry import MAX_CLIENTS
from tests.support.dpservice import Caller, Dpservice, ip, prefix

RULE = pb.FirewallRule(
    id=b"r", action=pb.ACCEPT, source_prefix=prefix("0.0.0.0/0"), destination_prefix=prefix("0.0.0.0/0")
)


class Client:
    """One connection."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.greeting = self.receive()

    def receive(self) -> Any:
        data = self.socket.recv(1 << 20)
        return json.loads(data) if data else None

    def ask(self, request: str) -> Any:
        self.socket.send(request.encode())
        return self.receive()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dpservice, Path]]:
    directory = tmp_path_factory.mktemp("dpservice")
    with Dpservice(directory, "--udp-virtsvc=169.254.1.1,53,2001:db8::53,53", telemetry=True) as running:
        api = Caller(running.channel())
        assert api.code("Initialize") == 0
        created = {
            "interface_id": b"vm-1",
            "vni": 100,
            "ipv4_config": pb.IpConfig(primary_address=b"10.0.0.1"),
            "ipv6_config": pb.IpConfig(primary_address=b"::"),
            "device_name": "net_null2",
        }
        assert api.code("CreateInterface", **created) == 0
        assert api.code("CreateFirewallRule", interface_id=b"vm-1", rule=RULE) == 0
        assert api.code("CreateNat", interface_id=b"vm-1", nat_ip=ip("172.20.0.1"), min_port=1, max_port=9) == 0
        [path] = directory.glob("dpdk/*/dpdk_telemetry.v2")
        yield running, path


@pytest.fixture
def client(service: tuple[Dpservice, Path]) -> Iterator[Client]:
    with Client(service[1]) as connected:
        yield connected


def test_greeting_and_list_of_commands(client: Client, service: tuple[Dpservice, Path]) -> None:
    assert client.greeting["pid"] == service[0].process.pid
    assert client.greeting["version"].startswith("DPDK ")
    commands = client.ask("/")["/"]
    assert {"/", "/info", "/ethdev/list", "/eal/heap_info", "/dp_service/nat/used_port_count"} <= set(commands)
    assert client.ask("/info") == {"/info": client.greeting}
    for command in commands:
        assert list(client.ask(f"{command},0")) == [command]


def test_values_of_the_service(client: Client) -> None:
    assert client.ask("/dp_service/firewall/rule_count,0") == {"/dp_service/firewall/rule_count": {"vm-1": 1}}
    assert client.ask("/dp_service/nat/used_port_count") == {"/dp_service/nat/used_port_count": {"vm-1": 0}}
    assert client.ask("/dp_service/virtsvc/used_port_count") == {
        "/dp_service/virtsvc/used_port_count": {"UDP:169.254.1.1:53": 0}
    }
    [tables] = client.ask("/dp_service/table/saturation").values()
    assert tables["interface_table"] == {"capacity": 4, "entries": 1}
    assert tables["conntrack_table"]["capacity"] >= 4096
    assert tables["vni_table"]["entries"] == 1
    assert tables["dnat_table"]["entries"] == 1
    # Of the interface and of its NAT.
    assert tables["vnf_table"]["entries"] == 2
    [[name, nodes]] = client.ask("/dp_service/graph/obj_count")["/dp_service/graph/obj_count"].items()
    assert name == "Node_0_to_255"
    assert {"rx-0-0", "tx-0", "rx-5-0", "tx-5", "cls", "drop"} <= set(nodes)
    assert client.ask("/dp_service/graph/realloc_count,0")["/dp_service/graph/realloc_count"] == {"Node_0_to_255": {}}


def test_devices_and_memory(client: Client) -> None:
    assert client.ask("/ethdev/list") == {"/ethdev/list": [0, 1, 2, 3, 4, 5]}
    assert client.ask("/ethdev/info,2")["/ethdev/info"]["name"] == "net_null2"
    assert client.ask("/ethdev/link_status,0") == {"/ethdev/link_status": {"status": "UP"}}
    assert client.ask("/ethdev/xstats,2")["/ethdev/xstats"]["rx_good_packets"] == 0
    heap = client.ask("/eal/heap_info,0")["/eal/heap_info"]
    assert heap["Heap_size"] == heap["Alloc_size"] + heap["Free_size"] > 1 << 20


@pytest.mark.parametrize(
    ("request_text", "answer"),
    [
        ("/bogus", {"/bogus": None}),
        (",", {"none": None}),
        ("\0", {"none": None}),
        ("/ethdev/xstats,6", {"/ethdev/xstats": None}),
        ("/ethdev/xstats,-1", {"/ethdev/xstats": None}),
        ("/ethdev/xstats,٣", {"/ethdev/xstats": None}),
        ("/ethdev/xstats," + "9" * 500, {"/ethdev/xstats": None}),
        ("/ethdev/info", {"/ethdev/info": None}),
        ("/help,/bogus", {"/help": None}),
        ("x" * 5000, {"x" * 1024: None}),
    ],
)
def test_nonsense_is_answered_with_null(client: Client, request_text: str, answer: dict[str, Any]) -> None:
    assert client.ask(request_text) == answer
    assert client.ask("/ethdev/info,0")["/ethdev/info"]["name"] == "net_null0"


def test_clients_are_bounded(service: tuple[Dpservice, Path]) -> None:
    clients = [Client(service[1]) for _ in range(MAX_CLIENTS)]
    try:
        assert Client(service[1]).greeting is None
        assert all("/info" in one.ask("/info") for one in clients)
    finally:
        for one in clients:
            one.socket.close()
    # Their places are free again as soon as the server has seen them go.
    while (late := Client(service[1])).greeting is None:
        late.socket.close()
    late.socket.close()


def test_a_client_that_does_not_read_is_let_go(service: tuple[Dpservice, Path], client: Client) -> None:
    with Client(service[1]) as deaf:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                deaf.socket.send(b"/dp_service/graph/obj_count")
        assert "/info" in client.ask("/info")


def test_the_socket_goes_with_the_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("gone")  # the path of a socket may have 107 bytes
    with Dpservice(directory, telemetry=True):
        [path] = directory.glob("dpdk/*/dpdk_telemetry.v2")
    assert not path.exists()


def test_without_telemetry_there_is_no_socket(tmp_path: Path) -> None:
    with Dpservice(tmp_path):
        assert list(tmp_path.glob("dpdk/*/dpdk_telemetry*")) == []
