"""Checks, their order and their texts, with an engine that only records what reaches it."""

from __future__ import annotations

import socket
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice import _engine, convert
from dpservice.calls import CALLS, SERVICE, RpcError
from tests.support.recording_engine import ALLOWED, V4, V6, RecordingEngine, ask, refused, status_error


def interface(**changes: Any) -> pb.CreateInterfaceRequest:
    fields: dict[str, Any] = {
        "interface_id": b"vm-1_A",
        "vni": 100,
        "ipv4_config": pb.IpConfig(primary_address=b"10.0.0.1"),
        "ipv6_config": pb.IpConfig(primary_address=b"2001:db8::1"),
        "device_name": "net_tap2",
    }
    return pb.CreateInterfaceRequest(**(fields | changes))


def ip(text: str, version: int = pb.IPV4) -> pb.IpAddress:
    return pb.IpAddress(ipver=version, address=text.encode())  # type: ignore[arg-type]


def prefix(text: str = "10.1.0.0", length: int = 24, version: int = pb.IPV4) -> pb.Prefix:
    return pb.Prefix(ip=ip(text, version), length=length)


def test_every_call_is_implemented() -> None:
    assert set(CALLS) == {method.name for method in SERVICE.methods}


@pytest.mark.parametrize("method", [method.name for method in SERVICE.methods if method.name != "Initialize"])
def test_before_initialize_every_call_is_aborted(method: str) -> None:
    request = getattr(pb, SERVICE.methods_by_name[method].input_type.name)()
    with pytest.raises(RpcError) as caught:
        ask(method, request, RecordingEngine(initialized=False))
    assert (caught.value.code, caught.value.text) == (grpc.StatusCode.ABORTED, "not initialized")


def test_initialize_and_version() -> None:
    engine = RecordingEngine(initialized=False)
    assert ask("Initialize", pb.InitializeRequest(), engine).uuid == "UUID"
    reply = ask("CheckInitialized", pb.CheckInitializedRequest(), engine)
    assert (reply.status.code, reply.status.message, reply.uuid) == (0, "Success", "UUID")
    version = pb.GetVersionRequest(client_protocol="p", client_name="n", client_version="v" * 63)
    reply = ask("GetVersion", version, engine)
    assert reply.service_protocol == reply.service_version == "v1"


def test_version_arguments_are_checked_in_order() -> None:
    assert refused("GetVersion", pb.GetVersionRequest()) == "Invalid client_protocol"
    assert refused("GetVersion", pb.GetVersionRequest(client_protocol="p")) == "Invalid client_name"
    request = pb.GetVersionRequest(client_protocol="p", client_name="n", client_version="v" * 64)
    assert refused("GetVersion", request) == "Invalid client_version"


def test_create_interface_passes_everything_on() -> None:
    engine = RecordingEngine()
    request = interface(
        hostname="h",
        preferred_underlay_route=b"fc00:1::8000:0:1",
        metering_parameters=pb.MeteringParams(total_rate=10, public_rate=5),
    )
    reply = ask("CreateInterface", request, engine)
    assert reply.underlay_route == b"fc00:1::d000:0:1"
    assert reply.vf.name == "vf0"
    [(name, (wanted,))] = engine.calls
    assert name == "create_interface"
    assert (wanted.id, wanted.device_name, wanted.vni, wanted.hostname) == ("vm-1_A", "net_tap2", 100, "h")
    assert (wanted.ipv4, wanted.ipv6, wanted.preferred_underlay) == (V4, V6, ALLOWED)
    assert (wanted.total_meter_rate, wanted.public_meter_rate, wanted.pxe) == (10, 5, None)


# Each request has the fault of its line and of all later ones: the text tells which check came first.
_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"interface_id": b"a.b"}, "interface_id"),
    ({"ipv4_config": pb.IpConfig(primary_address=b"10.0.0.01")}, "ipv4_config.primary_address"),
    ({"ipv6_config": pb.IpConfig()}, "ipv6_config.primary_address"),
    (
        {
            "ipv4_config": pb.IpConfig(primary_address=b"0.0.0.0"),
            "ipv6_config": pb.IpConfig(primary_address=b"::"),
        },
        "ipv4_config.primary_address and ipv6_config.primary_address combination",
    ),
    ({"pxe_config": pb.PxeConfig(next_server="x")}, "pxe_config.next_server"),
    ({"pxe_config": pb.PxeConfig(next_server="2001:db8::2", boot_filename="f" * 32)}, "pxe_config.boot_filename"),
    ({"device_name": "d" * 64}, "device_name"),
    ({"interface_id": b"i" * 64}, "interface_id"),
    ({"hostname": "h" * 64}, "hostname"),
    ({"preferred_underlay_route": b"fc00:2::8000:0:1"}, "preferred_underlay_route"),
]


