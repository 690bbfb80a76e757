"""What clients of the reference rely on, against the real engine on devices without traffic."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from tests.support.dpservice import EXECUTABLE, Dpservice, prefix, route

DEVICES = [f"net_null{number}" for number in range(2, 6)]
UNDERLAY = re.compile(rb"fc00:1:(:|0:0:)d000:[0-9a-f]{1,2}:0:[0-9a-f]+")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dpservice]:
    with Dpservice(tmp_path_factory.mktemp("dpservice")) as running:
        yield running


@pytest.fixture
def api(service: Dpservice) -> Iterator[Api]:
    api = Api(service)
    api.stub.Initialize(pb.InitializeRequest())
    yield api
    api.clean()


class Api:
    """Calls in short form; `code` gives the status code of the response."""

    def __init__(self, service: Dpservice) -> None:
        self.stub = service.stub()
        self.target = service.target

    def interface(self, name: str, device: str = DEVICES[0], vni: int = 100, v4: str = "10.0.0.1", v6: str = "::",
                  **more: Any) -> pb.CreateInterfaceResponse:  # fmt: skip
        request = pb.CreateInterfaceRequest(
            interface_id=name.encode(),
            vni=vni,
            ipv4_config=pb.IpConfig(primary_address=v4.encode()),
            ipv6_config=pb.IpConfig(primary_address=v6.encode()),
            device_name=device,
            **more,
        )
        return self.stub.CreateInterface(request)

    def delete(self, name: str) -> int:
        return self.stub.DeleteInterface(pb.DeleteInterfaceRequest(interface_id=name.encode())).status.code

    def get(self, name: str) -> pb.GetInterfaceResponse:
        return self.stub.GetInterface(pb.GetInterfaceRequest(interface_id=name.encode()))

    def in_use(self, vni: int) -> bool:
        return self.stub.CheckVniInUse(pb.CheckVniInUseRequest(vni=vni, type=pb.VNI_IPV4)).in_use

    def create_route(self, prefix: str, vni: int = 100, hop: str = "fc00:2::1") -> int:
        request = pb.CreateRouteRequest(vni=vni, route=route(prefix, hop))
        return self.stub.CreateRoute(request).status.code

    def delete_route(self, prefix: str, vni: int = 100) -> int:
        return self.stub.DeleteRoute(pb.DeleteRouteRequest(vni=vni, route=route(prefix))).status.code

    def routes(self, vni: int) -> list[str]:
        found = self.stub.ListRoutes(pb.ListRoutesRequest(vni=vni)).routes
        return [f"{one.prefix.ip.address.decode()}/{one.prefix.length}" for one in found]

    def prefixes(self, name: str, kind: str = "Prefixes") -> list[str]:
        request = getattr(pb, f"List{kind}Request")(interface_id=name.encode())
        found = getattr(self.stub, f"List{kind}")(request).prefixes
        return sorted(f"{one.ip.address.decode()}/{one.length}" for one in found)

    def clean(self) -> None:
        for one in self.stub.ListInterfaces(pb.ListInterfacesRequest()).interfaces:
            for kind in ("Prefix", "LoadBalancerPrefix"):
                listing = getattr(pb, f"List{kind}esRequest")(interface_id=one.id)
                for found in getattr(self.stub, f"List{kind}es")(listing).prefixes:
                    request = getattr(pb, f"Delete{kind}Request")(interface_id=one.id, prefix=found)
                    getattr(self.stub, f"Delete{kind}")(request)
            self.delete(one.id.decode())


def test_before_and_after_initialize(tmp_path: Path) -> None:
    with Dpservice(tmp_path) as fresh:
        stub = fresh.stub()
        for call, request in (
            (stub.ListInterfaces, pb.ListInterfacesRequest()),
            (stub.GetInterface, pb.GetInterfaceRequest()),
            (stub.CheckInitialized, pb.CheckInitializedRequest()),
            (stub.CreateNat, pb.CreateNatRequest()),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(request)
            assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.ABORTED, "not initialized")
        first = stub.Initialize(pb.InitializeRequest())
        assert re.fullmatch(r"[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}", first.uuid)
        assert stub.Initialize(pb.InitializeRequest()).uuid == first.uuid
        checked = stub.CheckInitialized(pb.CheckInitializedRequest())
        assert checked == pb.CheckInitializedResponse(status=pb.Status(message="Success"), uuid=first.uuid)


def test_version(api: Api) -> None:
    request = pb.GetVersionRequest(client_protocol="p", client_name="n", client_version="v")
    reply = api.stub.GetVersion(request)
    assert reply.service_protocol == reply.service_version != ""


def test_life_of_an_interface(api: Api) -> None:
    assert not api.in_use(100)
    created = api.interface("vm", hostname="h", v6="2001:db8::1", metering_parameters=pb.MeteringParams(total_rate=9))
    assert UNDERLAY.fullmatch(created.underlay_route)
    assert (created.status.message, created.vf.name) == ("Success", DEVICES[0])
    assert api.in_use(100)
    found = api.get("vm").interface
    assert found == pb.Interface(
        id=b"vm", vni=100, primary_ipv4=b"10.0.0.1", primary_ipv6=b"2001:db8::1", pci_name=DEVICES[0], hostname="h",
        underlay_route=created.underlay_route, meteringParams=pb.MeteringParams(total_rate=9),
    )  # fmt: skip
    assert found.HasField("meteringParams")
    assert list(api.stub.ListInterfaces(pb.ListInterfacesRequest()).interfaces) == [found]
    assert api.interface("vm").status == pb.Status(code=202, message="ALREADY_EXISTS")
    assert api.delete("vm") == 0
    assert api.get("vm").status == pb.Status(code=201, message="NOT_FOUND")
    assert api.delete("vm") == 201
    assert not api.in_use(100)
    assert api.interface("vm").status.code == 0


def test_refused_interfaces_leave_nothing(api: Api) -> None:
    assert api.interface("vm", v6="2001:db8::1").status.code == 0
    assert api.interface("other", "net_null99").status.code == 201
    assert api.interface("other", "net_null0").status.code == 202
    assert api.interface("vm", DEVICES[1], v4="10.0.0.2").status.code == 402
    assert api.interface("other", DEVICES[1], v4="10.0.0.1").status.code == 301
    assert api.interface("other", DEVICES[1], v4="10.0.0.2", v6="2001:db8::1").status.code == 301
    assert api.interface("other", DEVICES[1], vni=200).status.code == 0
    assert api.delete("other") == 0
    assert not api.in_use(200)
    # The address of the half-made interface is free again.
    assert api.interface("other", DEVICES[1], v4="10.0.0.2").status.code == 0


def test_interfaces_are_listed_in_device_order(api: Api) -> None:
    for number in (3, 1, 2, 0):
        assert api.interface(f"vm{number}", DEVICES[number], v4=f"10.0.0.{number + 1}").status.code == 0
    listed = api.stub.ListInterfaces(pb.ListInterfacesRequest()).interfaces
    assert [one.pci_name for one in listed] == DEVICES


def test_preferred_underlay_addresses(api: Api) -> None:
    chosen = [b"fc00:1::8000:0:1", b"fc00:1::c000:0:2", b"fc00:1::8000:0:3"]
    assert api.interface("vm", preferred_underlay_route=chosen[0]).underlay_route == chosen[0]
    request = pb.CreatePrefixRequest(
        interface_id=b"vm", prefix=prefix("10.1.0.0/24"), preferred_underlay_route=chosen[1]
    )
    assert api.stub.CreatePrefix(request).underlay_route == chosen[1]
    balanced = pb.CreateLoadBalancerPrefixRequest(
        interface_id=b"vm", prefix=prefix("10.1.0.0/24"), preferred_underlay_route=chosen[2]
    )
    assert api.stub.CreateLoadBalancerPrefix(balanced).underlay_route == chosen[2]
    assert api.interface("two", DEVICES[1], v4="10.0.0.2", preferred_underlay_route=chosen[1]).status.code == 401
    for refused in (b"fc00:2::8000:0:1", b"fc00:1::d000:0:0:1", b"10.0.0.1"):
        with pytest.raises(grpc.RpcError) as caught:
            api.interface("two", DEVICES[1], v4="10.0.0.2", preferred_underlay_route=refused)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "Invalid preferred_underlay_route"


def test_routes(api: Api) -> None:
    assert api.create_route("1.2.3.0/24") == 206
    api.interface("vm")
    assert api.create_route("1.2.3.4/24") == 0
    assert api.create_route("1.2.3.255/24") == 301
    assert api.create_route("1.2.3.0/25") == 0
    assert api.create_route("9.9.9.9/33") == 303
    assert api.create_route("9.9.9.9/32", hop="10.0.0.1") == 204
    assert api.delete_route("10.0.0.1/32") == 304
    assert api.create_route("0.0.0.0/0") == 0
    assert api.routes(100) == ["0.0.0.0/0", "1.2.3.0/25", "1.2.3.0/24"]
    assert api.delete_route("1.2.3.7/24") == 0
    assert api.delete_route("1.2.3.0/24") == 302
    assert api.delete_route("1.2.3.0/24", vni=5) == 206
    assert api.stub.ListRoutes(pb.ListRoutesRequest(vni=5)).status.code == 206
    assert api.create_route("2001:db8:1::/48") == 0
    assert "2001:db8:1::/48" in api.routes(100)


def test_many_routes_and_the_union_of_all_vnis(api: Api) -> None:
    api.interface("vm")
    api.interface("two", DEVICES[1], vni=200)
    for number in range(66):
        assert api.create_route(f"1.1.{number}.0/24") == 0
    assert api.create_route("2.2.2.0/24", vni=200) == 0
    assert len(api.routes(100)) == 66
    assert sorted(api.routes(0)) == sorted(api.routes(100) + api.routes(200))


@pytest.mark.parametrize("text", ["10.1.0.0/24", "2001:db8:1::/64"])
def test_prefixes(api: Api, text: str) -> None:
    create = pb.CreatePrefixRequest(interface_id=b"vm", prefix=prefix(text))
    delete = pb.DeletePrefixRequest(interface_id=b"vm", prefix=prefix(text))
    assert api.stub.CreatePrefix(create).status.code == 205
    api.interface("vm")
    assert UNDERLAY.fullmatch(api.stub.CreatePrefix(create).underlay_route)
    assert api.stub.CreatePrefix(create).status.code == 301
    assert api.prefixes("vm") == [text]
    assert api.delete_route(text) == 304
    assert api.stub.DeletePrefix(delete).status.code == 0
    assert api.stub.DeletePrefix(delete).status.code == 302
    assert api.prefixes("vm") == []


def test_load_balancer_prefixes(api: Api) -> None:
    create = pb.CreateLoadBalancerPrefixRequest(interface_id=b"vm", prefix=prefix("10.1.0.0/24"))
    delete = pb.DeleteLoadBalancerPrefixRequest(interface_id=b"vm", prefix=prefix("10.1.0.0/24"))
    assert api.stub.CreateLoadBalancerPrefix(create).status.code == 205
    api.interface("vm")
    assert api.stub.CreateLoadBalancerPrefix(create).status.code == 0
    assert api.stub.CreateLoadBalancerPrefix(create).status.code == 202
    assert api.prefixes("vm", "LoadBalancerPrefixes") == ["10.1.0.0/24"]
    assert api.stub.DeleteLoadBalancerPrefix(delete).status.code == 0
    assert api.stub.DeleteLoadBalancerPrefix(delete).status.code == 201


def test_vni(api: Api) -> None:
    api.interface("vm")
    api.interface("two", DEVICES[1], vni=200)
    assert (api.create_route("1.0.0.0/8"), api.create_route("1.0.0.0/8", vni=200)) == (0, 0)

    def reset(vni: int, kind: int) -> int:
        return api.stub.ResetVni(pb.ResetVniRequest(vni=vni, type=kind)).status.code  # type: ignore[arg-type]

    assert reset(100, pb.VNI_IPV4) == 203
    assert reset(100, pb.VNI_BOTH) == 0
    assert (api.routes(100), api.routes(200)) == ([], ["1.0.0.0/8"])
    assert reset(999, pb.VNI_BOTH) == 0
    assert api.stub.CheckVniInUse(pb.CheckVniInUseRequest(vni=1, type=pb.VNI_BOTH)).status.code == 203
    with pytest.raises(grpc.RpcError) as caught:
        reset(100, 3)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "Invalid type")


def test_initialize_drops_routes_and_keeps_interfaces(api: Api) -> None:
    api.interface("vm")
    api.create_route("1.0.0.0/8")
    assert api.stub.Initialize(pb.InitializeRequest()).status.code == 0
    assert api.routes(100) == []
    assert api.get("vm").status.code == 0
    assert api.delete_route("10.0.0.1/32") == 304


def test_both_addresses_zero(api: Api) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        api.interface("vm", v4="0.0.0.0", v6="::")
    expected = "Invalid ipv4_config.primary_address and ipv6_config.primary_address combination"
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, expected)


def test_command_line_client(api: Api) -> None:
    def cli(*words: str) -> tuple[int, Any]:
        command = [EXECUTABLE.with_name("dpservice-cli"), "--address", api.target, "-o", "json", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, json.loads(done.stdout)

    status, error = cli("init")
    assert (status, error["spec"]["source"]) == (1, "client")
    create = ["create", "interface", "--id=vm", "--vni=100", "--ipv4=10.0.0.1", f"--device={DEVICES[0]}"]
    status, made = cli(*create)
    assert (status, made["kind"], made["spec"]["virtual_function"]) == (0, "Interface", {"name": DEVICES[0]})
    assert cli(*create)[1]["status"] == {"code": 202, "message": "ALREADY_EXISTS"}
    status, listed = cli("list", "interfaces")
    assert [item["metadata"]["id"] for item in listed["items"]] == ["vm"]
    status, error = cli("create", "prefix", "--prefix=10.1.0.0/24", "--interface-id=none")
    assert (status, error["spec"]["source"], error["status"]["code"]) == (2, "server", 205)
    rule = ["create", "firewallrule", "--interface-id=vm", "--rule-id=r", "--direction=egress", "--action=drop"]
    status, made = cli(*rule, "--src=10.0.0.0/8", "--dst=0.0.0.0/0", "--protocol=icmp", "--icmp-type=8")
    assert (status, made["spec"]["action"]) == (0, "Drop")
    status, listed = cli("list", "fwrules")
    assert [item["spec"]["protocol_filter"] for item in listed["items"]] == [
        {"Filter": {"Icmp": {"icmp_type": 8, "icmp_code": -1}}}
    ]
    zero = ["create", "interface", "--id=x", "--vni=1", "--ipv4=0.0.0.0", f"--device={DEVICES[1]}"]
    assert (cli(*zero)[0], cli(*zero)[1]["status"]["code"]) == (1, 3)