@pytest.mark.parametrize("first", range(len(_FAULTS)))
def test_create_interface_checks_in_order(first: int) -> None:
    changes: dict[str, Any] = {}
    for fault, _ in reversed(_FAULTS[first:]):
        changes |= fault
    # The combination fault repairs the addresses it follows; keep the earlier ones broken.
    changes |= _FAULTS[first][0]
    assert refused("CreateInterface", interface(**changes)) == f"Invalid {_FAULTS[first][1]}"


def test_a_zero_byte_ends_a_text() -> None:
    engine = RecordingEngine()
    created = interface(device_name="net_tap2\0" + "x" * 64, hostname="h\0")
    assert ask("CreateInterface", created, engine).status.code == 0
    assert (engine.calls[0][1][0].device_name, engine.calls[0][1][0].hostname) == ("net_tap2", "h")
    ask("DeleteInterface", pb.DeleteInterfaceRequest(interface_id=b"vm\0x"), engine)
    assert engine.calls[1] == ("delete_interface", (b"vm",))
    assert refused("DeleteInterface", pb.DeleteInterfaceRequest(interface_id=b"\0vm")) == "Invalid interface_id"
    assert refused("CreateInterface", interface(interface_id=b"vm\0")) == "Invalid interface_id"


def test_empty_interface_id_is_found_after_the_device() -> None:
    assert refused("CreateInterface", interface(interface_id=b"", device_name="")) == "Invalid device_name"
    assert refused("CreateInterface", interface(interface_id=b"")) == "Invalid interface_id"


@pytest.mark.parametrize(
    ("server", "v4", "v6", "accepted"),
    [
        ("192.0.2.1", "10.0.0.1", "::", True),
        ("192.0.2.1", "10.0.0.1", "2001:db8::1", True),
        ("2001:db8::9", "10.0.0.1", "2001:db8::1", True),
        ("2001:db8::9", "10.0.0.1", "::", False),
        ("192.0.2.1", "0.0.0.0", "2001:db8::1", False),
    ],
)
def test_boot_server_needs_a_family_that_the_interface_has(server: str, v4: str, v6: str, accepted: bool) -> None:
    request = interface(
        pxe_config=pb.PxeConfig(next_server=server, boot_filename="f"),
        ipv4_config=pb.IpConfig(primary_address=v4.encode()),
        ipv6_config=pb.IpConfig(primary_address=v6.encode()),
    )
    if accepted:
        assert ask("CreateInterface", request).status.code == 0
    else:
        assert refused("CreateInterface", request) == "Invalid pxe_config.next_server"


def test_boot_file_without_server_is_ignored() -> None:
    assert ask("CreateInterface", interface(pxe_config=pb.PxeConfig(boot_filename="f" * 99))).status.code == 0


@pytest.mark.parametrize("kind", ["Prefix", "LoadBalancerPrefix"])
def test_prefix_arguments_are_checked_in_order(kind: str) -> None:
    request_class = getattr(pb, f"Create{kind}Request")

    def text(**fields: Any) -> str:
        return refused(f"Create{kind}", request_class(**fields))

    bad_underlay = {"preferred_underlay_route": b"10.0.0.1"}
    assert text(prefix=prefix("x", 256), **bad_underlay) == "Invalid interface_id"
    assert text(interface_id=b"i", prefix=prefix("x", 256), **bad_underlay) == "Invalid prefix.ip"
    assert text(interface_id=b"i", prefix=prefix("10.0.0.0", 256), **bad_underlay) == "Invalid prefix.length"
    assert text(interface_id=b"i", prefix=prefix(), **bad_underlay) == "Invalid preferred_underlay_route"
    assert text(interface_id=b"i") == "Invalid prefix.ip"
    assert text(interface_id=b"i", prefix=prefix("::1", 64)) == "Invalid prefix.ip"
    assert text(interface_id=b"i", prefix=prefix("::1", 64, 2)) == "Invalid prefix.ip"
    for verb in ("Delete", "List"):
        assert refused(f"{verb}{_plural(kind, verb)}", _request(verb, kind)) == "Invalid interface_id"


def _plural(kind: str, verb: str) -> str:
    return kind + "es" if verb == "List" else kind


def _request(verb: str, kind: str) -> Message:
    request: Message = getattr(pb, f"{verb}{_plural(kind, verb)}Request")()
    return request


def test_prefix_calls_reach_the_engine() -> None:
    engine = RecordingEngine()
    request = pb.CreatePrefixRequest(interface_id=b"i", prefix=prefix("10.1.0.9", 255), preferred_underlay_route=b"::")
    assert ask("CreatePrefix", request, engine).underlay_route == b"fc00:1::d000:0:1"
    ask("DeleteLoadBalancerPrefix", pb.DeleteLoadBalancerPrefixRequest(interface_id=b"i", prefix=prefix()), engine)
    listed = ask("ListPrefixes", pb.ListPrefixesRequest(interface_id=b"i"), engine).prefixes[0]
    assert engine.calls == [
        ("create_prefix", (b"i", (bytes([10, 1, 0, 9]), 255), None)),
        ("delete_lb_prefix", (b"i", (bytes([10, 1, 0, 0]), 24))),
        ("list_prefixes", (b"i",)),
    ]
    assert (listed.ip.address, listed.length, listed.underlay_route) == (b"10.0.0.1", 24, b"fc00:1::d000:0:1")


def route(length: int = 24, text: str = "10.1.0.0", nexthop: str = "fc00:2::1") -> pb.Route:
    return pb.Route(prefix=prefix(text, length), nexthop_vni=7, nexthop_address=ip(nexthop, pb.IPV6))


def test_route_arguments_are_checked_in_order() -> None:
    def text(method: str, value: pb.Route) -> str:
        return refused(method, getattr(pb, f"{method}Request")(vni=1, route=value))

    assert text("CreateRoute", route(256, "x", "x")) == "Invalid route.prefix.length"
    assert text("CreateRoute", route(24, "x", "x")) == "Invalid route.prefix.ip"
    assert text("CreateRoute", route(24, "10.0.0.0", "x")) == "Invalid route.nexthop_address"
    assert text("DeleteRoute", route(256, "x", "x")) == "Invalid route.prefix.length"
    assert text("DeleteRoute", route(24, "x", "x")) == "Invalid route.prefix.ip"
    assert text("DeleteRoute", route(24, "10.0.0.0", "10.0.0.1")) == "Invalid route.nexthop_address"


def test_routes_reach_the_engine() -> None:
    engine = RecordingEngine()
    ask("CreateRoute", pb.CreateRouteRequest(vni=1, route=route()), engine)
    ask("DeleteRoute", pb.DeleteRouteRequest(vni=1, route=route()), engine)
    no_hop = pb.Route(prefix=prefix())
    ask("DeleteRoute", pb.DeleteRouteRequest(vni=1, route=no_hop), engine)
    # Without multipath the next hop of a deletion means nothing.
    ask("DeleteRoute", pb.DeleteRouteRequest(vni=1, route=route(nexthop="ignored")), engine, multipath=False)
    [found] = ask("ListRoutes", pb.ListRoutesRequest(vni=0), engine).routes
    destination, nexthop = (bytes([10, 1, 0, 0]), 24), socket.inet_pton(socket.AF_INET6, "fc00:2::1")
    assert engine.calls == [
        ("create_route", (1, destination, 7, nexthop)),
        ("delete_route", (1, destination, nexthop)),
        ("delete_route", (1, destination, None)),
        ("delete_route", (1, destination, None)),
        ("list_routes", (0,)),
    ]
    assert (found.prefix.ip.ipver, found.prefix.ip.address, found.prefix.length) == (pb.IPV6, b"2001:db8::1", 64)
    assert (found.nexthop_vni, found.nexthop_address.address, found.weight) == (7, b"fc00:1::d000:0:1", 0)


def test_vni_type() -> None:
    engine = RecordingEngine()
    assert ask("CheckVniInUse", pb.CheckVniInUseRequest(vni=1, type=pb.VNI_IPV6), engine).in_use
    assert engine.calls == [("check_vni_in_use", (1, _engine.VniType.IPV6))]
    for method in ("CheckVniInUse", "ResetVni"):
        assert refused(method, getattr(pb, f"{method}Request")(vni=1, type=3)) == "Invalid type"
        assert refused(method, getattr(pb, f"{method}Request")(vni=1, type=-1)) == "Invalid type"


def test_a_status_of_the_engine_is_a_status_in_the_response() -> None:
    engine = RecordingEngine()
    engine.refusal = status_error(301, "ROUTE_EXISTS")
    reply = ask("CreatePrefix", pb.CreatePrefixRequest(interface_id=b"i", prefix=prefix()), engine)
    assert reply == pb.CreatePrefixResponse(status=pb.Status(code=301, message="ROUTE_EXISTS"))


@given(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16))
def test_addresses_survive_the_wire(packed: bytes) -> None:
    assert convert.address(convert.address_message(packed), "x") == packed


@given(st.text(max_size=40) | st.from_regex(r"[0-9a-f:.]{0,30}", fullmatch=True), st.sampled_from([pb.IPV4, pb.IPV6]))
def test_only_what_inet_pton_reads_is_an_address(text: str, version: int) -> None:
    try:
        packed = convert.address(pb.IpAddress(ipver=version, address=text.encode()), "x")  # type: ignore[arg-type]
    except convert.InvalidArgument as problem:
        assert str(problem) == "Invalid x"
    else:
        assert text.isascii()
        family = socket.AF_INET if version == pb.IPV4 else socket.AF_INET6
        assert packed == socket.inet_pton(family, text)
